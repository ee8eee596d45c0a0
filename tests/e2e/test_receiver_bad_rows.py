"""What one bad row, or thousands of events in back-off, cost the others: a rate beside the rate without them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from dev.process import wait_until
from dev.script import Script
from dev.vhost import Vhost
from tests.endpoint import OK, Answer, Endpoint, Request
from tests.messages import Publisher
from tests.receiving import settings

Make = Callable[..., Script]
WORK = Answer(work=0.05)  # what bounds the rate is the endpoint, so that a busy machine weighs on both sides alike
OTHERS = 1000


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint() as made:
        yield made


def seconds_for_the_others(endpoint: Endpoint) -> float:
    """From the first to the last delivery of an event that is nobody's trouble."""

    def found() -> list[Request]:
        return [request for request in endpoint.completed if request.json["key"].startswith("good")]

    wait_until(lambda: len(found()) == OTHERS, 300, "the others' events")
    return found()[-1].started - found()[0].started


def measure(vhost: Vhost, script: Make, endpoint: Endpoint, queue: str, bad: list[str], last: str = "") -> float:
    """Deliver 1,000 others with the bad ones, evenly mixed; then `last`. The others' events a second."""
    endpoint.completed.clear()
    own = settings(vhost, endpoint, QUEUE=queue, EXCHANGE=queue, MAX_ATTEMPTS=40, RETRY_MIN="1", RETRY_MAX="30")
    receiver = script("receiver.py", own)
    receiver.start()
    receiver.wait_for_log("connected")
    receiver.terminate()
    assert receiver.wait() == 0
    publisher, left = Publisher(vhost, queue), list(bad)
    for n in range(OTHERS):
        publisher.event(f"good {n % 100}", n=n)
        for _ in range(-(-len(left) // (OTHERS - n))):
            publisher.event(left.pop(), n=n)
    if last:
        publisher.event(last)
    receiver.start()
    rate = OTHERS / seconds_for_the_others(endpoint)
    if last:
        wait_until(lambda: len(endpoint.completed) == OTHERS + len(bad) + 1, 300, "everything, by itself")
        wait_until(lambda: vhost.queue_depth(f"{queue}.parked") == 0, 30, "an empty waiting room")
    receiver.terminate()
    receiver.wait()
    return rate


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("status", [422, 500])
def test_two_thousand_updates_of_a_poison_row_leave_the_others_their_rate(
    vhost: Vhost, script: Make, endpoint: Endpoint, status: int
) -> None:
    endpoint.rule = lambda request: Answer(status) if request.json["key"] == "poison" else WORK
    alone = measure(vhost, script, endpoint, "alone", [])
    beside = measure(vhost, script, endpoint, "beside", ["poison"] * 2000)
    print(f"others beside a poison row: {beside:.0f}/s, alone {alone:.0f}/s")  # noqa: T201
    assert beside >= 0.9 * alone


@pytest.mark.long
@pytest.mark.timeout(900)
def test_two_thousand_events_that_fail_until_one_behind_them_is_delivered_leave_the_others_their_rate(
    vhost: Vhost, script: Make, endpoint: Endpoint
) -> None:
    parent = [False]

    def rule(request: Request) -> Answer:
        key = request.json["key"]
        parent[0] = parent[0] or key == "parent"
        return WORK if parent[0] or not key.startswith("orphan") else Answer(422, b"no such customer")

    endpoint.rule = rule
    alone = measure(vhost, script, endpoint, "alone", [])
    beside = measure(vhost, script, endpoint, "beside", [f"orphan {n}" for n in range(2000)], "parent")
    print(f"others beside orphans: {beside:.0f}/s, alone {alone:.0f}/s")  # noqa: T201
    assert beside >= 0.9 * alone


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("status", [0, 500, 503])
def test_ten_thousand_wait_for_an_endpoint_that_is_down(
    vhost: Vhost, script: Make, endpoint: Endpoint, status: int
) -> None:
    """0: it refuses connections."""
    endpoint.rule = lambda _request: Answer(status)
    receiver = script("receiver.py", settings(vhost, endpoint, MAX_ATTEMPTS=1, RETRY_MIN="1", RETRY_MAX="60"))
    receiver.start()
    receiver.wait_for_log("connected")
    if not status:
        endpoint.stop()
    publisher = Publisher(vhost)
    for n in range(10_000):
        publisher.event(f"t {n % 500}", n=n)
    receiver.wait_for_log("endpoint does not work, pausing")
    before = len(endpoint.requests)
    time.sleep(30)  # the outage
    assert len(endpoint.requests) - before < 2 * 30
    if not status:
        endpoint.start()
    endpoint.rule = lambda _request: OK
    back = time.monotonic()
    wait_until(lambda: endpoint.completed, 10, "the first delivery")
    assert endpoint.completed[0].started - back < 5
    wait_until(lambda: len(endpoint.completed) == 10_000, 120, "all events")
    assert {request.headers["Relay-Attempt"] for request in endpoint.requests} == {"1"}
    assert vhost.queue_depth("odoo.parked") == 0
