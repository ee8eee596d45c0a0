"""What a watched table costs its writers on MariaDB, in processor time of the server; that it never holds them up."""

import random
import statistics
import threading
import time
from pathlib import Path

import pymysql
import pytest

from dev.process import wait_until
from tests.contract.sources import OfMariaDB, Relayed
from tests.polled.conftest import Session

ORDERS = """
create table {} (id int primary key auto_increment, customer int not null, total decimal(10,2), state varchar(20),
    note varchar(200), at datetime(3), is_paid bool, details json)
"""
INSERT = (
    "insert into {} (customer, total, state, note, at, is_paid, details) "
    "select seq % 97, seq * 1.10, 'open', concat('note ', seq), '2024-01-01 10:00:00.125', 1, '{{\"a\": 1}}' "
    "from seq_1_to_{}"
)
TICK = 0.01  # seconds of processor time, the kernel's unit in /proc


def processor_time(server) -> float:
    """Seconds of the server, user's and system's."""
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK


@pytest.fixture
def admin(private_mariadb):
    """Root in a new database shop of a server that flushes to disk, as a user's does."""
    private_mariadb.execute("create database shop character set utf8mb4")
    session = Session(private_mariadb.connect("shop"))
    yield session
    session.connection.close()


def make(admin):
    for name in ("watched", "plain"):
        admin.sql(ORDERS.format(name))
    admin.watch("watched")


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_hundred_thousand_rows_in_one_insert_cost_at_most_45_us_a_row_more(admin, private_mariadb):
    make(admin)
    costs = {"plain": [], "watched": []}
    for _ in range(4):
        for name in costs:
            admin.sql(f"truncate {name}")
            admin.sql("truncate relay.outbox")
            before = processor_time(private_mariadb)
            admin.sql(INSERT.format(name, 100_000))
            costs[name].append((processor_time(private_mariadb) - before) / 100_000)
    more = (min(costs["watched"]) - min(costs["plain"])) * 1e6
    assert more <= 45, costs


@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_commit_rate_by_processor_time_is_at_least_half(admin, private_mariadb):
    """16 writers, one row updated a transaction, beside an unwatched table."""
    make(admin)
    for name in ("plain", "watched"):
        admin.sql(INSERT.format(name, 1000))
    costs = {"plain": [], "watched": []}
    for _ in range(3):
        for name in costs:
            before = processor_time(private_mariadb)
            commits = work(private_mariadb, [name], 8)[0]
            costs[name].append((processor_time(private_mariadb) - before) / commits)
    ratio = statistics.median(costs["plain"]) / statistics.median(costs["watched"])
    assert ratio >= 0.5, costs


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_sixteen_writers_of_a_watched_table_never_wait_and_never_deadlock(admin, private_mariadb, script, vhost):
    """Each has rows of its own; what they write is read, and deleted, at the same time."""
    make(admin)
    relayed = Relayed(script, OfMariaDB(private_mariadb), vhost)
    relayed.bind()
    relayed.start()
    admin.sql(INSERT.format("watched", 1600))
    before = waits(admin)
    commits, errors = work(private_mariadb, ["watched"], 120, own=True)
    assert errors == []
    relayed.await_empty(120)
    assert waits(admin) - before == 0
    assert commits > 0
    queue = vhost.channel()
    count = 1600 + commits
    wait_until(lambda: queue.queue_declare("out", passive=True).method.message_count == count, 20, "all events")


def waits(admin):
    """How many statements have waited for a row so far."""
    return int(
        admin.value(
            "select variable_value from information_schema.global_status where variable_name = 'innodb_row_lock_waits'"
        )
    )


def work(server, tables, seconds, *, own=False):
    """Commits in all, and errors, of 16 writers that update a row a transaction.

    Args:
        own: each writer has a hundred rows of its own.
    """
    done, errors, stop = [0] * 16, [], threading.Event()

    def write(number):
        chance = random.Random(number)
        connection = server.connect("shop")
        cursor = connection.cursor()
        try:
            while not stop.is_set():
                row = chance.randint(1, 100) + number * 100 if own else chance.randint(1, 1000)
                table = chance.choice(tables)
                cursor.execute(
                    f"update {table} set total = total + 1, state = %s where id = %s", (str(done[number]), row)
                )
                done[number] += 1
        except pymysql.err.MySQLError as error:
            errors.append(error.args)
        finally:
            connection.close()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    stop.set()
    for thread in threads:
        thread.join()
    return sum(done), errors
