"""The application of the demo: transactions of many kinds on the airports, several writers at once."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal

from demo import airports
from demo.airports import Airport
from demo.ledger import Change, Ledger
from demo.sources import Connection, Cursor, Source
from dev import stack

NUMBERS_A_WRITER = 10**18  # beyond 2**53: a float anywhere on the way would show
ROLLBACK_SHARE = 0.05
_UPDATES = ("name = name || %s", "elevation = elevation + %s", "lat = round(lat + %s, 12), city = null")
# What has broken JSON, SQL and HTTP before; the table's own names are messy enough otherwise.
_SUFFIXES = (' "Intl"', " \\ Süd", " 'ex'", " 飛行場", "\n2nd line", " 🛩", " \t\x01", " </name>", " {}", " %s")
_DIGITS = (Decimal("0.1"), Decimal("-12"), Decimal("0.100000000000000005551115123125782702"), Decimal("1000.50"))
# Kinds of transaction (methods of Writer), and how often.
_KINDS = {"edit": 40, "edit_shared": 20, "batch": 10, "open": 9, "close": 8, "reopen": 6, "move": 7}


class Writer(threading.Thread):
    """One connection of the application. Deletes and moves only rows of its own; edits the shared rows, too.

    Args:
        rows: its own, by key.
        shared: keys that all writers edit, all the time.
        pace: seconds from one transaction to the next.
    """

    def __init__(
        self,
        number: int,
        source: Source,
        ledger: Ledger,
        rows: Sequence[Airport],
        shared: Sequence[str],
        *,
        transactions: int,
        pace: float,
        stop: threading.Event,
    ) -> None:
        super().__init__(name=f"writer {number}")
        self._source = source
        self._ledger = ledger
        self.left = transactions
        self._pace = pace
        self._halt = stop
        self._shared = shared
        self._random = random.Random(number)
        self._numbers = iter(range(number * NUMBERS_A_WRITER + 1, (number + 1) * NUMBERS_A_WRITER))
        self._prefix = f"NEW-{number}-"
        self._rows = {str(row[0]): row for row in rows}
        self.keys = list(self._rows)
        self._gone: list[tuple[Airport, int]] = []  # deleted rows, and the versions at which their keys go on
        self._pending: list[Change] = []
        self.made: Counter[str] = Counter()
        """Committed: events by op, and transactions by kind."""
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            with contextlib.closing(self._source.connect(stack.APP, autocommit=False)) as connection:
                self._work(connection)
        except Exception as error:  # noqa: BLE001 - whatever it is, the demo reports it
            self.error = error

    def _work(self, connection: Connection) -> None:
        due = time.monotonic()
        while self.left > 0 and not self._halt.wait(max(0.0, due - time.monotonic())):
            self.left -= 1
            due += self._pace
            self._transaction(connection)

    def _transaction(self, connection: Connection) -> None:
        """One transaction of a random kind. The ledger hears of it only once COMMIT has returned."""
        self._pending = []
        kind = self._random.choices(list(_KINDS), list(_KINDS.values()))[0]
        if kind == "reopen" and not self._gone:
            kind = "close"
        before = (dict(self._rows), self.keys.copy(), self._gone.copy()) if self._wants_rollback() else None
        with connection.cursor() as cursor:
            getattr(self, f"_{kind}")(cursor)
        if before:
            connection.rollback()
            self._rows, self.keys, self._gone = before
            self._ledger.roll_back()
        else:
            connection.commit()
            self._ledger.commit(self._pending)
            self.made.update(change.op for change in self._pending)
            self.made[kind] += 1

    def _wants_rollback(self) -> bool:
        return self._random.random() < ROLLBACK_SHARE

    def _edit(self, cursor: Cursor) -> None:
        self._update(cursor, self._random.choice(self.keys))

    def _edit_shared(self, cursor: Cursor) -> None:
        # The only statement of its transaction: writers queue for a shared row, and never deadlock.
        self._update(cursor, self._random.choice(self._shared))

    def _batch(self, cursor: Cursor) -> None:
        """Several rows, one of them twice; a part is taken back to a savepoint."""
        keys = self._random.sample(self.keys, 3)
        for key in (*keys, keys[0]):
            self._update(cursor, key)
        cursor.execute("savepoint part")
        kept = self._pending.copy()
        self._update(cursor, keys[1])
        cursor.execute("rollback to savepoint part")
        self._pending = kept

    def _open(self, cursor: Cursor) -> None:
        number = next(self._numbers)
        key = f"{self._prefix}{number % NUMBERS_A_WRITER}"
        model = self._rows[self._random.choice(self.keys)]
        name = f"{model[2]}{self._random.choice(_SUFFIXES)}"
        self._insert(cursor, (key, None, name, *model[3:]), 1, number)

    def _close(self, cursor: Cursor) -> None:
        key = self._take()
        cursor.execute(f"delete from {self._source.table} where icao = %s returning version", (key,))  # noqa: S608
        ((version,),) = cursor.fetchall()
        self._pending.append(Change(key, "delete", version))
        self._gone.append((self._rows.pop(key), version + 1))

    def _reopen(self, cursor: Cursor) -> None:
        row, version = self._gone.pop(self._random.randrange(len(self._gone)))
        self._insert(cursor, row, version, next(self._numbers))

    def _move(self, cursor: Cursor) -> None:
        """A new key for a row: a delete of the old key and an insert of the new one."""
        old, number = self._take(), next(self._numbers)
        new = f"{self._prefix}{number % NUMBERS_A_WRITER}"
        version = self._source.change(cursor, "icao = %s", (new, number), old, becomes=new)
        self._pending += [Change(old, "delete", version - 1), Change(new, "insert", version, number)]
        row = self._rows.pop(old)
        self._gone.append((row, version))  # its old key is free again
        self._rows[new] = (new, *row[1:])
        self.keys.append(new)

    def _insert(self, cursor: Cursor, row: Airport, version: int, number: int) -> None:
        airports.insert(cursor, self._source, [(*row, version, number)])
        key = str(row[0])
        self._pending.append(Change(key, "insert", version, number))
        self._rows[key] = row
        self.keys.append(key)

    def _update(self, cursor: Cursor, key: str) -> None:
        number, which = next(self._numbers), self._random.randrange(len(_UPDATES))
        value = self._random.choice(_SUFFIXES if which == 0 else _DIGITS)
        if which == 2:
            value = Decimal(self._random.randint(-999, 999)).scaleb(-12)
        version = self._source.change(cursor, _UPDATES[which], (value, number), key)
        self._pending.append(Change(key, "update", version, number))

    def _take(self) -> str:
        """Remove a random key of its own from the list, in constant time."""
        place = self._random.randrange(len(self.keys))
        self.keys[place], self.keys[-1] = self.keys[-1], self.keys[place]
        return self.keys.pop()
