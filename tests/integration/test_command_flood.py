"""Whoever may publish to the default exchange floods a command queue: events flow on, and a command gets its turn."""

from __future__ import annotations

import time
from collections.abc import Callable
from multiprocessing.sharedctypes import Synchronized

import pytest

from benchmarks.meters import cpu_seconds
from dev.database import Database
from dev.doubles.endpoint import Endpoint
from dev.process import Process, wait_until
from dev.rabbitmq import RabbitMQ
from dev.script import Script
from dev.vhost import Vhost
from tests.flooding import RATE, ask, flooded
from tests.integration.test_receiver_flooded import flood as park
from tests.listening import Listening
from tests.messages import Publisher
from tests.receiving import by_key, settings

Make = Callable[..., Script]
KEYS, EVENTS, ROWS = 900, 300, 4000
SENT = 5 * RATE  # commands
MOST = 0.16  # of a processor that a flood takes of a daemon: a tenth, and what it does beside


def share_of(script: Script, sent: Synchronized[int]) -> float:
    """Of the processor, that it takes while a flood goes on."""
    process, first, began = Process.of(script.pid), sent.value, time.monotonic()
    assert process is not None
    before = cpu_seconds(process)
    wait_until(lambda: sent.value > first + SENT, 60, "more of the flood")
    return (cpu_seconds(process) - before) / (time.monotonic() - began)


def test_a_receiver_delivers_on_and_answers(vhost: Vhost, rabbitmq: RabbitMQ, script: Make, endpoint: Endpoint) -> None:
    """Each of them looked at all that is parked, at once: no event was delivered, and the sessions ended."""
    receiver = script("receiver.py", settings(vhost, endpoint, HEARTBEAT=10))
    receiver.start()
    receiver.wait_for_log("consuming")
    park(vhost, KEYS, "x")
    receiver.wait_for_log(f"parked queue read keys={KEYS}", timeout=60)
    assert len(ask(vhost, "odoo.control", {"command": "parked"}, 20)["parked"]) > 10, "in quiet times at once"
    with flooded(rabbitmq, vhost, "odoo.control", b'{"command": "parked", "reason": "zzzzzz"}') as sent:
        wait_until(lambda: sent.value > SENT, 60, "a flood")
        publisher = Publisher(vhost)
        for n in range(EVENTS):
            publisher.event(f"t {n}", n=n)
        wait_until(lambda: len(by_key(endpoint)) == EVENTS, 30, "all events, during the flood")
        assert ask(vhost, "odoo.control", {"command": "who"}, 60)["who"]
    assert "stood still" not in receiver.log()
    assert receiver.log().count("consuming") == 1


def test_commands_that_are_refused_take_no_more(
    vhost: Vhost, rabbitmq: RabbitMQ, script: Make, endpoint: Endpoint
) -> None:
    """Each cost a signature, and an answer."""
    receiver = script("receiver.py", settings(vhost, endpoint, CONTROL_SECRET="s" * 32))
    receiver.start()
    receiver.wait_for_log("consuming")
    with flooded(rabbitmq, vhost, "odoo.control", b'{"command": "parked"}') as sent:
        wait_until(lambda: sent.value > RATE, 60, "a flood")
        assert share_of(receiver, sent) < MOST
    assert "a command was refused" in receiver.log()


@pytest.mark.parametrize("secret", ["", "s" * 32], ids=["", "signed"])
def test_a_listener_without_requests_relays_on(
    script: Make, database: Database, vhost: Vhost, rabbitmq: RabbitMQ, secret: str
) -> None:
    """Only with REQUESTS=on it had a pace."""
    listening = Listening(script, database, vhost, SOURCE="erp", CONTROL_SECRET=secret)
    listening.bind()
    listening.table()
    listening.start()
    with flooded(rabbitmq, vhost, "relay.control.erp", b'{"command": "status"}') as sent:
        wait_until(lambda: sent.value > RATE, 60, "a flood")
        assert share_of(listening.script, sent) < MOST
        listening.execute(f"insert into t select generate_series(1, {ROWS})")
        listening.await_empty(30)
        if not secret:
            assert ask(vhost, "relay.control.erp", {"command": "status"}, 60)["status"]


def test_a_listener_on_postgresql_reads_nothing_once_more_for_a_command(
    script: Make, database: Database, vhost: Vhost
) -> None:
    """It is told by NOTIFY of marks that have changed; a command every two seconds kept it at what waits."""
    listening = Listening(script, database, vhost, SOURCE="erp")
    listening.bind()
    listening.admin("select relay.publish('t', '1')")
    listening.admin("update relay.outbox set error = 'x'; select relay.publish('t', '0')")
    listening.start()
    assert [message.json for message in listening.messages(1)] == [0], "all is read"
    listening.admin("update relay.outbox set error = null")
    assert ask(vhost, "relay.control.erp", {"command": "sweep"}, 60)["done"]
    listening.admin("select relay.publish('t', '2')")
    assert [message.json for message in listening.messages(1)] == [2]
    assert listening.pending() >= 1, "what was not told of"
