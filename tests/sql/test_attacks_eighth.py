"""What fell to the eighth attack."""

from __future__ import annotations

import contextlib
import re
import time

import psycopg2
import pytest

from dev.database import Database
from tests.sql.conftest import TENANT, VICTIM, Session, evil, reached

SWAPS = {
    # Its owner renames a type without the right to create anything in its schema.
    "renamed": (
        f"""
        create type shared.mood as enum ('a', 'b'); create domain shared.trap as text check (tenant.evil(value));
        alter type shared.mood owner to {TENANT}; alter domain shared.trap owner to {TENANT};
        create table public.own (id shared.mood primary key deferrable);
        """,
        """
        begin; alter type shared.mood rename to was; alter domain shared.trap rename to mood; commit;
        begin; alter domain shared.mood rename to trap; alter type shared.was rename to mood; commit
        """,
    ),
    # PostgreSQL gives an array's type another name, with one _ more, if somebody makes a type that is called like it.
    "array": (
        f"""
        create type shared.mood as enum ('a', 'b'); grant create on schema shared to {TENANT};
        create table public.own (id shared.mood[] primary key deferrable);
        create procedure shared.as_before() security definer language sql
            as 'alter type shared.mood rename to x; alter type shared.x rename to mood';
        """,
        """
        begin; create domain shared._mood as text check (tenant.evil(value)); commit;
        begin; drop domain shared._mood; call shared.as_before(); commit
        """,
    ),
}


@pytest.mark.parametrize("way", SWAPS)
def test_a_type_s_name_that_another_can_get_has_nothing_run_as_a_table_s_owner(admin, shared, beside, way):
    """The reader's query named it; the tenant's domain was checked as the owner, here a superuser."""
    made, swap = SWAPS[way]
    admin.sql(f"{made} select relay.watch('public.own'); grant all on own to {TENANT}")
    admin.sql("insert into own values ('a'), ('b')" if way == "renamed" else "insert into own values ('{a}'), ('{b}')")
    beside(swap)
    end = time.monotonic() + 2
    found: set[str] = set()
    while time.monotonic() < end and not found - {TENANT}:
        with contextlib.suppress(psycopg2.Error):
            shared.sql("update public.own set id = (select o.id from own o where o.id <> own.id)")
        found |= reached(shared)
        del shared.notices[:]
    assert found <= {TENANT}


def test_an_array_s_name_that_another_takes_is_no_reason_not_to_look_a_key_up(admin, shared):
    """It is named by its element."""
    made, swap = SWAPS["array"]
    admin.sql(f"{made} select relay.watch('public.own'); insert into own values ('{{a}}'), ('{{b}}')")
    admin.story()
    shared.sql(swap.partition(";")[2].partition("commit")[0])
    admin.sql("update own set id = array[case when 'a' = any (id) then 'b' else 'a' end::shared.mood]")
    assert admin.story() == [("insert", ["b"]), ("insert", ["a"])]


def test_what_is_the_database_owner_s_may_be_renamed_by_him(admin, tenant, database):
    """pg_database_owner has a member that no grant tells."""
    admin.sql(f"""
        create schema shared; create type shared.mood as enum ('a');
        create table public.own (id shared.mood primary key); select relay.watch('public.own');
        alter type shared.mood owner to pg_database_owner; alter database {database.name} owner to {TENANT}
    """)
    assert TENANT in admin.value("select relay.renamers('own'::regclass, '{1}', false)::regrole[]::text[]")


def test_the_owner_of_a_schema_may_give_the_name_of_an_operator_in_it_to_another(admin, tenant):
    """He may drop it, whoever made it: a key that has no index does not hold it."""
    admin.sql("""
        create type tenant.mood as enum ('a'); create table public.own (id tenant.mood); create schema shared;
        alter type tenant.mood set schema shared;
        create function shared.eq(shared.mood, shared.mood) returns bool language sql immutable as 'select true';
        create function shared.cmp(shared.mood, shared.mood) returns int language sql immutable as 'select 0';
        create operator tenant.=== (leftarg = shared.mood, rightarg = shared.mood, function = shared.eq);
        create operator class shared.ops default for type shared.mood using btree as operator 3 tenant.===,
            function 1 shared.cmp(shared.mood, shared.mood);
        select relay.watch('public.own', key => '{id}');
    """)
    found = "select relay.renamers('own'::regclass, '{1}', false)::regrole[]::text[]"
    assert admin.value(found) == [TENANT]
    admin.sql("alter operator tenant.=== (shared.mood, shared.mood) set schema shared")
    assert admin.value(found) == []


@pytest.fixture
def hiding(admin: Session, shared: Session, database: Database) -> Session:
    """The listener, and a superuser's table whose watch leaves out columns of a stranger's domains."""
    shared.sql("create domain tenant.some as text not null")
    shared.sql("create domain tenant.checked as text check (tenant.evil(value))")
    admin.sql("""
        create table public.own (id int primary key, v int, s tenant.some, c tenant.checked);
        insert into own values (1, 5, 'SECRET', 'SECRET'), (2, -5, 'x', 'x');
        select relay.watch('public.own', ignore => '{s,c}'); delete from relay.outbox;
    """)
    return Session(database.listener())


def test_a_resend_checks_no_domain_of_what_the_watch_leaves_out(admin, hiding):
    """They were made null for its condition: a domain that is not null refused all rows, and a stranger's check ran."""
    assert hiding.value("select copied from relay.resend_chunk('public.own', null, 10, 'v > 0')") == 1
    assert [e["new"] for e in admin.events()] == [{"id": 1, "v": 5}]
    assert reached(hiding) == set()


@pytest.mark.parametrize("setting", ["on", "off"])
def test_the_condition_of_a_resend_names_no_parameter(admin, hiding, setting):
    """What the watch leaves out is in it. Where nothing is left out, there is nothing to refuse."""
    hiding.sql(f"set standard_conforming_strings = {setting}; set escape_string_warning = off")
    for where in ("($1).s = 'SECRET'", "$1 is not null", "v = 5 and '$1' <> 's'"):
        error = hiding.error("select relay.resend_row('public.own', '{\"id\": 1}', %s)", where)
        assert "has a $ before a digit" in error.diag.message_primary
    admin.sql("select relay.watch('public.own')")
    assert hiding.value("select relay.resend_row('public.own', '{\"id\": 1}', %s)", "v = 5 and '$1' <> 's'") == 1


@pytest.mark.parametrize("how", ["row", "bulk", "row key", "bulk key"])
@pytest.mark.parametrize("isolation", ["read committed", "repeatable read"])
@pytest.mark.parametrize("deep", [1, 2])
def test_a_cast_of_a_field_beside_a_stranger_s_runs_in_the_box(admin, tenant, how, isolation, deep):
    """Told field by field, a composite type was made JSON before it got there: in bulk as the triggers' owner."""
    admin.sql(f"create type victim.e as enum ('a'); alter type victim.e owner to {VICTIM}")
    admin.sql(f"grant usage on schema victim to {TENANT}")
    tenant.sql("create type tenant.mood as enum ('a')")
    evil(tenant, "tenant.mood", "json", "to_json('cast'::text)")
    tenant.sql("""
        create cast (tenant.mood as json) with function tenant.evil(tenant.mood);
        create type tenant.c1 as (x tenant.mood, m tenant.mood, e victim.e); create type tenant.c2 as (x tenant.c1);
    """)
    value, image = {1: "('a', 'a', 'a')", 2: "row(row('a', 'a', 'a'))"}[deep], {"x": "cast", "m": "cast", "e": "a"}
    key = ", key => '{c,id}'" if "key" in how else ""
    tenant.sql(f"""
        create table tenant.t (id int primary key, v int, c tenant.c{deep}, unique (c, id));
        select relay.watch('tenant.t', bulk => {"bulk" in how}{key}); set default_transaction_isolation = '{isolation}';
    """)
    tenant.sql(f"insert into tenant.t values (1, 1, {value}), (2, 1, null)")
    tenant.sql("update tenant.t set v = 2; delete from tenant.t")
    told = [e for e in admin.events() if e["table"] == "tenant.t"]
    assert [e["op"] for e in told] == ["insert"] * 2 + ["update"] * 2 + ["delete"] * 2
    assert reached(tenant) == {"relay_compute"}
    image = image if deep == 1 else {"x": image}
    assert [e["new"]["c"] for e in told if e["key"]["id"] == 1 and e["new"]] == [image] * 2
    assert [e["new"]["c"] for e in told if e["key"]["id"] == 2 and e["new"]] == [None] * 2
    if key:
        assert told[0]["key"] == {"c": image, "id": 1}


@pytest.mark.parametrize("table", ["id int primary key, v text", "v text, id int primary key"])
def test_a_session_that_reads_backslashes_otherwise_may_write(admin, tenant, table):
    """A pattern was no valid one there: each write to a usual table was refused."""
    tenant.sql(f"create table tenant.t ({table}); select relay.watch('tenant.t')")
    tenant.sql("set standard_conforming_strings = off")
    tenant.sql("insert into tenant.t (id, v) values (1, 'a'); update tenant.t set v = 'b'; delete from tenant.t")
    assert [(e["op"], e["key"]) for e in admin.events() if e["table"] == "tenant.t"] == [
        ("insert", {"id": 1}), ("update", {"id": 1}), ("delete", {"id": 1}),
    ]  # fmt: skip


def test_no_function_has_a_text_that_a_session_could_read_otherwise(admin):
    """A backslash stands in E'...' only: of any other text standard_conforming_strings decides what it is."""
    found = []
    for name, source in admin.sql("""
        select oid::regprocedure::text, prosrc from pg_proc where pronamespace = 'relay'::regnamespace
    """):
        code = re.sub(r"--[^\n]*", "", source)
        texts = re.findall(r"(\bE)?('(?:[^'\\]|''|\\.)*')", code, re.DOTALL)
        found += [(name, text) for escaped, text in texts if "\\" in text and not escaped]
    assert found == []


@pytest.mark.parametrize("watched_with", ["on", "off"])
@pytest.mark.parametrize("read_with", ["on", "off"])
def test_a_condition_with_a_backslash_says_the_same_in_each_session(admin, tenant, database, watched_with, read_with):
    """Whoever resends, by a setting of its session, got the rows that it leaves out."""
    condition = {"on": r"$$v !~ '\mhidden\M'$$", "off": r"$$v !~ '\\mhidden\\M'$$"}[watched_with]
    tenant.sql(f"""
        set escape_string_warning = off; set standard_conforming_strings = {watched_with};
        create table tenant.t (id int primary key deferrable, v text);
        select relay.watch('tenant.t', "when" => {condition});
        set standard_conforming_strings = {read_with};
        insert into tenant.t values (1, 'is hidden here'), (2, 'shown'), (3, 'shown');
        update tenant.t set id = 5 - id where id > 1; update tenant.t set id = 3 - id where id < 3;
    """)
    listener = Session(database.listener())
    listener.sql(f"set standard_conforming_strings = {read_with}")
    assert listener.value("select copied from relay.resend_chunk('tenant.t', null, 10, null)") == 2
    told = [(e["op"], e["key"]["id"]) for e in admin.events() if e["table"] == "tenant.t"]
    assert told[:2] == [("insert", 2), ("insert", 3)]
    assert sorted(told[2:4]) == [("insert", 2), ("insert", 3)], "a key that another row has is no delete"
    assert sorted(told[4:6]) == [("delete", 2), ("insert", 1)], "but if that row is left out"
    assert sorted(told[6:]) == [("snapshot", 1), ("snapshot", 3)]


@pytest.mark.parametrize("setting", ["on", "off"])
def test_a_condition_with_a_null_in_an_array_says_the_same_in_each_session(admin, tenant, database, setting):
    """Where array_nulls is off it is the text NULL."""
    tenant.sql(f"""
        create table tenant.t (id int primary key, v text[]);
        select relay.watch('tenant.t', "when" => $$v <> '{{NULL,x}}'$$); set array_nulls = {setting};
        insert into tenant.t values (1, array[null, 'x']), (2, array['NULL', 'x']);
    """)
    listener = Session(database.listener())
    listener.sql(f"set array_nulls = {setting}")
    assert listener.value("select copied from relay.resend_chunk('tenant.t', null, 10, null)") == 1
    told = [e for e in admin.events() if e["table"] == "tenant.t"]
    assert [(e["op"], e["key"]["id"]) for e in told] == [("insert", 2), ("snapshot", 2)]
