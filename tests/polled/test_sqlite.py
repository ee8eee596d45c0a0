"""Capture on SQLite: values, changes, what is refused, what has changed since, and twins."""

import json
import random
import sqlite3
import struct
from collections import defaultdict
from contextlib import closing
from decimal import Decimal
from math import inf
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.errors import NotFound, RelayError
from relay.listening.polled.capture.options import Options
from relay.listening.polled.capture.sqlite import drift, watch

INSTALL = Path(__file__).resolve().parents[2] / "sql/sqlite/install.sql"


class File:
    """One SQLite database, and a connection to it."""

    def __init__(self, path):
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.executescript(INSTALL.read_text())

    def sql(self, statement, *parameters):
        return self.connection.execute(statement, parameters).fetchall()

    def watch(self, name, **options):
        cursor = self.connection.cursor()
        watch.carry_out(cursor, lambda: watch.plan(cursor, name, Options(**options)))

    def unwatch(self, name):
        cursor = self.connection.cursor()
        watch.carry_out(cursor, lambda: watch.unplan(cursor, name))

    def notes(self):
        return [one.note for one in drift.watched(self.connection.cursor())]

    def events(self):
        found = []
        for topic, tbl, op, key, old, new, large in self.sql(
            "select topic, tbl, op, key, old_image, new_image, too_large from relay_outbox order by seq"
        ):
            parsed = [None if one is None else json.loads(one, parse_float=Decimal) for one in (key, old, new)]
            found.append(
                {"topic": topic, "table": tbl, "op": op, "too_large": bool(large)}
                | dict(zip(("key", "old", "new"), parsed, strict=True))
            )
        self.sql("delete from relay_outbox")
        return found

    def story(self):
        return [(e["op"], next(iter(e["key"].values())) if len(e["key"]) == 1 else e["key"]) for e in self.events()]


@pytest.fixture
def file(tmp_path):
    made = File(tmp_path / "app.db")
    with closing(made.connection):
        yield made


def test_each_change_of_a_row_is_an_event_in_the_writers_transaction(file):
    file.sql("create table orders (id integer primary key, total real, name text)")
    file.watch("orders")
    file.sql("insert into orders values (1, 1.5, 'a'), (2, 2, 'b')")
    file.sql("update orders set total = 3 where id = 2")
    file.sql("update orders set total = 3 where id = 2")
    file.sql("update orders set id = 5 where id = 2")
    file.sql("delete from orders where id = 1")
    file.sql("begin")
    file.sql("delete from orders")
    file.sql("rollback")
    events = file.events()
    assert [(e["op"], e["key"]["id"]) for e in events] == [
        ("insert", 1), ("insert", 2), ("update", 2), ("delete", 2), ("insert", 5), ("delete", 1),
    ]  # fmt: skip
    assert events[2]["old"] == {"id": 2, "total": 2, "name": "b"}
    assert events[2]["new"] == {"id": 2, "total": 3, "name": "b"}
    assert {(e["topic"], e["table"]) for e in events} == {("orders", "orders")}


TEXT = "a\0b\x01\x1f\x7f\"\\'é\u2028𝄞\U0010ffff"
VALUES = [
    (None, None), (1, 1), (9223372036854775807, 9223372036854775807), (-9223372036854775808, -9223372036854775808),
    (0.1, 0.1), (0.1 + 0.2, 0.1 + 0.2), (1.7976931348623157e308, 1.7976931348623157e308), (5e-324, 5e-324),
    (1e22, 1e22),
    (-1.0419479666071101e-300, -1.0419479666071101e-300), (float("inf"), "Infinity"), (float("-inf"), "-Infinity"),
    (12.34, 12.34), ("", ""), ("1", "1"), (TEXT, TEXT),
    (b"", "\\x"), (b"\x00\xff'\\", "\\x00ff275c"), ("[1]", "[1]"),
]  # fmt: skip


def same(wanted, got):
    if isinstance(wanted, float):
        return isinstance(got, int | Decimal) and float(got) == wanted
    return type(wanted) is type(got) and wanted == got


@pytest.mark.parametrize("op", ["insert", "update", "delete"])
def test_every_value_comes_through_in_every_column(file, op):
    file.sql("create table t (id integer primary key, n int, v, w text)")
    if op == "insert":
        file.watch("t")
    for number, (given_, _) in enumerate(VALUES):
        file.sql("insert into t (id, v) values (?, ?)", number, given_)
    if op != "insert":
        file.watch("t")
        file.sql({"update": "update t set n = 1", "delete": "delete from t"}[op])
    for event, (_, wanted) in zip(file.events(), VALUES, strict=True):
        for image in (event["old"], event["new"]):
            assert image is None or same(wanted, image["v"]), (wanted, image)


def test_what_json_made_is_text_all_the_same(file):
    file.sql("create table t (id integer primary key, v)")
    file.watch("t")
    file.sql("insert into t values (1, json('[1, 2]'))")
    assert file.events()[0]["new"]["v"] == "[1,2]"


def random_doubles_come_through(file, count, seed):
    chance = random.Random(seed)
    file.sql("create table t (id integer primary key, v)")
    file.watch("t")
    values = []
    for number in range(count):
        kind = number % 4
        value = (
            struct.unpack("d", chance.randbytes(8))[0] if kind == 0 else chance.uniform(-1e6, 1e6) if kind == 1
            else round(chance.uniform(-1e9, 1e9), chance.randint(0, 6)) if kind == 2
            else chance.randint(1, 10**15 - 1) * 10.0 ** chance.randint(-322, 292)
        )  # fmt: skip
        values.append(1.5 if value != value or abs(value) == float("inf") else value)
    file.connection.executemany("insert into t (v) values (?)", [(value,) for value in values])
    wrong = [
        (value, event["new"]["v"])
        for value, event in zip(values, file.events(), strict=True)
        if not same(value, event["new"]["v"])
    ]
    assert wrong == [], seed


def test_random_doubles_come_through(file):
    random_doubles_come_through(file, 2000, 1)


@pytest.mark.long
def test_two_hundred_thousand_random_doubles_come_through(file):
    random_doubles_come_through(file, 200_000, random.randrange(1 << 30))


@pytest.mark.parametrize("recursive", [0, 1])
@pytest.mark.parametrize(
    ("made", "statement"),
    [
        ("id integer primary key, n, u); create unique index i on t (u) where n > 0", "update or replace t set n = 1"),
        ("id integer primary key, n, u, w as (n / 2) unique)", "update or replace t set n = 1 where id = 2"),
        ("id text primary key not null, n, u)", "update or replace t set rowid = 1 where id = '2'"),
        ("id text primary key not null, n, u)", "replace into t (rowid, id, n) values (1, '3', 0)"),
    ],
)
def test_so_it_does_where_no_column_of_an_index_is_set(file, recursive, made, statement):
    file.sql(f"pragma recursive_triggers = {recursive}")
    file.connection.executescript(f"create table t ({made}")
    file.watch("t")
    file.sql("insert into t (rowid, id, n, u) values (1, '1', 0, 0), (2, '2', -2, 0)")
    file.story()
    file.sql(statement)
    assert ("delete", "1") in [(op, str(key)) for op, key in file.story()]
    assert file.sql("select count(*) from t where id = '1'") == [(0,)]


@pytest.mark.parametrize("recursive", [0, 1])
def test_replace_tells_of_every_row_that_it_deletes(file, recursive):
    file.sql(f"pragma recursive_triggers = {recursive}")
    file.sql("create table t (id integer primary key, u unique collate nocase, n)")
    file.watch("t")
    file.sql("insert into t values (1, 'a', 0), (2, 'b', 0), (-1, 'c', 0)")
    file.story()
    file.sql("insert or ignore into t values (1, 'zz', 9)")
    file.sql("update t set n = 1 where id = 1")
    assert file.story() == [("update", 1)]
    file.sql("replace into t values (1, 'B', 5)")
    story = file.story()
    assert sorted(story[:-1]) == [("delete", 1), ("delete", 2)]
    assert story[-1] == ("insert", 1)
    file.sql("insert into t (u) values ('x')")
    assert file.story() == [("insert", 2)]
    file.sql("update or replace t set u = 'X' where id = 1")
    assert file.story() == [("delete", 2), ("update", 1)]
    file.sql("update or replace t set id = -1 where id = 1")
    assert file.story() == [("delete", -1), ("delete", 1), ("insert", -1)]
    file.sql("insert into t values (-1, 'q', 7) on conflict do update set n = n + 1")
    assert [op for op, _ in file.story()] == ["update"]


def test_foreign_keys_that_cascade_are_captured(file):
    file.sql("pragma foreign_keys = 1")
    file.sql("create table p (id integer primary key)")
    file.sql("create table t (id integer primary key, p references p on delete cascade on update cascade)")
    file.watch("t")
    file.sql("insert into p values (1), (2)")
    file.sql("insert into t values (10, 1), (20, 2)")
    file.sql("update p set id = 3 where id = 1")
    file.sql("delete from p where id = 2")
    assert file.story() == [("insert", 10), ("insert", 20), ("update", 10), ("delete", 20)]


def test_an_own_trigger_that_changes_the_same_row_is_told_after_the_row(file):
    file.sql("create table t (id integer primary key, n)")
    file.sql("create trigger mine after insert on t begin update t set n = 7 where id = new.id; end")
    file.watch("t")
    file.sql("insert into t values (1, 0)")
    first, second = file.events()
    assert (first["op"], first["new"]["n"], second["op"], second["new"]["n"]) == ("insert", 0, "update", 7)
    file.sql("create trigger later after insert on t begin select 1; end")
    assert file.notes() == ["the application's trigger later is newer, so that it is fired before the relay's"]
    file.watch("t")
    assert file.notes() == [None]


def test_a_condition_options_and_odd_names(file):
    file.sql('create table "or""d.ers" (id integer, "n ame" text, n, primary key (id, "n ame")) without rowid')
    file.watch('or"d.ers', when="n > 10 and \"n ame\" <> 'x'", topic="o", columns=("id", "n"))
    file.sql("""insert into "or""d.ers" values (1, 'a', 5), (2, 'b', 50), (3, 'x', 50)""")
    file.sql('update "or""d.ers" set n = n + 10')
    file.sql('update "or""d.ers" set n = 0 where id = 1')
    file.sql('delete from "or""d.ers"')
    events = file.events()
    assert [(e["op"], e["key"]["id"]) for e in events] == [
        ("insert", 2), ("insert", 1), ("update", 2), ("delete", 1), ("delete", 2),
    ]  # fmt: skip
    assert events[0]["key"] == {"id": 2, "n ame": "b"}
    assert events[0]["new"] == {"id": 2, "n": 50}
    assert events[0]["topic"] == "o"
    assert file.notes() == [None]


def test_a_table_of_three_hundred_columns(file):
    names = [f"c{number}" for number in range(300)]
    file.sql(f"create table t (id integer primary key, {', '.join(names)})")
    file.watch("t")
    file.sql(f"insert into t (id, {', '.join(names)}) values (1, {', '.join(str(n) for n in range(300))})")
    file.sql("update t set c7 = 'x'")
    first, second = file.events()
    assert first["new"] == {"id": 1} | {f"c{n}": n for n in range(300)}
    assert second["new"]["c7"] == "x"


def test_generated_columns_are_captured(file):
    file.sql("create table t (id integer primary key, a, v as (a * 2) virtual, s as (a + 1) stored)")
    file.watch("t")
    file.sql("insert into t (id, a) values (1, 5)")
    assert file.events()[0]["new"] == {"id": 1, "a": 5, "v": 10, "s": 6}


def test_a_row_too_large_for_json_is_an_event_with_its_key(file, monkeypatch):
    from relay.listening.polled.capture.sqlite import triggers

    monkeypatch.setattr(triggers, "LARGEST", 1000)
    file.sql("create table t (id integer primary key, v)")
    file.watch("t")
    file.sql("insert into t values (1, zeroblob(2000)), (2, 'a')")
    file.sql("update t set v = v || 'b'")
    found = [(e["op"], e["key"]["id"], e["too_large"], e["new"]) for e in file.events()]
    assert found == [
        ("insert", 1, True, None), ("insert", 2, False, {"id": 2, "v": "a"}),
        ("update", 1, True, None), ("update", 2, False, {"id": 2, "v": "ab"}),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("ddl", "options", "said"),
    [
        ("create table t (id int)", {}, "no primary key"),
        ("create view t as select 1 as id", {}, "no table"),
        ("create virtual table t using fts5(a)", {}, "virtual"),
        ("create table t (id integer primary key, a); create unique index i on t (lower(a))", {}, "expression"),
        (
            "create table t (id text primary key, a) without rowid; create unique index i on t (a) where a > 0",
            {},
            "partial",
        ),
        ("create table t (id integer primary key, a)", {"when": "abs(a) > 1"}, "can fail"),
        ("create table t (id integer primary key, a)", {"when": "a = (select 1)"}, "can't have"),
        ("create table t (id integer primary key, a)", {"when": "b = 1"}, "does not understand"),
        ("create table t (id integer primary key, a)", {"key": ("b",)}, "no column b"),
    ],
)
def test_what_can_not_be_watched_is_refused(file, ddl, options, said):
    file.connection.executescript(ddl)
    with pytest.raises(RelayError, match=said):
        file.watch("t", **options)
    assert file.sql("select name from sqlite_schema where type = 'trigger'") == []


@pytest.mark.parametrize(
    ("ddl", "note"),
    [
        ("alter table t add column b", "column b is not in its events"),
        ("drop trigger relay_update_t", "relay_update_t is missing"),
        ("create unique index i on t (a)", "not those that watch would make now"),
        ("alter table t rename to u", "it is called u now"),
        ("alter table t rename column a to b", None),
        ("drop table t", "t is not there"),
        ("create index i on t (a)", None),
    ],
)
def test_what_changes_a_table_is_noticed(file, ddl, note):
    file.sql("create table t (id integer primary key, a)")
    file.watch("t")
    assert file.notes() == [None]
    file.sql(ddl)
    (found,) = file.notes()
    if note is None:
        assert found is None or "not those" in found
    else:
        assert note in (found or "")


def test_unwatch_ends_it(file):
    file.sql("create table t (id integer primary key, a)")
    file.watch("T")
    file.unwatch("t")
    file.sql("insert into t values (1, 1)")
    assert (file.events(), file.notes()) == ([], [])
    with pytest.raises(NotFound, match="not watched"):
        file.unwatch("t")


def test_print_sql_is_what_the_command_line_takes(file):
    file.sql("create table t (id integer primary key, a)")
    file.connection.executescript(watch.script(watch.plan(file.connection.cursor(), "t", Options())))
    file.sql("insert into t values (1, 1)")
    assert file.story() == [("insert", 1)]
    assert file.notes() == [None]


ids = st.integers(-1, 5)
values = st.sampled_from(["0", "1", "2.5", "null", "'a'", "'A'", "x'00ff'", "9e999", "json('[1]')"])
SHAPES = [
    "create table t (id integer primary key, u unique, n, v)",
    "create table t (id integer primary key autoincrement, u text unique collate nocase, n int, v real)",
    "create table t (id int primary key, u, n, v, unique (u, n)) without rowid",
    "create table t (id text primary key not null, u, n, v)",
    "create table t (id integer primary key, u, n, v, w as (n % 2) unique)",
    "create table t (id integer primary key, u, n, v); create unique index i on t (u) where n > 0",
    "create table t (id integer, u, n, v, primary key (id, n))",
    "create table t (id integer primary key, u any unique on conflict replace, n any default 3, v any not null) strict",
]  # fmt: skip
OWN = [
    "",
    "create trigger own after insert on t when new.n is not 7 begin update t set n = 7 where id = new.id; end",
    "create trigger own after update on t when new.n is 2 begin delete from t where id = new.id + 1; end",
    "create trigger own before delete on t when old.n is 1 begin select raise(ignore); end",
    "create trigger own after insert on t when new.n is 2 begin select raise(abort, 'no'); end",
    "create trigger own before insert on t when new.n is 1 begin insert into other values (new.id); end",
]


@st.composite
def programs(draw):
    row = st.builds("({}, {}, {}, {})".format, ids, values, values, values)
    rows = st.lists(row, min_size=1, max_size=4).map(", ".join)
    verb = st.sampled_from(
        ["insert", "replace", *(f"insert or {way}" for way in ("ignore", "fail", "abort", "rollback"))]
    )
    change = st.sampled_from(["update", *(f"update or {way}" for way in ("ignore", "replace", "fail"))])
    statement = st.one_of(
        st.builds("{} into t (id, u, n, v) values {}".format, verb, rows),
        st.builds("{} into t (u, n, v) values ({}, {}, {})".format, verb, values, values, values),
        st.builds(
            "insert into t (id, u, n, v) values {} on conflict do update set n = n + 1, u = {}".format, rows, values
        ),
        st.builds("{} t set n = {}, v = {} where id >= {}".format, change, values, values, ids),
        st.builds("{} t set u = {} where id >= {}".format, change, values, ids),
        st.builds("{} t set id = id + {} where id >= {}".format, change, st.integers(-2, 2), ids),
        st.builds("{} t set rowid = {} where id >= {}".format, change, ids, ids),
        st.builds("{} into t (rowid, u, n, id) values ({}, {}, {}, {})".format, verb, ids, values, values, ids),
        st.builds("delete from t where id >= {}".format, ids),
        st.sampled_from(["delete from t", "savepoint s", "rollback to s", "begin", "commit", "rollback"]),
    )  # fmt: skip
    return (
        draw(st.sampled_from(SHAPES)), draw(st.sampled_from(OWN)), draw(st.booleans()), draw(st.booleans()),
        draw(st.lists(statement, max_size=12)),
    )  # fmt: skip


def run(connection, statement):
    """The error, or how many rows and the last rowid."""
    try:
        cursor = connection.execute(statement)
        return cursor.rowcount, connection.execute("select last_insert_rowid(), changes()").fetchone()
    except sqlite3.Error as error:
        return str(error).replace("relay", "")


def shown(value):
    """As an event has it."""
    if isinstance(value, bytes):
        return f"\\x{value.hex()}"
    return "Infinity" if value == inf else str(value)


def compare(program):
    ddl, own, recursive, when, statements = program
    watched, unwatched = File(":memory:"), File(":memory:")
    for one in (watched, unwatched):
        one.sql(f"pragma recursive_triggers = {recursive:d}")
        one.connection.executescript(f"{ddl}; create table other (x); {own};")
    watched.watch("t", **({"when": "n is not 1"} if when else {}))
    for statement in statements:
        outcomes = [run(one.connection, statement) for one in (watched, unwatched)]
        assert outcomes[0] == outcomes[1], statement
        tables = [
            sorted(one.sql("select *, typeof(u), typeof(n), typeof(v) from t"), key=repr)
            for one in (watched, unwatched)
        ]
        assert tables[0] == tables[1], statement
    for one in (watched, unwatched):
        if one.connection.in_transaction:
            one.sql("commit")
    told = defaultdict(list)  # rows with a null in their key share it (docs/sources.md), all others have their own
    for event in watched.events():
        here = told[json.dumps(event["key"], default=str)]
        if event["op"] == "insert":
            assert not here or None in event["key"].values(), event
        else:
            assert event["old"] in here, event
            here.remove(event["old"])
        if event["op"] != "delete":
            here.append(event["new"])
    truth = watched.sql(f"select id, u, n, v from t{' where n is not 1' if when else ''}")
    images = [tuple(image[name] for name in ("id", "u", "n", "v")) for here in told.values() for image in here]
    assert sorted([tuple(map(shown, row)) for row in truth]) == sorted([tuple(map(str, image)) for image in images])
    for one in (watched, unwatched):
        one.connection.close()


@settings(max_examples=200, suppress_health_check=list(HealthCheck), derandomize=True)
@given(program=programs())
def test_a_watched_table_and_its_twin_end_alike(program):
    compare(program)


@pytest.mark.long
@pytest.mark.timeout(7200)
@settings(max_examples=20_000, suppress_health_check=list(HealthCheck))
@given(program=programs())
def test_a_watched_table_and_its_twin_end_alike_at_length(program):
    compare(program)
