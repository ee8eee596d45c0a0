"""What fell to the third attack.

Columns of a view that are named like a row's system columns, settings that have a session told what functions do,
names of types and of what a condition is made of, foreign partitions, and headers of any size.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

import psycopg2
import pytest

from dev.database import Database
from relay.listening import outbox
from tests.sql.attacks import WATCHES, mood
from tests.sql.conftest import TENANT, Session, evil, login, reached


@pytest.mark.parametrize("function", ["row_event", "image_event", "boxed_event"])
@pytest.mark.parametrize("target", ["text", "xid", "tid", "timestamp"])
@pytest.mark.parametrize("column", ["xmax", "xmin", "ctid", "tableoid"])
def test_a_view_s_columns_are_not_cast_for_having_a_system_column_s_name(tenant, function, column, target):
    """A view may have columns of these names. Their casts ran as relay_owner, who owns all that every writer runs."""
    tenant.sql("create type tenant.x as (a int)")
    evil(tenant, "tenant.x", target, "null")
    tenant.sql(f"""
        create cast (tenant.x as {target}) with function tenant.evil(tenant.x) as implicit;
        create function tenant.inlined(tenant.x) returns {target} language sql immutable as 'select tenant.evil(null)';
        create view tenant.v as select 1 as id, row(1)::tenant.x as {column};
        create trigger t instead of update or delete on tenant.v for each row execute function
            relay.{function}('t', 't', 'update', '{{1}}', '{{}}', 'id');
    """)
    with contextlib.suppress(psycopg2.errors.InvalidTextRepresentation):  # "(1)" is no xid, no tid
        tenant.sql("update tenant.v set id = 2")
    with contextlib.suppress(psycopg2.errors.InvalidTextRepresentation):
        tenant.sql("delete from tenant.v")
    tenant.sql(f"""
        drop cast (tenant.x as {target});
        create cast (tenant.x as {target}) with function tenant.inlined(tenant.x) as implicit;
    """)
    with contextlib.suppress(psycopg2.errors.InvalidTextRepresentation):
        tenant.sql("update tenant.v set id = 2")
    assert reached(tenant) == set()


def told(said: str) -> str:
    """What PostgreSQL has said, and the constants of plans in it as text."""
    text = re.sub(r"\s+", " ", said)
    constants = re.findall(r"constvalue \d+ \[ ([-\d ]*) \]", text)
    return text + " ".join(bytes(int(b) & 255 for b in one.split()).decode("latin-1") for one in constants)


@pytest.mark.parametrize("setting", ["debug_print_plan", "debug_print_parse", "debug_print_rewritten", "trace_notify"])
def test_no_setting_of_a_session_has_a_secret_told(admin, tenant, connect, database, setting):
    """With a reader's secret the owner of another table ran any query as this one's; with the channel all notify.

    Nor does it stand in the server's log.
    """
    log = database.server.log
    before = log.stat().st_size
    connect().sql("select pg_advisory_lock(relay.sleep_key())")
    admin.sql(f"""
        create table public.own (id int primary key deferrable, v text); select relay.watch('public.own');
        insert into own values (1), (2); grant all on own to {TENANT}; grant relay_publisher to {TENANT};
    """)
    secret, channel = (
        admin.value("select secret from relay.wanted where tbl = 'public.own'::regclass"),
        admin.value("select channel from relay.listener"),
    )
    tenant.connection.notices = tenant.notices = deque()  # of a list psycopg2 keeps the last 50
    tenant.sql(f"set {setting} = on; set debug_pretty_print = off; set client_min_messages = debug1")
    tenant.sql("""
        update own set id = 3 - id; insert into own values (5); update own set v = 'x'; delete from own; truncate own;
        select relay.publish('t', '{}'), relay.publish_many('{t}', '{1}');
        create table tenant.t (id int primary key); select relay.watch('tenant.t', bulk => true);
        insert into tenant.t values (1); update tenant.t set id = 2; select relay.unwatch('tenant.t');
    """)
    admin.sql(f"revoke relay_publisher from {TENANT}")
    assert tenant.notices
    pieces = {part for value in (secret, channel) for part in re.findall(r"[0-9a-f]{6,}", value)}
    assert not [piece for piece in pieces if piece in told("".join(tenant.notices))]
    assert not [piece for piece in pieces if piece in told(log.read_bytes()[before:].decode())]


RENAME = """
    begin; alter type tenant.mood rename to was;
    create domain tenant.mood as tenant.was check (tenant.evil(value)); commit;
    begin; drop domain tenant.mood; alter type tenant.was rename to mood; commit
"""


@pytest.fixture
def renaming(admin: Session, tenant: Session, database: Database) -> Iterator[Callable[[], None]]:
    """The tenant owns a type; once called, another session of it gives the type's name to a domain, to and fro."""
    evil(tenant, "anyelement")
    tenant.sql("create type tenant.mood as enum ('a', 'b', 'c')")
    other, stop = login(database, TENANT), threading.Event()

    def rename() -> None:
        while not stop.is_set():
            other.sql(RENAME)

    thread = threading.Thread(target=rename)
    yield thread.start
    stop.set()
    if thread.ident:
        thread.join()
    other.connection.close()


def hammer(session: Session, *statements: str) -> set[str]:
    """Run statements for some seconds, and return as whom code of the tenant's ran, if not as itself."""
    end = time.monotonic() + 2
    found: set[str] = set()
    while time.monotonic() < end and not found:
        for statement in statements:
            with contextlib.suppress(psycopg2.Error):
                session.sql(statement)
        found = reached(session) - {TENANT}
        del session.notices[:]
    return found


def test_a_key_s_type_renamed_meanwhile_has_nothing_run_as_who_reads_the_rows(admin, tenant, renaming, database):
    """The query names the type; a domain that had its name by then was checked as relay_trigger."""
    tenant.sql("""
        create table tenant.t (id tenant.mood primary key); select relay.watch('tenant.t');
        insert into tenant.t values ('a'), ('b');
    """)
    listener = Session(database.listener())
    chunk = "select copied from relay.resend_chunk('tenant.t', '{\"id\":\"a\"}', 10, null)"
    row = "select relay.resend_row('tenant.t', '{\"id\":\"a\"}', null)"
    renaming()
    assert hammer(listener, chunk, row) == set()


def test_such_a_table_is_resent_where_no_other_owner_s_is_watched_or_its_name_stays(admin, tenant, renaming, database):
    tenant.sql("create table tenant.t (id tenant.mood primary key); select relay.watch('tenant.t')")
    listener = Session(database.listener())
    chunk = "select copied from relay.resend_chunk('tenant.t', null, 10, null)"
    tenant.sql("create table tenant.u (id int primary key, m tenant.mood)")
    tenant.sql("""select relay.watch('tenant.u', "when" => 'm = $$a$$')""")
    assert listener.value(chunk.replace("tenant.t", "tenant.u")) == 0, "the condition is looked at in the box"
    error = listener.error(chunk)
    assert f"{TENANT} may rename its schema, or what its key" in error.diag.message_primary
    assert "alter type ... owner to" in error.diag.message_hint
    admin.sql("alter type tenant.mood owner to postgres")
    assert listener.value(chunk) == 0
    admin.sql(f"alter type tenant.mood owner to {TENANT}; drop schema victim cascade")
    assert listener.value(chunk) == 0


NAMING = {
    "key": ("id tenant.mood primary key deferrable, m text", "null"),
    "condition": ("id text primary key deferrable, m text", "$$m = 'a'::tenant.mood::text$$"),
}


@pytest.mark.parametrize("where", NAMING)
def test_a_type_renamed_meanwhile_has_nothing_run_as_a_table_s_owner(admin, tenant, renaming, where):
    """The reader's query named it, and so did the condition in the reader: a superuser's, if the table was one's."""
    columns, when = NAMING[where]
    admin.sql(f"""
        create table public.own ({columns}); select relay.watch('public.own', "when" => {when});
        insert into own values ('a', 'a'), ('b', 'a'); grant all on own to {TENANT};
    """)
    note = admin.value("select note from relay.watched where tbl = 'public.own'::regclass")
    assert note is None if where == "condition" else "or what its key or its condition names" in note
    renaming()
    swap = "update public.own set id = (case when id::text = 'a' then 'b' else 'a' end)"
    assert hammer(tenant, f"{swap}::tenant.mood" if where == "key" else swap) == set()


def test_what_a_condition_names_is_not_made_anew_by_who_owns_its_schema(admin, tenant):
    """Dropped, it takes the triggers with it; with one made by hand the reader was asked, whose condition is text."""
    admin.sql("create function tenant.fine(text) returns bool language sql as 'select true'")
    admin.sql(f"""
        create table public.own (id int primary key deferrable, m text);
        select relay.watch('public.own', "when" => 'tenant.fine(m)'); insert into own values (1), (2);
        grant all on own to {TENANT};
    """)
    tenant.sql("drop function tenant.fine cascade")
    evil(tenant, "text")
    tenant.sql("""
        alter function tenant.evil(text) rename to fine;
        create trigger "!relay_update" after update on public.own for each row execute function
            relay.row_event('own', 'own', 'update', '{1}', '{}', 'id');
        update own set id = 3 - id;
    """)
    assert reached(tenant) <= {TENANT}


def test_a_foreign_partition_is_not_read(admin, tenant, database):
    """What it brings is read by input functions: a domain was checked as relay_trigger."""
    server = database.server
    admin.sql(f"create extension postgres_fdw; grant usage on foreign data wrapper postgres_fdw to {TENANT}")
    evil(tenant, "text")
    tenant.sql(f"""
        create domain tenant.d as text check (tenant.evil(value));
        create table tenant.there (id int, v text); insert into tenant.there values (1, 'x');
        create server s foreign data wrapper postgres_fdw
            options (host '127.0.0.1', port '{server.port}', dbname '{database.name}');
        create user mapping for public server s options (user '{TENANT}', password '{database.PASSWORD}');
        create table tenant.t (id int, v tenant.d) partition by range (id);
        create foreign table tenant.t1 partition of tenant.t for values from (0) to (10) server s
            options (schema_name 'tenant', table_name 'there');
        select relay.watch('tenant.t', key => '{{id}}');
    """)
    listener = Session(database.listener())
    error = listener.error("select copied from relay.resend_chunk('tenant.t', null, 10, null)")
    assert "tenant.t1 is a foreign table" in error.diag.message_primary
    assert reached(listener) == set()


def test_headers_too_large_to_be_read_are_refused_to_their_publisher(admin):
    """Above 1 GB as text, which a jsonb of 200 MB is, nothing can read the row, and the listener ended for it.

    Far below that a thousand of them take it longer to read than a statement may.
    """
    large = "jsonb_build_object('a', repeat('x', 263000))"
    for call in (
        f"relay.publish('t', '{{}}', headers => {large})",
        f"relay.publish_many('{{t}}', '{{1}}', null, array[{large}])",
    ):
        assert "256 KiB" in admin.error(f"select {call}").diag.message_primary
    admin.sql("select relay.publish('t', '{}', headers => jsonb_build_object('a', repeat('x', 260000)))")


def test_an_event_of_a_trigger_made_by_hand_without_a_table_s_name_is_json(admin, tenant):
    tenant.sql("""
        create table tenant.t (id int primary key);
        create trigger t after truncate on tenant.t for each statement execute function relay.truncate_event('a');
        truncate tenant.t;
    """)
    (body,) = admin.sql("select body from relay.backlog where topic = 'a'")[0]
    assert json.loads(body)["table"] is None


def test_what_one_owner_has_remembered_hides_no_other_s_lost_table(admin, tenant, database):
    """A row of relay.wanted stays when its table is dropped: a look at thousands took longer than it may."""
    admin.sql("set role victim_test; create table victim.late (id int primary key); select relay.watch('victim.late')")
    tenant.sql("""
        do $$begin for i in 1..3000 loop
            create table tenant.t (id int);
            insert into relay.wanted (tbl, name, triggers, always, filter, reader, secret) values (
                'tenant.t'::regclass, 'x', '{a}', false,
                (select string_agg(format('t.c%s', n), ' ') from generate_series(1, 1000) n), i, 'x');
            drop table tenant.t;
            if i % 500 = 0 then commit; end if;
        end loop; end$$
    """)
    admin.sql("drop table victim.late; create table victim.last (id int); drop table victim.secret; reset role")
    listener = Session(database.listener())
    rows = listener.sql(outbox.INCOMPLETE)
    assert len(rows) == 102
    assert listener.value("select count(*) from relay.watched where note = 'the table was dropped'") == 102
    assert listener.sql("select note, owner::text from relay.watched where owner = 'victim_test'::regrole") == [
        ("the table was dropped", "victim_test"), ("the table was dropped", "victim_test"),
    ]  # fmt: skip


def test_an_owner_s_many_conditions_keep_nobody_from_reading_about_the_others(admin, tenant, database):
    """Each is looked through for columns that are gone: 2.5 ms, if it is as long as it may be."""
    tenant.sql("""
        do $$begin for i in 1..4000 loop
            execute format('create table tenant.t%s (id int)', i);
            insert into relay.wanted (tbl, name, triggers, always, filter, reader, secret) values (
                ('tenant.t' || i)::regclass, 'x', '{a}', false,
                (select string_agg(format('t.c%s', n), ' ') from generate_series(1, 1000) n), i, 'x');
            if i % 500 = 0 then commit; end if;
        end loop; end$$
    """)
    assert len(Session(database.listener()).sql(outbox.INCOMPLETE)) == 100


NAMED = {
    "function": "create function shared.f(int) returns bool language sql as 'select true'",
    "operator": """
        create function public.two(int, int) returns bool language sql as 'select true';
        create operator shared.@@@ (leftarg = int, rightarg = int, function = public.two)
    """,
    "type": "create type shared.f as enum ('1')",
}
CONDITION = {"function": "shared.f(v)", "operator": "v operator(shared.@@@) 1", "type": "v::text = '1'::shared.f::text"}


@pytest.mark.parametrize("kind", NAMED)
def test_who_may_rename_what_a_watch_names(admin, tenant, kind):
    """Its owner, and the members of that role, if they may create such in its schema; of a type anyway."""
    admin.sql(f"""
        create schema shared; {NAMED[kind]}; create table public.own (id int primary key, v int);
        select relay.watch('public.own', "when" => '{CONDITION[kind].replace("'", "''")}');
        drop role if exists friend_test; create role friend_test in role {TENANT};
    """)
    found = "select array(select unnest(relay.renamers('own'::regclass, '{1}', true))::regrole::text order by 1)"
    name = {"function": "function shared.f", "operator": "operator shared.@@@(int, int)", "type": "type shared.f"}[kind]
    assert admin.value(found) == []
    admin.sql(f"grant create on schema shared to {TENANT}; alter {name} owner to {TENANT}")
    assert admin.value(found) == ["friend_test", TENANT]
    admin.sql(f"revoke create on schema shared from {TENANT}")
    assert admin.value(found) == (["friend_test", TENANT] if kind == "type" else [])
    admin.sql("drop role friend_test")


@pytest.mark.parametrize("how", WATCHES)
@pytest.mark.parametrize("error", ["raise exception 'x'", "assert false", "perform 1/0", "raise sqlstate '22P02'"])
def test_no_error_of_a_cast_is_the_writer_s(admin, tenant, how, error):
    mood(tenant, f"begin {error}; end", "id int primary key, m tenant.mood, v int")
    tenant.sql(WATCHES[how])
    tenant.sql("insert into tenant.t values (1, 'a'); update tenant.t set m = 'a', id = 2; delete from tenant.t")
    events = [e for e in admin.events() if e["table"] == "tenant.t"]
    assert [e["op"] for e in events] == ["insert", "delete", "insert", "delete"]
    assert events[0]["new"]["m"] == "a"


def test_what_a_reader_runs_writes_nothing(admin, tenant):
    """All of it is rolled back; but a sequence is not."""
    tenant.sql("""
        create table tenant.t (id int primary key deferrable, v int);
        create function tenant.counts(int) returns bool language plpgsql as $$
        begin
            if current_user not in ('tenant_test', 'postgres') then
                raise notice 'reached as %', current_user;
                perform nextval('tenant.counter');
            end if;
            return true;
        end $$;
    """)
    admin.sql("""select relay.watch('tenant.t', "when" => 'tenant.counts(v)'); insert into tenant.t values (1), (2)""")
    admin.sql("update tenant.t set id = 3 - id")
    assert reached(admin) == {"relay_compute"}
    assert tenant.value("select is_called from tenant.counter") is False


def test_a_type_of_its_owner_s_has_a_table_s_json_made_in_the_box_from_the_start(admin):
    """That is safer, and quicker than to ask each time; a type that comes later is still asked for."""
    admin.sql("create type mood as enum ('a'); create table a (id int primary key, m mood)")
    admin.sql("create table b (id int primary key); create table c (id int primary key, m mood[])")
    admin.sql("select relay.watch('a'), relay.watch('b'), relay.watch('c')")
    functions = "select tgrelid::regclass::text, tgfoid::regproc::text from pg_trigger where tgname = '!relay_insert'"
    assert dict(admin.sql(functions)) == {"a": "relay.boxed_event", "b": "relay.row_event", "c": "relay.boxed_event"}
