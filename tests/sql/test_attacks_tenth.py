"""What fell to the tenth attack."""

from __future__ import annotations

import contextlib
import time

import psycopg2
import pytest

from dev.database import Database
from dev.process import ServerError
from tests.sql.conftest import SQL, TENANT, VICTIM, Session, evil, own_read_by, reached

SCHEMAS = """
    begin; alter schema tenant rename to between; alter schema trap rename to tenant;
    alter schema between rename to trap; commit
"""


@pytest.fixture
def alone(admin: Session, tenant: Session, database: Database) -> Session:
    """A tenant whose tables alone are watched, and who may create schemas: one is a trap."""
    admin.sql(f"set role {VICTIM}; select relay.unwatch('victim.secret'); reset role")
    admin.sql(f"grant create on database {database.name} to {TENANT}; create schema trap authorization {TENANT}")
    evil(tenant, "")
    tenant.sql("grant usage on schema trap, tenant to public")
    return tenant


KEYS = {
    "builtin": ("int", "int", "1", SCHEMAS),
    "enum": ("tenant.mood", "trap.mood", "'a'", SCHEMAS),
    "array": ("tenant.mood[]", "trap.mood[]", "'{a}'", SCHEMAS),
    "type": ("tenant.mood", "tenant.mood", "'a'", """
        begin; alter type tenant.mood rename to was; alter domain tenant.trap rename to mood; commit;
        begin; alter domain tenant.mood rename to trap; alter type tenant.was rename to mood; commit
    """),
}  # fmt: skip
READS = [
    "select copied from relay.resend_chunk('{}.t', null, 10, null)",
    "select copied from relay.resend_chunk('{}.t', '{{\"id\": {}}}', 10, null)",
    "select relay.resend_row('{}.t', '{{\"id\": {}}}', null)",
    "select relay.resend_row('{}.t', '{{\"id\": {}}}', 'id is null')",
    "select cardinality(nth) from relay.present_rows('{}.t', array['{{\"id\": {}}}'], 100000)",
]  # fmt: skip


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("trap", ["view", "index"])
def test_whose_tables_alone_are_watched_runs_nothing_as_relay_trigger(admin, alone, beside, database, key, trap):
    """It had another table read in place of the one that is resent, although nobody else's rows were to be had.

    But relay_trigger owns functions that relay_owner calls: it made them run as that one, by names of its own.
    """
    here, there, value, swap = KEYS[key]
    alone.sql(f"""
        create type tenant.mood as enum ('a', 'b'); create domain trap.mood as text check (tenant.evil());
        create domain tenant.trap as text check (tenant.evil());
        create table tenant.t (id {here} primary key, v int); insert into tenant.t values ({value});
        select relay.watch('tenant.t'); create function trap.evil() returns bool language sql as 'select true';
    """)
    if trap == "view":
        alone.sql(f"create view trap.t as select {value}::{there} as id, 1 as v where tenant.evil()")
    else:
        alone.sql(f"create table trap.t (id {there}, v int); create index on trap.t ((tenant.evil() and v > 0))")
    alone.sql("grant all on trap.t to relay_trigger")
    given = '"a"' if value == "'a'" else '["a"]' if value == "'{a}'" else "1"
    listener = Session(database.listener())
    assert [listener.value(read.format("tenant", given)) for read in READS] == [1, 0, 1, 0, 1]
    beside(swap)
    end = time.monotonic() + 3
    found: set[str] = set()
    while time.monotonic() < end and not found - {TENANT}:
        for schema in ("tenant", "trap"):
            for read in READS:
                with contextlib.suppress(psycopg2.Error):
                    listener.sql(read.format(schema, given))
        found |= reached(listener)
        del listener.notices[:]
    assert found <= {TENANT}


CALLS = {
    "watch": ["select relay.watch({}::regclass)"],
    "when": ["""select relay.watch({}::regclass, "when" => 'v > 0')""", "select relay.watch({}::regclass)"],
    "unwatch": ["select relay.watch({}::regclass)", "select relay.unwatch({}::regclass)"],
    "always": ["select relay.watch({}::regclass, always => true)", "select relay.watch({}::regclass)"],
}
OF_OTHERS = """
    select c.oid::text, c.relacl::text,
        array(select to_jsonb(t)::text from pg_trigger t where t.tgrelid = c.oid order by t.oid)
    from pg_class c where c.relowner = 'victim_test'::regrole and c.relname = 't'
"""


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("watched", [True, False])
def test_a_superuser_s_watch_changes_no_table_that_gets_the_name_meanwhile(admin, alone, beside, call, watched):
    """Its triggers, with a condition of the tenant's, came to be another owner's, in a schema of the tenant's."""
    alone.sql("create table tenant.t (id int primary key, v int)")
    table = alone.value("select 'tenant.t'::regclass::oid")
    admin.sql(f"create table trap.t (id int primary key, v int); alter table trap.t owner to {VICTIM}")
    if watched:
        admin.sql("select relay.watch('trap.t')")
    before, done = admin.sql(OF_OTHERS), 0
    beside(SCHEMAS)
    end = time.monotonic() + 3
    while time.monotonic() < end and before == admin.sql(OF_OTHERS):
        for statement in CALLS[call]:
            with contextlib.suppress(psycopg2.Error):
                admin.sql(statement.format(table))
                done += 1
    assert before == admin.sql(OF_OTHERS)
    assert done


def test_a_condition_is_read_of_the_table_that_is_watched(admin, alone, beside):
    """Read of another, it had an operator of the tenant's, which ran as whoever wrote to the victim's table."""
    alone.sql("""
        create type trap.mood as enum ('a'); create table trap.t (id int primary key, v trap.mood);
        create function tenant.more(trap.mood, int) returns bool language sql as 'select tenant.evil()';
        create function tenant.more(int, int) returns bool language sql as 'select tenant.evil()';
    """)
    for schema in ("tenant", "trap"):
        for left in ("int", "trap.mood"):
            alone.sql(f"create operator {schema}.> (leftarg = {left}, rightarg = int, function = tenant.more)")
    admin.sql(f"create table tenant.t (id int primary key, v int); alter table tenant.t owner to {VICTIM}")
    table = admin.value("select 'tenant.t'::regclass::oid")
    beside(SCHEMAS)
    end, done = time.monotonic() + 3, 0
    conditions = f"select pg_get_triggerdef(oid) from pg_trigger where tgrelid = {table}"
    while time.monotonic() < end and "OPERATOR(t" not in str(admin.sql(conditions)):
        with contextlib.suppress(psycopg2.Error):
            admin.sql("set search_path = tenant, trap")
            admin.sql(f"select relay.watch({table}::regclass, \"when\" => 'v > 0')")
            done += 1
    assert "OPERATOR(t" not in str(admin.sql(conditions))
    assert done


def test_of_what_a_condition_raises_the_listener_reads_a_little(admin, alone, database):
    """As much as it liked: the listener's memory, where others may ask it for rows."""
    alone.sql("""
        create function tenant.loud(int) returns bool language plpgsql as
            $$begin if current_user <> 'relay_compute' then return true; end if; raise '%', repeat('x', 5000); end$$;
        create table tenant.t (id int primary key, v int); grant usage on schema tenant to relay_compute;
        select relay.watch('tenant.t', "when" => 'tenant.loud(v)'); insert into tenant.t values (1);
    """)
    listener = Session(database.listener())
    error = listener.error("""select relay.present_rows('tenant.t', '{"{\\"id\\": 1}"}', 1000)""")
    assert 900 < len(error.diag.message_primary) <= 1000


@pytest.mark.parametrize("kind", ["function", "operator"])
def test_indexes_of_thousands_of_functions_keep_nobody_from_reading_about_the_others(admin, alone, database, kind):
    """All of them were looked up, and called by their names: 16 s a million, of the 5 that a look may take."""
    names = ["f" * 50 + str(n) for n in range(300)]
    if kind == "function":
        made = "create function tenant.{}(int) returns int language sql immutable as 'select $1'"
        used = "tenant.{}(v)"
    else:
        names = ["".join("+-*<>=~!@#"[int(digit)] for digit in f"{n:04}") + "^" for n in range(2000, 3000)]
        names = [name for name in names if "--" not in name and "/*" not in name][:300]
        made = "create operator tenant.{} (leftarg = int, rightarg = int, function = pg_catalog.int4pl)"
        used = "v operator(tenant.{}) v"
    alone.sql("create table tenant.t (id int primary key, v int); select relay.watch('tenant.t')")
    alone.sql("; ".join(made.format(name) for name in names))
    index = f"create index on tenant.t ((coalesce({', '.join(used.format(name) for name in names)})))"
    for _ in range(170):  # of 300 and a column each: before PostgreSQL 16 a row of pg_index is no larger than a page
        alone.sql(index)
    admin.sql("create table own (id int primary key); select relay.watch('own'); drop trigger \"!relay_insert\" on own")
    listener = Session(database.listener())
    began = time.monotonic()
    notes = dict(listener.sql("select tbl::text, note from relay.watched"))
    assert time.monotonic() - began < 2
    assert "triggers are gone" in notes["own"]
    assert len(notes["tenant.t"]) < 500
    assert ("tenant.f" if kind == "function" else "use too much") in notes["tenant.t"]


def test_triggers_by_hand_without_end_are_not_all_named(admin, alone, database):
    alone.sql("create table tenant.t (id int primary key, v int); select relay.watch('tenant.t')")
    for number in range(500):
        alone.sql(
            f"create trigger hand{number} after insert on tenant.t for each row execute function relay.row_event()"
        )
    alone.sql('drop trigger "!relay_insert" on tenant.t')
    ((said, remedy),) = Session(database.listener()).sql(
        "select note, remedy from relay.watched where note is not null"
    )
    assert ("hand" in said, "drop trigger hand" in remedy, len(said) < 1000, len(remedy) < 2000) == (True,) * 4


@pytest.mark.parametrize(
    ("code", "told"), [("55P03", "P0001"), ("57P01", "P0001"), ("22012", "22012"), ("42501", "42501")]
)
def test_no_condition_raises_what_would_be_tried_again_for_ever(admin, alone, database, code, told):
    """A lock that it is waited for: `listen.py resend` said so, and never ended."""
    alone.sql(f"""
        create function tenant.false(int) returns bool language plpgsql as $$begin
            if current_user = 'relay_compute' then raise using errcode = '{code}'; end if; return true; end$$;
        create table tenant.t (id int primary key, v int); grant usage on schema tenant to relay_compute;
        select relay.watch('tenant.t', "when" => 'tenant.false(v)'); insert into tenant.t values (1);
    """)
    assert Session(database.listener()).error("select relay.resend_chunk('tenant.t', null, 10, null)").pgcode == told


def test_who_reads_about_the_watches_has_no_writer_wait_for_an_install(admin, tenant, database):
    """It waited for a lock without end, and whoever changes a key waited behind it; in an upgrade, each writer."""
    tenant.sql("begin; select from relay.watched")
    with pytest.raises(ServerError, match="lock timeout"):
        database.server.psql(SQL / "install.sql", database.admin_dsn)
    tenant.sql("rollback")
    database.server.psql(SQL / "install.sql", database.admin_dsn)


@pytest.mark.parametrize("code", ["53100", "53200", "58030", "XX001", "XX002"])
def test_no_key_that_a_row_has_is_told_as_deleted_for_want_of_anything(admin, code):
    """Any login may take all the locks that a server has."""
    own_read_by(admin, f"raise exception using errcode = '{code}'")
    assert admin.error("update own set id = 3 - id").pgcode == code
    assert admin.story() == []
