"""Sends rows in one request; if Odoo refuses it, finds the bad ones by halving, so that the good ones go through."""

import collections
import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeVar

from relay.delivery import DONE, Outcome, Verdict
from relay.targets.odoo.failures import Refused

T = TypeVar("T")

LOCK_TRIES = 4  # of one request that met a lock, before its rows wait their turn again
LOCK_PAUSE = 0.15  # seconds between them, more or less: the other transaction ends soon
FUTILE = 16  # refused requests without a success in between: what is left is not tried any more
FUTILE_UNCLEAR = 6  # where it may be the endpoint's failure

_UNTRIED = Outcome(Verdict.CONFLICT, "not tried: too many rows of its batch were refused")


class RowsRefused(Refused):
    """Odoo refused the request because of some of its rows.

    Args:
        outcome: for the row, if it was alone in the request.
        settled: by position, the rows whose outcome is certain.
        suspect: position of the row that was named first; it is not certain that it was this one.
    """

    def __init__(self, outcome: Outcome, settled: Mapping[int, Outcome], suspect: int | None) -> None:
        super().__init__(outcome, splits=True)
        self.settled = settled
        self.suspect = suspect


def send_in_parts(
    rows: Sequence[T],
    send: Callable[[Sequence[T]], None],
    sleep: Callable[[float], None] = time.sleep,
    alone: Collection[int] = (),
) -> list[Outcome]:
    """Send all rows, in one request if Odoo lets us.

    Args:
        send: one request; raises Refused.
        alone: positions of rows that get a request of their own.

    Returns:
        An outcome for each row, in order.
    """
    outcomes: list[Outcome | None] = [None] * len(rows)
    together = [at for at in range(len(rows)) if at not in alone]
    parts = collections.deque(part for part in (together, *([at] for at in alone)) if part)
    futile = 0
    while parts:
        part = parts.popleft()
        refused = _send(send, [rows[at] for at in part], sleep)
        if refused is None:
            futile = 0
            for at in part:
                outcomes[at] = DONE
            continue
        if not refused.splits:
            lost = refused.outcome
            if lost.verdict is not Verdict.CONFLICT:  # the next request would fare no better
                return [lost if outcome is None else outcome for outcome in outcomes]
            for at in part:
                outcomes[at] = lost
            continue
        futile += 1
        if futile > (FUTILE_UNCLEAR if refused.outcome.verdict is Verdict.UNCLEAR else FUTILE):
            rest = _UNTRIED if isinstance(refused, RowsRefused) else Outcome(Verdict.UNCLEAR, refused.outcome.reason)
            return [rest if outcome is None else outcome for outcome in outcomes]
        _split(part, refused, outcomes, parts)
    return [outcome or _UNTRIED for outcome in outcomes]


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


def _send(send: Callable[[Sequence[T]], None], rows: Sequence[T], sleep: Callable[[float], None]) -> Refused | None:
    """One request, again while a lock is in the way. Return why it was refused."""
    for tries in range(1, LOCK_TRIES + 1):
        try:
            send(rows)
        except Refused as refused:
            if refused.outcome.verdict is not Verdict.CONFLICT or refused.splits or tries == LOCK_TRIES:
                return refused
            sleep(random.uniform(0.5, 1.5) * LOCK_PAUSE * tries)
        else:
            return None
    raise AssertionError("unreachable")
