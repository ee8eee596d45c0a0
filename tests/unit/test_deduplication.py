"""What a receiver remembers of its deliveries: how much, what counts as known, and what ends it."""

from __future__ import annotations

import dataclasses

import pytest

from relay.delivery import Event
from relay.receiving.deduplication import Deduplication


def event(seq: int, key: str = "t 1", op: str = "update") -> Event:
    return Event(b"", "t", id=f"id-{seq}", op=op, key=key, table="t", seq=seq, redelivered=True)


def known(deduplication: Deduplication, one: Event, *, stored: bool) -> bool:
    return deduplication.is_stored(one) if stored else deduplication.was_delivered(one)


@pytest.mark.parametrize("stored", [False, True])
def test_only_the_newest_ones_are_known(stored: bool) -> None:
    deduplication = Deduplication(100, barriers=True)
    events = [event(n, f"t {n % 7}") for n in range(1, 1001)]
    for one in events:
        deduplication.add(one, one.key, stored=stored)
    assert [one.seq for one in events if known(deduplication, one, stored=stored)] == list(range(901, 1001))


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("change", [{"redelivered": False}, {"seq": 0}, {"id": "id-2"}])
def test_only_what_the_broker_hands_out_again_and_is_ours_counts_as_known(
    stored: bool, change: dict[str, object]
) -> None:
    deduplication, one = Deduplication(100, barriers=True), event(1)
    deduplication.add(one, one.key, stored=stored)
    assert known(deduplication, one, stored=stored)
    assert not known(deduplication, one, stored=not stored)
    assert not known(deduplication, dataclasses.replace(one, **change), stored=stored)  # type: ignore[arg-type]


def test_what_comes_again_is_forgotten_with_what_followed_it() -> None:
    row, truncate, later, other = event(1), event(2, "t", "truncate"), event(3), event(4, "t 2")
    for again, left in ((row, [row, other]), (truncate, [row, truncate]), (other, [row, truncate, later, other])):
        deduplication = Deduplication(100, barriers=True)
        for one in (row, truncate, later, other):
            deduplication.add(one, one.key)
        deduplication.add(again, again.key)
        assert [one for one in (row, truncate, later, other) if deduplication.was_delivered(one)] == left
