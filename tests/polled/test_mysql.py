"""MySQL: the triggers' text, and with MYSQL_SUITE=sid what a real one of Debian's packages makes of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings

from dev.process import ServerError
from relay.listening.polled.capture.mariadb import triggers
from relay.listening.polled.capture.mariadb.table import Column, Table
from relay.listening.polled.capture.options import Options
from tests.polled.conftest import Session, sessions
from tests.polled.test_mariadb_twins import PHASES, compare, programs
from tests.polled.test_polled_commands import listen

real = pytest.mark.skipif(not os.environ.get("MYSQL_SUITE"), reason="MYSQL_SUITE=sid fetches a MySQL")
NOT_THERE = ("versioned", "sql_mode = 'ORACLE'")  # of MariaDB's, for random programs
COLUMNS = (
    Column("id", "int", "int", None, None, is_json=False),
    Column("doc", "json", "json", None, None, is_json=False),
    Column("t", "time", "time", None, None, is_json=False, as_text=True),
    Column("name", "varchar", "varchar(9)", "utf8mb4", "utf8mb4_0900_ai_ci", is_json=False),
)
VALUES = [
    ("decimal(10,2)", "1.50", "1.50"), ("varchar(10)", "'ü\"'", '"ü\\""'), ("blob", "x'00ff'", '"\\\\x00ff"'),
    ("varchar(5) character set utf16", "'a'", '"a"'), ("date", "'2024-01-01'", '"2024-01-01"'),
    ("timestamp null", "'2024-10-27 02:30:00'", '"2024-10-27T02:30:00+00:00"'),
    ("datetime(6)", "'2024-01-01 10:00:00.125'", '"2024-01-01T10:00:00.125000"'),
    ("time", "'10:00:00'", '"10:00:00"'), ("time(3)", "'-10:00:00.5'", '"-10:00:00.500"'),
    ("float", "0.1", "0.10000000149011612"), ("double", "1e300", "1e300"), ("bit(5)", "3", "3"),
    ("year", "2024", "2024"), ("bigint unsigned", "18446744073709551615", "18446744073709551615"),
    ("enum('a','b')", "'a'", '"a"'), ("int(5) zerofill", "7", "7"), ("json", "'[1.10, null]'", "[1.1, null]"),
    ("decimal(40,20)", "1.5", "1.50000000000000000000"), ("longtext", "'x\\n\\0y'", '"x\\n\\u0000y"'),
]  # fmt: skip


@pytest.mark.parametrize("is_mysql", [False, True])
def test_the_text_has_no_word_that_the_server_has_not(is_mysql: bool) -> None:
    what = triggers.capture(Table("shop", "t", "InnoDB", COLUMNS, ("id",), (), (), is_mysql), Options(when="id > 1"))
    said = [one for made in triggers.triggers(what) for one in triggers.statements(what, made)]
    text = "\n".join(said).lower()
    assert ("create or replace" in text) is not is_mysql
    assert text.count("drop trigger if exists") == (3 if is_mysql else 0)
    assert "cast(new.`t` as char)" in text
    for word in ("json_compact", "returning", "execute immediate", "begin not atomic"):
        assert word not in text
    if is_mysql:
        assert [one.split()[0] for one in said] == ["drop", "create"] * 3


@pytest.fixture
def admin(mysql) -> Session:
    """Root, in a new database shop."""
    mysql.execute("create database shop character set utf8mb4")
    session = Session(mysql.connect("shop"))
    yield session
    session.connection.close()


@pytest.fixture
def connect(mysql) -> Iterator[Callable[..., Session]]:
    """Further sessions of root's in database shop."""
    yield from sessions(mysql)


@real
@settings(max_examples=15, suppress_health_check=list(HealthCheck), derandomize=True, phases=PHASES)
@given(program=programs(NOT_THERE))
def test_a_watched_table_and_its_twin_end_alike(admin, connect, small_packets, program):
    compare(admin, connect, program)


@real
@pytest.mark.long
@pytest.mark.timeout(7200)
@settings(max_examples=200, suppress_health_check=list(HealthCheck), phases=PHASES)
@given(program=programs(NOT_THERE))
def test_a_watched_table_and_its_twin_end_alike_at_length(admin, connect, small_packets, program):
    compare(admin, connect, program)


@real
@pytest.mark.parametrize(("kind", "value", "shown"), VALUES)
def test_a_value_is_as_exact_as_mariadb_s(admin, kind, value, shown):
    admin.sql(f"create table t (id int primary key, c {kind})")
    admin.watch("t")
    admin.sql("set sql_mode = 'STRICT_ALL_TABLES', time_zone = '+02:00'")
    if kind.startswith("timestamp"):
        admin.sql("set time_zone = '+00:00'")
    admin.sql(f"insert into t values (1, {value})")
    assert admin.value("select new_image from relay.outbox") == f'{{"c": {shown}, "id": 1}}'
    admin.sql("update t set c = c")
    admin.sql("update t set c = null")
    admin.sql("delete from t")
    assert admin.story() == [("insert", 1), ("update", 1), ("delete", 1)]
    assert admin.notes() == [None]


@real
def test_json_that_mysql_finds_equal_is_another_value(admin):
    admin.sql("create table t (id int primary key, c json)")
    admin.watch("t")
    admin.sql("insert into t values (1, '[1]')")
    admin.sql("update t set c = '[1.0]'")
    assert admin.story() == [("insert", 1), ("update", 1)]


@real
def test_what_is_watched_options_drift_and_the_end(admin, mysql):
    url = mysql.url("shop")
    admin.sql("create table orders (id int primary key, n int, note longtext)")
    assert listen(url, "watch", "orders", "--when", "n > 0").returncode == 0
    for _ in "ab":  # again, over its own triggers
        shown = listen(url, "watch", "orders", "--ignore", "note")
        assert (shown.returncode, shown.stderr) == (0, "")
    admin.sql("insert into orders values (1, 1, 'x'), (2, 2, 'x')")
    admin.sql("update orders set note = 'y'")
    admin.sql("replace into orders values (2, 3, 'z')")
    assert admin.story() == [("insert", 1), ("insert", 2), ("delete", 2), ("insert", 2)]
    admin.sql("alter table orders add more int")
    assert admin.notes() == ["column more is not in its events"]
    assert listen(url, "watch", "orders").returncode == 0
    shown = listen(url, "resend", "orders")
    assert shown.returncode == 0, shown.stderr
    assert admin.story() == [("snapshot", 1), ("snapshot", 2)]
    assert listen(url, "unwatch", "orders").returncode == 0
    admin.sql("delete from orders")
    assert (admin.story(), admin.sql("show triggers")) == ([], [])


@real
def test_print_sql_is_for_the_client(admin, mysql, tmp_path):
    url = mysql.url("shop")
    admin.sql("create table t (id int primary key)")
    script = tmp_path / "watch.sql"
    script.write_text(listen(url, "watch", "t", "--print-sql").stdout)
    assert admin.sql("show triggers") == []
    mysql.client(script)
    admin.sql("insert into t values (1)")
    assert admin.story() == [("insert", 1)]


@real
def test_an_image_above_max_allowed_packet_is_an_event_with_its_key(admin, mysql):
    admin.sql("create table t (id int primary key, c longtext)")
    admin.watch("t")
    mysql.execute("set global max_allowed_packet = 1048576")
    try:
        session = Session(mysql.connect("shop"))
        session.sql("insert into t values (1, repeat(char(10), 600000))")
        session.sql("insert into t values (2, 'small')")
        assert [(e["key"]["id"], e["too_large"], e["new"] is None) for e in session.events()] == [
            (1, True, True), (2, False, False),
        ]  # fmt: skip
        session.connection.close()
    finally:
        mysql.execute("set global max_allowed_packet = 67108864")


@real
def test_publish_is_a_procedure(admin, mysql):
    mysql.execute("create user app@'%' identified by 'app'", "grant relay_publisher to app@'%'",
                  "set default role relay_publisher to app@'%'")  # fmt: skip
    app = Session(mysql.connect(None, "app", "app"))
    ((made,),) = app.sql("""call relay.publish('shop.paid', '{"n": 1.10}', 'k', null)""")
    app.connection.close()
    assert admin.sql("select id, topic, `key`, body from relay.outbox") == [(made, "shop.paid", "k", '{"n": 1.10}')]


@real
def test_uninstall_refuses_while_it_would_harm_and_leaves_nothing(admin, mysql):
    script = mysql.install_sql.with_name("uninstall.sql")
    admin.sql("create table t (id int primary key)")
    admin.watch("t")
    with pytest.raises(ServerError, match="tables are watched"):
        mysql.client(script)
    admin.unwatch("t")
    mysql.client(script)
    assert admin.sql("show databases like 'relay'") == []
    assert admin.sql("select user from mysql.user where user like 'relay%'") == []
