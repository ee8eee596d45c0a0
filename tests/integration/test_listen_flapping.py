"""A table without a queue now and then: the listener tells of it a few times, then counts, and tells if it stays."""

from __future__ import annotations

import re
from collections.abc import Callable

from dev.database import Database
from dev.process import wait_until
from dev.script import Script
from dev.vhost import Vhost
from relay.flapping import FEW
from tests.listening import Listening
from tests.receiving import with_constants

SHORT = with_constants("relay.flapping.WINDOW=12", "relay.flapping.LASTS=1")


def test_a_table_that_comes_and_goes_is_counted_and_told_if_it_stays(
    script: Callable[..., Script], database: Database, vhost: Vhost
) -> None:
    listening = Listening(script, database, vhost, LOG_LEVEL="debug")
    listening.bind()
    daemon = script("listen.py", listening.settings, environment=SHORT)
    daemon.start()
    daemon.wait_for_log("relaying")
    channel = vhost.channel()
    for n in range(FEW + 2):
        channel.queue_unbind("out", "relay", "#")
        listening.admin("select relay.publish('t', '{}')")
        wait_until(lambda n=n: len(set(re.findall(r"event declined id=(\S+)", daemon.log()))) > n, 10, "it is held")
        channel.queue_bind("out", "relay", "#")
        listening.await_empty()
    assert daemon.log().count("topic t waits") == daemon.log().count("topic t flows again") == FEW
    channel.queue_unbind("out", "relay", "#")
    listening.admin("select relay.publish('t', '{}')")
    daemon.wait_for_log("topic t waits reason=unroutable remedy=", count=1)
    daemon.wait_for_log(f"topic t comes and goes times={FEW + 3} in_s=1", timeout=40)
    channel.queue_bind("out", "relay", "#")
    listening.await_empty()
    daemon.wait_for_log("topic t flows again", count=FEW + 1)
    assert daemon.log().count("topic t waits") == FEW + 1
