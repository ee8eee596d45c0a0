"""A statement on a watched table ends as it does on the same table unwatched, and the events give the table."""

import json

import psycopg2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

TWINS = ("watched", "plain")

# Types of a column "v", with values; the relay must neither fail on them nor write wrong JSON.
TYPES = {
    "int": ["1", "2", "null"],
    "json": [r"""'{"a":"\u0000"}'""", r"""'"\ud800"'""", "'[[[[1]]]]'", "'1e400'", "null"],
    "mood": ["'a'", "null"],  # its cast to json raises
    "deep": ["'a'", "null"],  # its cast to json never ends by itself
    "pair": [r"""row(1, '{"a":"\u0000"}')""", "row(null, null)", "null"],
    "small": ["1", "null"],
    "bytea": [r"'\x00ff'", "null"],
}
DDL = """
create type mood as enum ('a'); create type deep as enum ('a');
create type pair as (a int, j json); create domain small as int check (value < 9);
create function fails(mood) returns json language plpgsql as $$begin raise exception 'no json'; end$$;
create cast (mood as json) with function fails(mood);
create function ends(deep) returns json language plpgsql as $$begin return to_json($1); end$$;
create cast (deep as json) with function ends(deep);
"""
TRIGGERS = {
    "none": "",
    "one": "if new.hot then update t set hot = false where id <> new.id and hot; end if;",
    "bump": "if new.n < 3 then update t set n = n + 1 where id = new.id; end if;",
    "other": "if new.n = 1 then insert into t (id, n) values (new.id + 4, 7) on conflict do nothing; end if;",
    "alone": "if new.n = 2 then delete from t where id > new.id; end if;",
}
WATCHES = ["", ", ignore => '{v}'", ", old => false", """, "when" => 'n is not null'"""]

MERGE = """merge into t using (values (1, 5), (2, 6), (9, 9)) x (i, m) on t.id = x.i
    when matched and t.n = 0 then delete when matched then update set n = m
    when not matched then insert (id, n) values (i, m)"""

ids = st.integers(0, 6)
numbers = st.sampled_from(["0", "1", "2", "5"])


@st.composite
def programs(draw):
    """(DDL of both twins, arguments of relay.watch, transactions: each a list of statements)."""
    v_type = draw(st.sampled_from(sorted(TYPES)))
    value = st.sampled_from(TYPES[v_type])
    parts = draw(st.booleans())
    unique = (
        ""
        if parts
        else draw(st.sampled_from(["", " deferrable initially immediate", " deferrable initially deferred"]))
    )
    ddl = DDL + f"create table t (id int primary key{unique}, n int not null default 0, hot bool, v {v_type})"
    if parts:
        ddl += """ partition by range (id); create table t1 partition of t for values from (0) to (2);
            create table t2 partition of t for values from (2) to (4); create table t3 partition of t default"""
    ddl += ";"
    if "deferrable" not in unique:
        ddl += "create table child (c int primary key, t int references t on delete cascade on update cascade);"
    if body := TRIGGERS[draw(st.sampled_from(sorted(TRIGGERS)))]:
        ddl += f"""create function nested() returns trigger language plpgsql as $$begin
            if pg_trigger_depth() < 4 then {body} end if; return null; end$$;
            create trigger nested after insert or update on t for each row execute function nested();"""
    row = st.builds("({}, {}, {}, {})".format, ids, numbers, st.sampled_from(["true", "false", "null"]), value)
    rows = st.lists(row, min_size=1, max_size=4).map(", ".join)
    statement = st.one_of(
        st.builds("insert into t values {}".format, rows),
        st.builds("insert into t values {} on conflict do nothing".format, rows),
        st.builds("insert into t values {} on conflict (id) do update set n = t.n + 1, v = excluded.v".format, rows),
        st.builds("update t set n = {}, v = {} where id >= {}".format, numbers, value, ids),
        st.builds("update t set id = {} - id where id <= {}".format, ids, ids),
        st.builds("update t set id = id + {} where id >= {}".format, st.integers(-2, 2), ids),
        st.builds("update t set hot = true where id >= {}".format, ids),
        st.builds("delete from t where id >= {}".format, ids),
        st.builds("insert into child values ({}, {})".format, ids, ids),
        st.builds("update child set c = 6 - c, t = {} where c >= {}".format, ids, ids),
        st.sampled_from(["truncate t cascade", "savepoint s", "rollback to s", MERGE]),
    )  # fmt: skip
    return ddl, draw(st.sampled_from(WATCHES)), draw(st.lists(st.lists(statement, min_size=1, max_size=6), max_size=5))


def run(session, statement):
    """(SQLSTATE or how many rows)."""
    try:
        with session.connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.rowcount
    except psycopg2.Error as error:
        return error.pgcode


def transaction(session, twin, statements):
    """The outcome of each statement of a transaction, of its end, and the table then."""
    session.sql(f"set search_path = {twin}; begin; savepoint s")
    outcomes = []
    for statement in statements:
        if "savepoint" not in statement and "rollback" not in statement:
            session.sql("savepoint each")
        outcome = run(session, statement)
        if isinstance(outcome, str):
            session.sql("rollback to each")
        outcomes.append((statement, outcome))
    outcomes.append(("commit", run(session, "commit")))
    outcomes.append(("rows", session.sql("select t::text from t order by id")))
    return outcomes


def told(session):
    """What the events make of table t: {id: (n, hot)}."""
    table = {}
    for event in session.events():
        if event["table"] == "watched.child":
            continue
        if event["op"] == "truncate":
            table.clear()
        elif event["op"] == "delete":
            assert event["key"]["id"] in table, f"delete of {event['key']}, which was not there"
            del table[event["key"]["id"]]
        else:
            assert (event["op"] == "update") == (event["key"]["id"] in table), f"{event['op']} of {event['key']}"
            table[event["key"]["id"]] = (event["new"]["n"], event["new"]["hot"])
    return table


def compare(admin, program):
    ddl, arguments, transactions = program
    for twin in TWINS:
        admin.sql(f"""
            set client_min_messages = error; drop schema if exists {twin} cascade; create schema {twin};
            set search_path = {twin}; {ddl}
        """)
    admin.sql(f"select relay.watch('watched.t'{arguments}); delete from relay.outbox")
    if "create table child" in ddl:
        admin.sql("select relay.watch('watched.child')")
    for statements in transactions:
        watched, plain = (transaction(admin, twin, statements) for twin in TWINS)
        assert watched == plain
    admin.sql("set search_path = watched")
    assert told(admin) == {i: (n, hot) for i, n, hot in admin.sql("select id, n, hot from t")}


@settings(max_examples=25, suppress_health_check=list(HealthCheck), derandomize=True)
@given(program=programs())
def test_a_watched_table_and_its_twin_end_alike(admin, program):
    compare(admin, program)


@pytest.mark.long
@pytest.mark.timeout(1800)
@settings(max_examples=1000, suppress_health_check=list(HealthCheck))
@given(program=programs())
def test_a_watched_table_and_its_twin_end_alike_at_length(admin, program):
    compare(admin, program)


def test_three_partitions_and_a_trigger_that_updates_the_others(admin):
    ddl = (
        DDL
        + f"""create table t (id int primary key, n int default 0, hot bool) partition by list (id);
        create table t1 partition of t for values in (1); create table t2 partition of t for values in (2);
        create table t3 partition of t for values in (3);
        create function nested() returns trigger language plpgsql as $$begin {TRIGGERS["one"]} return null; end$$;
        create trigger nested after insert or update on t for each row execute function nested();"""
    )
    insert = "insert into t values (1, 0, true), (2, 0, true), (3, 0, true)"
    compare(admin, (ddl, "", [[insert], ["truncate t", insert], ["update t set hot = true"]]))


# What the insert into an unwatched table takes, the watched one takes: also where PostgreSQL cannot read again what it
# has written, or only just.
@pytest.mark.parametrize("column", ["json", "jsonb", "pair"])
@pytest.mark.parametrize("key", ["id", "id, k"])
def test_json_as_deep_as_postgresql_can_read_it(admin, column, key):
    def nested(depth, table):
        deep = "[" * depth + "]" * depth
        admin.sql("savepoint s")
        value = "row(1, %s)::pair" if column == "pair" else f"%s::{column}"
        try:
            admin.sql(f"insert into {table} values (1, 1, {value})", deep)
        except psycopg2.errors.StatementTooComplex:
            return False
        finally:
            admin.sql("rollback to s")
        return True

    admin.sql(
        DDL
        + f"""create table watched (id int, k int, v {column}, primary key ({key}));
        create table plain (id int, k int, v {column}, primary key ({key})); select relay.watch('watched'); begin"""
    )
    low, high = 1, 100_000
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if nested(middle, "plain") else (low, middle)
    assert not nested(high, "plain")
    for depth in (low // 2, low - 100, low):
        assert nested(depth, "watched"), f"{depth} of {low}"
    admin.sql("rollback")


@pytest.mark.parametrize("value", [value for value in TYPES["json"] if "\\u" in value])
def test_a_json_that_postgresql_can_write_and_not_read_again(admin, value):
    """Of those that the programs above choose by chance, each for sure."""
    for columns in (
        "id int primary key, n int default 0, hot bool, v json",
        "n int, id int primary key, hot bool, v json",
    ):
        program = [f"insert into t values (1, 1, true, {value})", "update t set n = 2", "delete from t"]
        compare(admin, (f"{DDL}create table t ({columns});", "", [program]))


def test_a_cast_that_never_returns_and_an_assertion_are_no_error_of_the_writer(admin):
    admin.sql("""
        create type mood as enum ('a'); create type bad as enum ('a');
        create table t (id int primary key, m mood, b bad);
        create function again(mood) returns json language plpgsql as $$begin return row_to_json(row($1)); end$$;
        create cast (mood as json) with function again(mood);
        create function asserts(bad) returns json language plpgsql as $$begin assert false; end$$;
        create cast (bad as json) with function asserts(bad);
        select relay.watch('t'); insert into t values (1, 'a', null), (2, null, 'a');
    """)
    assert [json.dumps(e["new"]) for e in admin.events()] == [
        '{"id": 1, "m": "a", "b": null}', '{"id": 2, "m": null, "b": "a"}',
    ]  # fmt: skip
