"""What fell to the seventh attack."""

from __future__ import annotations

import json
from collections import deque

import psycopg2
import pytest

from tests.sql.conftest import TENANT, VICTIM, Session, login

SHAPES = {
    "pairs": [f"create type tenant.c{n} as (a tenant.c{n - 1}, b tenant.c{n - 1})" for n in range(1, 13)],
    "chain": [f"create type tenant.c{n} as (a tenant.c{n - 1})" for n in range(1, 17)],
}


@pytest.mark.parametrize("shape", SHAPES)
def test_types_of_types_make_nobody_wait_and_are_told_as_text(admin, tenant, database, shape):
    """A stranger's type in all of them has each field told by itself: 4,096 in the pairs, twice as many a level."""
    admin.sql(f"create type victim.e as enum ('a'); alter type victim.e owner to {VICTIM}")
    admin.sql(f"grant usage on schema victim to {TENANT}; delete from relay.outbox")
    tenant.sql("create type tenant.c0 as (e victim.e);" + ";".join(SHAPES[shape]))
    tenant.sql(f"create table tenant.t (id int primary key, few tenant.c2, many tenant.c{len(SHAPES[shape])})")
    tenant.sql("select relay.watch('tenant.t'); set statement_timeout = '20s'")
    empty = "(,)" if shape == "pairs" else "()"
    tenant.sql("insert into tenant.t values (1, %s, %s), (2, null, null)", empty, empty)
    few = {"a": None, "b": None} if shape == "pairs" else {"a": None}
    images = [{"id": 1, "few": few, "many": empty}, {"id": 2, "few": None, "many": None}]
    assert [e["new"] for e in admin.events(clear=True)] == images
    tenant.sql("update tenant.t set id = id + 2")
    assert len(admin.events(clear=True)) == 4
    listener = Session(database.listener())
    listener.sql("set statement_timeout = '20s'; select * from relay.resend_chunk('tenant.t', null, 10, null)")
    keys = ['{"id": 3}', '{"id": 4}']
    shown = listener.value("select images from relay.present_rows('tenant.t', %s, 100000)", keys)
    assert [json.loads(image) | {"id": n} for n, image in enumerate(shown, 1)] == images


@pytest.fixture
def partly(admin: Session, tenant: Session, database) -> Session:
    """The listener, and a table of which its watch leaves out a column and a row."""
    tenant.sql("""
        create table tenant.t (id int primary key, v int, s text not null);
        insert into tenant.t values (1, 5, 'SECRET'), (2, -5, '9');
        select relay.watch('tenant.t', ignore => '{s}', "when" => 'v > 0 and s <> ''''');
    """)
    admin.sql("delete from relay.outbox")
    return Session(database.listener())


@pytest.mark.parametrize("where", [
    "s = 'SECRET'", "t.s like 'S%'", "s::int > 0", "($1).s = 'SECRET'", "($1).s is not null",
    "to_json($1)::text like '%SECRET%'", "t::text like '%SECRET%'", "now::text like '%SECRET%'", "$2 is null",
    "exists (select from (select ($1).*) x where x.s = 'SECRET')",
    "v < 0", "1 / (v + 5) > 9", "v < 0) or (v < 0", "v < 0) union all select (true", "false) or (v < 0",
])  # fmt: skip
@pytest.mark.parametrize("how", ["chunk", "row"])
def test_a_resend_chooses_by_nothing_that_the_watch_leaves_out(admin, partly, where, how):
    """Whom it chooses, and what a condition raises, told what was in it."""
    if how == "chunk":
        statement, given = "select * from relay.resend_chunk('tenant.t', null, 10, %s)", (where,)
    else:
        statement, given = "select relay.resend_row('tenant.t', '{\"id\": 1}', %s)", (where,)
    said = ""
    try:
        partly.sql(statement, *given)
    except psycopg2.Error as error:
        said = str(error)
    assert "SECRET" not in said
    assert "division" not in said
    assert admin.events() == []


def test_a_resend_chooses_by_what_the_watch_shows(admin, partly):
    assert partly.value("select copied from relay.resend_chunk('tenant.t', null, 10, 'v = 5 and t.id = 1')") == 1
    assert partly.value("select relay.resend_row('tenant.t', '{\"id\": 1}', 'v = 5')") == 1
    assert partly.value("select relay.resend_row('tenant.t', '{\"id\": 1}', 'v = 6')") == 0
    assert [e["new"] for e in admin.events()] == [{"id": 1, "v": 5}] * 2
    assert "column" in str(partly.error("select relay.resend_row('tenant.t', '{\"id\": 1}', 's = ''SECRET''')"))


STATEMENTS = {
    "an index": "create index on tenant.t (tenant.f(v))",
    "a part of an index": "create index on tenant.t (v) where tenant.f(v) > 0",
    "a type": "alter table tenant.t add m tenant.mood",
    "a domain": "alter table tenant.t add m tenant.short",
    "a condition": """select relay.watch('tenant.t', "when" => 'tenant.f(v) > 0')""",
    "an operator": """select relay.watch('tenant.t', "when" => 'v operator(tenant.===) 1')""",
    "a schema": f"alter schema tenant owner to {VICTIM}; grant create on database %s to {VICTIM}",
    "a member": f"grant {TENANT} to {VICTIM}",
    "statistics": "create statistics tenant.x on v, id from tenant.t",
}


def test_what_is_usual_needs_no_look_at_the_rest(admin, tenant, database):
    """relay.is_owners_alone spares relay.renamers and relay.unasked, but not where they could say something."""
    usual = "select relay.is_owners_alone('tenant.t'::regclass)"
    others = """
        select relay.unasked(c.oid, '{1}', true) is null and not exists (
            select from unnest(relay.renamers(c.oid, '{1}', true)) r (role)
            where not relay.is_as_owner(r.role, c.relowner))
        from pg_class c where c.oid = 'tenant.t'::regclass
    """
    prepare = """
        create table tenant.t (id int primary key, v int); select relay.watch('tenant.t', "when" => 'v > 0');
        create function tenant.f(int) returns int immutable language sql as 'select 1';
        create function tenant.same(int, int) returns bool immutable language sql as 'select true';
        create operator tenant.=== (function = tenant.same, leftarg = int, rightarg = int);
        create type tenant.mood as enum ('a'); create domain tenant.short as text;
    """
    tenant.sql(prepare)
    assert (admin.value(usual), admin.value(others)) == (True, True)
    for name, statement in STATEMENTS.items():
        admin.sql("begin")
        admin.sql(statement.replace("%s", database.name))
        assert admin.value(usual) is False, name
        admin.sql("rollback")
    admin.sql("begin isolation level repeatable read")
    assert admin.value(usual) is False
    admin.sql("rollback")


def test_nobody_publishes_what_is_the_relay_s(admin, tenant, database):
    """A publication brings a table's rows to whoever may read it, and reading them asks for no right on the table."""
    admin.sql(f"grant create on database {database.name} to {TENANT}")
    for table in ("relay.outbox", "relay.wanted", "relay.listener", "victim.secret"):
        assert tenant.error(f"create publication p for table {table}").pgcode == "42501"
    assert tenant.error("create publication p for all tables").pgcode == "42501"
    tenant.sql("create table tenant.t (id int primary key); create publication p for table tenant.t")
    assert tenant.error("alter publication p add table relay.outbox").pgcode == "42501"


def test_rows_of_a_foreign_table_are_told_by_triggers_by_hand_and_never_read(admin, tenant, database):
    """Its rows have no xmin and no xmax; what brings them is read with the checks of domains."""
    where = database.server.dsn(database.name, TENANT, database.PASSWORD).split("@")[1]
    host, port = where.split("/")[0].split(":")
    admin.sql(f"create extension postgres_fdw; grant usage on foreign data wrapper postgres_fdw to {TENANT}")
    triggers = "".join(
        f'create trigger "!relay_{op}" after {op} on tenant.f for each row execute function '
        f"relay.row_event('tenant.f', 'tenant.f', '{op}', '{{1}}', '{{}}', 'id');"
        for op in ("insert", "update", "delete")
    )
    tenant.sql(f"""
        create server s foreign data wrapper postgres_fdw
            options (host '{host}', port '{port}', dbname '{database.name}');
        create user mapping for public server s options (user '{TENANT}', password '{database.PASSWORD}');
        create table tenant.t (id int primary key, v text);
        create foreign table tenant.f (id int, v text) server s
            options (schema_name 'tenant', table_name 't'); {triggers}
        insert into relay.wanted (tbl, name, triggers, always, reader, secret)
            values ('tenant.f', 'tenant.f', '{{!relay_insert,!relay_update,!relay_delete}}', false, 'mine', 'known');
        select relay.make_reader('tenant.f', 'mine', 'known', null);
        grant usage on schema tenant to relay_trigger; grant select, update on tenant.f to relay_trigger;
    """)
    admin.sql("delete from relay.outbox")
    tenant.sql("""
        insert into tenant.f values (1, 'a'), (2, 'b'); update tenant.f set v = 'c' where id = 1;
        update tenant.f set id = 3 where id = 2; delete from tenant.f where id = 1
    """)
    assert admin.story() == [
        ("insert", 1), ("insert", 2), ("update", 1), ("delete", 2), ("insert", 3), ("delete", 1),
    ]  # fmt: skip
    assert admin.value("select relay.unasked('tenant.f'::regclass, '{1}', false)") == "tenant.f is a foreign table"
    listener = Session(database.listener())
    assert listener.error("select * from relay.resend_chunk('tenant.f', null, 10, null)").pgcode == "42809"


def test_no_plan_that_is_logged_tells_a_reader_s_secret(admin, roles, database):
    """auto_explain logs the parameters of all statements of ours, and a session may have the log shown to it."""
    admin.sql(f"""
        create table public.own (id int primary key deferrable); select relay.watch('public.own');
        grant all on own to {TENANT}; insert into own values (1), (2); load 'auto_explain';
        alter role {TENANT} set session_preload_libraries = 'auto_explain';
        alter role {TENANT} set auto_explain.log_min_duration = 0;
        alter role {TENANT} set auto_explain.log_verbose = on;
        alter role {TENANT} set auto_explain.log_nested_statements = on;
    """)
    try:
        writer = login(database, TENANT)
        writer.connection.notices = notices = deque()
        writer.sql("set client_min_messages = debug1; update own set id = 3 - id; update own set id = id + 5")
    finally:
        admin.sql(f"alter role {TENANT} reset all")
    said = "".join(notices)
    assert "relay.outbox" in said
    assert admin.value("select secret from relay.wanted where tbl = 'public.own'::regclass")[:13] not in said


def test_who_may_read_all_data_reads_no_secret(admin, tenant):
    """With a reader's secret the owner of a watched table reads, in the box, another's as its owner."""
    if admin.connection.server_version < 140000:
        pytest.skip("pg_read_all_data came with PostgreSQL 14")
    admin.sql("create table public.own (id int primary key); select relay.watch('public.own')")
    admin.sql(f"grant pg_read_all_data to {TENANT}")
    try:
        assert tenant.value("select count(*) from relay.outbox") > 0
        tenant.sql("create table tenant.t (id int primary key); select relay.watch('tenant.t')")
        assert tenant.sql("select tbl::text from relay.wanted where secret is not null") == [("tenant.t",)]
    finally:
        admin.sql(f"revoke pg_read_all_data from {TENANT}")
