"""What fell to the thirteenth attack."""

from __future__ import annotations

from contextlib import closing

import psycopg2
import pytest

from dev.database import Database
from relay.listening import outbox
from tests.sql.conftest import SQL, TENANT, VICTIM, Session

# Values that take few bytes where they are stored compressed, and many once they are read.
SMALL_AS_STORED = {
    "nulls": "array_fill(null::text, array[1200000])",
    "texts": "array_fill('a'::text, array[20000])",
    "a long one": "array[repeat('a', 100000)]",
    "in a row of their own": "array_fill(null::text, array[1, 1200000])",
    "numbered from another": "array_fill(null::text, array[1200000], array[5])",
}


@pytest.fixture
def stored(tenant: Session) -> Session:
    """The tenant, with such values in a table: what is copied from there stays compressed."""
    tenant.sql("create table tenant.store (name text, a text[]); alter table tenant.store alter a set storage main")
    for name, value in SMALL_AS_STORED.items():
        tenant.sql(f"insert into tenant.store values (%s, {value})", name)
    assert tenant.value("select max(pg_column_size(a)) from tenant.store") <= 2000
    return tenant


def noted(tenant: Session, count: int, triggers: str = "'{a}'") -> None:
    """Have so many tables of the tenant's noted as watched."""
    tenant.sql(f"""
        do $$begin for i in 1..{count} loop
            execute format('create table tenant.t%s (id int)', i);
            insert into relay.wanted (tbl, name, triggers, always, reader, secret)
                values (('tenant.t' || i)::regclass, 'x', {triggers}, false, i, 'x');
        end loop; end$$
    """)


@pytest.mark.parametrize("name", SMALL_AS_STORED)
def test_a_note_s_triggers_are_few_and_short_however_they_are_stored(stored, name):
    noted(stored, 1)
    error = stored.error("update relay.wanted set triggers = (select a from tenant.store where name = %s)", name)
    assert error.pgcode == "23514"
    stored.sql("update relay.wanted set triggers = array_fill(repeat('a', 63), array[20])")
    for few in ("array_fill('a'::text, array[21])", "array[repeat('a', 1261)]"):
        assert stored.error(f"update relay.wanted set triggers = {few}").pgcode == "23514"


def test_a_note_s_secret_is_short(tenant):
    noted(tenant, 1)
    assert tenant.error("update relay.wanted set secret = repeat('a', 101)").pgcode == "23514"


@pytest.mark.parametrize("name", SMALL_AS_STORED)
def test_what_a_note_holds_already_keeps_nobody_from_reading_about_the_others(admin, stored, database, name):
    """A hundred took 14 s to look at, of 5: nobody was told of a lost trigger. They hold no install up."""
    admin.sql("alter table relay.wanted drop constraint wanted_check")
    noted(stored, 100, f"(select a from tenant.store where name = '{name}')")
    admin.sql("alter table relay.wanted alter column secret set statistics -1")  # as before it was never sampled
    database.server.psql(SQL / "install.sql", database.admin_dsn)
    assert admin.value("""
        select count(*) from relay.wanted w join tenant.store s on w.triggers = s.a where s.name = %s
    """, name) == 100  # fmt: skip
    admin.sql('drop trigger "!relay_delete" on victim.secret')
    told = {table: note for table, note, _ in told_by(database)}
    assert told[b"victim.secret"] == b"triggers are gone: !relay_delete"


def told_by(database: Database) -> list[tuple[bytes, ...]]:
    """What the listener learns of the watches."""
    listener = Session(database.listener())
    listener.sql("set search_path = pg_catalog, pg_temp")
    return [tuple(x and bytes(x) for x in row) for row in listener.sql(outbox.INCOMPLETE)]


def test_what_a_login_sets_for_itself_keeps_nobody_from_reading_about_the_watches(admin, tenant, database):
    """Up to a gigabyte, twice: seconds. Of what is stored in more than 8 KiB nothing is read."""
    role = f"alter role {TENANT} in database {database.name}"
    admin.sql(f"{role} set session_replication_role = replica")
    notes = "select count(*) from relay.watched where note like '%session_replication_role%'"
    assert admin.value(notes) == 1
    tenant.sql(f"""
        do $$begin execute format('{role} set application_name = %L',
            (select string_agg(md5(i::text), '') from generate_series(1, 5000) i)); end$$
    """)
    assert admin.value(notes) == 0
    tenant.sql(f"{role} reset application_name")
    assert admin.value(notes) == 1


def reader(admin: Session, table: str) -> str:
    return str(admin.value("select reader from relay.wanted where tbl = %s::regclass", table))


@pytest.mark.parametrize("prefix", ["", "_"])
@pytest.mark.parametrize("isolation", ["read committed", "repeatable read"])
def test_no_note_names_another_s_reader_even_one_that_no_note_has(admin, tenant, prefix, isolation):
    """What is left of a note that was deleted, as its remedy says; nor the array type that belongs to each."""
    noted(tenant, 2)
    tenant.sql(f"begin isolation level {isolation}; select")
    admin.sql(f"set role {VICTIM}; create table victim.late (id int primary key); select relay.watch('victim.late')")
    admin.sql("reset role")
    named = prefix + reader(admin, "victim.late")
    admin.sql("delete from relay.wanted where tbl = 'victim.late'::regclass")
    for statement in (
        "update relay.wanted set reader = '{}' where tbl = 'tenant.t1'::regclass",
        """insert into relay.wanted select tbl, name, triggers, always, filter, '{}', 'x' from relay.wanted limit 1
           on conflict (tbl) do update set reader = excluded.reader""",
    ):
        tenant.sql("savepoint s")
        assert "another's reader" in str(tenant.error(statement.format(named)))
        tenant.sql("rollback to s")
    tenant.sql("rollback")


def test_a_dropped_table_s_note_is_put_down_to_the_owner_of_no_array_type(admin, tenant):
    """Of an earlier release: the owner of a domain owns the type of its arrays, and who drops a table names it."""
    noted(tenant, 2)
    admin.sql("alter table relay.wanted disable trigger user")
    tenant.sql(
        "update relay.wanted set reader = %s where tbl = 'tenant.t1'::regclass", f"_{reader(admin, 'victim.secret')}"
    )
    tenant.sql("drop table tenant.t1")
    assert admin.sql("select note, owner from relay.watched where note like '%dropped'") == [
        ("the table was dropped", None)
    ]


def test_no_note_of_a_dropped_table_takes_the_place_of_a_table_that_is_there(admin, tenant, database):
    """A hundred of an owner's are told, in the order in which they were made; of conditions 1 MiB is read."""
    admin.sql(f"""
        set role {VICTIM};
        do $$begin for i in 1..150 loop
            execute format('create table victim.t%1$s (id int); create domain relay_readers.d%1$s int', i);
            insert into relay.wanted (tbl, name, triggers, always, filter, reader, secret)
                values (('victim.t' || i)::regclass, 'x', '{{a}}', false, repeat('x', 8000), 'd' || i, 'x');
            execute format('drop table victim.t%s', i);
        end loop; end$$;
        create table victim.late (id int primary key, v int); select relay.watch('victim.late', "when" => 'v > 0');
        alter table victim.late drop v cascade; reset role;
    """)
    told = told_by(database)
    (note,) = [note for table, note, _ in told if table == b"victim.late"]
    assert note.startswith(b"triggers are gone: !relay_delete, ")
    assert b"its condition names v, which was dropped" in note
    assert len(told) == 101


def test_a_lock_that_a_prepared_transaction_holds_is_named_with_its_end(lone_postgres):
    """It has no session, and outlives the server's restarts: `nobody any more` had it."""
    lone_postgres.psql(SQL / "install.sql", lone_postgres.dsn())
    key = 491327873401
    for restarted in (False, True):
        if restarted:
            lone_postgres.restart()
        dsn = lone_postgres.dsn()
        with closing(psycopg2.connect(dsn)) as one, closing(psycopg2.connect(dsn)) as other:
            one.autocommit = other.autocommit = True
            session, holder = Session(one), Session(other)
            if not restarted:
                holder.sql("begin; select pg_advisory_xact_lock_shared(%s); prepare transaction 'it''s mine'", key)
            holders, remedy = (bytes(x).decode() for x in session.sql(outbox.HOLDER, key)[0])
            assert holders == "the prepared transaction 'it''s mine' of postgres"
            assert remedy == "rollback prepared 'it''s mine';"
            holder.sql("set application_name = 'culprit'; select pg_advisory_lock_shared(%s)", key)
            holders, remedy = (bytes(x).decode() for x in session.sql(outbox.HOLDER, key)[0])
            assert "'it''s mine' of postgres" in holders
            assert f"pid {holder.pid} (postgres, culprit)" in holders
            assert remedy.startswith("end that session, or select pg_advisory_unlock_all() in it; rollback prepared ")
            if restarted:
                session.sql(remedy.partition("; ")[2])
                holder.sql("select pg_advisory_unlock_all()")
                assert session.sql(outbox.HOLDER, key) == [(None, None)]
