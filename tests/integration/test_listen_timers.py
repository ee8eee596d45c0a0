"""What the listener does now and then, or only after long: with shorter times."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from chaos.proxy import Link
from dev.database import Database
from dev.process import wait_until
from dev.rabbitmq import RabbitMQ
from dev.script import Script
from dev.vhost import Vhost
from relay.listening import outbox
from tests.listening import Listening
from tests.receiving import with_constants

Make = Callable[..., Script]


class Hurried(Listening):
    """Its constants are these."""

    def __init__(self, make: Make, database: Database, vhost: Vhost, *constants: str, **more: object) -> None:
        environment = with_constants(*(f"relay.listening.{one}" for one in constants))
        super().__init__(lambda *args: make(*args, environment=environment), database, vhost, **more)


@pytest.fixture
def link(rabbitmq: RabbitMQ) -> Iterator[Link]:
    made = Link("listener-rabbitmq", rabbitmq.port)
    made.start()
    yield made
    made.stop()


def test_what_nobody_tells_is_found_by_looking_now_and_then(database: Database, vhost: Vhost, script: Make) -> None:
    shorter = ["sweeps.SWEEP_INTERVAL", "inspection.INSPECT_INTERVAL", "tally.STATS_INTERVAL"]
    constants = [f"{name}=0.2" for name in [*shorter, "sleep.RELOCK_AFTER"]]
    listening = Hurried(script, database, vhost, *constants, POLL_INTERVAL=0.1)
    listening.bind()
    listening.table()
    ((key,),) = listening.admin("select relay.sleep_key()")
    listening.admin("select pg_advisory_lock(%s)", key)
    listening.start()
    listening.script.wait_for_log("the sleep lock can't be had: polling instead")
    listening.admin("select pg_advisory_unlock(%s)", key)
    wait_until(lambda: listening.admin(outbox.HOLDER, key)[0][0], 10, "the listener to take the lock it was denied")
    listening.execute("insert into t select i from generate_series(1, 10) i")
    listening.messages(10)
    listening.await_empty()
    # Numbers from the past, as a restore brings them, without a word.
    listening.admin(
        "insert into relay.outbox (seq, topic, tbl, op, key, body) overriding system value select i, 'restored', "
        "'public.t', 'insert', i::text, '{}' from generate_series(1, 10) i"
    )
    assert {one.routing_key for one in listening.messages(10)} == {"restored"}
    listening.admin("alter table t disable trigger all")
    listening.script.wait_for_log("capture is not complete")
    listening.script.wait_for_log("relayed")


def test_a_broker_that_confirms_nothing_is_left(database: Database, vhost: Vhost, script: Make, link: Link) -> None:
    """It takes the messages in, and is heard of all the time: a queue without a leader."""
    url = vhost.url.replace(f":{vhost.broker.port}/", f":{link.port}/")
    listening = Hurried(script, database, vhost, "outgoing.CONFIRM_DEADLINE=0.5", RABBITMQ_URL=url, HEARTBEAT=60)
    listening.bind()
    listening.table()
    listening.start()
    link.deliver_late(60)
    listening.execute("insert into t values (1)")
    listening.script.wait_for_log("RabbitMQ has confirmed nothing for 0.5 s")
    assert listening.pending() == 1
    link.mend()
    link.reset_connections()
    listening.await_empty()
