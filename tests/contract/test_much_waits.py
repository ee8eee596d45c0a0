"""Much waits in the outbox, with holes between: what others write is read soon, and none of it is lost."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from dev.process import wait_until
from dev.rabbitmq import RabbitMQ
from dev.script import Script
from dev.vhost import Vhost
from tests.contract.sources import Relayed, Source
from tests.flooding import RATE, flooded

NAMES = 2500  # more than a read is told of
SOON = 20.0  # seconds, on a busy machine


def hole(source: Source, cursor: Any) -> None:
    """Take a number that no row will have: rolled back; SQLite gives out such a one again, but for a row that went."""
    cursor.execute("savepoint s")
    source.put(cursor, "nobody")
    if source.name == "sqlite":
        cursor.execute(f"delete from {source.outbox} where seq = last_insert_rowid()")
    else:
        cursor.execute("rollback to savepoint s")


@pytest.mark.parametrize("topics", [1, NAMES])
def test_rows_that_stay_with_holes_between_them_delay_no_one_else(
    script: Callable[..., Script], source: Source, vhost: Vhost, topics: int
) -> None:
    relayed = Relayed(script, source, vhost, WINDOW_EVENTS=100)
    relayed.bind()
    channel = relayed.vhost.channel()
    channel.queue_unbind("out", "relay", "#")
    channel.queue_bind("out", "relay", "flows")
    with contextlib.closing(source.connect()) as connection:
        cursor = connection.cursor()
        for number in range(3 * NAMES):
            hole(source, cursor)
            source.put(cursor, f"waits.{number % topics}", number, f"k{number}")
        source.put(cursor, "flows", 0, "f")
        connection.commit()
    relayed.start()
    assert [message.json["n"] for message in relayed.messages(1, timeout=60)] == [0]
    for number in range(1, 6):
        source.commit(("flows", number, "f"))
        assert [message.json["n"] for message in relayed.messages(1, timeout=SOON)] == [number]


def test_whoever_floods_the_listener_with_wishes_for_a_sweep_delays_no_one_else(
    relayed: Relayed, source: Source, vhost: Vhost, rabbitmq: RabbitMQ
) -> None:
    """Whoever may publish to the default exchange. Each of them has all that waits read from the beginning."""
    channel = relayed.vhost.channel()
    channel.queue_unbind("out", "relay", "#")
    channel.queue_bind("out", "relay", "flows")
    source.commit(*[("waits", number) for number in range(20_000)], ("flows", 0))
    relayed.start()
    relayed.messages(1, timeout=60)
    queue = f"relay.control.{relayed.settings['SOURCE']}"
    with flooded(rabbitmq, vhost, queue, b'{"command": "sweep"}') as sent:
        wait_until(lambda: sent.value > 2 * RATE, 60, "a flood")
        for number in range(1, 4):
            source.commit(("flows", number))
            assert [message.json["n"] for message in relayed.messages(1, timeout=SOON)] == [number]
