"""Whoever owns one watched table becomes nobody else, and stops, reads and forges nothing that is others'.

Each attack runs code of a tenant where the relay could run it, says there as whom it runs, and compares everything that
could have changed before and after.
"""

from __future__ import annotations

import contextlib
import json
from typing import Any

import psycopg2
import pytest

from dev.database import connect, ensure_login
from tests.sql.conftest import Session

TENANT, VICTIM, STRANGER = "tenant_test", "victim_test", "stranger_test"

# Everything that an attack could want to leave behind, as text that is the same before and after.
STATE = """
select jsonb_build_object(
    'functions', (select jsonb_agg(to_jsonb(p) order by p.oid) from pg_proc p
                  where pronamespace = 'relay'::regnamespace or proname in ('clock_timestamp', 'gen_random_uuid')),
    'roles', (select jsonb_agg(to_jsonb(r) order by rolname) from pg_roles r),
    'members', (select jsonb_agg(to_jsonb(m) order by m::text) from pg_auth_members m),
    'settings', (select jsonb_agg(to_jsonb(s)) from pg_db_role_setting s),
    'schemas', (select jsonb_agg(to_jsonb(n) order by n.oid) from pg_namespace n where nspname !~ '^pg_(toast_)?temp'),
    'tables', (select jsonb_agg(jsonb_build_array(oid, relname, relowner, relacl, relrowsecurity) order by oid)
               from pg_class where relnamespace in ('relay'::regnamespace, 'victim'::regnamespace)),
    'columns', (select jsonb_agg(jsonb_build_array(attrelid, attname, attacl) order by attrelid, attnum)
                from pg_attribute where attacl is not null),
    'triggers', (select jsonb_agg(to_jsonb(t) order by t.oid) from pg_trigger t),
    'policies', (select jsonb_agg(to_jsonb(p) order by p.oid) from pg_policy p),
    'casts', (select count(*) from pg_cast), 'operators', (select count(*) from pg_operator),
    'comments', (select jsonb_agg(to_jsonb(d) order by d::text) from pg_description d where objoid >= 16384),
    'labels', (select count(*) from pg_seclabel), 'defaults', (select count(*) from pg_default_acl),
    'large objects', (select count(*) from pg_largeobject_metadata),
    'wanted', (select jsonb_agg(to_jsonb(w) order by w.tbl) from relay.wanted w),
    'listener', (select jsonb_agg(to_jsonb(l)) from relay.listener l),
    'secrets', (select jsonb_agg(to_jsonb(s)) from victim.secret s),
    'events', (select jsonb_agg(to_jsonb(o)) from relay.outbox o where topic = 'victim.secret'))::text
"""

# What belongs to a session, and must be the same after a statement that ran an attack.
SESSION = """
select jsonb_build_object(
    'user', current_user, 'session', session_user,
    'settings', (select jsonb_object_agg(name, setting) from pg_settings where name !~ '^plpgsql'),
    'listening', (select jsonb_agg(c) from pg_listening_channels() c),
    'temporary', (select count(*) from pg_class where relnamespace = pg_my_temp_schema()))::text
"""

# Tried by code of a tenant. What is allowed to work changes nothing that outlives it.
STATEMENTS = [
    "alter function relay.row_event() security invoker", "alter function relay.row_event() set search_path = tenant",
    "alter function relay.compute(record, record, text[], smallint[], oid, json, text) security invoker",
    "alter function relay.compute(record, record, text[], smallint[], oid, json, text) set search_path = tenant",
    "alter function relay.key_taken(oid, record, text[], smallint[], text) reset all",
    "alter function relay.row_event() owner to tenant_test", "alter function relay.row_event() rename to x",
    "drop function relay.row_event() cascade", "drop function relay.compute cascade", "drop schema relay cascade",
    "drop owned by relay_compute cascade", "drop owned by relay_owner cascade", "drop owned by current_user cascade",
    "reassign owned by relay_compute to tenant_test", "reassign owned by current_user to tenant_test",
    "create function tenant.f() returns int language sql as 'select 1'", "create schema mine", "create role x",
    "create or replace function relay.wake() returns void language sql as 'select'", "create temp table x (a int)",
    "create temp view x as select 1", "create function pg_temp.f() returns int language sql as 'select 1'",
    "create table tenant.x (a int)", "create table public.x (a int)", "create cast (int as json) with inout",
    "create trigger x after insert on tenant.t execute function relay.row_event('a', 'b', 'insert')",
    "create event trigger x on ddl_command_end execute function tenant.attack()", "create extension plpgsql",
    "create server s foreign data wrapper x", "create publication p", "create database d",
    "create policy p on tenant.t",
    "alter role tenant_test superuser", "alter role relay_compute superuser", "alter role relay_compute login",
    "alter role current_user set search_path = tenant", "alter database postgres set search_path = tenant",
    "alter system set search_path = tenant", "alter default privileges grant all on tables to public",
    "alter table victim.secret disable trigger all", "drop trigger \"!relay_insert\" on victim.secret",
    "alter table tenant.t disable trigger all", "alter type tenant.mood add value 'b'",
    "grant relay_compute to tenant_test", "grant relay_owner to tenant_test", "grant all on schema relay to public",
    "grant execute on all functions in schema relay to tenant_test", "revoke all on schema relay from relay_trigger",
    "grant relay_owner to current_user", "set role relay_owner", "set role tenant_test", "set role none", "reset role",
    "set session authorization postgres", "reset session authorization", "set local role relay_trigger",
    "select set_config('role', 'relay_owner', false)", "select set_config('session_authorization', 'postgres', false)",
    "set transaction read write", "set transaction_read_only = off", "reset transaction_read_only", "reset all",
    "set local transaction_read_only = off", "select set_config('transaction_read_only', 'off', true)",
    "select set_config('transaction_read_only', 'off', false)", "start transaction read write", "savepoint s",
    "rollback", "commit", "rollback and chain", "discard all", "prepare transaction 'x'",
    "comment on function relay.row_event() is 'x'", "comment on schema relay is 'schema version 99'",
    "comment on table tenant.t is 'x'", "security label on schema relay is 'x'", "load 'auto_explain'",
    "insert into tenant.t values (9)", "update tenant.loot set x = 'x'", "delete from tenant.t", "truncate tenant.t",
    "insert into tenant.loot values ('x')", "copy tenant.loot from program 'echo x'", "copy tenant.loot to '/tmp/x'",
    "select nextval('tenant.counter')", "select setval('tenant.counter', 99)",
    "lock table tenant.loot in exclusive mode",
    "select * from tenant.loot for update", "select lo_create(0)", "select lo_from_bytea(0, 'x')",
    "table victim.secret", "table relay.outbox", "table relay.listener", "table relay.wanted", "table tenant.t",
    "delete from relay.outbox", "insert into relay.outbox (topic, op, body) values ('victim.secret', 'delete', '{}')",
    "select relay.publish('victim.secret', '{}')", "select relay.notified('victim.secret', '{}')",
    "select relay.resend_row('victim.secret', '{\"id\":1}', null)", "select relay.notify_listener()",
    "select relay.watch('victim.secret')", "select relay.unwatch('victim.secret')",
    "select relay.keys_after('victim.secret', '{id}', '{id}', null, 10)",
    "select relay.read_rows('victim.secret', '{id}', '{id}', '{}', null, null, '{\"id\":9}', false)",
    "select relay.key_taken('victim.secret'::regclass, row(1), '{id}', '{1}', null)",
    "select relay.compute(null, row(1), '{}', '{}', 0, '{}', 'true')",
    "select pg_terminate_backend(pid) from pg_stat_activity", "select pg_cancel_backend(pg_backend_pid())",
    "select pg_reload_conf()", "select pg_read_file('/etc/passwd')", "select pg_switch_wal()",
    "select query from pg_stat_activity where query <> '<insufficient privilege>'",
]  # fmt: skip

# Of these some work, and change nothing but what the end of the box undoes.
UNDONE = ["reset all", "lock table tenant.loot in exclusive mode",
          "select query from pg_stat_activity where query <> '<insufficient privilege>'"]  # fmt: skip

UNDONE_BEFORE_16 = ["reset transaction_read_only", "select lo_create(0)", "select lo_from_bytea(0, 'x')"]

# These work, as they should: they compute, or change the session until the box is rolled back.
HARMLESS = [
    "set search_path = tenant", "select set_config('search_path', 'tenant', false)", "set statement_timeout = 1",
    "select set_config('relay.x', 'x', false)", "listen tenant_channel", "set constraints all immediate",
    "select 1", "explain select 1",
]  # fmt: skip


def attack(result: str = "json") -> str:
    """A body that tries every statement and returns what became of each: [[as whom, statement, "done" or error]]."""
    tried = ", ".join("'" + s.replace("'", "''") + "'" for s in STATEMENTS + HARMLESS)
    return f"""
        declare s text; said jsonb := '[]';
        begin
            foreach s in array array[{tried}] loop
                begin
                    execute s;
                    said := said || jsonb_build_array(jsonb_build_array(current_user, s, 'done'));
                exception when others then
                    said := said || jsonb_build_array(jsonb_build_array(current_user, s, sqlstate || ' ' || sqlerrm));
                end;
            end loop;
            return said::{result};
        end"""


def refused(said: list[list[str]], admin: Session) -> None:
    """Everything was tried, as relay_compute; and only what is harmless worked."""
    assert [statement for _, statement, _ in said] == STATEMENTS + HARMLESS
    assert {user for user, _, _ in said} == {"relay_compute"}
    done = [statement for _, statement, outcome in said if outcome == "done"]
    old = UNDONE_BEFORE_16 if admin.connection.server_version < 160000 else []
    assert [s for s in done if s not in HARMLESS + UNDONE + old] == []
    assert [s for s in HARMLESS if s not in done] == []


@pytest.fixture
def roles(admin, database):
    """tenant and victim own a schema each and may watch; stranger may only connect."""
    for role in (TENANT, VICTIM, STRANGER):
        ensure_login(database.server, role, database.PASSWORD)
    admin.sql(f"""
        grant relay_watcher to {TENANT}, {VICTIM}; revoke relay_watcher from {STRANGER};
        create schema tenant authorization {TENANT}; create schema victim authorization {VICTIM};
        set role {VICTIM}; create table victim.secret (id int primary key, s text); select relay.watch('victim.secret');
        insert into victim.secret values (1, 'TOPSECRET'); reset role;
    """)
    yield
    admin.sql(f"revoke relay_watcher from {TENANT}, {VICTIM}")


@pytest.fixture
def tenant(roles, database):
    session = login(database, TENANT)
    session.sql("""
        create table tenant.loot (x text); grant all on tenant.loot to public; create sequence tenant.counter;
        grant all on sequence tenant.counter to public; grant all on schema tenant to public;
    """)
    yield session
    session.connection.close()


def login(database: Any, role: str) -> Session:
    return Session(connect(database.server.dsn(database.name, role, database.PASSWORD)))


def mood(tenant: Session, body: str, table: str = "id int primary key, m tenant.mood") -> None:
    """A type with a cast to json that runs a body, and a table with a column of it."""
    tenant.sql(f"""
        create type tenant.mood as enum ('a');
        create function tenant.attack(tenant.mood) returns json language plpgsql as $attack${body}$attack$;
        create cast (tenant.mood as json) with function tenant.attack(tenant.mood);
        create table tenant.t ({table});
    """)


WATCHES = {
    "row": "select relay.watch('tenant.t')",
    "ignore": "select relay.watch('tenant.t', ignore => '{v}')",
    "bulk": "select relay.watch('tenant.t', bulk => true)",
    "when": """select relay.watch('tenant.t', "when" => 'id > 0')""",
}


@pytest.mark.parametrize(("way", "isolation"), [
    *((way, "read committed") for way in WATCHES), ("row", "repeatable read"), ("bulk", "serializable"),
])  # fmt: skip
def test_a_cast_to_json_can_only_compute(admin, tenant, way, isolation):
    mood(tenant, attack(), "id int primary key, m tenant.mood, v int")
    tenant.sql(WATCHES[way])
    before, session = admin.value(STATE), tenant.value(SESSION)
    tenant.sql(f"begin isolation level {isolation}")
    tenant.sql("insert into tenant.t values (1, 'a')")
    tenant.sql("commit")
    assert tenant.value(SESSION) == session
    assert admin.value(STATE) == before
    assert tenant.value("select last_value from tenant.counter") == 1
    assert tenant.sql("table tenant.loot") == []
    refused(next(e for e in admin.events() if e["table"] == "tenant.t")["new"]["m"], admin)


def test_the_same_in_a_superuser_s_write_and_when_an_operator_resends(admin, tenant, database):
    mood(tenant, attack())
    tenant.sql(WATCHES["row"])
    listener = Session(database.listener())
    before, here, there = admin.value(STATE), admin.value(SESSION), listener.value(SESSION)
    admin.sql("insert into tenant.t values (1, 'a')")
    assert listener.sql("select copied from relay.resend_chunk('tenant.t', null, 10, null)") == [(1,)]
    assert listener.value("select relay.resend_row('tenant.t', '{\"id\":1}', 'true')") == 1
    assert (admin.value(SESSION), listener.value(SESSION)) == (here, there)
    assert admin.value(STATE) == before
    events = [e for e in admin.events() if e["table"] == "tenant.t"]
    assert [e["op"] for e in events] == ["insert", "snapshot", "snapshot"]
    for event in events:
        refused(event["new"]["m"], admin)


def test_a_key_with_a_cast_is_no_way_in_either(admin, tenant):
    mood(tenant, attack(), "id int, m tenant.mood, primary key (id, m)")
    tenant.sql(WATCHES["row"])
    before = admin.value(STATE)
    tenant.sql("insert into tenant.t values (1, 'a'); update tenant.t set id = 2; delete from tenant.t")
    assert admin.value(STATE) == before
    events = [e for e in admin.events() if e["table"] == "tenant.t"]
    assert [e["op"] for e in events] == ["insert", "delete", "insert", "delete"]
    for event in events:
        refused(event["key"]["m"], admin)


def test_what_is_written_after_a_reset_of_read_only_is_rolled_back(admin, tenant):
    """Before PostgreSQL 16 it works, if it isn't in a block of its own; and then even DROP OWNED does."""
    mood(
        tenant,
        """begin
        reset transaction_read_only; insert into tenant.loot values (current_user); drop owned by relay_compute;
        return to_json((select x from tenant.loot));
    end""",
    )
    tenant.sql(WATCHES["row"])
    before, session = admin.value(STATE), tenant.value(SESSION)
    tenant.sql("insert into tenant.t values (1, 'a')")
    worked = admin.connection.server_version < 160000
    assert [e["new"]["m"] for e in admin.events() if e["table"] == "tenant.t"] == ["relay_compute" if worked else "a"]
    assert tenant.sql("table tenant.loot") == []
    assert tenant.value(SESSION) == session
    assert admin.value(STATE) == before


def test_a_column_added_at_the_worst_moment_does_not_get_past_the_box(admin, tenant, database):
    """The writer's snapshot is older than the type, its cast and the column."""
    tenant.sql("create table tenant.t (id int primary key, v int); insert into tenant.t values (1, 1)")
    tenant.sql("select relay.watch('tenant.t')")
    for isolation in ("read committed", "repeatable read"):
        writer = login(database, TENANT)
        writer.sql(f"begin isolation level {isolation}")
        writer.sql("select 1 from pg_class limit 1")  # takes the snapshot
        body = "begin return to_json(current_user::text); end"
        name = isolation.replace(" ", "_")
        tenant.sql(f"""
            create type tenant.{name} as enum ('a');
            create function tenant.who(tenant.{name}) returns json language plpgsql as $$ {body} $$;
            create cast (tenant.{name} as json) with function tenant.who(tenant.{name});
            alter table tenant.t add column {name} tenant.{name} default 'a';
        """)
        writer.sql("insert into tenant.t values ((select count(*) + 1 from tenant.t))")
        writer.sql("commit")
        assert admin.events()[-1]["new"][name] == "relay_compute"
        writer.connection.close()


def test_a_hostile_filter_in_a_trigger_made_by_hand_only_computes(admin, tenant):
    tenant.sql(f"""
        create table tenant.t (id int primary key deferrable, v int);
        create function tenant.sp() returns bool language plpgsql as $$
        declare said json;
        begin
            said := tenant.attack();
            raise notice '%', said;
            return true;
        end $$;
        create function tenant.attack() returns json language plpgsql as $a${attack()}$a$;
        grant select on tenant.t to relay_trigger;
        create trigger "!relay_update" after update on tenant.t for each row execute function relay.row_event(
            'tenant.t', 'tenant.t', 'update', '{{1}}', '{{"filter": "false or tenant.sp()"}}', 'id');
        insert into tenant.t values (1), (2);
    """)
    before, session = admin.value(STATE), tenant.value(SESSION)
    del tenant.notices[:]
    tenant.sql("update tenant.t set id = 3 - id")
    assert tenant.value(SESSION) == session
    noticed = [json.loads(n.split("NOTICE:  ", 1)[1]) for n in tenant.notices if "relay_compute" in n]
    assert noticed, "the filter did not run"
    for said in noticed:
        refused(said, admin)
    assert json.loads(admin.value(STATE))["functions"] == json.loads(before)["functions"]
    assert tenant.sql("table tenant.loot") == []


# SQL in the condition of a resend, by the login of the listener.
@pytest.mark.parametrize("where", [
    "tenant.note()", "true) and (tenant.note()", "exists (select where tenant.note())",
    "true)); select tenant.note(); select exists (select from (select 1) t where (true",
])  # fmt: skip
def test_a_hostile_condition_of_a_resend_only_computes(admin, tenant, database, where):
    tenant.sql(f"""
        create table tenant.t (id int primary key, v int);
        select relay.watch('tenant.t'); insert into tenant.t values (1);
        create function tenant.attack() returns json language plpgsql as $a${attack()}$a$;
        create function tenant.note() returns bool language plpgsql as $$
        declare said json;
        begin said := tenant.attack(); raise notice '%', said; return true; end $$;
    """)
    listener = Session(database.listener())
    before, session = admin.value(STATE), listener.value(SESSION)
    with contextlib.suppress(psycopg2.errors.SyntaxError):
        listener.sql("select copied from relay.resend_chunk('tenant.t', null, 10, %s)", where)
    assert listener.value(SESSION) == session
    assert admin.value(STATE) == before
    noticed = [json.loads(n.split("NOTICE:  ", 1)[1]) for n in listener.notices if "relay_compute" in n]
    for said in noticed:
        refused(said, admin)
    assert noticed or "select tenant.note();" in where


def test_a_bulk_trigger_without_its_tables_reads_no_temporary_view(admin, tenant):
    """The functions of a view run as whoever reads it: as relay_owner, who owns everything."""
    tenant.sql("""
        create table tenant.t (id int primary key, v int);
        create function tenant.attack() returns int language plpgsql as $$
            begin raise exception 'reached as %', current_user; end $$;
        create trigger "!relay_insert" after insert on tenant.t for each statement execute function
            relay.bulk_event('a', 'a', 'insert', '{1}', '{}', 'id');
    """)
    for kind in ("relay_new", "relay_old"):
        tenant.sql(f"""
            create temp view {kind} as select tenant.attack() as id, 1 as v; grant select on {kind} to public;
            create function tenant.of_{kind}({kind}) returns tenant.t language sql as 'select null::tenant.t';
            create cast ({kind} as tenant.t) with function tenant.of_{kind}({kind});
        """)
        error = tenant.error("insert into tenant.t values (1)")
        assert "must not be named" in error.diag.message_primary
        tenant.sql(f"drop view {kind} cascade")
    assert tenant.error("insert into tenant.t values (1)").pgcode == "42P01"


# How a table can bring along a function of its owner's that the planner calls, whoever's query it plans.
PLANNED = {
    "index": "create index on tenant.t ((v + tenant.constant(1)))",
    "partial index": "create index on tenant.t (v) where v > tenant.constant(1)",
    "operator": "create index on tenant.t (v) where v > (1 operator(tenant.@@@) 1)",
    "statistics": "create statistics tenant.s on (v + tenant.constant(1)), (id + tenant.constant(1)) from tenant.t",
    "index of a child": "create table tenant.c () inherits (tenant.t); create index on tenant.c ((tenant.constant(1)))",
}


@pytest.fixture
def constant(tenant):
    """A function that says as whom it runs, and what of the relay's it could change."""
    tenant.sql("""
        create function tenant.loud() returns int language plpgsql as $$
        declare s text;
        begin
            foreach s in array array['alter function relay.key_taken(oid, record, text[], smallint[], text) reset all',
                'drop function relay.read_rows cascade', 'drop owned by relay_trigger cascade',
                'update victim.secret set id = 2', 'set transaction_read_only = off', 'reset transaction_read_only',
                'insert into tenant.loot values (1)', 'listen x', 'set search_path = tenant'] loop
                begin
                    execute s; raise notice '% did: %', current_user, s;
                exception when others then raise notice '% could not: %', current_user, s; end;
            end loop;
            return 1;
        end $$;
        create function tenant.constant(int) returns int language plpgsql immutable as $$
        begin
            if current_user not in ('tenant_test', 'postgres') then perform tenant.loud(); end if;
            return 1;
        end $$;
        create function tenant.two(int, int) returns int language sql immutable as 'select tenant.constant(1)';
        create operator tenant.@@@ (leftarg = int, rightarg = int, function = tenant.two);
        create table tenant.t (id int primary key, v int);
    """)
    return tenant


def done(session: Session) -> set[str]:
    return {n.split(" did: ")[1].strip() for n in session.notices if " did: " in n}


@pytest.mark.parametrize("way", PLANNED)
def test_what_the_planner_calls_while_a_key_is_looked_up_changes_nothing(admin, constant, way):
    """It can be reached: the writer's own plan is made first, but statistics are read each time."""
    constant.sql(f"select relay.watch('tenant.t'); insert into tenant.t values (1), (2); {PLANNED[way]}")
    before, session = admin.value(STATE), constant.value(SESSION)
    constant.sql("update only tenant.t set id = id + 10")
    assert constant.value(SESSION) == session
    assert admin.value(STATE) == before
    assert constant.sql("table tenant.loot") == []
    assert done(constant) <= {"listen x", "set search_path = tenant", "reset transaction_read_only"}
    assert way != "statistics" or any("relay_trigger could not" in n for n in constant.notices), "it was not reached"


@pytest.mark.parametrize("way", PLANNED)
def test_a_table_whose_plans_run_its_owner_s_code_is_not_resent(admin, constant, database, way):
    constant.sql(f"select relay.watch('tenant.t'); insert into tenant.t values (1), (2); {PLANNED[way]}")
    listener = Session(database.listener())
    for call in (
        "select copied from relay.resend_chunk('tenant.t', null, 10, null)",
        "select relay.resend_row('tenant.t', '{\"id\":1}', null)",
    ):
        error = listener.error(call)
        assert "function tenant." in error.diag.message_primary
        assert "alter function" in error.diag.message_hint
    assert not [n for n in listener.notices if "relay_trigger" in n]
    admin.sql("""
        create or replace function tenant.constant(int) returns int language sql immutable as 'select 1';
        alter function tenant.constant(int) owner to postgres; alter function tenant.two(int, int) owner to postgres;
    """)
    assert listener.value("select copied from relay.resend_chunk('tenant.t', null, 10, null)") == 2


def test_nobody_adds_such_code_while_rows_are_read(admin, constant, database):
    constant.sql("select relay.watch('tenant.t'); insert into tenant.t values (1), (2)")
    listener = Session(database.listener())
    listener.sql("begin")
    assert listener.value("select copied from relay.resend_chunk('tenant.t', null, 10, null)") == 2
    constant.sql("set lock_timeout = '50ms'")
    for ddl in (
        PLANNED["statistics"],
        PLANNED["index"].replace("index", "index concurrently"),
        PLANNED["index of a child"],
    ):
        assert constant.error(ddl).pgcode == "55P03", ddl
    constant.sql("insert into tenant.t values (3)")  # writers are not held up
    listener.sql("commit; begin isolation level repeatable read")
    assert "READ COMMITTED" in str(listener.error("select relay.resend_row('tenant.t', '{\"id\":1}', null)"))


@pytest.mark.parametrize("key", ["tenant.d[]", "tenant.c", "tenant.c[]", "tenant.r"])
def test_a_key_that_a_domain_checks_is_not_read_back(tenant, database, key):
    tenant.sql("""
        create function tenant.checked(int) returns bool language plpgsql as
            $$begin raise notice 'checked as %', current_user; return true; end$$;
        create domain tenant.d as int check (tenant.checked(value));
        create type tenant.c as (a tenant.d);
        create type tenant.r as range (subtype = tenant.d, subtype_opclass = int4_ops);
    """)
    values = {"tenant.d[]": "{1}", "tenant.c": "(1)", "tenant.c[]": '{"(1)"}', "tenant.r": "[1,2)"}
    tenant.sql(f"create table tenant.t (id {key} primary key, v int); select relay.watch('tenant.t')")
    tenant.sql("insert into tenant.t values (%s)", values[key])
    listener = Session(database.listener())
    error = listener.error("select * from relay.resend_chunk('tenant.t', null, 10, null)")
    assert "cannot be resent" in error.diag.message_primary
    for given in ('{"id":[1]}', '{"id":{"a":1}}', '{"id":[{"a":1}]}', '{"id":"[1,2)"}'):
        listener.error("select * from relay.resend_chunk('tenant.t', %s, 10, null)", given)
        listener.error("select relay.resend_row('tenant.t', %s, null)", given)
    del tenant.notices[:]
    tenant.sql("update tenant.t set v = 1; delete from tenant.t")
    assert not [n for n in listener.notices + tenant.notices if "checked as" in n]


def test_a_trigger_named_like_the_relay_s_hides_no_other_table(admin, roles, database):
    stranger, listener = login(database, STRANGER), Session(database.listener())
    stranger.sql("""
        create temp table x (a int primary key);
        create trigger "!relay_insert" after insert on x for each row execute function
            pg_catalog.suppress_redundant_updates_trigger('a', 'b', 'insert', 'garbage', 'garbage', 'id');
    """)
    assert listener.sql("select tbl::text from relay.watched") == [("victim.secret",)]
    # A member of relay_watcher can make one that counts, on his table, and be told apart from the others.
    tenant = login(database, TENANT)
    for n, arguments in enumerate(("'{1}', 'garbage', 'id'", "'garbage', '{}', 'id'", "'{99999}', '[]', 'id'",
                                   "'{1}', '{\"columns\":1,\"ignore\":{}}', 'id'", "'{1}'")):  # fmt: skip
        tenant.sql(f"""
            create table tenant.t{n} (id int primary key);
            create trigger "!relay_insert" after insert on tenant.t{n} for each row execute function
                relay.row_event('a', 'b', 'insert', {arguments});
        """)
        rows = dict(listener.sql("select tbl::text, note from relay.watched"))
        assert rows["victim.secret"] is None, arguments
    assert listener.sql(
        "select relay.resend_row(tbl, '{\"id\":1}', null) from relay.watched where topic = 'victim.secret'"
    ) == [(1,)]
    for session in (stranger, tenant):
        session.connection.close()


# What a login can try directly. {role: statements}, all of which must be refused.
REFUSED = {
    STRANGER: [
        "select relay.watch('stranger')", "select * from relay.outbox", "select * from relay.watched",
        "select relay.compute(null, row(1), '{}', '{}', 0, '{}', 'true')", "select relay.publish('a', '{}')",
        "select channel from relay.listener", "delete from relay.listener", "set role relay_compute",
        "create trigger x after insert on stranger execute function relay.row_event('a', 'b', 'insert')",
    ],
    TENANT: [
        "select * from relay.outbox", "delete from relay.outbox", "select * from victim.secret",
        "select relay.watch('victim.secret')", "select relay.unwatch('victim.secret')",
        "select relay.let_read('victim.secret', '{}', null)",
        "select relay.drop_triggers('victim.secret', '{!relay_insert}')",
        "select relay.set_always('victim.secret', true)",
        "select relay.resend_row('victim.secret', '{\"id\":1}', null)",
        "insert into relay.wanted values ('victim.secret', 'x', '{}', false)",
        "select relay.publish('victim.secret', '{}')",
        "select relay.compute(null, row(1), '{}', '{}', 0, '{}', 'true')", "select channel from relay.listener",
        "select relay.key_taken('victim.secret'::regclass, row(1), '{id}', '{1}', null)", "set role relay_trigger",
        "select relay.keys_after('victim.secret', '{id}', '{id}', null, 10)", "select relay.notify_listener()",
        "create trigger x after insert on victim.secret execute function relay.row_event('a', 'b', 'insert')",
        "create function relay.x() returns int language sql as 'select 1'",
        "alter function relay.row_event() reset all",
    ],
    "relay_listener_test": [
        "insert into relay.outbox (topic, op, body) values ('victim.secret', 'delete', '{}')",
        "update relay.outbox set body = '{}'", "update relay.listener set channel = 'x'", "table victim.secret",
        "select relay.add_snapshots('victim.secret', '{a}', '{b}', '{t}', null)", "table relay.wanted",
        "select relay.compute(null, row(1), '{}', '{}', 0, '{}', 'true')", "set role relay_trigger",
        "select relay.keys_after('victim.secret', '{id}', '{id}', null, 10)", "select relay.publish('a', '{}')",
        "select relay.read_rows('victim.secret', '{id}', '{id}', '{}', null, null, '{\"id\":9}', false)",
    ],
}  # fmt: skip


@pytest.mark.parametrize("role", REFUSED)
def test_what_a_login_may_not_do(admin, roles, database, role):
    session = login(database, role)
    if role == STRANGER:
        session.sql("create temp table stranger (id int primary key)")
    before = admin.value(STATE)
    for statement in REFUSED[role]:
        assert session.error(statement).pgcode in ("42501", "42809"), statement
    # Row level security hides what is others' of relay.wanted.
    if role == TENANT:
        assert session.sql("select * from relay.wanted") == []
        session.sql("delete from relay.wanted; update relay.wanted set triggers = '{}'")
    assert admin.value(STATE) == before
    session.connection.close()


def test_the_check_of_a_publisher_s_event_runs_no_code(admin, tenant, database):
    """A domain over text with a hostile check is checked as the caller; headers and payload are text to the relay."""
    admin.sql(f"grant relay_publisher to {TENANT}")
    try:
        tenant.sql("""
            create function tenant.checked(text) returns bool language plpgsql as
                $$begin raise notice 'checked as %', current_user; return true; end$$;
            create domain tenant.d as text check (tenant.checked(value));
            select relay.publish('a'::tenant.d, '{}'::tenant.d::text, 'k'::tenant.d);
        """)
    finally:
        admin.sql(f"revoke relay_publisher from {TENANT}")
    assert {n.split(" as ")[1].strip() for n in tenant.notices if "checked as" in n} == {TENANT}


# Everything that can have a column with a hostile type: {what: (made by, inserted by)}.
SHAPES = {
    "view": ("create table tenant.base (id int, m tenant.who); create view tenant.t as table tenant.base", "(1, 'a')"),
    "typed table": ("create type tenant.c as (id int, m tenant.who); create table tenant.t of tenant.c", "(1, 'a')"),
    "attribute added": (
        ("create type tenant.c as (id int); create table tenant.t of tenant.c; "
        "alter type tenant.c add attribute m tenant.who cascade"), "(1, 'a')",
    ),
    "column retyped": (
        "create table tenant.t (id int, m text); alter table tenant.t alter m type tenant.who using m::tenant.who",
        "(1, 'a')",
    ),
    "row of a table": (
        "create table tenant.base (x int, w tenant.who); create table tenant.t (id int, m tenant.base)",
        "(1, row(1, 'a'))",
    ),
    "array": ("create table tenant.t (id int, m tenant.who[])", "(1, '{a}')"),
    "domain": (
        "create domain tenant.d as tenant.who[]; create table tenant.t (id int, m tenant.d)", "(1, '{a}')",
    ),
    "temporary table": ("create temp table t (id int, m tenant.who)", "(1, 'a')"),
    "partition": (
        ("create table tenant.t (id int, m tenant.who) partition by range (m); "
        "create table tenant.t1 partition of tenant.t default"), "(1, 'a')",
    ),
    "inherited": (
        "create table tenant.base (id int, m tenant.who); create table tenant.t () inherits (tenant.base)", "(1, 'a')",
    ),
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_no_kind_of_table_hides_a_hostile_type(admin, tenant, shape):
    made, values = SHAPES[shape]
    tenant.sql(f"""
        create type tenant.who as enum ('a');
        create function tenant.say(tenant.who) returns json language sql as 'select to_json(current_user::text)';
        create cast (tenant.who as json) with function tenant.say(tenant.who); {made};
        set search_path = tenant;
        create trigger "!relay_insert" {"instead of" if shape == "view" else "after"} insert on t for each row
            execute function relay.row_event('t', 't', 'insert', '{{1}}', '{{}}', 'id');
        insert into t values {values};
    """)
    (new,) = [json.dumps(e["new"]) for e in admin.events() if e["table"] == "t"]
    assert "relay_compute" in new
    for other in (TENANT, "relay_owner", "relay_trigger"):
        assert other not in new


def test_no_policy_and_no_check_runs_while_a_key_is_looked_up(admin, tenant):
    tenant.sql("""
        create function tenant.seen(int) returns bool language plpgsql as
            $$begin raise notice 'seen as %', current_user; return true; end$$;
        create domain tenant.d as int check (tenant.seen(value));
        create table tenant.t (id tenant.d primary key deferrable, v int, check (tenant.seen(v)));
        alter table tenant.t enable row level security, force row level security;
        create policy p on tenant.t using (tenant.seen(id));
        create policy r on tenant.t as restrictive using (tenant.seen(v));
        select relay.watch('tenant.t'); insert into tenant.t values (1, 1), (2, 2); update tenant.t set id = 3 - id;
    """)
    assert {n.split(" as ")[1].strip() for n in tenant.notices if "seen as" in n} == {TENANT}
    ops = [(e["op"], e["key"]["id"]) for e in admin.events() if e["table"] == "tenant.t"]
    assert ops == [("insert", 1), ("insert", 2), ("insert", 2), ("insert", 1)]


def test_what_a_trigger_made_by_hand_tells_is_json_at_least(admin, tenant):
    tenant.sql("""
        create table tenant.t (id int primary key);
        create trigger a after insert on tenant.t for each row execute function
            relay.row_event('t', E't\\n"', 'delete', '{1}', '{}', 'id');
        create trigger b after insert on tenant.t for each row execute function
            relay.row_event('t', 't', 'x', '{1,2,99}', '{"columns":[],"filter":"true"}', 'id', 'nothing', E'a"\\n');
        create trigger c after delete on tenant.t for each row execute function
            relay.row_event('t', 't', 'insert', '{}', '{"old":false}');
        insert into tenant.t values (1); delete from tenant.t;
    """)
    assert len([e for e in admin.events() if e["table"][0] == "t"]) == 3
