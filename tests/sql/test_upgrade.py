"""Installing over every earlier version, with events in the outbox and watches in place."""

import subprocess
from contextlib import closing

import psycopg2
import pytest
from freeze import VERSIONS, version

from dev.process import ServerError
from tests.sql.conftest import SQL, Session

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


def test_every_earlier_version_is_frozen():
    """The present one is not before it is released."""
    missing = set(range(1, version())) - set(FROZEN)
    assert not missing, "run python tests/sql/freeze.py where these were released"


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


def test_after_an_upgrade_from_version_2_keys_are_looked_up_as_before(lone_postgres, fresh):
    """By another reader: the old one ran the condition as the owner. Not with a condition that is not the old one's."""
    session = fresh("upgraded")
    install(lone_postgres, session, 2)
    for table in ("t", "u", "v"):
        session.sql(f"""
            create table {table} (id int primary key deferrable, n int); insert into {table} values (1, 1), (2, 2);
            select relay.watch('{table}', "when" => {"null" if table == "t" else "'n > 0'"});
        """)
    session.sql("update relay.wanted set filter = 'true' where tbl = 'v'::regclass")
    lone_postgres.psql(SQL / "install.sql", lone_postgres.dsn("upgraded"))
    for table, looked_up in (("t", True), ("u", True), ("v", False)):
        session.sql(f"delete from relay.outbox; update {table} set id = 3 - id")
        assert ("delete" not in {op for op, _ in session.story()}) == looked_up, table
    notes = dict(session.sql("select w.tbl::text, note from relay.watched w"))
    assert (notes["t"], notes["u"]) == (None, None)
    assert "what looks up its keys is gone" in notes["v"]
    readers = session.sql("select proname from pg_proc where pronamespace = 'relay_readers'::regnamespace")
    assert len(readers) == 2


@pytest.mark.parametrize(
    ("start", "made"),
    [(1, "view v as select * from relay.watched"), (2, "view v as select relay.resend_row(null, null, null)")],
)
def test_what_others_have_made_of_ours_holds_no_upgrade_up(lone_postgres, fresh, start, made):
    session = fresh("upgraded")
    install(lone_postgres, session, start)
    session.sql(f"create role maker in role relay_watcher; create schema maker authorization maker; set role maker; "
                f"set search_path = maker, pg_catalog; create {made}; create view kept as select relay.version(); "
                "reset role; reset search_path")  # fmt: skip
    command = [str(lone_postgres.bin / "psql"), "-X", "-q", "-d", lone_postgres.dsn("upgraded")]
    done = subprocess.run([*command, "-f", str(SQL / "install.sql")], capture_output=True, text=True, check=True)
    assert "gone with what they named: view maker.v of maker" in done.stderr
    assert "maker.kept" not in done.stderr
    assert session.sql("select relname from pg_class where relnamespace = 'maker'::regnamespace") == [("kept",)]
    session.sql("drop schema maker cascade; drop owned by maker; drop role maker")


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
