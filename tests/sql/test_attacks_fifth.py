"""What fell to the fifth attack, beside readers (test_attacks_readers.py) and types (test_attacks_types.py)."""

from __future__ import annotations

import json
import re

import pytest

from tests.sql.conftest import TENANT, VICTIM, Session, login, note, reached


def test_who_watches_a_table_whose_reader_is_not_asked_is_told_once(admin, tenant):
    """A watch of an earlier release is noted until it is made anew; then it is known what becomes of its keys."""
    tenant.sql("create function tenant.f(int) returns bool language sql as 'select true'")
    admin.sql("""
        create schema shared; create table shared.t (id int primary key);
        select relay.watch('shared.t', "when" => 'tenant.f(id)');
    """)
    assert "others than its owner have made, or may put another in place of: function tenant.f" in admin.notices[-1]
    assert "others than its owner have made" not in note(admin, "shared.t")
    admin.sql("update relay.wanted set secret = 'of an earlier release'")
    assert "others than its owner have made" in note(admin, "shared.t")


def test_a_member_who_may_not_act_as_the_owner_is_not_the_owner(admin, tenant, database):
    """From PostgreSQL 16 on a grant may give neither the rights nor SET ROLE."""
    if admin.connection.info.server_version < 160000:
        pytest.skip("a member may always act as the role")
    admin.sql(f"""
        create role own_test; grant own_test to {TENANT} with inherit false, set false, admin false;
        grant create on database {database.name} to {TENANT}; grant relay_watcher to own_test;
        grant all on schema tenant to own_test; grant usage on schema tenant to relay_trigger; set role own_test;
        create table tenant.t (id int primary key); select relay.watch('tenant.t'); reset role;
    """)
    try:
        note = admin.value("select note from relay.watched where tbl = 'tenant.t'::regclass")
        assert "others than its owner may rename its schema" in note
    finally:
        admin.sql("drop owned by own_test cascade; drop role own_test")


def test_triggers_that_call_nothing_of_ours_do_not_make_the_look_at_the_watches_longer(admin, database):
    """Any login may make as many of that name as it likes, on temporary tables of its own: 20,000 took 0.4 s."""
    stranger = login(database, database.APP)
    stranger.sql("""
        create function pg_temp.f() returns trigger language plpgsql as 'begin return null; end';
        do $$begin for i in 1..4 loop
            execute format('create temp table s%s ()', i);
            for j in 1..500 loop
                execute format('create trigger "!relay_%s" after insert on s%s execute function pg_temp.f()', j, i);
            end loop;
        end loop; end$$
    """)
    admin.sql("create table t (id int primary key); select relay.watch('t')")
    plan = json.dumps(admin.value("explain (analyze, format json) select * from relay.watched"))
    sorted_rows = [int(rows) for rows in re.findall(r'"WindowAgg".*?"Actual Rows": (\d+)', plan)]
    assert max(sorted_rows) < 1000
    stranger.connection.close()


def test_a_schema_that_was_restored_without_its_owners_runs_no_code_of_users(admin, tenant, database):
    """The box was a superuser's then: whoever owned a type of a watched table was one, too."""
    tenant.sql("""
        create type tenant.mood as enum ('a'); create function tenant.spy(tenant.mood) returns json language plpgsql as
            $$begin raise notice 'reached as %', current_user; return '1'; end$$;
        create cast (tenant.mood as json) with function tenant.spy(tenant.mood);
        create function tenant.fine(int) returns bool language plpgsql as
            $$begin raise notice 'reached as %', current_user; return true; end$$;
        create table tenant.t (id int primary key deferrable, m tenant.mood);
        select relay.watch('tenant.t', "when" => 'tenant.fine(id)');
    """)
    admin.sql("""
        alter function relay.compute owner to current_user; alter function relay.boxed owner to current_user;
        alter function relay.ask_reader owner to current_user;
    """)
    admin.sql("delete from relay.outbox; insert into tenant.t values (1, 'a'), (2, 'a')")
    assert [(event["op"], event["new"]["m"]) for event in admin.events(clear=True)] == [("insert", "a")] * 2
    admin.notices.clear()
    listener = Session(database.listener())
    error = listener.error("select * from relay.resend_chunk('tenant.t', null, 10, null)")
    assert "restored without its owners" in error.diag.message_primary
    assert reached(listener) == set()
    error = tenant.error("select relay.watch('tenant.t')")
    assert "belongs to" in error.diag.message_primary


def test_a_key_has_as_many_columns_as_an_index_has(admin):
    """Of fifty and more nothing could be told, if the box was needed for them: the event had no key and no images."""
    columns = [f"c{n}" for n in range(33)]
    admin.sql(f"create table t ({', '.join(f'{one} int' for one in columns)}, x text)")
    error = admin.error("select relay.watch('t', key => %s)", columns)
    assert "a key of 33 columns" in error.diag.message_primary
    admin.sql("select relay.watch('t', key => %s, ignore => '{c32}')", columns[:32])
    admin.sql(f"insert into t values ({', '.join('1' for _ in columns)}, E'\\x01')")
    (event,) = admin.events()
    assert len(event["key"]) == 32
    assert event["new"]["x"] == "\x01"


def test_a_condition_lends_nobody_else_s_code_the_use_of_a_closed_schema(admin, tenant, database):
    """What is in it is granted to PUBLIC, as every function is: who may not use the schema does not get there."""
    owner = login(database, VICTIM)
    owner.sql("""
        create function victim.secrets() returns text language sql security definer
            set search_path = pg_catalog, pg_temp as 'select string_agg(s, $$,$$) from victim.secret';
        create function victim.good(int) returns bool language sql as 'select $1 > 0';
        create table victim.o (id int primary key deferrable, n int);
        select relay.watch('victim.o', "when" => 'victim.good(n)');
    """)
    assert "role relay_compute may not use schema victim" in owner.notices[-1]
    tenant.sql("""
        create type tenant.e as enum ('a');
        create function tenant.spy(tenant.e) returns json language plpgsql as
            $$begin return to_json(victim.secrets()); end$$;
        create cast (tenant.e as json) with function tenant.spy(tenant.e);
        create table tenant.x (id int primary key, e tenant.e); select relay.watch('tenant.x');
        insert into tenant.x values (1, 'a');
    """)
    assert [e["new"] for e in admin.events() if e["table"] == "tenant.x"] == [{"id": 1, "e": "a"}]
    assert "relay_compute may not use schema victim" in note(admin, "victim.o")
    owner.sql("insert into victim.o values (1, 1), (2, 1); update victim.o set id = 3 - id; delete from victim.o")
    assert "delete" in {e["op"] for e in admin.events() if e["table"] == "victim.o"}
    owner.sql("grant usage on schema victim to relay_compute; insert into victim.o values (1, 1), (2, 1)")
    assert note(admin, "victim.o") == ""
    admin.sql("delete from relay.outbox")
    owner.sql("update victim.o set id = 3 - id")
    assert {op for op, _ in admin.story()} == {"insert"}
    owner.connection.close()


def test_no_writer_notifies_where_the_listener_wants_none(admin, connect, tenant):
    """Whoever holds the lock of the sleeping listener: a transaction that notifies can't be prepared."""
    connect().sql("select pg_advisory_lock(relay.sleep_key())")
    admin.sql(f"grant insert on victim.secret to {TENANT}; grant usage on schema victim to {TENANT}")
    for wakes, notified in ((True, True), (False, False)):
        admin.sql("update relay.listener set wakes = %s", wakes)
        tenant.sql("begin; insert into victim.secret values (%s)", 7 + wakes)
        if notified:
            assert "NOTIFY" in str(tenant.error("prepare transaction 'x'"))
            tenant.sql("rollback")
        else:
            tenant.sql("prepare transaction 'x'")
            tenant.sql("rollback prepared 'x'")


@pytest.mark.parametrize(("condition", "says"), [
    ("d::text >= '2024'", True), ("at::date = '2024-01-01'", True), ("public.stable(n)", True), ("n > 0", False),
    ("public.fixed(n) and s like 'a%' and at > '2024-01-01 00:00+00'", False), ("d > '2024-01-01'", False),
])  # fmt: skip
def test_a_condition_that_depends_on_a_session_s_settings_is_named(admin, condition, says):
    admin.sql("""
        create function public.stable(int) returns bool language plpgsql stable as 'begin return true; end';
        create function public.fixed(int) returns bool language sql immutable as 'select true';
        create table t (id int primary key, d date, at timestamptz, n int, s text);
    """)
    del admin.notices[:]
    admin.sql("select relay.watch('t', \"when\" => %s)", condition)
    assert any('"when" is not immutable' in notice for notice in admin.notices) == says
    assert admin.value("select count(*) from pg_class where relname = 'relay_when'") == 0
