"""How many sessions of other listeners are ended, in how long."""

from __future__ import annotations

import asyncio

import pytest

from relay.errors import Unavailable
from relay.listening import fencing
from relay.listening.fencing import ENDED_MOST, ENDED_SECONDS, Endings, taken
from relay.log import Log


def test_after_some_endings_the_next_session_is_left_alone_for_a_while() -> None:
    endings = Endings()
    for second in range(ENDED_MOST):
        assert not endings.are_many(float(second))
        endings.note(float(second))
    assert endings.are_many(float(ENDED_MOST))
    assert not endings.are_many(ENDED_SECONDS)


def test_two_listeners_with_two_leases_do_not_end_each_other_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time another one has come again."""
    monkeypatch.setattr(fencing, "_endings", Endings())
    ended = 0

    async def attempt() -> None:
        is_there = True

        async def take() -> bool:
            return not is_there

        async def end() -> tuple[str, str]:
            nonlocal is_there, ended
            is_there, ended = False, ended + 1
            return "pid 7", ""

        await taken(take, end, "the outbox", Log("test"))

    for _ in range(ENDED_MOST):
        asyncio.run(attempt())
    with pytest.raises(Unavailable, match="again each time its session is ended") as caught:
        asyncio.run(attempt())
    assert ended == ENDED_MOST
    assert "pause_minority" in caught.value.remedy
