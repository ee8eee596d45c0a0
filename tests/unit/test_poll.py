"""When a source that can't wake us is read again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest

from relay.listening.polled import poll as module
from relay.listening.polled.poll import POLL_MAX, POLL_MIN, SHARE, WAIT_MOST, Poll


class Timers:
    """Takes a session's place: which waits were asked for, in seconds; `fire` ends the last one."""

    def __init__(self) -> None:
        self.waits: list[float] = []
        self.fire: Callable[[], object] = lambda: None

    def call_later(self, seconds: float, call: Callable[[], object]) -> object:
        self.waits.append(seconds)
        self.fire = call
        return object()


@pytest.mark.parametrize(
    ("costs", "wait"),
    [
        ([0.001], POLL_MIN),
        ([0.04], SHARE * 0.04),
        ([0.001, 0.001, 0.2], POLL_MIN),  # a busy machine: one was slow
        ([0.001, *[0.04] * 5], SHARE * 0.04),  # an old snapshot is open: all are
        ([*[0.04] * 9, 0.001], POLL_MIN),
        ([1.0] * 5, WAIT_MOST),  # what stays, with holes between, by the hundred thousand
    ],
)
def test_the_wait_is_ten_times_what_a_read_costs_and_not_what_one_took(costs: Sequence[float], wait: float) -> None:
    timers = Timers()
    told: list[float] = []
    poll = Poll(cast("Any", timers), 5.0, lambda: told[-1], lambda: None)
    for cost in costs:
        told.append(cost)
        poll.reading()
        poll.have_read(found=0, whole=True, xmin=0)
    poll.step()
    assert timers.waits == [pytest.approx(wait)]


def test_after_an_event_it_grows_rarer_and_costs_little_within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    timers, now = Timers(), [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    poll = Poll(cast("Any", timers), 5.0, lambda: 0.0001, lambda: None)
    reads = 0
    while now[0] < 105.0:
        poll.reading()
        poll.have_read(found=0, whole=True, xmin=0)
        poll.step()
        now[0] += timers.waits[-1]
        timers.fire()
        reads += 1
    assert timers.waits[:90] == [POLL_MIN] * 90
    assert timers.waits[-1] == POLL_MAX
    assert reads < 5.0 / POLL_MIN * 0.55  # a poll of 0.9 ms: 2.4 % of a core
