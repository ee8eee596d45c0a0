"""Where the relay reads a table, or what somebody else has made, it runs no code and believes nothing."""

from __future__ import annotations

import pytest

from tests.sql.attacks import STATE
from tests.sql.conftest import STRANGER, TENANT, Session, login

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
            foreach s in array array['alter function relay.key_taken(oid, record, smallint[]) reset all',
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
            raise notice 'as %', current_user;
            if current_user not in ('tenant_test', 'postgres') then perform tenant.loud(); end if;
            return 1;
        end $$;
        create function tenant.two(int, int) returns int language sql immutable as 'select tenant.constant(1)';
        create operator tenant.@@@ (leftarg = int, rightarg = int, function = tenant.two);
        create table tenant.t (id int primary key, v int);
    """)
    return tenant


def plan(session: Session, way: str) -> None:
    """A watched table that brings such a function along."""
    if way == "statistics" and session.connection.server_version < 140000:
        pytest.skip("statistics of expressions came with PostgreSQL 14")
    session.sql(f"select relay.watch('tenant.t'); insert into tenant.t values (1), (2); {PLANNED[way]}")


def done(session: Session) -> set[str]:
    return {n.split(" did: ")[1].strip() for n in session.notices if " did: " in n}


@pytest.mark.parametrize("way", PLANNED)
def test_what_the_planner_would_call_while_a_key_is_looked_up_is_not_called(admin, constant, way):
    """As the table's owner it was."""
    plan(constant, way)
    before = admin.value(STATE)
    del admin.notices[:]
    admin.sql("update only tenant.t set id = id + 10")
    assert admin.value(STATE) == before
    assert constant.sql("table tenant.loot") == []
    seen = {notice.split(" as ")[1].strip() for notice in admin.notices if " as " in notice}
    assert seen <= {"postgres"}
    assert not done(admin)


@pytest.mark.parametrize("way", PLANNED)
def test_a_table_whose_plans_run_its_owner_s_code_is_not_resent(admin, constant, database, way):
    plan(constant, way)
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
def test_a_key_that_a_domain_checks_is_not_read_back(admin, tenant, database, key):
    admin.sql("drop schema victim cascade")  # else who owns the type might rename it, and its key is not read for that
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
        "select relay.compute(null, row(1), '{}', '{}', 0, '{}', 'true', null, null)",
        "select relay.publish('a', '{}')",
        "select channel from relay.listener", "delete from relay.listener", "set role relay_compute",
        "create trigger x after insert on stranger execute function relay.row_event('a', 'b', 'insert')",
    ],
    TENANT: [
        "select * from relay.outbox", "delete from relay.outbox", "select * from victim.secret",
        "delete from relay.wanted", "update relay.wanted set tbl = 'victim.secret'::regclass",
        "select relay.watch('victim.secret')", "select relay.unwatch('victim.secret')",
        "select relay.let_read('victim.secret', '{}', null)",
        "select relay.drop_triggers('victim.secret', '{!relay_insert}')",
        "select relay.set_always('victim.secret', true)",
        "select relay.resend_row('victim.secret', '{\"id\":1}', null)",
        "select relay.present_rows('victim.secret', '{\"{}\"}', 1)", "select relay.watched_table('victim.secret')",
        "insert into relay.wanted values ('victim.secret', 'x', '{}', false)",
        "select relay.publish('victim.secret', '{}')",
        "select relay.compute(null, row(1), '{}', '{}', 0, '{}', 'true', null, null)",
        "select channel from relay.listener",
        "select relay.key_taken('victim.secret'::regclass, row(1), '{1}')", "set role relay_trigger",
        "select relay.keys_after('victim.secret', '{id}', '{id}', null, 10)", "select relay.notify_listener()",
        "create trigger x after insert on victim.secret execute function relay.row_event('a', 'b', 'insert')",
        "create function relay.x() returns int language sql as 'select 1'",
        "alter function relay.row_event() reset all",
    ],
    "relay_listener_test": [
        "insert into relay.outbox (topic, op, body) values ('victim.secret', 'delete', '{}')",
        "update relay.outbox set body = '{}'", "update relay.listener set channel = 'x'", "table victim.secret",
        "select relay.add_snapshots('victim.secret', '{a}', '{b}', '{t}', null, null)", "table relay.wanted",
        "select relay.compute(null, row(1), '{}', '{}', 0, '{}', 'true', null, null)", "set role relay_trigger",
        "select relay.keys_after('victim.secret', '{id}', '{id}', null, 10)", "select relay.publish('a', '{}')",
        "select relay.read_rows('victim.secret', '{id}', '{id}', '{}', null, null, false, null, '{\"id\":9}')",
        "select relay.read_present('victim.secret', '{id}', '{id}', '{}', null, array['{\"id\":9}'::json])",
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
        assert session.sql("select tbl from relay.wanted") == []
        session.sql("update relay.wanted set triggers = '{}'")
        assert session.error("delete from relay.wanted").pgcode == "42501"
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
