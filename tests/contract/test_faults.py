"""MariaDB at work: late commits, strangers' locks, an earlier session, servers and listeners that are killed."""

from __future__ import annotations

import contextlib
import random
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pymysql
import pytest

from dev.mariadb import MariaDB
from dev.process import wait_until
from dev.script import Script
from dev.vhost import Vhost
from tests.contract.sources import OfMariaDB, OfSQLite, Relayed

Make = Callable[..., Script]
KEYS = 12


@pytest.fixture
def source(mariadb: MariaDB) -> OfMariaDB:
    return OfMariaDB(mariadb)


@pytest.fixture
def relayed(script: Make, source: OfMariaDB, vhost: Vhost) -> Relayed:
    made = Relayed(script, source, vhost)
    made.bind()
    return made


def test_a_number_taken_early_and_committed_last_is_not_lost_and_delays_no_one(
    relayed: Relayed, source: OfMariaDB
) -> None:
    relayed.start()
    with contextlib.closing(source.connect()) as late:
        cursor = late.cursor()
        for number in range(20):
            source.put(cursor, "t", number, f"late {number}")
            source.commit(("t", 100 + number, "others"))
        assert [message.json["n"] for message in relayed.messages(20)] == list(range(100, 120))
        late.commit()
    assert sorted(message.json["n"] for message in relayed.messages(20)) == list(range(20))
    relayed.await_empty()


def test_a_stranger_s_lock_on_a_row_costs_no_copy_and_nothing_passes_meanwhile(
    relayed: Relayed, source: OfMariaDB
) -> None:
    relayed.start()
    relayed.script.pause()
    with contextlib.closing(source.connect()) as stranger:
        source.commit(("t", 1, "k"), ("t", 2, "k"))
        stranger.cursor().execute("select seq from relay.outbox for update")
        relayed.script.resume()
        wait_until(lambda: "Lock wait timeout" in relayed.script.log(), 20, "the listener to be held up")
        before = len(relayed.all_messages())
        source.commit(("t", 3, "k"))
        time.sleep(1)
        assert not relayed.all_messages(), "nothing is published while what was confirmed can't be deleted"
        stranger.rollback()
    assert [message.json["n"] for message in relayed.messages(3 - before)] == [1, 2, 3][before:]
    relayed.await_empty()


def test_an_earlier_session_is_ended_and_a_stranger_s_is_named(relayed: Relayed, source: OfMariaDB) -> None:
    ((install,),) = source.ask("select install from relay.listener")
    lock = f"select get_lock('relay {install}', 0)"
    earlier = source.server.connect("relay", "relay_listen", "listens")
    with earlier.cursor() as cursor:
        cursor.execute(lock)
    relayed.start()
    assert "ending its session" in relayed.script.log()
    with pytest.raises(pymysql.Error), earlier.cursor() as cursor:
        cursor.execute("select 1")
    relayed.script.terminate()
    assert relayed.script.wait() == 0
    with contextlib.closing(source.server.connect()) as stranger, stranger.cursor() as cursor:
        cursor.execute(lock)
        cursor.execute("select connection_id()")
        ((thread,),) = cursor.fetchall()
        relayed.script.start()
        relayed.script.wait_for_log(f"kill {thread};", timeout=30)
    relayed.script.wait_for_log("relaying", count=2, timeout=30)


class Writers:
    """Transactions that change rows as an application does: under the row's lock a trigger's event, and the proof."""

    def __init__(self, server: MariaDB, count: int) -> None:
        self._server = server
        self._stop = threading.Event()
        self.committed: dict[str, tuple[int, int]] = {}  # id: row, n
        self.unknown: dict[str, tuple[int, int]] = {}  # of those whose COMMIT got no answer
        self.errors: list[str] = []
        server.execute(
            "create database shop",
            "create table shop.t (id int primary key, n int not null)",
            "create table shop.audit (id char(36) primary key, row int, n int)",
            "insert into shop.t values " + ", ".join(f"({row}, 0)" for row in range(KEYS)),
        )
        self._threads = [threading.Thread(target=self._work, args=(number,)) for number in range(count)]

    def start(self) -> None:
        for one in self._threads:
            one.start()

    def stop(self) -> None:
        self._stop.set()
        for one in self._threads:
            one.join()

    def _work(self, number: int) -> None:
        dice = random.Random(number)
        connection = None
        while not self._stop.is_set():
            try:
                if connection is None:
                    connection = self._server.connect("shop")
                    connection.autocommit(value=False)
                self._transact(connection, dice)
            except pymysql.Error as error:
                if error.args[0] not in (2003, 2006, 2013, 1927, 0, 1213, 1205):
                    self.errors.append(str(error))
                with contextlib.suppress(pymysql.Error):
                    if connection is not None:
                        connection.close()
                connection = None
                time.sleep(0.05)

    def _transact(self, connection: Any, dice: random.Random) -> None:
        written: dict[str, tuple[int, int]] = {}
        with connection.cursor() as cursor:
            for row in sorted(dice.sample(range(KEYS), dice.randint(1, 3))):
                cursor.execute("update t set n = n + 1 where id = %s", (row,))
                cursor.execute("select n from t where id = %s", (row,))
                ((n,),) = cursor.fetchall()
                event = str(uuid.uuid4())
                cursor.execute(
                    "insert into relay.outbox (id, topic, tbl, op, `key`, new_image) values (%s, 't', 'shop.t', "
                    "'update', %s, %s)",
                    (event, f'{{"id":{row}}}', f'{{"id":{row},"n":{n}}}'),
                )
                cursor.execute("insert into audit values (%s, %s, %s)", (event, row, n))
                written[event] = row, n
            if dice.random() < 0.1:
                time.sleep(dice.random() * 0.2)  # commits late
            if dice.random() < 0.1:
                connection.rollback()
                return
            connection.commit()


def test_killed_servers_and_listeners_lose_invent_and_reorder_nothing(
    script: Make, private_mariadb: MariaDB, vhost: Vhost
) -> None:
    source = OfMariaDB(private_mariadb)
    relayed = Relayed(script, source, vhost)
    relayed.bind()
    writers = Writers(private_mariadb, 8)
    writers.start()
    relayed.start()
    dice = random.Random(7)
    try:
        for fault in range(8):
            time.sleep(dice.random() * 1.5)
            if fault % 2:
                private_mariadb.kill()
                private_mariadb.start()
            else:
                relayed.script.kill()
                relayed.script.start()
    finally:
        writers.stop()
    assert not writers.errors
    relayed.await_empty(60)
    published: dict[int, list[int]] = defaultdict(list)
    seen: set[str] = set()
    for message in relayed.all_messages():
        event = message.json
        if event["id"] not in seen:
            seen.add(event["id"])
            published[event["new"]["id"]].append(event["new"]["n"])
    audit = source.ask("select id, row, n from shop.audit")
    assert {event for event, _row, _n in audit} == seen, "none lost, none invented"
    assert len(seen) > 200
    assert all(numbers == sorted(numbers) for numbers in published.values()), "none reordered"


def test_many_writers_meet_no_lock_of_ours(relayed: Relayed, source: OfMariaDB) -> None:
    writers = Writers(source.server, 8)
    relayed.start()
    seen: list[int] = []
    watching = threading.Event()

    def watch() -> None:
        """Which of our statements does a writer wait for?"""
        with contextlib.closing(source.server.connect()) as connection, connection.cursor() as cursor:
            while not watching.wait(0.01):
                cursor.execute(
                    "select count(*) from information_schema.innodb_lock_waits w join information_schema.innodb_trx b "
                    "on b.trx_id = w.blocking_trx_id join information_schema.processlist p "
                    "on p.id = b.trx_mysql_thread_id where p.user = 'relay_listen'"
                )
                seen.append(cursor.fetchall()[0][0])

    watcher = threading.Thread(target=watch)
    watcher.start()
    writers.start()
    time.sleep(6)
    writers.stop()
    watching.set()
    watcher.join()
    relayed.await_empty()
    assert len(seen) > 20
    assert sum(seen) == 0
    ((count,),) = source.ask("select count(*) from shop.audit")
    ids = [message.json["id"] for message in relayed.messages(count)]
    assert len(set(ids)) == count, "without a fault no copies"


def test_sqlite_s_writers_and_killed_listeners(script: Make, tmp_path: Path, vhost: Vhost) -> None:
    """One writes at a time: an application that waits for a moment, as it must anyway, never fails because of us."""
    source = OfSQLite(tmp_path)
    source.ask("create table audit (id text, n integer)")
    source.ask("pragma journal_mode = wal")
    relayed = Relayed(script, source, vhost)
    relayed.bind()
    relayed.start()
    stop = threading.Event()
    failed: list[BaseException] = []

    def write(writer: int) -> None:
        try:
            with contextlib.closing(source.connect()) as connection:
                cursor, n = connection.cursor(), 0
                while not stop.is_set():
                    n += 1
                    event = str(uuid.uuid4())
                    cursor.execute("begin immediate")
                    source.put(cursor, "t", n, f"w{writer}", id=event)
                    cursor.execute("insert into audit values (?, ?)", (event, n))
                    (connection.rollback if n % 7 == 0 else connection.commit)()
                    time.sleep(0.002)
        except BaseException as error:
            failed.append(error)
            raise

    threads = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for one in threads:
        one.start()
    for _ in range(4):
        time.sleep(1)
        relayed.script.kill()
        relayed.script.start()
    stop.set()
    for one in threads:
        one.join()
    assert not failed
    relayed.await_empty(30)
    rows: dict[str, list[int]] = defaultdict(list)
    seen: set[str] = set()
    for message in relayed.all_messages():
        if message.properties.message_id not in seen:
            seen.add(message.properties.message_id)
            rows[message.properties.headers["relay-key"]].append(message.json["n"])
    assert seen == {event for event, _n in source.ask("select id, n from audit")}
    assert len(seen) > 100
    assert all(numbers == sorted(numbers) for numbers in rows.values())
