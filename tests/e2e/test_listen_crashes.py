"""Promises 1 to 4 of the listening half under kill -9, lost servers and cut connections, with writers at work."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator

import psycopg2
import pytest

from dev.database import Database, connect
from dev.process import wait_until
from dev.script import Script
from dev.vhost import Vhost
from tests.listening import Listening, Message, first_seen

ROWS = 40


class Writers:
    """Threads that change rows: `n` counts up in each row, by committed transactions only.

    `expected` is what was committed, row by row, in order, kept apart from the relay. A commit whose answer was lost
    (the server was killed) is looked up in the table.
    """

    def __init__(self, dsn: str, threads: int = 2) -> None:
        self._dsn = dsn
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(number, threads)) for number in range(threads)]
        self.expected: dict[int, list[int]] = {row: [] for row in range(1, ROWS + 1)}
        self.failure: BaseException | None = None

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join()
        assert self.failure is None, self.failure

    def committed(self) -> int:
        return sum(len(numbers) for numbers in self.expected.values())

    def _write(self, number: int, threads: int) -> None:
        try:
            rng = random.Random(number)
            rows = [row for row in range(1, ROWS + 1) if row % threads == number]
            while not self._stop.is_set():
                self._transaction(rng, rng.sample(rows, rng.randint(1, 4)))
        except BaseException as error:  # noqa: BLE001 - reported by at_work
            self.failure = error

    def _transaction(self, rng: random.Random, rows: list[int]) -> None:
        """One transaction on a connection that may die at any moment."""
        wanted = {row: (self.expected[row][-1] if self.expected[row] else 0) + 1 for row in rows}
        roll_back = rng.random() < 0.2
        try:
            with contextlib.closing(self._connection()) as opened, opened.cursor() as cursor:
                for _ in range(20):
                    cursor.execute("begin")
                    for row, n in wanted.items():
                        cursor.execute("update t set n = %s where id = %s", (-n if roll_back else n, row))
                    cursor.execute("rollback" if roll_back else "commit")
                    if not roll_back:
                        self._note(wanted)
                        wanted = {row: n + 1 for row, n in wanted.items()}
                    roll_back = not roll_back
                    if self._stop.wait(0.015):  # 300 events a second, so that kills find a backlog
                        return
        except psycopg2.Error:
            self._find_out(wanted)

    def _note(self, wanted: dict[int, int]) -> None:
        for row, n in wanted.items():
            self.expected[row].append(n)

    def _find_out(self, wanted: dict[int, int]) -> None:
        with contextlib.closing(self._connection()) as opened, opened.cursor() as cursor:
            cursor.execute("select id, n from t where id = any(%s)", (list(wanted),))
            if dict(cursor.fetchall()) == wanted:
                self._note(wanted)

    def _connection(self) -> psycopg2.extensions.connection:
        while True:
            with contextlib.suppress(psycopg2.Error):
                return connect(self._dsn)
            self._stop.wait(0.05)


def referee(writers: Writers, messages: list[Message]) -> None:
    """Nothing lost, nothing invented, each row in order once repetitions are taken out; repetitions in order too."""
    arrived: dict[int, list[int]] = {row: [] for row in writers.expected}
    for message in first_seen(messages):
        arrived[message.json["key"]["id"]].append(message.json["new"]["n"])
    assert arrived == writers.expected
    last: dict[int, int] = {}
    for message in messages:  # a repeated tail starts over, then goes on in order
        row, n = message.json["key"]["id"], message.json["new"]["n"]
        assert n <= last.get(row, 0) + 1, f"row {row}: {n} after {last.get(row, 0)}"
        last[row] = n


def drained(listening: Listening) -> list[Message]:
    listening.await_empty(60)
    depth = listening.vhost.queue_depth("out")
    return listening.messages(depth, timeout=30)


@pytest.fixture
def listening(script: Callable[..., Script], database: Database, vhost: Vhost) -> Listening:
    made = Listening(script, database, vhost)
    made.bind()
    made.table(count=ROWS)
    return made


def test_nothing_is_lost_or_reordered_when_the_listener_is_killed_again_and_again(listening: Listening) -> None:
    rng = random.Random(7)
    writers = Writers(listening.database.app_dsn)
    with writers.at_work():
        for _ in range(12):
            listening.script.start()
            before = listening.vhost.queue_depth("out")
            grown = before + rng.randint(1, 300)
            wait_until(lambda wanted=grown: listening.vhost.queue_depth("out") >= wanted, 30, "some messages")
            listening.script.kill()
    listening.script.start()
    messages = drained(listening)
    referee(writers, messages)
    assert writers.committed() > 500


def test_nothing_is_lost_or_reordered_when_its_connections_are_cut(listening: Listening) -> None:
    listening.start()
    writers = Writers(listening.database.app_dsn)
    backends = (
        "select pg_terminate_backend(pid) from pg_stat_activity "
        f"where usename = '{Database.LISTENER}' and datname = current_database()"
    )
    with writers.at_work():
        for number in range(1, 7):  # three of each are told in the log; what comes more often is counted
            committed = writers.committed()
            wait_until(lambda wanted=committed + 100: writers.committed() >= wanted, 30, "some commits")
            if number % 2:
                listening.admin(backends)
            else:
                listening.vhost.broker.close_connections()
            listening.script.wait_for_log("relaying", count=number + 1)
    referee(writers, drained(listening))
    assert "Traceback" not in listening.script.log()


def test_rabbitmq_killed_and_stopped_for_10_s_under_load(
    script: Callable[..., Script], database: Database, private_vhost: Vhost
) -> None:
    listening = Listening(script, database, private_vhost)
    listening.bind()
    private_vhost.broker.sync()
    listening.table(count=ROWS)
    listening.start()
    writers = Writers(database.app_dsn)
    with writers.at_work():
        wait_until(lambda: writers.committed() > 200, 30, "some commits")
        private_vhost.broker.kill()
        down_until = time.monotonic() + 10
        wait_until(lambda: time.monotonic() > down_until, 15, "10 s of outage")
        committed = writers.committed()
        wait_until(lambda: writers.committed() > committed + 100, 30, "writers go on while the broker is away")
        private_vhost.broker.start()
        listening.script.wait_for_log("relaying", count=2, timeout=60)
        committed = writers.committed()
        wait_until(lambda: writers.committed() > committed + 200, 30, "some commits after it")
        private_vhost.broker.restart()
    referee(writers, drained(listening))
    assert "Traceback" not in listening.script.log()


def test_postgresql_killed_and_stopped_for_10_s_under_load(
    script: Callable[..., Script], private_database: Database, vhost: Vhost
) -> None:
    listening = Listening(script, private_database, vhost)
    listening.bind()
    listening.table(count=ROWS)
    listening.start()
    writers = Writers(private_database.app_dsn)
    with writers.at_work():
        for down in (10, 0, 0):
            committed = writers.committed()
            wait_until(lambda wanted=committed + 200: writers.committed() > wanted, 60, "some commits")
            private_database.server.kill()
            down_until = time.monotonic() + down
            wait_until(lambda until=down_until: time.monotonic() > until, 15, "the outage")
            private_database.server.start()
        committed = writers.committed()
        wait_until(lambda: writers.committed() > committed + 200, 60, "some commits after it")
    private_database.close()
    referee(writers, drained(listening))
    assert "Traceback" not in listening.script.log()
