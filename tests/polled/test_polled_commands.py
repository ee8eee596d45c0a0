"""listen.py watch, unwatch, watched and resend on MariaDB and SQLite."""

import json
import os
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from connection import open_polled
from dev import forkserver
from relay.database_url import source_url

ROOT = Path(__file__).resolve().parents[2]


def started(url, *arguments, **more):
    """Start listen.py with a DATABASE_URL; no RabbitMQ is there."""
    settings = {"DATABASE_URL": url, "RABBITMQ_URL": "amqp://x:x@127.0.0.1:1/", "CONTROL": "off", **more}
    return forkserver.Popen(
        [sys.executable, ROOT / "listen.py", "--env-file", os.devnull, *arguments],
        env={"PATH": os.environ["PATH"], **settings}, cwd=ROOT, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip


def listen(url, *arguments, **more):
    """Run it to its end."""
    with started(url, *arguments, **more) as process:
        shown, said = process.communicate(timeout=60)
    return subprocess.CompletedProcess(arguments, process.returncode, shown, said)


def test_a_table_of_mariadb_from_watch_to_unwatch(mariadb, admin):
    admin.sql("create table orders (id int primary key, total decimal(10,2), note text)")
    url = mariadb.url("shop")
    shown = listen(url, "watch", "orders", "--ignore", "note", "--when", "total > 1", "--topic", "o")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout == "shop.orders is watched; the rows that are there already: listen.py resend shop.orders\n"
    admin.sql("insert into orders values (1, 1.50, 'x'), (2, 0.50, 'x')")
    assert [(e["topic"], e["key"]["id"]) for e in admin.events()] == [("o", 1)]
    admin.sql("alter table orders add more int")
    shown = listen(url, "watched")
    assert shown.stdout == (
        "1 table watched\n"
        "shop.orders  o  --ignore note --topic o --when 'total > 1'\n"
        "    column more is not in its events -> "
        "listen.py watch shop.orders --ignore note --topic o --when 'total > 1'\n"
    )
    (found,) = json.loads(listen(url, "watched", "--json").stdout)
    assert (found["table"], found["options"]["ignore"]) == ("shop.orders", ["note"])
    shown = listen(url, "unwatch", "shop.orders")
    assert shown.stdout == "shop.orders is not watched any more; events already written stay\n"
    assert listen(url, "watched").stdout == "0 tables watched\n"
    shown = listen(url, "unwatch", "orders")
    assert (shown.returncode, shown.stderr) == (
        1,
        "listen.py: shop.orders is not watched -> listen.py watched shows what is\n",
    )


def test_print_sql_changes_nothing_and_can_be_run(mariadb, admin, tmp_path):
    admin.sql("create table orders (id int primary key)")
    shown = listen(mariadb.url("shop"), "watch", "orders", "--print-sql")
    assert shown.returncode == 0
    assert admin.sql("show triggers") == []
    script = tmp_path / "watch.sql"
    script.write_text(shown.stdout)
    mariadb.client(script)
    admin.sql("insert into orders values (1)")
    assert admin.story() == [("insert", 1)]
    script.write_text(listen(mariadb.url("shop"), "unwatch", "orders", "--print-sql").stdout)
    mariadb.client(script)
    assert admin.sql("show triggers") == []


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["watch", "nothing"], 1, "shop.nothing is not there, or this user may not see it"),
        (["watch", "a.b.c"], 1, "a.b.c is no table's name"),
        (["watch", "t"], 75, "no primary key -> add one; or name columns that identify a row: --key a,b"),
        (["watch", "relay.outbox"], 75, "is a table of the relay's own"),
        (["resend", "t"], 1, "shop.t is not watched -> listen.py watch shop.t"),
    ],
)
def test_what_a_person_gets_wrong_is_one_line(mariadb, admin, arguments, status, said):
    admin.sql("create table t (id int)")
    shown = listen(mariadb.url("shop"), *arguments)
    assert said in shown.stderr
    assert (shown.returncode, len(shown.stderr.splitlines())) == (status, 1)


def test_who_may_not_watch_is_told_what_it_takes(mariadb, admin, listener):
    admin.sql("create table t (id int primary key)")
    admin.sql("grant select on shop.t to relay_listener")
    shown = listen(mariadb.url("shop", "listen", "listen"), "watch", "t")
    assert shown.returncode == 75
    assert "as an administrator" in shown.stderr
    assert len(shown.stderr.splitlines()) == 1


def test_resend_of_mariadb_by_the_listener(mariadb, admin, listener, connect):
    admin.sql("create table t (a int, b varchar(9) collate utf8mb4_general_ci, ts timestamp(3), d double, "
              "primary key (b, ts, a), `x%s` int) as "
              "select seq as a, concat('k', seq % 5) as b, '2024-01-01 00:00:00.125' as ts, seq / 7 as d, 1 as `x%s` "
              "from seq_1_to_2500")  # fmt: skip
    admin.watch("t", when="`x%s` = 1")
    url = mariadb.url("shop", "listen", "listen")
    shown = listen(url, "resend", "t", "--chunk", "400")
    assert (shown.returncode, shown.stdout) == (0, "2500 rows of t sent\n"), shown.stderr
    events = admin.events()
    assert len(events) == 2500
    assert {e["op"] for e in events} == {"snapshot"}
    assert sorted(e["new"]["a"] for e in events) == list(range(1, 2501))
    shown = listen(url, "resend", "t", "--where", "a > 2490 and b like 'k%'")
    assert shown.stdout == "10 rows of t sent\n", shown.stderr
    admin.events()
    shown = listen(
        url, "resend", "shop.t", "--after", '{"b": "k4", "ts": "2024-01-01T00:00:00.125000+00:00", "a": 2494}'
    )
    assert shown.stdout == "1 row of shop.t sent\n", shown.stderr
    assert listen(url, "resend", "t", "--after", '{"a": 1}').returncode == 1
    shown = listen(url, "resend", "t", "--where", "nothing = 1")
    assert (shown.returncode, "--where is what follows WHERE" in shown.stderr) == (75, True), shown.stderr


def test_resend_waits_for_a_row_that_is_locked_and_tells_its_last_state(mariadb, admin, listener, connect):
    admin.sql("create table t (id int primary key, n int)")
    admin.sql("insert into t select seq, 0 from seq_1_to_50")
    admin.watch("t")
    writer = connect()
    writer.sql("begin")
    writer.sql("update t set n = 1 where id = 7")
    said = []
    with started(mariadb.url("shop", "listen", "listen"), "resend", "t", "--chunk", "10") as process:
        for line in process.stderr:
            said.append(line)
            if "row 7 is locked by another session" in line:
                writer.sql("commit")
        process.wait(30)
    assert process.returncode == 0, said
    assert len(said) == 1
    events = admin.events()
    assert len(events) == 51
    told = {}
    for event in events:
        told[event["key"]["id"]] = event["new"]["n"]
    assert told == {i: int(i == 7) for i in range(1, 51)}
    assert [e["op"] for e in events if e["key"]["id"] == 7] == ["update", "snapshot"]


@pytest.fixture
def path(tmp_path):
    """A SQLite file with the relay's tables and one of the application's."""
    made = tmp_path / "app.db"
    with closing(sqlite3.connect(made)) as connection:
        connection.executescript((ROOT / "sql/sqlite/install.sql").read_text())
        connection.execute("create table orders (id integer primary key, total real, note text)")
    return made


def rows(path, sql):
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return connection.execute(sql).fetchall()


def test_a_table_of_sqlite_from_watch_to_unwatch(path):
    url = f"sqlite:///{path}"
    shown = listen(url, "watch", "orders", "--ignore", "note")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout == "orders is watched; the rows that are there already: listen.py resend orders\n"
    rows(path, "insert into orders values (1, 0.1, 'x'), (2, 3, 'y')")
    assert [key for (key,) in rows(path, "select key from relay_outbox")] == ['{"id": 1}', '{"id": 2}']
    rows(path, "delete from relay_outbox")
    shown = listen(url, "resend", "orders", "--chunk", "1")
    assert shown.stdout == "2 rows of orders sent\n", shown.stderr
    assert rows(path, "select op, new_image from relay_outbox") == [
        ("snapshot", '{"id": 1, "total": 0.1}'), ("snapshot", '{"id": 2, "total": 3.0}'),
    ]  # fmt: skip
    assert listen(url, "resend", "orders", "--after", '{"id": 1}').stdout == "1 row of orders sent\n"
    rows(path, "alter table orders add column more")
    shown = listen(url, "watched")
    assert "column more is not in its events -> listen.py watch orders --ignore note" in shown.stdout
    assert listen(url, "unwatch", "orders").returncode == 0
    assert rows(path, "select count(*) from sqlite_schema where type = 'trigger'") == [(0,)]


def test_sqlite_without_the_relays_tables_says_how_they_are_made(tmp_path):
    file = tmp_path / "empty.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("create table t (id integer primary key)")
    shown = listen(f"sqlite:///{file}", "watch", "t")
    assert shown.returncode == 78
    assert "sql/sqlite/install.sql" in shown.stderr


def test_postgresql_is_told_of_its_own_way(database):
    shown = listen(database.admin_dsn, "watch", "orders")
    assert shown.returncode == 75
    assert "select relay.watch('orders')" in shown.stderr


@pytest.mark.parametrize("password", ["käse", "пароль"])
def test_a_password_of_any_letters(mariadb, password):
    mariadb.execute("drop user if exists letters")
    mariadb.add_listener("letters", password)
    shown = listen(mariadb.url("shop", "letters", password), "watched")
    assert (shown.returncode, shown.stderr) == (0, "")


def test_a_server_that_says_nothing_is_given_up_in_time():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"mariadb://u:pw@127.0.0.1:{silent.getsockname()[1]}/shop"
        began = time.monotonic()
        shown = listen(url, "watched", CONNECT_TIMEOUT="1")
    assert time.monotonic() - began < 20, "it waited for as long as for a statement"
    assert (shown.returncode, shown.stderr.count("Lost connection")) == (75, 1)


def test_a_statement_has_longer_than_the_connection(mariadb):
    with closing(open_polled(source_url(mariadb.url("shop")), name="test", timeout=1)) as db:
        assert db.exec_driver_sql("select sleep(2)").scalar() == 0
