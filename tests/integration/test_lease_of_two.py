"""RabbitMQ forgets an exclusive queue whose connection lives, and gives another one of its name: two have the lease.

It does so when a node of a cluster goes down: each of the others deletes what that node had, by name, and one that is
late deletes what was declared anew meanwhile. From then on each end of a holder takes the other one's lease away.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable

import pytest

from dev.database import Database
from dev.doubles.endpoint import Endpoint
from dev.process import ServerError, wait_until
from dev.rabbitmq import RabbitMQ
from dev.script import Script
from dev.vhost import Vhost
from tests.listening import Listening
from tests.messages import properties
from tests.receiving import by_key, settings

STEADY = 8.0  # seconds; while two drive each other out, none lasts as long

Make = Callable[..., Script]


def lose(broker: RabbitMQ, vhost: str, queue: str, holder: Script) -> None:
    """Have the lease forgotten, as by a node that was late, and taken by another one before its holder looks."""
    before = owner(broker, vhost, queue)
    holder.pause()
    name = f'rabbit_misc:r(<<"{vhost}">>, queue, <<"{queue}">>)'
    old, new = f'rabbit_amqqueue:internal_delete({name}, <<"test">>)', f"rabbit_db_queue:delete({name}, normal)"
    broker.evaluate(f"case erlang:function_exported(rabbit_db_queue, delete, 2) of true -> {new}; _ -> {old} end")
    wait_until(lambda: owner(broker, vhost, queue) not in ("", before), 10, "another holder")
    holder.resume()


def owner(broker: RabbitMQ, vhost: str, queue: str) -> str:
    """The connection that has it; empty = none."""
    return _asked(broker, vhost, queue, "amqqueue:get_exclusive_owner(Queue)")


def reader(broker: RabbitMQ, vhost: str, queue: str) -> str:
    """The connection of its only consumer; empty = there is none."""
    asked = "[Consumer] = rabbit_amqqueue:consumers(Queue), "
    asked += "[{connection, Connection}] = rabbit_channel:info(element(1, Consumer), [connection]), Connection"
    return _asked(broker, vhost, queue, asked)


def _asked(broker: RabbitMQ, vhost: str, queue: str, what: str) -> str:
    found = f'rabbit_amqqueue:lookup(rabbit_misc:r(<<"{vhost}">>, queue, <<"{queue}">>))'
    try:
        return broker.evaluate(f"{{ok, Queue}} = {found}, {what}")
    except ServerError:
        return ""


def await_steady(found: Callable[[], str], what: str) -> None:
    """Until it is the same for a while, and not empty."""
    since, last = time.monotonic(), ""

    def is_steady() -> bool:
        nonlocal since, last
        now = found()
        if now != last or not now:
            since, last = time.monotonic(), now
        return time.monotonic() - since > STEADY

    wait_until(is_steady, 60, what)


def test_two_listeners_do_not_drive_each_other_out_for_ever(
    script: Make, database: Database, rabbitmq: RabbitMQ, vhost: Vhost
) -> None:
    listening = Listening(script, database, vhost, SOURCE="two")
    listening.bind()
    listening.table(count=1)
    listening.start()
    other = listening.another()
    other.start()
    other.wait_for_log("another process holds the lease")
    lose(rabbitmq, vhost.name, "relay.lease.two", listening.script)

    def has_lease() -> str:
        listening.execute("update t set n = n + 1")  # whoever is not at work any more finds that by events
        return owner(rabbitmq, vhost.name, "relay.lease.two")

    await_steady(has_lease, "one holder of the lease")
    listening.await_empty()


@pytest.mark.parametrize("kind", ["quorum", "failover"])
def test_two_receivers_do_not_drive_each_other_out_for_ever(
    script: Make, rabbitmq: RabbitMQ, vhost: Vhost, endpoint: Endpoint, kind: str
) -> None:
    first, second = (script("receiver.py", settings(vhost, endpoint, QUEUE_TYPE=kind)) for _ in range(2))
    first.start()
    first.wait_for_log("consuming")
    second.start()
    second.wait_for_log("another receiver is at work")
    lose(rabbitmq, vhost.name, "odoo.lease", first)

    def has_both() -> str:
        found = owner(rabbitmq, vhost.name, "odoo.lease")
        return found if found == reader(rabbitmq, vhost.name, "odoo") else ""

    await_steady(has_both, "one who has the lease, and reads")
    event_id = str(uuid.uuid4())
    body = json.dumps({"id": event_id, "n": 0, "key": "key", "op": "update"}).encode()
    vhost.channel().basic_publish("relay", "t", body, properties(event_id, "key", "t", "update"))
    wait_until(lambda: by_key(endpoint) == {"key": [0]}, 20, "the event")
