"""Who asks for a table, or one of its rows, has it sent again to one queue: in chunks, behind what else goes out."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import psycopg2
import psycopg2.errors

from relay.errors import RelayError
from relay.listening.beside import Beside, StillAtWork
from relay.listening.gets import LOCKED, key_objection, objection, worded
from relay.listening.outbox import LENGTH, LONG_OUTBOX

FILLS_MAX = 20  # under way
PLACE_SECONDS = 30.0  # for which one of them has its place for sure
CHUNK = 500  # rows
SHORT_OUTBOX = 2000  # events
EACH = 1.0  # seconds from chunk to chunk while the outbox is not short; not at all while it is long
LOOK, LOCKED_PAUSE = 0.1, 0.5  # seconds between two looks at the outbox; until a locked row or table is tried again
SKIPPED_MAX, SKIPPED_CHARACTERS = 2000, 1 << 20  # keys of rows that others have locked, after which they come first
SKIPPED_END = 4 << 20  # characters of such, with which it ends: one chunk may bring any number
LOST_PAUSE = 5.0  # seconds until the table over which PostgreSQL was lost is tried again
TOLD_EVERY = 1.0  # seconds between two words to who has asked

_CHUNK = "select copied, last::text, skipped::text[] from relay.resend_chunk(relay.watched_table(%s), %s, %s, null, %s)"
_ROW = "select relay.resend_row(relay.watched_table(%s), %s, null, %s)"

Reply = Callable[[dict[str, Any]], None]


class TooMuch(Exception):
    """It would have to remember more than it may. Its text says what."""


class Fill:
    """One of them.

    Args:
        key: of the row, or of several, one a line; empty = all of the table.
        after: the key to go on after; None = from the beginning.
    """

    def __init__(self, table: str, queue: str, key: str, after: str | None, reply: Reply) -> None:
        self.table = table
        self.queue = queue
        self.key = key
        self.reply = reply
        self.due = 0.0  # monotonic seconds
        self.began = 0.0  # the same
        self.used = 0.0  # seconds that its statements have taken; of who comes later also what the others had before
        self._after = after
        self._resume = after  # from where it may be taken up again: all up to here is in the outbox
        self._skipped: list[str] = key.split("\n") if key else []
        self._none: list[str] = []  # keys asked for of which there is no row
        self._at_end = bool(key)
        self._rows = 0
        self._waits = ""
        self._told = 0.0
        self._sent_at = 0.0

    async def step(self, beside: Beside, now: float) -> bool:
        """Send one statement. Return whether it was the last. Raises RelayError, psycopg2.Error, TooMuch."""
        if not self.key and not await self._has_room(beside, now):
            self._wait(now, LOOK, "the outbox is long")
            return False
        row_by_row = self._at_end or len(self._skipped) > SKIPPED_MAX or self._length() > SKIPPED_CHARACTERS
        try:
            if row_by_row:
                await self._copy_skipped(beside)
            else:
                await self._copy_chunk(beside)
        except psycopg2.errors.LockNotAvailable:
            if row_by_row:  # a row, probably: the others first
                self._skipped.append(self._skipped.pop(0))
            self._wait(now, LOCKED_PAUSE, f"{self.table}, or a row of it, {LOCKED}")
            return False
        except StillAtWork as error:
            self._wait(now, LOST_PAUSE, str(error))
            return False
        self._sent_at, self._waits = now, ""
        return self._at_end and not self._skipped

    async def _has_room(self, beside: Beside, now: float) -> bool:
        ((length,),) = await beside.ask(LENGTH, LONG_OUTBOX + 1)
        return bool(length <= SHORT_OUTBOX or (length <= LONG_OUTBOX and now - self._sent_at >= EACH))

    async def _copy_chunk(self, beside: Beside) -> None:
        ((copied, last, skipped),) = await beside.ask(
            _CHUNK, self.table, self._after, CHUNK, self.queue, table=self.table
        )
        self._rows += copied
        self._skipped += skipped
        if self._length() > SKIPPED_END:
            raise TooMuch(
                f"others have locked {len(self._skipped)} rows of {self.table}, keys of {self._length() >> 20} MiB: "
                "ask again when they are done"
            )
        self._after, self._at_end = last, last is None
        if not self._skipped and last is not None:  # else it must begin before the first row that is still to come
            self._resume = last

    async def _copy_skipped(self, beside: Beside) -> None:
        ((copied,),) = await beside.ask(_ROW, self.table, self._skipped[0], self.queue, table=self.table)
        key = self._skipped.pop(0)
        self._rows += copied
        if self.key and not copied:
            self._none.append(key)

    def _length(self) -> int:
        return sum(map(len, self._skipped))

    def put_off(self, now: float, why: str) -> None:
        """PostgreSQL was lost over it: by itself, or since the code of the table's owner had that happen."""
        self._wait(now, LOST_PAUSE, why)

    def _wait(self, now: float, seconds: float, why: str) -> None:
        self.due, self._waits = now + seconds, why

    def tell(self, now: float) -> None:
        """Say how far it is, now and then."""
        if now - self._told >= TOLD_EVERY:
            self._told = now
            self.reply({"rows": self._rows, "after": self._resume, "waits": self._waits})

    def end(self, error: str = "", *, again: bool = False) -> None:
        """It is done, or nothing more comes of it. `again`: it may be asked for again."""
        failed = {"error": error, "again": again} if error else {}
        none = {"none": self._none} if self.key else {}
        self.reply({"done": True, "rows": self._rows, "after": self._resume, **none, **failed})


class Fills:
    """Those under way, in turns.

    Args:
        refused: called with a table and why something about it is refused.
    """

    def __init__(self, refused: Callable[[str, str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._refused = refused
        self._clock = clock
        self._fills: list[Fill] = []

    def __len__(self) -> int:
        """How many are under way."""
        return len(self._fills)

    def add(self, command: Mapping[str, Any], reply: Reply) -> None:
        """Take a request in."""
        table, queue = command.get("table") or "", command.get("queue") or ""
        key, after = command.get("key") or "", command.get("after")
        why = objection((table, queue), key.split("\n") if key else [])
        why = why or (key_objection(after) if after else "") or ("" if queue else "it names no queue")
        if why:
            self._refused(table, why)
            reply({"done": True, "error": why})
            return
        for other in self._fills[:]:
            if (other.table, other.queue, other.key) == (table, queue, key):
                self._fills.remove(other)
                other.end("it was asked for again by another")
        fill = Fill(table, queue, key, after, reply)
        fill.began, fill.used = self._clock(), min((other.used for other in self._fills), default=0.0)
        if not self._has_place(fill.began):
            fill.end("too many tables are being sent; ask again", again=True)
            return
        self._fills.append(fill)

    def _has_place(self, now: float) -> bool:
        """Is there a place for another? Who has his for longest gives it up: some never come to an end."""
        if len(self._fills) < FILLS_MAX:
            return True
        oldest = min(self._fills, key=lambda fill: fill.began)
        if now - oldest.began < PLACE_SECONDS:
            return False
        self._fills.remove(oldest)
        oldest.end("many tables are being sent, and another one has its turn; ask again", again=True)
        return True

    def clear(self) -> None:
        """Nobody awaits an answer any more."""
        self._fills.clear()

    def lost(self, queue: str, why: str) -> None:
        """What was for this queue was let go."""
        for fill in [fill for fill in self._fills if fill.queue == queue]:
            self._fills.remove(fill)
            fill.end(f"queue {queue}: {why}")

    def next_due(self) -> float | None:
        """When the next statement is due, monotonic; None = nothing is under way."""
        return min((fill.due for fill in self._fills), default=None)

    async def step(self, beside: Beside) -> None:
        """Send the statement of the one whose turn it is. Raises RelayError.

        That is of those that are due the one that has taken the least time: else whose statements take 20 s each would
        have all of it.
        """
        now = self._clock()
        fill = min((fill for fill in self._fills if fill.due <= now), key=lambda fill: fill.used)
        try:
            try:
                done = await fill.step(beside, now)
            finally:
                fill.used += self._clock() - now
        except RelayError as error:
            if fill in self._fills:
                self._fills.remove(fill)
                self._fills.append(fill)
            fill.put_off(self._clock(), str(error))
            raise
        except (psycopg2.Error, TooMuch) as error:
            if fill in self._fills:
                why = worded(error) if isinstance(error, psycopg2.Error) else str(error)
                self._fills.remove(fill)
                self._refused(fill.table, why)
                fill.end(why)
            return
        if fill not in self._fills:  # meanwhile
            return
        self._fills.remove(fill)
        if done:
            fill.end()
        else:
            self._fills.append(fill)  # behind the others

    def tell(self) -> None:
        """Say to who has asked how far it is."""
        now = self._clock()
        for fill in self._fills:
            fill.tell(now)
