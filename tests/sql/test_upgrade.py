"""Installing over every earlier version, with events in the outbox and watches in place."""

import subprocess
from contextlib import closing

import psycopg2
import pytest
from conftest import SQL, Session
from freeze import VERSIONS, version

from dev.process import ServerError

FROZEN = sorted(int(path.stem) for path in VERSIONS.glob("*.sql"))


@pytest.fixture
def fresh(lone_postgres, request):
    """fresh(name): an empty database, and a session on it."""
    opened = []

    def make(name):
        with closing(psycopg2.connect(lone_postgres.dsn())) as server:
            server.autocommit = True
            server.cursor().execute(f"drop database if exists {name} with (force)")
            server.cursor().execute(f"create database {name}")
        connection = psycopg2.connect(lone_postgres.dsn(name))
        connection.autocommit = True
        opened.append(connection)
        return Session(connection)

    yield make
    for connection in opened:
        connection.close()


def schema(server, name):
    """What pg_dump says about schema relay, comments and grants included."""
    command = [str(server.bin / "pg_dump"), "--schema-only", "-n", "relay", "-d", server.dsn(name)]
    dump = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [line for line in dump.splitlines() if line and not line.startswith(("--", "\\"))]


def install(server, session, old):
    """An earlier version into the database "upgraded". Version 1 wants the server's roles as it knew them."""
    if session.sql("select 1 from pg_roles where rolname = 'relay_trigger'"):
        session.sql("alter role relay_trigger nobypassrls")
    server.psql(VERSIONS / f"{old}.sql", server.dsn("upgraded"))


def test_every_version_is_frozen():
    assert list(range(1, version() + 1)) == FROZEN, "run: python tests/sql/freeze.py"


@pytest.mark.parametrize("old", FROZEN)
def test_an_upgrade_ends_in_the_same_schema_as_a_new_install(lone_postgres, fresh, old):
    upgraded = fresh("upgraded")
    install(lone_postgres, upgraded, old)
    assert upgraded.value("select relay.version()") == old
    upgraded.sql("create table t (id int primary key, v int); select relay.watch('t'); insert into t values (1, 1)")
    upgraded.sql("select relay.publish('a', '{}')")
    shown = "relay.backlog" if old > 1 else "relay.outbox"
    before = upgraded.sql(f"select seq, id, xid::text, at, topic, tbl, op, key, body from {shown} order by seq")

    lone_postgres.psql(SQL / "install.sql", lone_postgres.dsn("upgraded"))
    assert upgraded.value("select relay.version()") == version()
    after = upgraded.sql("select seq, id, xid::text, at, topic, tbl, op, key, body from relay.backlog order by seq")
    assert after == before
    upgraded.sql("update t set v = 2; update t set id = 2; truncate t")
    assert [e[0] for e in upgraded.sql("select op from relay.outbox order by seq")][2:] == [
        "update", "delete", "insert", "truncate",
    ]  # fmt: skip

    fresh("new")
    lone_postgres.psql(SQL / "install.sql", lone_postgres.dsn("new"))
    assert schema(lone_postgres, "upgraded") == schema(lone_postgres, "new")


def test_a_session_that_wrote_before_the_upgrade_goes_on_writing(lone_postgres, fresh):
    writer = fresh("upgraded")
    install(lone_postgres, writer, 1)
    writer.sql("create table t (id int primary key); select relay.watch('t'); insert into t values (1)")
    lone_postgres.psql(SQL / "install.sql", lone_postgres.dsn("upgraded"))
    writer.sql("insert into t values (2)")
    assert writer.story() == [("insert", 1), ("insert", 2)]


def test_a_condition_that_others_could_have_written_is_not_run_as_the_owner(lone_postgres, fresh):
    """Whoever may, or could once, make triggers on a table need not own it."""
    session = fresh("upgraded")
    install(lone_postgres, session, 1)
    session.sql("""
        drop role if exists guest; create role guest;
        grant relay_watcher to guest; grant usage on schema public to guest;
        create table t (id int primary key, v int); create table u (id int primary key, v int);
        select relay.watch('t', "when" => 'v > 0'), relay.watch('u', "when" => 'v > 0'); grant trigger on t to guest;
        set role guest;
        create trigger "!relay_x" after insert on t for each row execute function relay.row_event(
            't', 't', 'insert', '{1}', '{"x": 1, "filter": "pg_read_file(''/x'') is null"}', 'id');
        reset role; revoke trigger on t from guest;
    """)
    lone_postgres.psql(SQL / "install.sql", lone_postgres.dsn("upgraded"))
    notes = "select w.tbl::text, note like '%%what looks up its keys%%' from relay.watched w order by 1"
    assert session.sql(notes) == [("t", True), ("u", True)]
    assert session.sql("select 1 from pg_proc where pronamespace = 'relay_readers'::regnamespace") == []
    session.sql("select relay.watch('t', \"when\" => 'v > 0'); insert into t values (1, 1)")
    assert session.sql(notes) == [("t", None), ("u", True)]
    session.sql("drop owned by guest; drop role guest")


def test_the_version_is_readable_in_the_database(admin):
    assert admin.value("select relay.version()") == version()
    for kind, name in (("regclass", "relay.outbox"), ("regnamespace", "relay")):
        catalog = {"regclass": "pg_class", "regnamespace": "pg_namespace"}[kind]
        comment = admin.value(f"select obj_description(%s::{kind}, %s)", name, catalog)
        assert comment.endswith(f"schema version {version()}")


def test_a_newer_schema_is_left_alone(lone_postgres, fresh):
    session = fresh("newer")
    lone_postgres.psql(SQL / "install.sql", lone_postgres.dsn("newer"))
    session.sql(f"create or replace function relay.version() returns int language sql as 'select {version() + 1}'")
    with pytest.raises(ServerError, match=f"version {version() + 1}, newer than this install.sql"):
        lone_postgres.psql(SQL / "install.sql", lone_postgres.dsn("newer"))
    assert session.value("select relay.version()") == version() + 1


def test_a_dump_and_restore_keeps_events_watches_and_order(lone_postgres, fresh):
    source = fresh("source")
    lone_postgres.psql(SQL / "install.sql", lone_postgres.dsn("source"))
    source.sql("create table t (id int primary key); select relay.watch('t'); insert into t values (1), (2)")
    dump = subprocess.run(
        [str(lone_postgres.bin / "pg_dump"), "-d", lone_postgres.dsn("source")], check=True, capture_output=True
    ).stdout
    restored = fresh("restored")
    subprocess.run(
        [str(lone_postgres.bin / "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", lone_postgres.dsn("restored")],
        input=dump, check=True, capture_output=True,
    )  # fmt: skip
    assert schema(lone_postgres, "restored") == schema(lone_postgres, "source")
    restored.sql("insert into t values (3); update t set id = 4 where id = 3")
    assert restored.story() == [("insert", 1), ("insert", 2), ("insert", 3), ("delete", 3), ("insert", 4)]
