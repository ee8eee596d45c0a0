"""Existing rows of a watched table, sent once more: what every polled source has in common."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from relay.listening.outbox import LONG_OUTBOX
from relay.listening.resend import Resent

Key = tuple[Any, ...]
"""A row's place in the order of its table, as the driver gives it."""


class Chunk(NamedTuple):
    """What became of some rows."""

    copied: int
    last: Key | None
    """Where to go on; None = that was all."""
    shown: str
    """`last` as JSON, for a person to go on from; "" where it is None."""
    skipped: list[Key]
    """Rows that somebody else has locked."""


class Copier(Protocol):
    """Copies rows of one table into the outbox as events with op snapshot, each call in a transaction of its own.

    A row is locked from before it is read until its event is committed: a snapshot never comes behind a newer change.
    """

    def after(self, text: str) -> Key:
        """Read a key that `Chunk.shown` gave. Raises NotFound: it is none of this table's."""

    def chunk(self, after: Key | None, most: int) -> Chunk:
        """Copy the next rows; those that others have locked are not waited for."""

    def row(self, key: Key) -> int | None:
        """Copy one row, and how many that were: 0 = it is gone; None = it is locked still."""

    def waiting(self, most: int) -> bool:
        """Do more than so many events wait in the outbox?"""


def resend(
    copier: Copier, resent: Resent, *, chunk: int, progress: Callable[[int], object], waits: Callable[[str], None]
) -> None:
    """Copy a table's rows, chunk by chunk. As relay.listening.resend, which does it on PostgreSQL.

    Args:
        copier: of the table.
        resent: where to begin; brought up to date after each chunk.
        chunk: rows a transaction.
        progress: called with the number of rows just copied.
        waits: called with what it waits for, and with "" when it goes on.

    Raises:
        RelayError: whatever the database says.
    """
    skipped: list[Key] = []
    after = None if resent.after is None else copier.after(resent.after)

    def copied(rows: int) -> None:
        resent.rows += rows
        progress(rows)

    while True:
        _await(lambda: not copier.waiting(LONG_OUTBOX), f"more than {LONG_OUTBOX} events in the outbox", waits)
        found = copier.chunk(after, chunk)
        skipped += found.skipped
        after = found.last
        if not skipped:  # else whoever goes on must begin before the first row that is still to be copied
            resent.after = found.shown or None
        copied(found.copied)
        if after is None:
            break
    for key in skipped:
        done: list[int] = []

        def try_(key: Key = key, done: list[int] = done) -> bool:
            rows = copier.row(key)
            if rows is not None:
                done.append(rows)
            return rows is not None

        _await(try_, f"row {', '.join(str(part) for part in key)} is locked by another session", waits)
        copied(done[0])


def _await(is_done: Callable[[], bool], why: str, waits: Callable[[str], None]) -> None:
    if is_done():
        return
    waits(f"{why}, waiting")
    while not is_done():
        time.sleep(0.5)
    waits("")
