"""A table's reader fetches the rows with a key and runs nothing of anybody's; their condition is looked at in the box.

What fell to the fifth attack: functions that ran as a table's owner while a key was looked up.
"""

from __future__ import annotations

import contextlib

import psycopg2
import pytest

from tests.sql.conftest import TENANT, VICTIM, Session, login, reached


def said(admin: Session, table: str, *others: Session) -> str:
    """What relay.watched says of a table; or relay.watch did, once."""
    note = admin.value("select note from relay.watched where tbl = %s::regclass", table) or ""
    notices = [notice for session in (admin, *others) for notice in session.notices if "told as deleted" in notice]
    return "; ".join([note, *notices])


# A domain of the tenant's inside the type of a key: its check ran when the key was read back.
INSIDE = {
    "array": ("shared.d[]", "array[1::shared.d]", "array[2::shared.d]"),
    "composite": ("shared.c", "row(1, 1)", "row(2, 2)"),
    "range": ("shared.r", "shared.r(1, 2)", "shared.r(2, 3)"),
    "domain of an array": ("shared.da", "array[1::shared.d]", "array[2::shared.d]"),
}


@pytest.mark.parametrize("shape", INSIDE)
def test_a_domain_inside_a_key_s_type_is_not_checked_as_the_table_s_owner(admin, shared, shape):
    kind, before, after = INSIDE[shape]
    admin.sql(f"""
        create domain shared.d as int check (tenant.evil(value)); create type shared.c as (a shared.d, b int);
        create type shared.r as range (subtype = shared.d); create domain shared.da as shared.d[];
        create table shared.t (id {kind} primary key deferrable, n int); select relay.watch('shared.t');
        insert into shared.t values ({before}, 1); alter domain shared.d owner to {TENANT};
    """)
    shared.sql(f"update shared.t set id = {after}")
    assert reached(shared) <= {TENANT}
    assert [e["op"] for e in admin.events() if e["table"] == "shared.t"] == ["insert", "delete", "insert"]
    assert "its key has a composite type, or a domain inside another" in said(admin, "shared.t")


# What a condition was made of when it was read again: arguments of relay.watch, and what somebody makes of it later.
REREAD = {
    "cast of a type's owner's": (
        f"create type shared.mood as enum ('a'); alter type shared.mood owner to {TENANT}",
        "v shared.mood", "v::text <> 'z'", "'a'",
        "create cast (shared.mood as text) with function tenant.said(shared.mood)",
    ),
    "cast of the type that a function returns": (
        (f"create type shared.mood as enum ('a'); alter type shared.mood owner to {TENANT};"
        "create function shared.f(int) returns shared.mood language sql immutable as $$select 'a'::shared.mood$$"),
        "v int", "shared.f(v)::text <> 'z'", "1",
        "create cast (shared.mood as text) with function tenant.said(shared.mood)",
    ),
    "function that fits better": (
        ("create function shared.f(anyelement) returns bool language sql as 'select true';"
        "grant create on schema shared to public"),
        "v int", "shared.f(v)", "1",
        "create function shared.f(int) returns bool language sql as 'select tenant.evil($1)'",
    ),
    "operator that fits better": (
        ("create function shared.f(anyelement, anyelement) returns bool language sql as 'select true';"
        "create operator shared.=== (leftarg = anyelement, rightarg = anyelement, function = shared.f);"
        "grant create on schema shared to public"),
        "v int", "v operator(shared.===) v", "1",
        ("create function shared.g(int, int) returns bool language sql as 'select tenant.evil($1)';"
        "create operator shared.=== (leftarg = int, rightarg = int, function = shared.g)"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", REREAD)
def test_a_condition_that_is_read_again_calls_nothing_that_was_made_since(admin, shared, kind):
    """As the table's owner it did; nor may it in the box, in the session of whoever writes."""
    made, column, condition, value, later = REREAD[kind]
    admin.sql(made)
    admin.sql(f"create table shared.t (id int primary key deferrable, v {column.split(' ', 1)[1]})")
    admin.sql("select relay.watch('shared.t', \"when\" => %s)", condition)
    admin.sql(f"insert into shared.t values (1, {value}), (2, {value}); delete from relay.outbox")
    with contextlib.suppress(psycopg2.errors.UndefinedObject):
        shared.sql("create function tenant.said(shared.mood) returns text language sql as "
                   "'select tenant.evil($1)::text'")  # fmt: skip
    shared.sql(later)
    shared.sql("update shared.t set id = 3 - id")
    assert reached(shared) == set()
    assert {op for op, _ in admin.story()} == {"delete", "insert"}
    assert "its condition" in said(admin, "shared.t") or "it has a condition" in said(admin, "shared.t")


@pytest.mark.parametrize("condition", ["v > 0", "length(v::text) < 5 and v in (1, 2)", "shared.fine(v)"])
@pytest.mark.parametrize("isolation", ["read committed", "repeatable read"])
def test_with_a_condition_that_calls_nobody_else_s_code_keys_are_looked_up(admin, shared, condition, isolation):
    admin.sql("create function shared.fine(int) returns bool language sql as 'select $1 > 0'")
    admin.sql("create table shared.t (id int primary key deferrable, v int)")
    admin.sql("select relay.watch('shared.t', \"when\" => %s)", condition)
    admin.sql("insert into shared.t values (1, 1), (2, 1), (3, -1); delete from relay.outbox")
    assert said(admin, "shared.t") == ""
    shared.sql(f"begin isolation level {isolation}; update shared.t set id = 3 - id where id < 3; commit")
    looked = isolation == "read committed" or "fine" not in condition
    assert admin.story() == ([] if looked else [("delete", 1)]) + [("insert", 2)] + (
        [] if looked else [("delete", 2)]) + [("insert", 1)]  # fmt: skip


def test_of_many_rows_with_a_key_one_that_meets_the_condition_is_enough(admin, shared):
    admin.sql("""
        create table shared.t (k int, v int); select relay.watch('shared.t', "when" => 'v > 0', key => '{k}');
        insert into shared.t select 1, -i from generate_series(1, 50) i; insert into shared.t values (1, 1), (1, 2);
        delete from relay.outbox; update shared.t set k = 2 where v = 1;
    """)
    assert admin.story() == [("insert", 2)]
    admin.sql("update shared.t set k = 2 where v = 2")
    assert admin.story() == [("delete", 1), ("insert", 2)]


def test_readers_of_several_tables_answer_in_one_session(admin, shared):
    """What they answer has a type of each table's own."""
    for name, column in (("a", "text"), ("b", "int"), ("c", "numeric")):
        admin.sql(f"""
            create table shared.{name} (id int primary key deferrable, v {column});
            select relay.watch('shared.{name}', "when" => 'v is not null');
            insert into shared.{name} values (1, '1'), (2, '2'); delete from relay.outbox;
        """)
    for name in "abcacb":
        shared.sql(f"update shared.{name} set id = 3 - id")
        assert {op for op, _ in admin.story()} == {"insert"}


# Functions of the owner's that name something without its schema: a temporary view of the writer's.
UNQUALIFIED = {
    "condition": ("select relay.watch('victim.t', \"when\" => 'victim.reads(v)')", ""),
    "policy": (
        ("select relay.watch('victim.t'); alter table victim.t enable row level security, force row level security;"
        "create policy p on victim.t using (victim.reads(v))"), "row level security is forced",
    ),
    "index": (
        "select relay.watch('victim.t'); create index on victim.t (v) where victim.reads(1)", "function victim.reads",
    ),
    "statistics": (
        "select relay.watch('victim.t'); create statistics victim.s on (victim.reads(1)), id, v from victim.t",
        "function victim.reads",
    ),
    "check": (
        "select relay.watch('victim.t'); alter table victim.t add check (victim.reads(1))", "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("where", UNQUALIFIED)
def test_no_function_is_run_as_the_table_s_owner_with_the_writer_s_temporary_views(admin, shared, database, where):
    made, says = UNQUALIFIED[where]
    if where == "statistics" and admin.connection.server_version < 140000:
        pytest.skip("statistics of expressions came with PostgreSQL 14")
    owner = login(database, VICTIM)
    owner.sql(f"""
        set search_path = victim; create table settings (floor int); insert into settings values (0);
        grant usage on schema victim to public; grant select on settings to public;
        create function reads(v int) returns bool language plpgsql immutable as
            $$begin return v > (select floor from settings); exception when undefined_table then return true; end$$;
        create table t (id int primary key deferrable, v int); grant all on t to {TENANT}; {made};
    """)
    owner.connection.close()
    shared.sql("set search_path = victim; set constraint_exclusion = on; insert into t values (1, 1), (2, 1)")
    shared.sql("""
        create function pg_temp.spy() returns int language plpgsql as
            $$begin raise notice 'reached as %', current_user; return 0; end$$;
        create temp view settings as select pg_temp.spy() as floor; grant select on settings to public;
        set search_path = victim, pg_temp; update t set id = 3 - id where v > 0;
    """)
    assert VICTIM not in reached(shared)
    assert says in said(admin, "victim.t")


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read"])
def test_a_lock_on_one_partition_is_nothing_that_writers_of_the_others_wait_for(admin, shared, connect, isolation):
    """Who held it and went on to theirs had a deadlock with them."""
    admin.sql("""
        create table shared.t (id int primary key, n int) partition by range (id);
        create table shared.t1 partition of shared.t for values from (0) to (100);
        create table shared.t2 partition of shared.t for values from (100) to (200);
        select relay.watch('shared.t'); insert into shared.t values (1, 1), (2, 2), (150, 1); delete from relay.outbox;
    """)
    holder = connect()
    holder.sql("begin; lock table shared.t2 in access exclusive mode")
    shared.sql(f"begin isolation level {isolation}; set local statement_timeout = '10s'")
    shared.sql("update shared.t1 set id = 3 where id = 1; commit")
    holder.sql("lock table shared.t1 in access exclusive mode; commit")
    assert admin.story() == [("delete", 1), ("insert", 3)]
