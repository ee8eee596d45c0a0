"""A receiver that was stopped and has lost its lease meanwhile (SIGSTOP, a virtual machine that is moved)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from chaos.proxy import Link
from dev.doubles.endpoint import OK, Answer, Endpoint, Request
from dev.process import wait_until
from dev.script import Script
from dev.vhost import Vhost
from tests.messages import Publisher
from tests.receiving import settings

HEARTBEAT = 5
LONG = HEARTBEAT / 2 + 0.5
STOOD_STILL = "this process stood still"


@pytest.fixture
def link(vhost: Vhost) -> Iterator[Link]:
    made = Link("test", vhost.broker.port)
    made.start()
    yield made
    made.stop()


@pytest.mark.parametrize("long", [True, False])
def test_what_a_receiver_held_when_it_was_stopped_is_not_delivered_when_it_wakes_up(
    vhost: Vhost, script: Callable[..., Script], link: Link, *, long: bool
) -> None:
    """Long: by the clock alone its lease may be lost. Else its connection is gone, which it has yet to read."""
    may_answer = threading.Event()

    def answer(_request: Request) -> Answer:
        may_answer.wait(60)
        return OK

    with Endpoint(answer) as endpoint:
        own = settings(vhost, endpoint, HEARTBEAT=HEARTBEAT if long else 60, WORKERS=4, LOG_LEVEL="debug")
        through = {"RABBITMQ_URL": vhost.url.replace(f":{vhost.broker.port}/", f":{link.port}/")}
        first = script("receiver.py", {**own, **through, "HTTP_HEADERS": '{"Sender": "first"}'})
        second = script("receiver.py", own)
        first.start()
        first.wait_for_log("consuming")
        second.start()
        second.wait_for_log("state=standby")
        publisher = Publisher(vhost)
        for n in range(40):
            publisher.event(f"t {n % 10}", n=n)
        first.wait_for_log("event received", 30, count=40)
        wait_until(lambda: len(endpoint.requests) == 4, 30, "requests")
        first.pause()  # four requests are under way, and another batch lies ready
        stopped = time.monotonic()
        link.reset_connections()
        may_answer.set()
        wait_until(lambda: len({r.event_id for r in endpoint.completed}) == 40, 30, "the second one to do it all")
        if long:
            wait_until(lambda: time.monotonic() > stopped + LONG, 10, "a standstill that is long enough")
        woke = time.monotonic()
        first.resume()
        if long:
            first.wait_for_log(STOOD_STILL, 30)  # known before the sockets have told anything
        first.wait_for_log("state=standby", 30)
        assert [r.json["n"] for r in endpoint.requests if r.started > woke] == []
        assert (STOOD_STILL in first.log()) is long
        assert "Traceback" not in first.log()


def test_a_receiver_that_hears_nothing_of_the_broker_begins_nothing(
    vhost: Vhost, script: Callable[..., Script], link: Link
) -> None:
    with Endpoint(lambda _request: Answer(work=0.2)) as endpoint:
        own = settings(vhost, endpoint, HEARTBEAT=HEARTBEAT, WORKERS=4)
        through = {"RABBITMQ_URL": vhost.url.replace(f":{vhost.broker.port}/", f":{link.port}/")}
        receiver = script("receiver.py", {**own, **through})
        receiver.start()
        receiver.wait_for_log("consuming")
        publisher = Publisher(vhost)
        for n in range(200):
            publisher.event(f"t {n}", n=n)
        wait_until(lambda: len(endpoint.completed) >= 2, 10, "requests")
        link.stall()
        dead = time.monotonic()
        wait_until(lambda: time.monotonic() > dead + HEARTBEAT, 10, "one interval: RabbitMQ may give up from now on")
        begun = len(endpoint.requests)
        wait_until(lambda: time.monotonic() > dead + HEARTBEAT + 1, 10, "another second")
        assert len(endpoint.requests) == begun < 200
        link.mend()
        wait_until(lambda: len({r.event_id for r in endpoint.completed}) == 200, 30, "all")
        assert "Traceback" not in receiver.log()
