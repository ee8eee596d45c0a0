"""What fell to the attack after that.

What one owner may have the listener read about its tables, who owns what is below a table, a name that means another
table a moment later, numbers that two sessions take at once, and a queue of notifications that a stranger has filled.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

import psycopg2
import pytest

from dev import database as databases
from dev.database import Database
from relay.listening import outbox
from tests.sql.conftest import SQL, TENANT, Session, login, reached


def evil(tenant: Session) -> None:
    """A function that the planner calls, and that says as whom."""
    tenant.sql("""
        create function tenant.constant(int) returns int language plpgsql immutable as
            $$begin raise notice 'reached as %', current_user; return 1; end$$
    """)


def reading(database) -> Session:
    """The listener, which would end its session after 60 s."""
    listener = Session(database.listener())
    listener.sql("set statement_timeout = '10s'")
    return listener


@pytest.mark.parametrize("filter_", ["repeat('t.a ', 2000000)", "repeat('t.\"a', 1000000)", "repeat('x', 90000000)"])
def test_a_long_condition_in_a_note_keeps_nobody_from_reading_about_the_others(tenant, database, filter_):
    tenant.sql("create table tenant.t (id int primary key); select relay.watch('tenant.t')")
    with contextlib.suppress(psycopg2.errors.CheckViolation):
        tenant.sql(f"update relay.wanted set filter = {filter_}")
    reading(database).sql(outbox.INCOMPLETE)


def test_the_arguments_of_many_triggers_keep_nobody_from_reading_about_the_others(tenant, database):
    tenant.sql("""
        create table tenant.t (id int primary key);
        do $$begin for i in 1..300 loop
            execute format('create trigger "!relay_%s" after insert on tenant.t for each row execute function '
                'relay.row_event(%L, %L, %L, %L, %L, %L)', i, 'a', 'b', 'insert', '{1}', '{}', repeat('\\', 120000));
        end loop; end$$
    """)
    tenant.sql("""
        create table tenant.u (id int primary key);
        do $$begin execute format('create trigger "!relay_insert" after insert on tenant.u for each row execute '
            'function relay.row_event(%L, %L, %L, %L, %L, %L)', 'a', 'b', 'insert', '{1}', '{}',
            repeat('x', 5000)); end$$
    """)
    rows = reading(database).sql("select tbl::text, topic from relay.watched")
    assert ("victim.secret", "victim.secret") in rows
    assert ("tenant.u", None) in rows, "of its owner 4 MiB are read"


BELOW = {
    "partition": "partition by range (id); create table part partition of root for values from (0) to (100)",
    "child": "; create table part () inherits (root)",
}


@pytest.mark.parametrize("below", BELOW)
def test_the_owner_of_what_is_below_a_table_runs_nothing_as_the_owner_of_the_table(admin, tenant, below):
    """A key is looked up as the table's owner, and the planner calls functions of indexes and statistics."""
    if admin.connection.server_version < 140000:
        pytest.skip("statistics of expressions came with PostgreSQL 14")
    evil(tenant)
    admin.sql(f"""
        create table root (id int primary key, v int) {BELOW[below]};
        alter table part owner to {TENANT}; grant all on root to {TENANT};
        select relay.watch('root'); insert into root values (1, 1), (2, 2); delete from relay.outbox;
    """)
    tenant.sql("create statistics tenant.s on (v + tenant.constant(1)), (id + tenant.constant(1)) from public.part")
    note = admin.value("select note from relay.watched where tbl = 'root'::regclass")
    assert (note or "").startswith("a partition has another owner") == (below == "partition")
    del tenant.notices[:]
    tenant.sql(f"update only public.{'part' if below == 'partition' else 'root'} set id = id + 10")
    assert reached(tenant) <= {TENANT}
    assert admin.story() == [("delete", 1), ("insert", 11), ("delete", 2), ("insert", 12)]


def test_a_table_renamed_while_its_rows_are_to_be_read_is_not_read_unlocked(admin, tenant, database):
    """What was locked was whatever had its name by then; its owner could add code for the planner to what was read."""
    evil(tenant)
    tenant.sql("""
        create table tenant.parent (id int primary key, v int);
        create table tenant.t (primary key (id)) inherits (tenant.parent);
        select relay.watch('tenant.t'); insert into tenant.t values (1, 1);
    """)
    other, listener = login(database, TENANT), Session(database.listener())
    failed: list[psycopg2.Error] = []

    def resend() -> None:
        try:
            listener.sql("select copied from relay.resend_chunk('tenant.t', null, 10, null)")
        except psycopg2.Error as error:
            failed.append(error)

    def waits(session: Session, thread: threading.Thread) -> bool:
        while not admin.value("select count(*) from pg_locks where not granted and pid = %s", session.pid):
            if not thread.is_alive():
                return False
        return True

    tenant.sql("""
        begin; alter table tenant.t rename to u; create view tenant.t as select 1 as id, 1 as v;
        grant all on tenant.t to relay_trigger;
    """)
    reader = threading.Thread(target=resend)
    reader.start()
    assert waits(listener, reader)
    locker = threading.Thread(target=lambda: other.sql("begin; lock table tenant.parent in access exclusive mode"))
    locker.start()
    assert waits(other, locker)
    tenant.sql("commit")
    locker.join(30)
    if waits(listener, reader):  # for the table itself now, which it has not locked
        other.sql("create statistics tenant.s on (v + tenant.constant(1)), (id + tenant.constant(1)) from tenant.u")
    other.sql("commit")
    reader.join(30)
    other.connection.close()
    assert reached(listener) == set()
    assert [error.pgcode for error in failed] == ["55P03"], "it is tried again"
    assert listener.value("select copied from relay.resend_chunk('tenant.u', null, 10, null)") == 1


def test_numbers_left_free_for_an_outer_trigger_are_nobody_else_s(admin, connect):
    """Another session could take one in between: then one of the two writers failed, by a number that was there."""
    admin.sql("""
        create table address (id int primary key, main bool); create table plain (id int);
        create function only_one() returns trigger language plpgsql as $$
            begin
                if new.main then update address set main = false where main and id <> new.id; end if;
                return null;
            end $$;
        create trigger one after insert on address for each row execute function only_one();
        select relay.watch('address'), relay.watch('plain', key => '{id}');
    """)
    stop, failed = threading.Event(), []

    def plain() -> None:
        session = connect()
        while not stop.is_set():
            session.sql("insert into plain select generate_series(1, 200)")

    others = [threading.Thread(target=plain) for _ in range(2)]
    for other in others:
        other.start()
    try:
        for i in range(0, 600, 2):
            try:
                admin.sql(f"insert into address values ({i}, true), ({i + 1}, true)")
            except psycopg2.errors.UniqueViolation as error:
                failed.append(str(error))
    finally:
        stop.set()
        for other in others:
            other.join()
    assert failed == []
    events = admin.sql("select key, op, seq from relay.outbox where tbl = 'public.address' order by seq")
    first: dict[str, str] = {}
    for key, op, _ in events:
        first.setdefault(key, op)
    assert set(first.values()) == {"insert"}


def test_a_full_queue_of_notifications_fails_no_writer(lone_postgres):
    """Any login fills it, in a session that listens and idles in a transaction: then no NOTIFY can be committed."""
    with contextlib.closing(psycopg2.connect(lone_postgres.dsn())) as opened:
        opened.autocommit = True
        if opened.server_version < 170000:
            pytest.skip("max_notify_queue_pages, which makes 8 GB of it small, came with 17")
        with opened.cursor() as cursor:
            cursor.execute("alter system set max_notify_queue_pages = 64")
            cursor.execute("create database filled")
    lone_postgres.stop()
    lone_postgres.start()
    lone_postgres.psql(SQL / "install.sql", lone_postgres.dsn("filled"))
    admin, sleeper, stranger, flood = (Session(databases.connect(lone_postgres.dsn("filled"))) for _ in range(4))
    admin.sql("create table t (id int primary key); select relay.watch('t')")
    sleeper.sql("select pg_advisory_lock(relay.sleep_key())")
    stranger.sql("listen x")
    stranger.sql("begin; select 1")
    error = flood.error("""
        do $$begin for i in 1..1000 loop perform pg_notify('x', i || repeat('-', 7000)); commit; end loop; end$$
    """)
    assert "NOTIFY queue" in str(error)
    admin.sql("insert into t values (1); truncate t")
    assert [op for op, _ in admin.story()] == ["insert", "truncate"]
    stranger.sql("rollback; unlisten *")
    sleeper.sql("select relay.version()")
    admin.sql("listen other; listen x")
    channel = admin.value("select channel from relay.listener")
    admin.sql(f"listen {channel}; insert into t values (2)")
    admin.connection.poll()
    assert [n.channel for n in admin.connection.notifies][-1:] == [channel], "it is woken again"
    for session in (admin, sleeper, stranger, flood):
        session.connection.close()


SWAP = """
    begin; alter schema tenant rename to between; alter schema trap rename to tenant;
    alter schema between rename to trap; commit
"""


@pytest.fixture
def swapping(admin: Session, tenant: Session, database: Database) -> Iterator[Session]:
    """A tenant who may create schemas, and so rename its own: another session of it has two exchange their names."""
    admin.sql(f"grant create on database {database.name} to {TENANT}; create schema trap authorization {TENANT}")
    evil(tenant)
    tenant.sql("""
        grant all on schema trap, tenant to public; create type trap.x as (a int);
        create function trap.of(int) returns trap.x language sql as 'select row(tenant.constant(1))::trap.x';
        create cast (int as trap.x) with function trap.of(int) as assignment;
    """)
    other, stop = login(database, TENANT), threading.Event()

    def swap() -> None:
        while not stop.is_set():
            other.sql(SWAP)

    thread = threading.Thread(target=swap)
    tenant.swap = thread.start  # type: ignore[attr-defined]
    yield tenant
    stop.set()
    if thread.ident:
        thread.join()
    other.connection.close()


def hammer(session: Session, statement: str) -> set[str]:
    """Run a statement under both names of the schema for some seconds; as whom code of the tenant's ran meanwhile."""
    end, done = time.monotonic() + 3, 0
    found: set[str] = set()
    while time.monotonic() < end and not found - {TENANT}:
        for schema in ("tenant", "trap"):
            with contextlib.suppress(psycopg2.Error):
                session.sql(statement.format(schema))
                done += 1
        found |= reached(session)
        del session.notices[:]
    assert done
    return found


def test_a_schema_renamed_meanwhile_has_nothing_run_as_a_table_s_owner(admin, swapping):
    """The query names the table: whoever had another one take its name ran code as the owner, here a superuser."""
    admin.sql(f"""
        create table tenant.given (id int primary key deferrable, v int);
        insert into tenant.given values (1, 1), (2, 2);
        select relay.watch('tenant.given'); grant all on tenant.given to {TENANT};
    """)
    note = admin.value("select note from relay.watched where tbl = 'tenant.given'::regclass")
    assert "others than its owner may rename its schema" in note
    swapping.sql("create view trap.given as select tenant.constant(1) as id; grant all on trap.given to public")
    swapping.swap()
    assert hammer(swapping, "update {}.given set id = 3 - id") <= {TENANT}


def test_a_schema_renamed_meanwhile_has_nothing_run_as_the_owner_of_the_triggers(admin, swapping):
    """bulk_event cast its rows to the table's type, by its name: to one whose columns have casts of the tenant's."""
    swapping.sql("""
        create type tenant.mood as enum ('a'); create table tenant.t (id int primary key, m tenant.mood);
        select relay.watch('tenant.t', bulk => true); insert into tenant.t values (1, 'a');
        create table trap.t (id trap.x, m text);
    """)
    swapping.swap()
    assert hammer(swapping, "update {0}.t set m = 'a'; update {0}.t set id = id + 1") <= {TENANT}


def test_a_table_whose_name_another_can_get_is_not_resent_beside_tables_of_others(admin, swapping, database):
    swapping.sql("create table tenant.t (id int primary key); select relay.watch('tenant.t')")
    listener = Session(database.listener())
    call = "select copied from relay.resend_chunk('tenant.t', null, 10, null)"
    error = listener.error(call)
    assert f"{TENANT} may rename its schema" in error.diag.message_primary
    admin.sql(f"revoke create on database {database.name} from {TENANT}")
    assert listener.value(call) == 0
    admin.sql(f"grant create on database {database.name} to {TENANT}; drop schema victim cascade")
    assert listener.value(call) == 0


@pytest.mark.parametrize("owner", ["postgres", TENANT])
def test_an_owner_of_the_database_may_rename_public(admin, tenant, database, owner):
    if admin.connection.server_version < 140000:
        pytest.skip("pg_database_owner came with PostgreSQL 14")
    admin.sql("create table public.t (id int primary key); alter schema public owner to pg_database_owner")
    admin.sql(f"alter database {database.name} owner to {owner}")
    renamers = "select relay.renamers('t'::regclass, '{1}', false)::regrole[]::text[]"
    assert admin.value(renamers) == ([] if owner == "postgres" else [owner])
    admin.sql(f"alter database {database.name} owner to postgres")
