"""Another channel after a nack: which one is published on, and what becomes of the one before."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import pytest

from relay.listening import publishers
from relay.listening.event import OutboxEvent
from relay.listening.publishers import RENEW_EVERY, Publishers


def event(number: int) -> OutboxEvent:
    return OutboxEvent(number, f"id-{number}", 0, 1, "t", "t", "insert", f"t {number}", b"{}")


class One(SimpleNamespace):
    """A publisher that keeps what it is given."""

    def __init__(self, name: str) -> None:
        super().__init__(channel=name, unconfirmed=[], silent=0.0)

    def publish(self, events: list[OutboxEvent]) -> list[Any]:
        self.unconfirmed += events
        return []

    def silence(self) -> float:
        return float(self.silent)

    def be_patient(self) -> None:
        self.silent = 0.0


class Ground:
    """A session without a connection: its timers are run by `after`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.blocked = 1000.0, False
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.made, self.closed = [One("first")], list[str]()
        monkeypatch.setattr(publishers, "time", SimpleNamespace(monotonic=lambda: self.now))
        session: Any = SimpleNamespace(call_later=self.call_later, start=self.start, close_channel=self.close)
        first: Any = self.made[0]
        self.all = Publishers(session, first, self.another, lambda: self.blocked)

    def call_later(self, seconds: float, call: Callable[[], None]) -> None:
        self.timers.append((self.now + seconds, call))

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run(work)

    async def close(self, channel: str) -> None:
        self.closed.append(channel)

    async def another(self) -> Any:
        self.made.append(One(f"channel {len(self.made)}"))
        return self.made[-1]

    def after(self, seconds: float) -> None:
        self.now += seconds
        due = [call for at, call in self.timers if at <= self.now]
        self.timers = [one for one in self.timers if one[0] > self.now]
        for call in due:
            call()


def test_after_a_nack_all_goes_over_a_new_channel_and_the_old_one_is_closed_once_it_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ground = Ground(monkeypatch)
    ground.all.publish([event(1)])
    ground.all.refused()
    ground.after(0)
    ground.all.publish([event(2)])
    first, second = ground.made
    assert ([one.seq for one in first.unconfirmed], [one.seq for one in second.unconfirmed]) == ([1], [2])
    assert [one.seq for one in ground.all.unconfirmed] == [1, 2]
    ground.all.tidy()
    assert ground.closed == []
    first.unconfirmed.clear()
    ground.all.tidy()
    assert ground.closed == ["first"]
    assert [one.seq for one in ground.all.unconfirmed] == [2]


def test_a_queue_that_nacks_all_the_time_costs_one_channel_in_five_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    ground = Ground(monkeypatch)
    for _ in range(100):
        ground.all.refused()
        ground.after(0.2)
    assert len(ground.made) - 1 == 20 / RENEW_EVERY


def test_during_an_alarm_no_channel_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    ground = Ground(monkeypatch)
    ground.blocked = True
    ground.all.refused()
    ground.after(0)
    ground.after(60)
    assert len(ground.made) == 1
    ground.blocked = False
    ground.after(RENEW_EVERY)
    assert len(ground.made) == 2


def test_what_an_old_channel_never_answers_counts_as_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    ground = Ground(monkeypatch)
    ground.all.publish([event(1)])
    ground.all.refused()
    ground.after(0)
    ground.made[0].silent = 61.0
    assert ground.all.silence() == 61.0
    ground.all.be_patient()
    assert ground.all.silence() == 0.0
