"""Who asks for rows by their keys gets them as they are now: many keys of a table with one statement."""

import collections
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import psycopg2
import psycopg2.errors

from relay.errors import RelayError
from relay.listening.beside import Beside, StillAtWork
from relay.listening.postgres_errors import first_line

KEYS_MAX = 50  # of one request, and of one statement
KEY_MAX, NAME_MAX = 2000, 255  # characters
WAITING_MAX = 2000  # keys whose rows are awaited
ROW_MAX = 262_144  # bytes; a larger row goes through the queue
PATIENCE = 2.0  # seconds for a table that somebody has locked
STALE = 10.0  # seconds after which nobody awaits an answer any more

PRESENT = "select nth, images from relay.present_rows(relay.watched_table(%s), %s::text[], %s)"
LOCKED = "is locked by another session: VACUUM, ANALYZE, CREATE INDEX, ALTER TABLE"

Reply = Callable[[dict[str, Any]], None]


class Asked:
    """One request: its keys' rows come one by one, or with several at once."""

    def __init__(self, table: str, keys: Sequence[str], reply: Reply, now: float) -> None:
        self.table = table
        self.keys = keys
        self.at = now
        self._reply = reply
        self._left = len(keys)
        self._rows: list[str | None] = [None] * len(keys)
        self._errors: dict[str, str] = {}

    def found(self, number: int, row: str | None) -> None:
        """The row of a key, as JSON; None = there is none."""
        self._rows[number] = row
        self._end()

    def failed(self, number: int, why: str) -> None:
        """There is no answer for this key."""
        self._errors[str(number)] = why
        self._end()

    def _end(self) -> None:
        self._left -= 1
        if not self._left:
            errors = {"errors": self._errors} if self._errors else {}
            self._reply({"done": True, "rows": self._rows, **errors})


Wanted = tuple[Asked, int]
"""A key: of which request, and which of its keys."""


class Gets:
    """What is asked and not answered.

    Args:
        refused: called with a table and why something about it is refused.
    """

    def __init__(self, refused: Callable[[str, str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._refused = refused
        self._clock = clock
        self._waiting: dict[str, collections.deque[Wanted]] = {}  # by table, the one that has waited longest first
        self._count = 0

    def __len__(self) -> int:
        """Keys that wait."""
        return self._count

    def add(self, command: Mapping[str, Any], reply: Reply) -> None:
        """Take a request in."""
        table, keys = command.get("table") or "", (command.get("keys") or "").split("\n")
        if why := objection((table,), keys):
            self._refused(table, why)
            reply({"done": True, "error": why})
        elif self._count + len(keys) > WAITING_MAX:
            reply({"done": True, "error": "too many requests are waiting; ask again", "again": True})
        else:
            asked = Asked(table, keys, reply, self._clock())
            self._waiting.setdefault(table, collections.deque()).extend((asked, n) for n in range(len(keys)))
            self._count += len(keys)

    def clear(self) -> None:
        """Nobody awaits an answer any more."""
        self._waiting.clear()
        self._count = 0

    async def answer_some(self, beside: Beside) -> int:
        """Answer the keys of one table that have waited longest; return how many these were.

        Raises:
            RelayError: that is the answer, too.
        """
        table, waiting = next(iter(self._waiting.items()))
        batch = [waiting.popleft() for _ in range(min(KEYS_MAX, len(waiting)))]
        del self._waiting[table]
        if waiting:  # behind the other tables
            self._waiting[table] = waiting
        self._count -= len(batch)
        await self._answer(batch, table, beside)
        return len(batch)

    def _is_stale(self, wanted: Wanted) -> bool:
        return self._clock() - wanted[0].at > STALE

    async def _answer(self, batch: Sequence[Wanted], table: str, beside: Beside) -> None:
        # Of halves, too: code of the table's owner may take 20 s for each, and others wait meanwhile.
        batch = [one for one in batch if not self._is_stale(one)]
        if not batch:
            return
        keys = [asked.keys[number] for asked, number in batch]
        try:
            ((nth, images),) = await beside.ask(PRESENT, table, keys, ROW_MAX, table=table)
        except StillAtWork as error:
            self._fail(batch, str(error))
            return
        except psycopg2.errors.LockNotAvailable:
            self._wait_or_give_up(batch, table)
            return
        except RelayError as error:
            for asked, number in batch:
                asked.failed(number, str(error))
            raise
        except psycopg2.Error as error:
            if len(batch) > 1 and _may_be_of_one(error):
                half = len(batch) // 2
                await self._answer(batch[:half], table, beside)
                await self._answer(batch[half:], table, beside)
                return
            self._fail(batch, worded(error))
            return
        rows: dict[int, list[str | None]] = collections.defaultdict(list)
        for number, image in zip(nth or (), images or (), strict=True):
            rows[number - 1].append(image)
        for number, (asked, position) in enumerate(batch):
            _tell(asked, position, rows.get(number, []))

    def _wait_or_give_up(self, batch: Sequence[Wanted], table: str) -> None:
        late = [one for one in batch if self._clock() - one[0].at > PATIENCE]
        for asked, number in late:
            asked.failed(number, f"{table} {LOCKED}")
        again = [one for one in batch if one not in late]
        if again:  # lock_timeout has passed: no haste
            self._waiting.setdefault(table, collections.deque()).extendleft(reversed(again))
            self._count += len(again)

    def _fail(self, batch: Sequence[Wanted], why: str) -> None:
        for asked, number in batch:
            self._refused(asked.table, why)
            asked.failed(number, why)


def _may_be_of_one(error: psycopg2.Error) -> bool:
    """Is it the error of one key, perhaps, or of one row? Input functions of ltree and hstore have syntax errors."""
    return isinstance(error, psycopg2.DataError | psycopg2.errors.SyntaxError)


def _tell(asked: Asked, position: int, rows: list[str | None]) -> None:
    if len(rows) > 1:
        asked.failed(position, f"{len(rows)} rows have this key")
    elif rows and rows[0] is None:
        asked.failed(position, f"the row is larger than {ROW_MAX >> 10} KiB: have it sent again")
    else:
        asked.found(position, rows[0] if rows else None)


def objection(names: Iterable[str], keys: Sequence[str]) -> str:
    """Why a request is refused before anything is looked up; empty = it may be meant."""
    if any(len(name) > NAME_MAX for name in names):
        return f"names have at most {NAME_MAX} characters"
    if len(keys) > KEYS_MAX:
        return f"a request has at most {KEYS_MAX} keys"
    return next(filter(None, map(key_objection, keys)), "")


def key_objection(key: str) -> str:
    """Why a text is no key; empty = it may be one."""
    if len(key) > KEY_MAX:
        return f"a key has at most {KEY_MAX} characters"
    try:
        given = json.loads(key)
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict):
        return 'a key is a JSON object of its columns, {"id": 42}'
    if any(isinstance(value, dict | list) for value in given.values()):
        return 'a key has texts and numbers: of an array or hstore the text that PostgreSQL has for it, {"id": "{1,2}"}'
    return ""


def worded(error: psycopg2.Error) -> str:
    """What the server says, in one line, with what mends it."""
    hint = " ".join((error.diag.message_hint or "").split()) if error.pgcode else ""
    return first_line(error)[:500] + (f" -> {hint[:500]}" if hint else "")
