"""What the attacks on the schema share: what they try, and what must be the same afterwards."""

from __future__ import annotations

from tests.sql.conftest import Session

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
    'events', (select jsonb_agg(to_jsonb(o)) from relay.backlog o where topic = 'victim.secret'))::text
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
    "alter function relay.compute security invoker", "alter function relay.compute set search_path = tenant",
    "alter function relay.key_taken(oid, record, smallint[]) reset all",
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
    "select relay.present_rows('victim.secret', '{\"{}\"}', 1)", "select relay.watched_table('victim.secret')",
    "select relay.watch('victim.secret')", "select relay.unwatch('victim.secret')",
    "select relay.keys_after('victim.secret', '{id}', '{id}', null, 10)",
    "select relay.read_rows('victim.secret', '{id}', '{id}', '{}', null, null, false, null, '{\"id\":9}')",
    "select relay.key_taken('victim.secret'::regclass, row(1), '{1}')",
    "select relay.compute(null, row(1), '{}', '{}', 0, '{}', 'true', null, null)",
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
