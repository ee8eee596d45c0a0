"""RabbitMQ killed between a publish and its confirm, and between a confirm and what follows it: both daemons go on."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from typing import Any

import pytest

from dev.database import Database
from dev.doubles.endpoint import OK, Answer, Endpoint, Request
from dev.process import wait_until
from dev.rabbitmq import RabbitMQ
from dev.script import ROOT, Script
from dev.vhost import Vhost
from relay.listening.outbox_relay import OutboxRelay
from relay.listening.publisher import Publisher as Publishing
from relay.receiving.parking.park import Park
from tests.e2e.test_receiver_killed_between_steps import in_room
from tests.listening import Listening, by_row, first_seen
from tests.messages import Publisher
from tests.receiving import assert_order, by_key, done, run, settings

Make = Callable[..., Script]
POISON = "t 0"
EVENTS = 6


def before(function: Callable[..., Any], text: str, hit: int = 1) -> str:
    """The place before the last line of this function that holds `text`, when it is reached for the hit-th time."""
    lines, first = inspect.getsourcelines(function)
    line = [number for number, line in enumerate(lines, first) if text in line][-1]
    return f"{inspect.getfile(function).rpartition('/')[2]}:{line}:{hit}"


PARKED = before(Park._send, "before.add(move.strand")
PARKED_SAFE = before(Park._on_confirm, "method = frame.method")
SENT = before(Publishing.publish, "for piece in", hit=2)
CONFIRMED = before(OutboxRelay._leave, "self._deletion.add(event)")


def killing(broker: RabbitMQ, where: str) -> dict[str, str]:
    """The environment of a script that kills the broker there."""
    assert broker.process
    path = str(ROOT / "tests" / "killing")
    return {"KILL_AT": where, "KILL_GROUP": str(broker.process.pid), "PYTHONPATH": path}


def restart_once_killed(broker: RabbitMQ) -> None:
    wait_until(lambda: not broker.process, 30, "the broker to be killed")
    broker.kill()  # what is left of it
    broker.start()


@pytest.fixture
def broker(private_rabbitmq: RabbitMQ) -> RabbitMQ:
    return private_rabbitmq


@pytest.fixture
def vhost(private_vhost: Vhost) -> Vhost:
    return private_vhost


@pytest.mark.parametrize("where", [pytest.param(PARKED, marks=pytest.mark.long), PARKED_SAFE])
def test_while_a_row_is_parked(broker: RabbitMQ, vhost: Vhost, script: Make, endpoint: Endpoint, where: str) -> None:
    all_sent = threading.Event()

    def rule(request: Request) -> Answer:
        all_sent.wait(60)
        return Answer(422) if request.json["key"] == POISON else OK

    endpoint.rule = rule
    own = settings(vhost, endpoint, MAX_ATTEMPTS=1)
    receiver = script("receiver.py", own, environment=killing(broker, where))
    receiver.start()
    receiver.wait_for_log("consuming")
    publisher = Publisher(vhost)
    published = [publisher.event(key, n=n) for n in range(EVENTS) for key in (POISON, "t 1")]
    broker.sync()
    all_sent.set()
    restart_once_killed(broker)
    wait_until(lambda: vhost.queue_depth("odoo.parked") == EVENTS, 30, "the row to be parked")
    wait_until(lambda: len(by_key(endpoint)["t 1"]) >= EVENTS, 30, "the other row")
    receiver.terminate()
    assert receiver.wait() == 0
    assert in_room(vhost, "odoo.parked") == published[::2], "once each, in order"
    assert vhost.queue_depth("odoo") == 0
    endpoint.rule = lambda _request: OK
    done(run(receiver, "replay", "--all"))
    assert by_key(endpoint)[POISON] == list(range(EVENTS))
    assert_order(endpoint)


@pytest.mark.parametrize("where", [SENT, pytest.param(CONFIRMED, marks=pytest.mark.long)])
def test_while_rows_are_published(broker: RabbitMQ, vhost: Vhost, database: Database, script: Make, where: str) -> None:
    environment = killing(broker, where)
    listening = Listening(lambda *args: script(*args, environment=environment), database, vhost)
    listening.bind()
    broker.sync()
    listening.table()
    listening.start()
    listening.execute(
        *(
            f"insert into t select i, {n} from generate_series(1, 20) i on conflict (id) do update set n = {n}"
            for n in range(3)
        )
    )
    restart_once_killed(broker)
    listening.await_empty(30)
    count = vhost.queue_depth("out")
    found = by_row(first_seen(listening.messages(count)))
    assert found == {row: [0, 1, 2] for row in range(1, 21)}
