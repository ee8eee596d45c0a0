"""What fell to the twelfth attack."""

from __future__ import annotations

import pytest

from dev.database import Database
from tests.sql.conftest import TENANT, VICTIM, Session, evil, reached


@pytest.mark.parametrize("kind", ["citext", "citext[]", "tenant.mood[]"])
def test_rows_whose_key_has_a_collation_of_its_own_are_sent_again(admin, tenant, database: Database, kind):
    """Where its owner may rename its schema, or of arrays: PostgreSQL did not know which collation it should take."""
    admin.sql(f"set role {VICTIM}; select relay.unwatch('victim.secret'); reset role; create extension citext")
    admin.sql(f"grant create on database {database.name} to {TENANT}")
    collation = "" if "mood" in kind else 'collate "C"'
    first, second = ("{a}", "{b}") if "[]" in kind else ("a", "B")
    tenant.sql(f"""
        create type tenant.mood as enum ('a', 'b');
        create table tenant.t (id {kind} {collation} primary key deferrable, n int);
        select relay.watch('tenant.t'); insert into tenant.t values ('{second}', 2), ('{first}', 1);
    """)
    admin.story()
    listener = Session(database.listener())
    keys, after = [], None
    for _ in range(3):
        ((last, skipped),) = listener.sql(
            "select last::text, skipped from relay.resend_chunk('tenant.t', %s::json, 1, null)", after
        )
        assert skipped == []
        keys += [key for _, key in admin.story()]
        if last is None:
            break
        after = last
        assert listener.value("select relay.resend_row('tenant.t', %s::json, null)", after) == 1
        assert listener.value("select nth from relay.present_rows('tenant.t', array[%s], 10000)", after) == [1]
        admin.story()
    shown = [["a"], ["b"]] if "[]" in kind else ["a", "B"]
    assert keys == shown


def test_such_keys_that_rows_exchange_are_not_told_as_deleted(admin):
    admin.sql("""
        create extension citext; create table own (id citext[] collate "C" primary key deferrable, n int);
        select relay.watch('own'); insert into own values ('{a}', 1), ('{b}', 2);
    """)
    admin.story()
    admin.sql("update own set id = case n when 1 then '{b}' else '{a}' end::citext[]")
    assert [op for op, _ in admin.story()] == ["insert"] * 2


def test_a_table_beside_the_readers_takes_nobody_s_right_to_them(admin, tenant):
    """A superuser who unwatched it had relay_compute call no table's reader any more: who exchanged keys lost rows."""
    tenant.sql("""
        create table relay_readers.trap (id int primary key);
        create trigger "!relay_insert" after insert on relay_readers.trap
            for each row execute function relay.row_event('a', 'b', 'insert', '{1}', '{}', 'id');
    """)
    for session in (tenant, admin):
        assert "cannot be watched" in str(session.error("select relay.watch('relay_readers.trap')"))
    assert admin.value("select relay.unwatch('relay_readers.trap')")
    assert admin.sql("""
        select has_schema_privilege('relay_compute', 'relay_readers', 'usage'),
            has_schema_privilege('relay_watcher', 'relay_readers', 'usage'),
            has_schema_privilege('relay_owner', 'relay_readers', 'usage')
    """) == [(True, True, True)]


@pytest.mark.parametrize("call", ["relay.unwatch('tenant.t')", "relay.watch('tenant.t', ops => '{insert}')"])
def test_a_table_that_is_renamed_while_its_watch_changes_is_named(admin, tenant, call):
    """PostgreSQL said that a trigger of another table does not exist."""
    tenant.sql("create table tenant.t (id int primary key); select relay.watch('tenant.t')")
    admin.sql("""
        create schema trap; create table trap.t (id int primary key);
        create function public.rename() returns event_trigger language plpgsql as $$begin
            alter schema tenant rename to between; alter schema trap rename to tenant;
            alter schema between rename to trap;
        end$$;
        create event trigger rename on ddl_command_start when tag in ('DROP TRIGGER') execute function public.rename();
    """)
    assert "had another name a moment ago" in str(admin.error(f"select {call}"))
    admin.sql("drop event trigger rename")
    assert admin.value("select count(*) from pg_trigger where tgrelid = 'tenant.t'::regclass") == 4


def test_no_cast_of_another_type_is_run_where_a_key_is_compared(admin, tenant):
    """Who gives a key's type's name to another has the query be none, though that one can be cast to the key's."""
    tenant.sql("""
        create type tenant.mood as enum ('a'); create type tenant.trap as enum ('a');
        create table tenant.t (id tenant.mood primary key); insert into tenant.t values ('a')
    """)
    evil(tenant, "tenant.trap", "tenant.mood", "'a'")
    tenant.sql("create cast (tenant.trap as tenant.mood) with function tenant.evil(tenant.trap) as implicit")
    condition = admin.value("""
        select relay.compare_bound('tenant.t', '{id}', 'tenant.mood'::regtype, 3, 't.id', '''a''::tenant.trap')
    """)
    assert "coalesce" in condition
    assert "alike" in condition
    assert admin.error(f"select from tenant.t where {condition}").pgcode == "42883"
    assert reached(admin) == set()
