"""Sends rows in one request; if it is refused, finds the bad ones by halving, so that the good ones go through."""

import asyncio
import collections
import dataclasses
import random
from collections.abc import Awaitable, Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from relay.delivery import DONE, NOT_TRIED, Event, Outcome, Verdict
from relay.log import Log

T = TypeVar("T")

_log = Log("receiver")

LOCK_TRIES = 4  # of one request that met a lock, before its rows wait their turn again
LOCK_PAUSE = 0.15  # seconds between them, more or less: the other transaction ends soon
FUTILE = 16  # refused requests without a success in between: what is left is not tried any more
FUTILE_UNCLEAR = 6  # where it may be the endpoint's failure

REMEMBERED = 100_000  # rows; more than the window and the parking lot hold

NOT_SENT = Outcome(Verdict.CONFLICT, "not sent: the request before got lost")
_UNTRIED = Outcome(Verdict.CONFLICT, "not tried: too many rows of its batch were refused")


class Refused(Exception):
    """The endpoint did not do it.

    Args:
        outcome: whose failure it is.
        name: the exception's name, if it said one.
        splits: smaller requests may tell which row it was.
        too_large: each part of it that is no smaller is too large as well.
        lost: nobody knows what has become of it: one of its rows, or their number, may have killed who worked on it.
        unfinished: it has asked a person instead (`unfinished`).
    """

    def __init__(
        self,
        outcome: Outcome,
        name: str = "",
        *,
        splits: bool = False,
        too_large: bool = False,
        lost: bool = False,
        unfinished: bool = False,
    ) -> None:
        super().__init__(outcome.reason)
        self.outcome = outcome
        self.name = name
        self.splits = splits
        self.too_large = too_large
        self.lost = lost
        self.unfinished = unfinished


class RowsRefused(Refused):
    """The endpoint refused the request because of some of its rows.

    Args:
        outcome: for the row, if it was alone in the request.
        settled: by position, the rows whose outcome is certain.
        suspect: position of the row that was named first; it is not certain that it was this one.
    """

    def __init__(self, outcome: Outcome, settled: Mapping[int, Outcome], suspect: int | None) -> None:
        super().__init__(outcome, splits=True)
        self.settled = settled
        self.suspect = suspect


class Limits:
    """How many rows a request may have: half as many each time, where one of its rows was in a request that got lost.

    Not at once, as with rows that Odoo has refused: to find out takes long, the request may still run, and meanwhile
    another receiver may be at work. Shared by all workers of a target.
    """

    def __init__(self) -> None:
        self._most: collections.OrderedDict[Hashable, int] = collections.OrderedDict()

    async def send(
        self,
        rows: Sequence[T],
        names: Sequence[Hashable],
        send: Callable[[Sequence[T]], Awaitable[None]],
        alone: Collection[int] = (),
        batch_size: int = 0,
    ) -> list[Outcome]:
        """As send_in_parts.

        Args:
            names: the rows', over all tries.
            alone: positions of those that share no request.
            batch_size: rows in a request, at most; 0 = no limit.
        """
        limit = batch_size or len(rows)
        most = [1 if at in alone else min(limit, self._most.get(name, limit)) for at, name in enumerate(names)]
        outcomes = await send_in_parts(
            rows, send, most=most, on_lost=lambda part: self._halve([names[at] for at in part])
        )
        if self._most:
            for name, outcome in zip(names, outcomes, strict=True):
                if outcome.verdict is Verdict.DONE:
                    self._most.pop(name, None)
        return outcomes

    def _halve(self, names: Sequence[Hashable]) -> None:
        for name in names:
            self._most[name] = max(1, len(names) // 2)
        while len(self._most) > REMEMBERED:
            self._most.popitem(last=False)


def go_on_at_once(events: Sequence[Event], outcomes: Sequence[Outcome]) -> list[Outcome]:
    """A request of several rows got lost, and runs no more: its rows need not sit out a back-off to be halved.

    Returns:
        The same outcomes, but that the first of such a row wakes all of them.
    """
    found = list(outcomes)
    lost = any(one.told for one in found)
    again = [at for at, one in enumerate(found) if lost and (one.told or one is NOT_SENT) and not one.running]
    if again:
        wakes = (*found[again[0]].wakes, *(events[at] for at in again))
        found[again[0]] = dataclasses.replace(found[again[0]], wakes=wakes)
    return found


async def send_in_parts(
    rows: Sequence[T],
    send: Callable[[Sequence[T]], Awaitable[None]],
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    most: Sequence[int] = (),
    on_lost: Callable[[list[int]], None] = lambda _part: None,
) -> list[Outcome]:
    """Send all rows, in one request if the endpoint lets us.

    Args:
        send: one request; raises Refused.
        most: how many rows a request may have, by row.
        on_lost: called with the positions of several rows whose request got lost.

    Returns:
        An outcome for each row, in order.
    """
    outcomes: list[Outcome | None] = [None] * len(rows)
    parts = collections.deque(_parts(most or [len(rows)] * len(rows)))
    futile = 0
    while parts:
        part = parts.popleft()
        refused = await _send(send, [rows[at] for at in part], sleep)
        if refused is None:
            futile = 0
            for at in part:
                outcomes[at] = DONE
            continue
        if refused.too_large and len(part) > 1:
            parts = collections.deque(_smaller([part, *parts], len(part) // 2))
            continue
        if refused.lost:
            return _lost(part, refused.outcome, outcomes, on_lost)
        if not refused.splits:
            lost = refused.outcome
            if lost.verdict is not Verdict.CONFLICT:  # the next request would fare no better
                return [lost if outcome is None else outcome for outcome in outcomes]
            for at in part:
                outcomes[at] = lost
            continue
        futile += 1
        if futile > (FUTILE_UNCLEAR if refused.outcome.verdict is Verdict.UNCLEAR else FUTILE):
            rest = (
                _UNTRIED
                if isinstance(refused, RowsRefused) or refused.too_large
                else Outcome(Verdict.UNCLEAR, refused.outcome.reason)
            )
            return [rest if outcome is None else outcome for outcome in outcomes]
        _split(part, refused, outcomes, parts)
    return [outcome or _UNTRIED for outcome in outcomes]


def _parts(most: Sequence[int]) -> Iterator[list[int]]:
    """The positions, by how many may be together; those of whom nothing is known first."""
    for limit in sorted(set(most), reverse=True):
        yield from _smaller([[at for at, one in enumerate(most) if one == limit]], limit)


def _smaller(parts: Iterable[list[int]], most: int) -> Iterator[list[int]]:
    return (part[at : at + most] for part in parts for at in range(0, len(part), most))


def _lost(
    part: list[int], lost: Outcome, outcomes: list[Outcome | None], on_lost: Callable[[list[int]], None]
) -> list[Outcome]:
    if len(part) > 1:
        on_lost(part)
        _log.warning("a request of several rows got lost, they go in smaller ones", rows=len(part), reason=lost.reason)
        reason = f"{lost.reason} (with {len(part)} rows in the request)"
        lost = dataclasses.replace(lost, reason=reason, told=True)
    for at in part:
        outcomes[at] = lost
    return [NOT_SENT if outcome is None else outcome for outcome in outcomes]


def _split(
    part: list[int], refused: Refused, outcomes: list[Outcome | None], parts: "collections.deque[list[int]]"
) -> None:
    settled = refused.settled if isinstance(refused, RowsRefused) else {}
    for position, outcome in settled.items():
        outcomes[part[position]] = outcome
    rest = [at for position, at in enumerate(part) if position not in settled]
    if settled:
        if rest:
            parts.appendleft(rest)
        return
    if len(part) == 1:
        outcomes[part[0]] = refused.outcome
        return
    # The one that was named goes alone: it may be blamed for another's fault (Odoo blames the first of the request
    # for what went wrong when it tried all of them together).
    suspect = refused.suspect if isinstance(refused, RowsRefused) else None
    if suspect is not None:
        parts.append([part[suspect]])
        rest.remove(part[suspect])
    half = len(rest) // 2
    parts.extend(piece for piece in (rest[:half], rest[half:]) if piece)


async def _send(
    send: Callable[[Sequence[T]], Awaitable[None]], rows: Sequence[T], sleep: Callable[[float], Awaitable[None]]
) -> Refused | None:
    """One request, again while a lock is in the way. Return why it was refused."""
    for tries in range(1, LOCK_TRIES + 1):
        try:
            await send(rows)
        except Refused as refused:
            is_lock = refused.outcome.verdict is Verdict.CONFLICT and not refused.splits
            if not is_lock or refused.outcome is NOT_TRIED or tries == LOCK_TRIES:
                return refused
            await sleep(random.uniform(0.5, 1.5) * LOCK_PAUSE * tries)
        else:
            return None
    raise AssertionError("unreachable")
