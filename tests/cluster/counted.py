"""Rows that are counted up in a database without a pause, and what has arrived of them at the other end."""

from __future__ import annotations

import itertools
import threading

from dev.database import Database
from dev.doubles.endpoint import Endpoint
from dev.process import wait_until

ROWS = 20


class Writer(threading.Thread):
    """Counts rows up, one after another, and now and then rolls back."""

    def __init__(self, database: Database, pause: float = 0.01) -> None:
        super().__init__()
        with database.app() as handle, handle.cursor() as cursor:
            cursor.execute("create table t (id int primary key, n int not null)")
            cursor.execute("insert into t select i, 0 from generate_series(0, %s) i", (ROWS - 1,))
        with database.admin() as handle, handle.cursor() as cursor:
            cursor.execute("select relay.watch('public.t')")
        self._handle = database.app()
        self._pause = pause
        self._ends = threading.Event()
        self.committed = dict.fromkeys(range(ROWS), 0)

    def run(self) -> None:
        cursor = self._handle.cursor()
        for number in itertools.count():
            row = number % ROWS
            if self._ends.wait(self._pause):
                break
            if number % 50 == 49:
                self._handle.autocommit = False
                cursor.execute("update t set n = n + 1000000 where id = %s", (row,))
                self._handle.rollback()
                self._handle.autocommit = True
                continue
            cursor.execute("update t set n = n + 1 where id = %s", (row,))
            self.committed[row] += 1

    def end(self) -> None:
        self._ends.set()
        self.join()


def arrived(endpoint: Endpoint) -> dict[int, list[int]]:
    """Of each row, its numbers in the order of their completion."""
    found: dict[int, list[int]] = {row: [] for row in range(ROWS)}
    for body in endpoint.bodies():
        found[body["new"]["id"]].append(body["new"]["n"])
    return found


def distinct(endpoint: Endpoint) -> int:
    """How many events have arrived."""
    return sum(len(set(numbers)) for numbers in arrived(endpoint).values())


def await_all(endpoint: Endpoint, writer: Writer) -> int:
    """Until all has arrived, each row in order, nothing else; return how many came twice."""
    expected = {row: list(range(1, last + 1)) for row, last in writer.committed.items()}

    def complete() -> bool:
        return all(numbers and max(numbers) == expected[row][-1] for row, numbers in arrived(endpoint).items())

    wait_until(complete, 120, "the last event of each row")
    repeated = 0
    for row, numbers in arrived(endpoint).items():
        firsts = list(dict.fromkeys(numbers))
        assert firsts == expected[row], f"row {row}: {numbers}"
        assert numbers[-1] == max(numbers), f"row {row}: an older event came last"
        repeated += len(numbers) - len(firsts)
    return repeated
