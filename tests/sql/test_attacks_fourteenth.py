"""What fell to the fourteenth attack."""

from __future__ import annotations

import threading
from collections.abc import Callable

import psycopg2
import pytest

from dev.database import Database
from dev.process import wait_until
from relay.listening import outbox
from tests.sql.conftest import TENANT, Session, login

MANY = 1500

ALL = f"{{{','.join(map(str, range(1, MANY + 2)))}}}"
# How types are made that take long to look at; the last one; the numbers of the key's columns.
MADE_OF_TYPES = {
    "domains of domains": ("""
        create domain tenant.c0 as int;
        do $$begin for i in 1..2000 loop
            execute format('create domain tenant.c%s as tenant.c%s', i, i - 1);
        end loop; end$$
        """, "tenant.c2000", ALL),
    "ranges of ranges": ("""
        create type tenant.c0 as range (subtype = int);
        do $$begin for i in 1..600 loop
            execute format('create type tenant.c%s as range (subtype = tenant.c%s)', i, i - 1);
        end loop; end$$
        """, "tenant.c600", ALL),
    "rows of rows": ("create type tenant.c as (x int)", "tenant.c", "{1}"),
}  # fmt: skip
DEEPER = """
    do $$declare fields text; begin
        for i in 1..1000 loop execute format('create type tenant.a%s as (x int)', i); end loop;
        select string_agg(format('f%s tenant.a%s', i, i), ', ') into fields from generate_series(1, 1000) i;
        for i in 1..20 loop
            execute format('create type tenant.b%s as (%s)', i, fields);
            execute format('alter type tenant.c add attribute f%s tenant.b%s', i, i);
        end loop;
    end$$
"""


@pytest.mark.parametrize("what", MADE_OF_TYPES)
def test_types_of_types_keep_nobody_from_reading_about_the_watches(admin, tenant, database, what):
    """A look at one table took 15 to 80 s, of 5 for all of them: nobody was told of a lost trigger."""
    statements, type_, numbers = MADE_OF_TYPES[what]
    tenant.sql(statements)
    tenant.sql(f"create table tenant.t (id int primary key, {', '.join(f'c{i} {type_}' for i in range(MANY))})")
    if numbers == "{1}":
        tenant.sql(DEEPER)
    watched_by_hand(tenant, "t", numbers, "{}")
    assert lost_trigger_is_told(admin, database)


def test_columns_that_are_left_out_keep_nobody_from_reading_about_the_watches(admin, tenant, database):
    """Each virtual column was looked for among all names that the options had, which may be 20,000."""
    if admin.connection.server_version < 180000:
        pytest.skip("virtual columns came with PostgreSQL 18")
    named = ", ".join(f'"{i}"' for i in [*range(20_000), *(f"c{i}" for i in range(MANY))])
    columns = ", ".join(f"c{i} int generated always as (1) virtual" for i in range(MANY))
    for n in range(8):
        tenant.sql(f"create table tenant.t{n} (id int primary key, {columns})")
        watched_by_hand(tenant, f"t{n}", "{1}", f'{{"ignore": [{named}]}}')
    assert lost_trigger_is_told(admin, database)
    assert admin.value("select count(*) from relay.watched where note like '%virtual%'") == 0
    tenant.sql("alter table tenant.t0 add v int generated always as (2) virtual")
    assert admin.value("select count(*) from relay.watched where note like '%virtual%'") == 1


def watched_by_hand(tenant: Session, table: str, numbers: str, options: str) -> None:
    """Have a table noted as watched with such arguments."""
    tenant.sql(f"""
        create trigger "!relay_insert" after insert on tenant.{table} for each row
            execute function relay.row_event('a', 'b', 'insert', '{numbers}', '{options}', 'id');
        insert into relay.wanted (tbl, name, triggers, always, filter, reader, secret)
            values ('tenant.{table}'::regclass, 'x', '{{!relay_insert}}', false, 'true', '{table}', 'x');
    """)


def lost_trigger_is_told(admin: Session, database: Database) -> bool:
    """Does the listener learn of it, within the time that it takes for that?"""
    admin.sql('drop trigger "!relay_delete" on victim.secret')
    listener = Session(database.listener())
    listener.sql("set search_path = pg_catalog, pg_temp")
    told = {bytes(table): bytes(note) for table, note, _ in listener.sql(outbox.INCOMPLETE)}
    return told[b"victim.secret"] == b"triggers are gone: !relay_delete"


def test_types_too_deep_to_be_looked_at_are_not_read_back(admin, tenant):
    tenant.sql("""
        create domain tenant.d0 as int; create type tenant.r0 as range (subtype = int);
        do $$begin for i in 1..33 loop
            execute format('create domain tenant.d%s as tenant.d%s', i, i - 1);
            execute format('create type tenant.r%s as range (subtype = tenant.r%s)', i, i - 1);
        end loop; end$$
    """)
    plain = "select relay.is_plain(relay.base_type(%s::regtype))"
    assert [admin.value(plain, f"tenant.{name}") for name in ("d31", "d32", "r7", "r8")] == [True, False, True, False]
    tenant.sql("""
        create table tenant.t (id tenant.d33 primary key); insert into tenant.t values (1);
        select relay.watch('tenant.t')
    """)
    assert "cannot be resent: its key has a composite type, or a domain inside another" in str(
        admin.error("select relay.resend_row('tenant.t', '{\"id\": 1}', null)")
    )
    admin.sql("delete from relay.outbox")
    tenant.sql("update tenant.t set id = 2")
    assert admin.story() == [("delete", 1), ("insert", 2)]


def test_a_table_of_more_types_than_are_looked_at_has_them_told_alike(admin, tenant):
    """Its columns are told one by one then; where its condition would be looked at again, its reader is not asked."""
    tenant.sql(f"""
        do $$begin for i in 1..201 loop execute format('create domain tenant.d%s as int', i); end loop; end$$;
        create table tenant.t (id int primary key, {", ".join(f"c{i} tenant.d{i}" for i in range(1, 202))});
        insert into tenant.t (id, c1, c201) values (1, 5, 7);
    """)
    said = "a column of a type that is not its owner's"
    tenant.sql("""select relay.watch('tenant.t', "when" => 'id > 0')""")
    assert said in tenant.notices[-1]
    assert admin.value("select relay.has_strangers('tenant.t'::regclass)")
    admin.sql("delete from relay.outbox")
    tenant.sql("update tenant.t set c1 = 6")
    ((event),) = admin.events(clear=True)
    assert (event["old"]["c1"], event["new"]["c1"], event["new"]["c201"]) == (5, 6, 7)
    tenant.sql("""alter table tenant.t drop c1; select relay.watch('tenant.t', "when" => 'id > 0')""")
    assert not admin.value("select relay.has_strangers('tenant.t'::regclass)")


@pytest.fixture
def pivot(admin: Session, tenant: Session, database: Database) -> Callable[[str], None]:
    """Have a SERIALIZABLE transaction of the tenant's commit behind a snapshot, whose owner fails if he reads it."""
    tenant.sql("create table tenant.t (id int primary key); create table tenant.a (n int)")
    tenant.sql("select relay.watch('tenant.t'); insert into tenant.a values (1)")
    other = login(database, TENANT)

    def commit(statement: str, victim: Session) -> None:
        admin.sql("analyze relay.wanted, relay.outbox")  # as autovacuum does: few rows, so that all are read
        tenant.sql("begin isolation level serializable; table tenant.a")
        other.sql("begin isolation level serializable; update tenant.a set n = n + 1; commit")
        victim.sql("begin isolation level serializable; select from victim.k")
        tenant.sql(f"{statement}; commit")

    return commit


def test_the_owner_of_another_table_fails_no_serializable_change_of_a_key(admin, pivot):
    """Notes of all owners lie in one table, and the writer read all of it: could not serialize access."""
    admin.sql("create table victim.k (id int primary key); select relay.watch('victim.k')")
    admin.sql("insert into victim.k values (1)")
    admin.story()
    pivot("update relay.wanted set name = 'x' where tbl = 'tenant.t'::regclass", admin)
    admin.sql("update victim.k set id = 2; commit")
    assert admin.story() == [("delete", 1), ("insert", 2)]


def test_the_writer_of_another_table_fails_no_serializable_change_in_a_trigger(admin, pivot):
    """Events of all tables lie in the outbox, and the writer looked through it for the one that is to come behind."""
    admin.sql("""
        create table victim.k (id int primary key, n int);
        create function victim.again() returns trigger language plpgsql as
            $$begin update victim.k set n = 9 where id = new.id; return null; end$$;
        create trigger "!a" after insert on victim.k for each row execute function victim.again();
        select relay.watch('victim.k');
    """)
    admin.story()
    pivot("insert into tenant.t values (1)", admin)
    admin.sql("insert into victim.k values (1, 1); commit")
    assert admin.story() == [("insert", 1), ("insert", 1), ("update", 1)]


RENAMED = "alter table tenant.t rename id to gone; alter table tenant.t rename s to id"
CHANGES = {
    "the key's name is another column's": (RENAMED, "55000"),
    "a column is left out": ("select relay.watch('tenant.t', ignore => '{s}')", "55P03"),
}
READS = {
    "a chunk": "select relay.resend_chunk('tenant.t', null, 10, null)",
    "a row": "select relay.resend_row('tenant.t', '{\"id\": \"1\"}', null)",
    "a row as it is": 'select relay.present_rows(\'tenant.t\', \'{"{\\"id\\": \\"1\\"}"}\', 1000)',
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("read", READS)
def test_a_table_that_changes_while_its_rows_wait_to_be_read_is_not_read_as_before(
    admin, tenant, connect, database, change, read
):
    """Rows were told with the values of another column as their keys, though that was left out; or with what is now."""
    tenant.sql("""
        create table tenant.t (id text primary key, s text); select relay.watch('tenant.t');
        insert into tenant.t values ('1', 'SECRET');
    """)
    admin.sql("delete from relay.outbox")
    statements, code = CHANGES[change]
    tenant.sql(f"begin; {statements}")
    reader, failed = connect(), list[psycopg2.Error]()
    thread = threading.Thread(target=lambda: failed.append(reader.error(READS[read])))
    thread.start()
    waits = "select count(*) from pg_locks where pid = %s and not granted"
    wait_until(lambda: admin.value(waits, reader.pid), 30, "nobody waits for the lock")
    tenant.sql("commit")
    thread.join()
    assert failed[0].pgcode == code
    assert admin.events() == []
    if code == "55P03":
        assert "tenant.t, or its watch, was changed meanwhile" in str(failed[0])
        reader.sql(READS[read])


def test_arguments_of_others_keep_nobody_waiting_who_asks_for_a_row_or_sends_it_again(admin, tenant):
    """All triggers' were read for each statement about one table: a second, if they are as long as may be."""
    empty = ",".join(["''"] * 30_000)
    for n in range(16):
        tenant.sql(f"""
            create table tenant.t{n} (id int primary key);
            create trigger "!relay_insert" after insert on tenant.t{n} for each row
                execute function relay.row_event('a', 'b', 'insert', '{{1}}', '{{}}', {empty});
        """)
    admin.sql("set statement_timeout = '20s'")
    admin.sql("""
        do $$begin for i in 1..30 loop
            perform relay.present_rows('victim.secret', array['{"id": 1}'], 1000);
            perform relay.resend_row('victim.secret', '{"id": 1}', null);
        end loop; end$$
    """)
    assert admin.value("select count(*) from relay.outbox where op = 'snapshot'") == 30


def test_what_takes_long_of_a_table_is_not_looked_at_for_another_s_columns(tenant, database):
    """The listener says what the events of a table hold, if it finds it within a second."""
    tenant.sql("""
        create domain tenant.c0 as int;
        do $$begin for i in 1..31 loop
            execute format('create domain tenant.c%s as tenant.c%s', i, i - 1);
        end loop; end$$
    """)
    columns = ", ".join(f"c{i} tenant.c31" for i in range(MANY))
    for n in range(20):
        tenant.sql(f"create table tenant.t{n} (id int primary key, {columns})")
        watched_by_hand(tenant, f"t{n}", ALL, "{}")
    listener = Session(database.listener())
    listener.sql("set search_path = pg_catalog, pg_temp")
    found = listener.sql(outbox.COLUMNS, "victim.secret")
    assert [bytes(name) for name, *_ in found] == [b"id", b"s"]
