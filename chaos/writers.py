"""The application: transactions of many kinds, on a database that may be killed under them at any moment.

A writer keeps no account of what it has done: the audit table knows, by the same transactions. So a commit whose answer
was lost is no question.
"""

from __future__ import annotations

import contextlib
import json
import random
import threading
from collections import Counter
from collections.abc import Callable

import psycopg2
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from dev.database import connect

KEYS = 90  # of the table that all writers change; some of them get half of the updates
HOT = 10
PACE = 0.12  # seconds from one transaction to the next, on average
LATE = (0.5, 4.0)  # seconds that a long transaction stays open after its last change
_AUDIT = "insert into audit.log (tbl, op, old, new) select 'public.loads', %s, o, n from x"
_NOTES = ("", "it's", '"quoted" \\', "naïve 日本 🛩", "line\nline", "{}", "%s", None)

Step = Callable[["Writer", Cursor], None]


class Writer(threading.Thread):
    """One connection of the application, until it is told to stop.

    Args:
        number: tells its own keys from those of the others.
        late: its transactions stay open for seconds before they commit.
        two_phase: some of its transactions are prepared first.
    """

    def __init__(self, dsn: str, seed: str, number: int, *, late: bool, two_phase: bool) -> None:
        super().__init__(name=f"writer {number}", daemon=True)
        self._dsn = dsn
        self._rng = random.Random(seed)
        self._number = number
        self._late = late
        self._two_phase = two_phase
        self._halt = threading.Event()
        self._prepared = 0
        self.done: Counter[str] = Counter()
        self.failure: BaseException | None = None

    def stop(self) -> None:
        self._halt.set()

    def run(self) -> None:
        try:
            while not self._halt.is_set():
                try:
                    with contextlib.closing(connect(self._dsn)) as opened:
                        self._work(opened)
                except (psycopg2.OperationalError, psycopg2.InterfaceError):
                    self.done["connection lost"] += 1
                    self._halt.wait(0.1)
        except BaseException as error:  # noqa: BLE001 - the run reports it
            self.failure = error

    def _work(self, opened: Connection) -> None:
        with opened.cursor() as cursor:
            cursor.execute("set lock_timeout = '300ms'")
            self._finish_prepared(cursor)
            while not self._halt.wait(self._rng.uniform(0, 2 * PACE)):
                try:
                    self._transaction(cursor)
                except (psycopg2.errors.QueryCanceled, psycopg2.errors.LockNotAvailable) as error:
                    self._refused(cursor, error)
                except (psycopg2.errors.DeadlockDetected, psycopg2.IntegrityError) as error:
                    self._refused(cursor, error)

    def _refused(self, cursor: Cursor, error: psycopg2.Error) -> None:
        """Another writer was in the way: an application rolls back and goes on."""
        cursor.execute("rollback")
        self.done[f"refused: {type(error).__name__}"] += 1

    def _transaction(self, cursor: Cursor) -> None:
        rng = self._rng
        steps = rng.choices(list(_STEPS), list(_STEPS.values()), k=rng.choice((1, 1, 1, 2, 3, 5)))
        cursor.execute("begin")
        truncates = False
        for step in steps:
            if step is Writer.truncate and truncates:
                continue  # it could not be told from the first one of this transaction
            truncates = truncates or step is Writer.truncate
            step(self, cursor)
        if self._late:
            self._halt.wait(rng.uniform(*LATE))
        end = rng.random()
        if end < 0.12:
            cursor.execute("rollback")
            self.done["rolled back"] += 1
        elif self._two_phase and end < 0.4:
            self._prepare(cursor)
        else:
            cursor.execute("commit")
            self.done["late" if self._late else "committed"] += 1

    def _prepare(self, cursor: Cursor) -> None:
        self._prepared += 1
        name = f"writer-{self._number}-{self._prepared}"
        cursor.execute("prepare transaction %s", (name,))
        self._halt.wait(self._rng.uniform(0, 1))
        word = "commit" if self._rng.random() < 0.8 else "rollback"
        cursor.execute(f"{word} prepared %s", (name,))
        self.done[f"prepared, then {word}"] += 1

    def _finish_prepared(self, cursor: Cursor) -> None:
        """What it had prepared when its connection broke."""
        cursor.execute("select gid from pg_prepared_xacts where gid like %s", (f"writer-{self._number}-%",))
        for (name,) in cursor.fetchall():
            cursor.execute("commit prepared %s", (name,))
            self.done["prepared, then commit after a crash"] += 1

    # -- what a transaction is made of ---------------------------------------------------------------------------

    def _key(self) -> int:
        return self._rng.randint(1, KEYS)

    def _values(self) -> tuple[str | None, str]:
        return self._rng.choice(_NOTES), f"{self._rng.randint(-(10**12), 10**12)}.{self._rng.randint(0, 999):03}"

    def insert(self, cursor: Cursor) -> None:
        cursor.execute(
            "insert into accounts (id, note, amount) values (%s, %s, %s) on conflict do nothing",
            (self._key(), *self._values()),
        )

    def update(self, cursor: Cursor) -> None:
        """Half of them change one of the hot rows; a late one leaves these alone, or nobody would get on."""
        hot = self._rng.random() < 0.5 and not self._late
        key = self._rng.randint(1, HOT) if hot else self._key()
        cursor.execute("update accounts set n = n + 1, note = %s, amount = %s where id = %s", (*self._values(), key))

    def update_many(self, cursor: Cursor) -> None:
        first = self._key()
        cursor.execute("update accounts set n = n + 1 where id between %s and %s", (first, first + 9))

    def delete(self, cursor: Cursor) -> None:
        cursor.execute("delete from accounts where id = %s", (self._key(),))

    def move(self, cursor: Cursor) -> None:
        new = self._key()
        cursor.execute(
            "update accounts set id = %s where id = %s and not exists (select from accounts where id = %s)",
            (new, self._key(), new),
        )

    def replace(self, cursor: Cursor) -> None:
        """Deleted and inserted again in one transaction."""
        key = self._key()
        cursor.execute("delete from accounts where id = %s", (key,))
        cursor.execute("insert into accounts (id, n) values (%s, 1) on conflict do nothing", (key,))

    def savepoint(self, cursor: Cursor) -> None:
        cursor.execute("savepoint part")
        self.update(cursor)
        self.delete(cursor)
        cursor.execute("rollback to savepoint part")
        self.update(cursor)

    def scratch(self, cursor: Cursor) -> None:
        cursor.execute(
            "insert into scratch (id, n) select %s + i, i from generate_series(0, 4) i on conflict (id)"
            " do update set n = scratch.n + 1",
            (self._rng.randint(1, 30),),
        )

    def truncate(self, cursor: Cursor) -> None:
        cursor.execute("truncate scratch")

    def bulk(self, cursor: Cursor) -> None:
        """Rows of its own, all at once, watched by statement triggers; it fills the audit itself."""
        first, count = self._number * 1000, self._rng.randint(5, 25)
        cursor.execute(
            "with x as (insert into loads (id, n) select %s + i, i from generate_series(1, %s) i on conflict do nothing"
            f" returning null::jsonb as o, to_jsonb(loads) as n) {_AUDIT}",
            (first, count, "insert"),
        )
        cursor.execute(
            "with w as (select id, to_jsonb(loads) as o from loads where id between %s and %s),"
            " x as (update loads set n = loads.n + 1 from w where loads.id = w.id"
            f" returning w.o, to_jsonb(loads) as n) {_AUDIT}",
            (first, first + count // 2, "update"),
        )
        cursor.execute(
            "with x as (delete from loads where id between %s and %s returning to_jsonb(loads) as o, null::jsonb as n)"
            f" {_AUDIT}",
            (first + count - 3, first + count, "delete"),
        )

    def publish(self, cursor: Cursor) -> None:
        """An event of the application's own. Its keys belong to one writer: without a row's lock nobody orders them."""
        key = f"{self._number}-{self._rng.randint(1, 3)}"
        cursor.execute("select nextval('audit.change')")
        new = {"id": key, "change": cursor.fetchall()[0][0]}
        event = {"table": "chaos.note", "op": "message", "key": {"id": key}, "old": None, "new": new}
        cursor.execute("select relay.publish('chaos.note', %s, key => %s)", (json.dumps(event), f"note {key}"))
        cursor.execute("insert into audit.log (tbl, op, new) values ('chaos.note', 'message', %s)", (json.dumps(new),))


_STEPS: dict[Step, int] = {
    Writer.insert: 10,
    Writer.update: 40,
    Writer.update_many: 4,
    Writer.delete: 5,
    Writer.move: 6,
    Writer.replace: 3,
    Writer.savepoint: 6,
    Writer.scratch: 4,
    Writer.truncate: 1,
    Writer.bulk: 2,
    Writer.publish: 6,
}


def finish_prepared(dsn: str) -> bool:
    """Commit whatever is still prepared; False = PostgreSQL is not there: it may still recover from the last fault."""
    try:
        with contextlib.closing(connect(dsn)) as opened, opened.cursor() as cursor:
            cursor.execute("select gid from pg_prepared_xacts")
            for (name,) in cursor.fetchall():
                cursor.execute("commit prepared %s", (name,))
    except psycopg2.OperationalError:
        return False
    return True
