"""What comes again after an orderly end: which of it need only be acknowledged."""

from __future__ import annotations

import asyncio

import pytest

from relay.delivery import Event
from relay.errors import Unavailable
from relay.receiving import lost_acks
from relay.receiving.codec import Reader
from relay.receiving.lost_acks import Known, all_read


def event(name: str) -> Event:
    key, _, number = name.partition(".")
    return Event(b"", "t", id=name, op="truncate" if key == "t" else "update", key=key, table="t", seq=int(number))


@pytest.mark.parametrize(
    ("queue", "done", "acknowledged"),
    [
        ("1.1 1.2 1.3", "1.1 1.2", "1.1 1.2"),
        ("1.1 2.2", "2.2", "2.2"),  # another row
        ("1.1 1.2 1.3", "1.2 1.3", ""),
        ("1.1 t.2 2.3", "t.2 2.3", ""),  # a truncate behind a row that stays, and a row behind that truncate
        ("t.1 1.2", "1.2", ""),
        ("1.1 t.2 2.3", "1.1 t.2 2.3", "1.1 t.2 2.3"),
    ],
)
def test_what_stands_behind_something_that_stays_is_not_acknowledged(queue: str, done: str, acknowledged: str) -> None:
    known = Known(Reader().to_event, lambda one: one.id in done.split())
    assert [name for name in queue.split() if known.may_go(event(name))] == acknowledged.split()


def test_what_was_counted_and_does_not_come_is_not_awaited_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A purge, or an expiry, between the count and the reading."""
    monkeypatch.setattr(lost_acks, "SILENCE", 0.01)

    async def go(coming: int) -> int:
        whole, looks = asyncio.Event(), 0

        def read() -> int:
            nonlocal looks
            looks += 1
            if looks > coming:
                whole.set()
            return looks

        await all_read("q", whole, read)
        return looks

    assert asyncio.run(go(5)) == 6, "while something comes it goes on"
    with pytest.raises(Unavailable, match="queue q has given out 7 messages, and counted more"):
        asyncio.run(all_read("q", asyncio.Event(), lambda: 7))
