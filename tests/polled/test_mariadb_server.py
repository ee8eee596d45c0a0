"""Servers that watch refuses, or that `check` has a word about: each as it is, with the binlog on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dev.mariadb import MariaDB
from dev.vhost import Vhost
from relay.errors import RelayError
from tests.contract.sources import OfMariaDB, Relayed
from tests.listening import run
from tests.polled.conftest import Session
from tests.polled.test_polled_commands import listen

SMALL = 1 << 20  # bytes of its max_allowed_packet
ORDERS = "create table orders (id int primary key, note longtext)"


@pytest.fixture(scope="module")
def strict(run_directory: Path) -> Iterator[MariaDB]:
    """It writes a binlog, takes small packets, and lets who inserts wait at an AUTO_INCREMENT."""
    told = {"log_bin": "binlog", "max_allowed_packet": SMALL, "innodb_autoinc_lock_mode": 0}
    made = MariaDB(run_directory / "mariadb-strict", durable=False, settings=told)
    made.start()
    yield made
    made.remove()


@pytest.fixture
def mariadb(strict: MariaDB) -> Iterator[MariaDB]:
    """In the place of the session's."""
    strict.renew()
    yield strict
    strict.execute(
        "set global binlog_format = 'MIXED', log_bin_trust_function_creators = 0, read_only = 0",
        "drop database if exists shop",
    )


@pytest.fixture
def relayed(script: Callable[..., object], mariadb: MariaDB, vhost: Vhost) -> Relayed:
    """listen.py, by its own login; with a database shop that has a table orders."""
    mariadb.execute("create database if not exists shop character set utf8mb4", "use shop", ORDERS)
    made = Relayed(script, OfMariaDB(mariadb), vhost)  # type: ignore[arg-type]
    made.bind()
    return made


def found(relayed: Relayed) -> dict[str, tuple[str, str]]:
    """What check says, by what it says it of: level and text."""
    told = {}
    for line in run(relayed, "check").stdout.splitlines():
        level, _, rest = line.partition(" ")
        name, _, text = rest.strip().partition(": ")
        told[name] = level, text
    return told


def test_a_statement_binlog_is_refused_at_watch_and_fails_the_check(relayed: Relayed, mariadb: MariaDB) -> None:
    assert mariadb_says(mariadb, "select @@global.log_bin") == 1
    mariadb.execute("set global binlog_format = 'STATEMENT'")
    shown = listen(mariadb.url("shop"), "watch", "orders")
    assert shown.returncode != 0
    assert "binlog_format is STATEMENT: a replica would make events of its own" in shown.stderr
    assert "-> set global binlog_format = 'MIXED' (or ROW)" in shown.stderr
    assert (
        mariadb_says(mariadb, "select count(*) from information_schema.triggers where trigger_name like 'relay%'") == 0
    )
    level, text = found(relayed)["binlog_format"]
    assert (level, "error 1665" in text) == ("FAILED", True)
    for mode in ("MIXED", "ROW"):
        mariadb.execute(f"set global binlog_format = '{mode}'")
        assert listen(mariadb.url("shop"), "watch", "orders").returncode == 0, mode
        assert "binlog_format" not in found(relayed)


def test_a_statement_binlog_that_comes_later_stops_what_is_read_committed_and_check_says_so(
    relayed: Relayed, mariadb: MariaDB
) -> None:
    assert listen(mariadb.url("shop"), "watch", "orders").returncode == 0
    mariadb.execute("set global binlog_format = 'STATEMENT'")
    assert found(relayed)["binlog_format"][0] == "FAILED"


def test_with_the_binlog_on_watch_takes_super_or_trust(relayed: Relayed, mariadb: MariaDB) -> None:
    mariadb.execute(
        "create user dba@'%' identified by 'dba'", "grant all on shop.* to dba@'%' with grant option",
        "grant select, insert, update, delete, lock tables on relay.* to dba@'%'", "grant set user on *.* to dba@'%'",
    )  # fmt: skip
    url = mariadb.url("shop", "dba", "dba")
    shown = listen(url, "watch", "orders")
    assert (
        "(1419) -> with the binlog on it takes SUPER, or: set global log_bin_trust_function_creators = 1"
        in shown.stderr
    )
    assert mariadb_says(mariadb, "select count(*) from relay.watched") == 0
    level, text = found(relayed)["binlog"]
    assert (level, text.startswith("the binlog is on: who makes triggers needs SUPER (error 1419)")) == ("ok", True)
    mariadb.execute("set global log_bin_trust_function_creators = 1")
    shown = listen(url, "watch", "orders")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "binlog" not in found(relayed)


def test_a_row_above_max_allowed_packet_is_an_event_with_its_key_and_check_warns(
    relayed: Relayed, mariadb: MariaDB
) -> None:
    assert listen(mariadb.url("shop"), "watch", "orders").returncode == 0
    level, text = found(relayed)["max_allowed_packet"]
    assert level == "WARN"
    assert "1 MiB: of a row whose JSON is larger, an event holds the key only -> set global max_allowed_packet" in text
    relayed.start()
    mariadb.execute(
        "insert into shop.orders values (1, repeat('x', 1000000)), (2, repeat(char(10), 600000)), (3, 'small')",
        "update shop.orders set note = repeat(char(10), 600000) where id = 1",
    )
    told = [(e["op"], e["key"]["id"], e.get("too_large", False), e["new"] is None) for e in
            (message.json for message in relayed.messages(4))]  # fmt: skip
    assert sorted(told) == [
        ("insert", 1, False, False), ("insert", 2, True, True), ("insert", 3, False, False), ("update", 1, True, True),
    ]  # fmt: skip
    relayed.await_empty()


def test_keys_that_ignore_case_are_told_by_check(relayed: Relayed, mariadb: MariaDB) -> None:
    mariadb.execute("create table shop.loose (id varchar(9) collate utf8mb4_unicode_ci primary key)")
    assert "keys" not in found(relayed)
    assert listen(mariadb.url("shop"), "watch", "loose").returncode == 0
    level, text = found(relayed)["keys"]
    assert (level, text) == (
        "ok",
        "shop.loose.id: their collation ignores case; to the reader 'a' and 'A' are two keys",
    )


@pytest.mark.parametrize(("ddl", "said", "remedy"), [
    ("create table shop.t (id int)", "shop.t has no primary key", "--key a,b"),
    ("create table shop.t (id int primary key) engine = Aria", "shop.t is of engine Aria", "engine = InnoDB"),
    ("create table shop.t (id int primary key, o int, foreign key (o) references shop.orders (id) on update cascade)",
     "shop.t is a child of t_ibfk_1", "--without-cascades"),
    ("create table shop.t (id int primary key, o int, foreign key (o) references shop.orders (id) on delete set null)",
     "shop.t is a child of t_ibfk_1", "--without-cascades"),
])  # fmt: skip
def test_what_would_lose_events_is_refused_and_told_by_check_if_it_becomes_so(
    relayed: Relayed, mariadb: MariaDB, ddl: str, said: str, remedy: str
) -> None:
    mariadb.execute(ddl)
    shown = listen(mariadb.url("shop"), "watch", "t")
    assert shown.returncode != 0
    assert said in shown.stderr
    assert remedy in shown.stderr.partition(" -> ")[2]
    mariadb.execute("drop table shop.t", "create table shop.t (id int primary key)")
    assert listen(mariadb.url("shop"), "watch", "t").returncode == 0
    mariadb.execute("drop table shop.t", ddl.replace("shop.t ", "shop.t "))
    (note,) = [one["note"] for one in json.loads(listen(mariadb.url("shop"), "watched", "--json").stdout)]
    assert note
    assert any("shop.t" in text for _level, text in found(relayed).values())


def test_a_server_where_writers_wait_or_nothing_can_leave_is_told(relayed: Relayed, mariadb: MariaDB) -> None:
    assert found(relayed)["innodb_autoinc_lock_mode"][0] == "WARN"
    mariadb.execute("set global read_only = 1")
    assert found(relayed)["read_only"][0] == "FAILED"


def mariadb_says(server: MariaDB, statement: str) -> object:
    session = Session(server.connect())
    try:
        return session.value(statement)
    finally:
        session.connection.close()


def test_the_refusal_needs_the_binlog(connect: Callable[..., Session], relayed: Relayed, mariadb: MariaDB) -> None:
    """The same by the function that watch and --print-sql share: nothing is printed that would be refused."""
    mariadb.execute("set global binlog_format = 'STATEMENT'")
    with pytest.raises(RelayError, match="STATEMENT"):
        connect().watch("orders")
    assert "STATEMENT" in listen(mariadb.url("shop"), "watch", "orders", "--print-sql").stderr
