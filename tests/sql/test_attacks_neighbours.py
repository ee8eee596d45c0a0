"""What one owner of a watched table could do to the events of another's, through what the two share.

They share relay.wanted, schema relay_readers, and the views that the listener reads.
"""

from __future__ import annotations

import pytest

from tests.sql.attacks import STATE
from tests.sql.conftest import TENANT, Session, login


@pytest.fixture
def own(admin: Session, tenant: Session) -> str:
    """A superuser's watched table; the name of its reader, which everybody may see."""
    admin.sql("""
        create table public.own (id int primary key deferrable, s text); select relay.watch('public.own');
        insert into own values (1, 'x'), (2, 'y'); delete from relay.outbox;
    """)
    return admin.value("select reader from relay.wanted where tbl = 'public.own'::regclass")


HIJACK = "returns boolean language plpgsql as $$begin raise notice 'reached with %', $1; return false; end$$"


@pytest.mark.parametrize("arguments", [
    "json", "text, text, public.own", "text, text, anyelement", "text, text, record, int default 1",
    "json, int default 1", "anyelement", "anycompatible, variadic int[] default '{}'", "jsonb", "public.own",
])  # fmt: skip
def test_nothing_that_others_name_like_a_reader_is_asked_in_its_place(admin, tenant, own, arguments):
    """It was given the secret, and with it any query runs as the table's owner: COPY TO PROGRAM, as a superuser."""
    tenant.sql(f"create function relay_readers.{own}({arguments}) {HIJACK}")
    del admin.notices[:]
    admin.sql("update own set id = 3 - id")
    assert not [n for n in admin.notices if "reached" in n]
    assert admin.story() == [("insert", 2), ("insert", 1)], "the reader answered"


def test_a_reader_can_neither_be_used_nor_replaced_nor_kept_by_others(admin, tenant, own):
    before = admin.value(STATE)
    for statement in (
        f"create domain relay_readers.{own} as json",
        f"create table tenant.x (x relay_readers.{own})", f"select relay_readers.{own}('{{}}'::relay_readers.{own})",
        f"alter domain relay_readers.{own} set not null", f"drop domain relay_readers.{own} cascade",
        f"create function tenant.f(relay_readers.{own}) returns int language sql as 'select 1'",
    ):  # fmt: skip
        assert tenant.error(statement).pgcode in ("42501", "42710", "42723"), statement
    assert admin.value(STATE) == before
    admin.sql("select relay.watch('public.own'), relay.unwatch('public.own')")
    assert admin.sql("select 1 from pg_type where typname = %s", own) == []


def test_a_reader_of_a_former_owner_is_not_asked(admin, tenant):
    tenant.sql("create table tenant.t (id int primary key deferrable); select relay.watch('tenant.t')")
    admin.sql("alter table tenant.t owner to postgres; insert into tenant.t values (1)")
    reader = admin.value("select reader from relay.wanted where tbl = 'tenant.t'::regclass")
    tenant.sql(f"create or replace function relay_readers.{reader}(question json) {HIJACK}")
    del admin.notices[:]
    admin.sql("delete from relay.outbox; update tenant.t set id = 2")
    assert not [n for n in admin.notices if "reached" in n]
    assert admin.story() == [("delete", 1), ("insert", 2)]
    note, remedy = admin.sql("select note, remedy from relay.watched where tbl = 'tenant.t'::regclass")[0]
    assert "not its owner's" in note
    assert "as postgres or as a superuser: select relay.watch('tenant.t'" in remedy
    admin.sql("select relay.watch('tenant.t')")
    assert admin.value("select note from relay.watched where tbl = 'tenant.t'::regclass") is None


def test_nobody_locks_what_all_writers_read(admin, tenant, own):
    """Whoever could would make each of them wait whose key changes, and the listener."""
    for table in ("wanted", "watched", "outbox", "listener"):
        for mode in ("access exclusive", "exclusive", "share row exclusive", "share"):
            tenant.sql("begin")
            assert tenant.error(f"lock table relay.{table} in {mode} mode").pgcode == "42501", (table, mode)
            tenant.sql("rollback")
    tenant.sql("create table tenant.t (id int primary key); select relay.watch('tenant.t')")
    tenant.sql("begin; lock table relay.wanted in row exclusive mode; select from relay.wanted for update")
    admin.sql("set lock_timeout = '200ms'; update own set id = 3 - id; table relay.watched")
    tenant.sql("commit; select relay.unwatch('tenant.t')")
    assert admin.sql("select tbl::text from relay.wanted order by 1") == [("own",), ("victim.secret",)]


def test_a_note_names_no_other_table_s_reader_and_is_not_long(tenant, own):
    tenant.sql("create table tenant.t (id int primary key); select relay.watch('tenant.t')")
    for change in (
        f"reader = '{own}'", "name = repeat('x', 300)", "reader = repeat('x', 64)",
        "triggers = (select array_agg(n::text) from generate_series(1, 2000) n)",
    ):  # fmt: skip
        assert tenant.error(f"update relay.wanted set {change}").pgcode in ("23505", "23514"), change


def test_long_arguments_of_a_trigger_keep_nobody_from_reading_about_the_others(admin, tenant, database):
    """They took 1.4 s a megabyte, and after 60 s the listener ends its session, again and again."""
    tenant.sql("create table tenant.t (id int primary key)")
    listener = Session(database.listener())
    listener.sql("set statement_timeout = '5s'")
    for arguments in (
        "repeat('x', 20000000), 'b', 'insert', '{1}', '{}', 'id'",
        "'a', 'b', 'insert', '{' || repeat('1,', 120000) || '1}', '{}', 'id'",
    ):
        tenant.sql("""
            do $do$ begin
                drop trigger if exists "!relay_insert" on tenant.t;
                execute (select format('create trigger "!relay_insert" after insert on tenant.t for each row '
                    'execute function relay.row_event(%s)', string_agg(quote_literal(a), ', ')) from unnest(array[
        """ + arguments + "]) a); end $do$")  # fmt: skip
        rows = dict(listener.sql("select tbl::text, topic from relay.watched"))
        assert rows["victim.secret"] == "victim.secret"
        assert "tenant.t" in rows


def test_arguments_are_read_as_they_were_written(admin):
    names = ["a\\000", "b\\", "\\\\", "ü", "'"]
    columns = ", ".join(f'"{name}" int' for name in names)
    admin.sql(f"create table public.t ({columns})")
    admin.sql("select relay.watch('public.t', topic => %s, key => %s)", "x\\000\\\\ü", names)
    assert admin.sql("select topic, key from relay.watched where topic like 'x%%'") == [("x\\000\\\\ü", names)]


SETTINGS = [
    "standard_conforming_strings = off", "quote_all_identifiers = on", "array_nulls = off",
    "transform_null_equals = on", "backslash_quote = off", "plan_cache_mode = force_generic_plan",
    "row_security = off", "jit = on",
    "default_transaction_isolation = serializable", "search_path = tenant", "client_encoding = latin1",
    "check_function_bodies = off", "work_mem = 64", "plpgsql.extra_errors = 'all'",
]  # fmt: skip


@pytest.mark.parametrize("setting", SETTINGS)
def test_no_setting_of_a_session_fails_its_writes_or_changes_what_is_watched(admin, tenant, database, setting):
    writer = login(database, TENANT)
    writer.sql(f"set escape_string_warning = off; set {setting}")
    writer.sql("""
        create table tenant.t (id int primary key deferrable, "V" text);
        select relay.watch('tenant.t', "when" => '"V" is distinct from ''hidden''', old => false);
        insert into tenant.t values (1, 'a'), (2, 'b'), (3, 'hidden'); update tenant.t set id = 3 - id where id < 3;
        update tenant.t set "V" = 'shown'; delete from tenant.t where id = 3;
    """)
    told = [(e["op"], e["key"]["id"]) for e in admin.events() if e["table"] == "tenant.t"]
    assert told[:4] == [("insert", 1), ("insert", 2), ("insert", 2), ("insert", 1)]
    assert sorted(told[4:7]) == [("insert", 3), ("update", 1), ("update", 2)]
    assert told[7:] == [("delete", 3)]
    assert admin.value("select note from relay.watched where tbl = 'tenant.t'::regclass") is None
    writer.connection.close()
