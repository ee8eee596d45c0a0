"""What bad rows cost the others: their rate beside the rate without them; what a long outage costs.

A fair comparison: the same receiver, with its defaults, and the same endpoint, which takes 20 ms for each answer, good
or bad: so the workers bound the rate, and not this machine. With and without take turns, and the medians count.

Without: a poison row's events are not there at all. Events that fail until another one has been delivered are there,
but do not fail: nobody can foresee that their first request fails; what is measured is the cost of the failures.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import pytest

from dev.doubles.endpoint import OK, Answer, Endpoint, Request
from dev.process import wait_until
from dev.script import Script
from dev.vhost import Vhost
from tests.messages import Publisher
from tests.receiving import assert_order, settings

Make = Callable[..., Script]
WORK = 0.02  # seconds for an answer
OTHERS = 1000
ROUNDS = 3


def seconds_for_the_others(endpoint: Endpoint) -> float:
    """From the first to the last delivery of an event that is nobody's trouble."""

    def found() -> list[Request]:
        return [request for request in list(endpoint.completed) if request.json["key"].startswith("good")]

    wait_until(lambda: len(endpoint.completed) >= OTHERS and len(found()) == OTHERS, 300, "the others' events")
    return found()[-1].started - found()[0].started


def measure(vhost: Vhost, script: Make, endpoint: Endpoint, queue: str, bad: list[str], *, deliverable: bool) -> float:
    """Deliver 1,000 others with the bad ones, evenly mixed. Return the others' events a second."""
    endpoint.completed.clear()
    endpoint.requests.clear()
    own = {"RABBITMQ_URL": vhost.url, "QUEUE": queue, "EXCHANGE": queue, "HTTP_URL": endpoint.url}
    receiver = script("receiver.py", own)
    receiver.start()
    receiver.wait_for_log("consuming")
    receiver.terminate()
    assert receiver.wait() == 0
    publisher, left = Publisher(vhost, queue), bad[::-1]
    for n in range(OTHERS):
        publisher.event(f"good {n % 100}", n=n)
        for _ in range(-(-len(left) // (OTHERS - n))):
            publisher.event(left.pop(), n=n)
    receiver.start()
    rate = OTHERS / seconds_for_the_others(endpoint)
    if deliverable:
        wait_until(lambda: len(endpoint.completed) == OTHERS + len(bad), 300, "everything, by itself")
        wait_until(lambda: vhost.queue_depth(f"{queue}.parked") == 0, 30, "an empty parking lot")
    assert_order(endpoint)
    receiver.terminate()
    assert receiver.wait() == 0
    return rate


def compare(without: Callable[[str], float], beside: Callable[[str], float], what: str) -> None:
    """The others' rate beside the bad rows is 0.9 of their rate without, or more."""
    rates: list[tuple[float, float]] = []
    for n in range(ROUNDS):
        rates.append((without(f"without-{n}"), beside(f"beside-{n}")))
        print(f"{what}: others {rates[-1][1]:.0f}/s, without {rates[-1][0]:.0f}/s")  # noqa: T201
    medians = [statistics.median(each) for each in zip(*rates, strict=True)]
    assert medians[1] >= 0.9 * medians[0]


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("updates", [1, 2000])
@pytest.mark.parametrize("status", [422, 500])
def test_updates_of_a_poison_row_leave_the_others_their_rate(
    vhost: Vhost, script: Make, endpoint: Endpoint, status: int, updates: int
) -> None:
    endpoint.rule = lambda request: Answer(status if request.json["key"] == "poison" else 200, work=WORK)
    compare(
        lambda queue: measure(vhost, script, endpoint, queue, [], deliverable=True),
        lambda queue: measure(vhost, script, endpoint, queue, ["poison"] * updates, deliverable=False),
        f"{updates} updates of a poison row ({status})",
    )


@pytest.mark.long
@pytest.mark.timeout(900)
def test_two_thousand_events_that_fail_until_one_behind_them_is_delivered_leave_the_others_their_rate(
    vhost: Vhost, script: Make, endpoint: Endpoint
) -> None:
    parent = [False]

    def rule(request: Request) -> Answer:
        key = request.json["key"]
        parent[0] = parent[0] or key == "parent"
        refused = key.startswith("orphan") and not parent[0]
        return Answer(422, b"no such customer", work=WORK) if refused else Answer(work=WORK)

    def deliver(queue: str, *, there: bool) -> float:
        parent[0] = there
        bad = [*(f"orphan {n}" for n in range(2000)), "parent"]
        return measure(vhost, script, endpoint, queue, bad, deliverable=True)

    endpoint.rule = rule
    compare(
        lambda queue: deliver(queue, there=True),
        lambda queue: deliver(queue, there=False),
        "2,000 events that fail until another one is delivered",
    )


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
    receiver.wait_for_log("consuming")
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
