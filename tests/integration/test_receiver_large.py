"""Events that fill the window: they leave room for others, and are parked like any other."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from dev.doubles.endpoint import OK, Answer, Endpoint, Request
from dev.process import wait_until
from dev.script import Script
from dev.vhost import Vhost
from tests.messages import Publisher
from tests.receiving import assert_order, done, run, settings

Make = Callable[..., Script]


LARGE = 1 << 20  # bytes; the window of 4 MiB is filled by four of them


@pytest.mark.parametrize(("large", "mb", "status"), [(1, 5, 500), (3, 5, 500), (3, 2, 500), (3, 5, 413)])
def test_large_events_that_fail_leave_room_for_others_and_are_parked(
    vhost: Vhost, script: Make, endpoint: Endpoint, large: int, mb: int, status: int
) -> None:
    """Above the window's size, or filling it together. Only the others' success shows whose failure a 500 is."""

    def rule(request: Request) -> Answer:
        return Answer(status) if len(request.body) > LARGE else OK

    endpoint.rule = rule
    receiver = script("receiver.py", settings(vhost, endpoint, MAX_ATTEMPTS=2, PREFETCH_MB=4))
    receiver.start()
    receiver.wait_for_log("consuming")
    publisher = Publisher(vhost)
    for n in range(large):
        publisher.event(f"large {n}", n=n, filler="x" * mb * LARGE)
    for n in range(5):
        publisher.event(f"small {n}", n=n)
    wait_until(lambda: len(endpoint.completed) == 5, 45, "the small ones behind them")
    n = 5

    def all_parked() -> bool:
        nonlocal n
        publisher.event(f"small {n % 5}", n=n)
        n += 1
        return sum(one["why"] == "dead" for one in json.loads(done(run(receiver, "parked", "--json")))) == large

    wait_until(all_parked, 45, "the large ones in the parking lot, for a person")
    wait_until(lambda: len(endpoint.completed) == n, 15, "all small ones")
    assert_order(endpoint)


def test_a_row_with_large_events_before_small_ones_keeps_its_order(
    vhost: Vhost, script: Make, endpoint: Endpoint
) -> None:
    """The narrowed window is too wide again, and given back before all has come again that was given back before."""
    endpoint.rule = lambda _request: Answer(work=0.02)
    receiver = script("receiver.py", settings(vhost, endpoint, PREFETCH_MB=1, PREFETCH=100, WORKERS=2))
    done(run(receiver, "--drain"))  # there is a queue now
    publisher, count = Publisher(vhost), 150
    for n in range(count):
        publisher.event(f"row {n % 2}", n=n, filler="x" * (400_000 if 10 <= n < 40 else 5_000))
    receiver.start()
    wait_until(lambda: len({one.json["n"] for one in endpoint.completed}) == count, 60, "all of them")
    assert_order(endpoint)
    assert len(endpoint.completed) == count, "and none of them twice"
