"""What fell to the last attack.

A table that changes hands, whose new owner could run code as the old one and the old one as the new; and rows of the
outbox that are large beside their bodies.
"""

from __future__ import annotations

import threading
import time

import psycopg2
import pytest

from relay.listening import outbox, outbox_read
from relay.listening.gaps import NOTHING
from tests.sql.conftest import TENANT, Session, login

FROM_THE_BEGINNING = {"firsts": [], "lasts": [], "upto": 0, "near": NOTHING, "far": NOTHING, "high": 0, "most": 100}
"""Of outbox_read.READ, with its limit of bytes."""


def evil(tenant: Session) -> None:
    """A function that says as whom it runs."""
    tenant.sql("""
        create function tenant.evil() returns bool language plpgsql as
            $$begin raise notice 'reached as %', current_user; return true; end$$
    """)


def swap(admin: Session, table: str) -> list[str]:
    """Have rows exchange their keys, so that the table's reader is asked; what the tenant's code said meanwhile."""
    del admin.notices[:]
    admin.sql(f"delete from relay.outbox; update {table} set id = 3 - id")
    return [notice for notice in admin.notices if "reached" in notice]


@pytest.fixture
def given(admin: Session, tenant: Session) -> str:
    """A table that a superuser has watched and then given away; the reader, which is still the superuser's."""
    evil(tenant)
    admin.sql(f"""
        create table public.given (id int primary key deferrable, s text); insert into given values (1), (2);
        select relay.watch('public.given', "when" => 's is null'); alter table given owner to {TENANT};
    """)
    return str(admin.value("select reader from relay.wanted where tbl = 'given'::regclass"))


def test_the_new_owner_of_a_table_does_not_learn_what_the_reader_of_the_old_one_wants_to_hear(admin, tenant, given):
    """With it, a cast to json had that reader run any query: as a superuser, if it was one who gave the table."""
    for statement in (
        "select secret from relay.wanted", "table relay.wanted", "select w from relay.wanted w",
        "update relay.wanted set name = name returning secret", "update relay.wanted set name = secret",
        "select from relay.wanted where secret > ''", "select from relay.wanted order by secret",
        "select to_jsonb(w) from relay.wanted w", "copy relay.wanted to stdout",
        "insert into relay.wanted select * from relay.wanted on conflict (tbl) do update set name = excluded.secret",
    ):  # fmt: skip
        assert tenant.error(statement).pgcode == "42501", statement
    assert tenant.value("select reader from relay.wanted") == given


def test_what_an_owner_in_between_has_written_is_not_run_as_the_old_one(admin, tenant, given):
    tenant.sql("update relay.wanted set filter = 'tenant.evil()'")
    assert swap(admin, "given") == []
    admin.sql("alter table given owner to postgres")
    assert swap(admin, "given") == []
    assert {op for op, _ in admin.story()} == {"insert"}, (
        "its reader answered, with the condition that it was made with"
    )


@pytest.mark.parametrize("change", ["filter = 'tenant.evil()'", "triggers = '{}'", "reader = 'x', secret = 'x'"])
@pytest.mark.parametrize("waits_for", ["a lock of its own", "the row"])
def test_a_statement_that_began_as_the_owner_s_changes_no_note_of_the_next_one(
    admin, tenant, connect, change, waits_for
):
    """PostgreSQL looks at a policy with the statement's snapshot, for the row as it is now as well."""
    evil(tenant)
    tenant.sql("""
        create table tenant.t (id int primary key deferrable, s text); select relay.watch('tenant.t');
        insert into tenant.t values (1), (2);
        create function tenant.wait() returns bool language plpgsql as
            $$begin perform pg_advisory_lock_shared(7), pg_advisory_unlock_shared(7); return true; end$$;
    """)
    admin.sql("select pg_advisory_lock(7)")
    errors: list[str | None] = []

    def late() -> None:
        try:
            tenant.sql(f"update relay.wanted set {change} where tbl = 'tenant.t'::regclass and tenant.wait()")
        except psycopg2.Error as error:
            errors.append(error.pgcode)

    def blocked(kind: str) -> None:
        while not observer.value(
            "select count(*) from pg_locks where not granted and pid = %s and locktype = %s", tenant.pid, kind
        ):
            assert thread.is_alive()

    thread, observer = threading.Thread(target=late), connect()
    thread.start()
    blocked("advisory")
    admin.sql("begin; alter table tenant.t owner to postgres; select relay.watch('tenant.t')")
    if waits_for == "the row":
        admin.sql("select pg_advisory_unlock(7)")
        blocked("transactionid")
    admin.sql("commit; select pg_advisory_unlock_all()")
    watch = "select reader, filter, triggers <> '{}' from relay.wanted where tbl = 'tenant.t'::regclass"
    before = admin.sql(watch)
    assert before[0][1:] == (None, True)
    thread.join()
    assert admin.sql(watch) == before
    assert errors == (["42501"] if waits_for != "the row" else [])
    assert swap(admin, "tenant.t") == []
    assert {op for op, _ in admin.story()} == {"insert"}, "the new reader answered"


def test_a_relay_watcher_watches_a_partitioned_table_whose_partition_was_watched(tenant, database):
    """Its note goes although a relay_watcher may not DELETE: by relay.forget."""
    tenant.sql("""
        create table tenant.p (id int primary key); select relay.watch('tenant.p');
        create table tenant.r (id int primary key) partition by range (id);
        alter table tenant.r attach partition tenant.p for values from (0) to (10); select relay.watch('tenant.r');
    """)
    again = login(database, TENANT)
    assert again.sql("select tbl::text from relay.wanted") == [("tenant.r",)]
    again.connection.close()


@pytest.mark.parametrize("column", ["topic", "tbl", "op", "key", "headers"])
def test_one_read_takes_no_more_than_its_bytes_whatever_is_large(admin, column):
    """Bodies were counted only: a thousand keys of a megabyte, or topics of any size, filled its memory."""

    def taken(length: int, error: str | None, query: str, **more: object) -> int:
        value = "jsonb_build_object('h', x)" if column == "headers" else "x"
        columns = {"topic": "'t'", "tbl": "'t'", "op": "'update'", "key": "'k'", "headers": "null", column: value}
        admin.sql("delete from relay.outbox")
        admin.sql(
            f"insert into relay.outbox (body, error, {', '.join(columns)}) "
            f"select '1', %s, {', '.join(columns.values())} from repeat('x', %s) x, generate_series(1, 5)",
            error, length,
        )  # fmt: skip
        with admin.connection.cursor() as cursor:
            cursor.execute(query, {"keys": [], "tables": [], "topics": [], **more})
            rows = cursor.fetchall()
        assert rows
        return sum(len(value) for row in rows for value in row if isinstance(value, str))

    admin.sql(outbox.PREPARE)
    read = FROM_THE_BEGINNING | {"bytes": 500000}
    for error in (None, "x"):
        assert taken(300000, error, outbox_read.READ, **read) <= 2 * 300100  # the last one may begin below the limit
        assert taken(1100000, error, outbox_read.READ, **read) < 100000
    group = "table " + ("x" * 1100000 if column == "tbl" else "t")
    assert taken(1100000, None, outbox_read.PROBE, low=0, group=group) < 1100000


def test_headers_are_printed_once_and_not_where_the_event_was_refused(admin):
    """A thousand that take 30 ms each, three times, took longer than a statement may: nothing left any more."""
    admin.sql("""
        insert into relay.outbox (topic, op, body, headers) select 't', 'message', '1', headers
        from (select jsonb_build_object('a', jsonb_agg(1)) as headers from generate_series(1, 349000)) x,
            generate_series(1, 10)
    """)
    admin.sql(outbox.PREPARE)
    read = FROM_THE_BEGINNING | {"bytes": 1 << 30, "keys": [], "tables": [], "topics": []}

    def taken(query: str, **given: object) -> float:
        """Seconds, the least of three."""
        seconds = []
        for _ in range(3):
            began = time.monotonic()
            with admin.connection.cursor() as cursor:
                cursor.execute(query, given)
            seconds.append(time.monotonic() - began)
        return min(seconds)

    once = taken("select count(octet_length(headers::text)) from relay.outbox")
    assert taken(outbox_read.READ, **read) < 2 * once
    admin.sql("update relay.outbox set error = 'x'")
    assert taken(outbox_read.READ, **read) < once / 4


def test_an_operation_made_by_hand_is_json_as_well(admin, tenant):
    tenant.sql("""
        create table tenant.t (id int primary key, a text[]);
        create trigger a after insert on tenant.t for each row execute function
            relay.image_event('t', 't', E'x"\\\\,\\n"', '{1}', '{}', 'id');
        create trigger b after insert on tenant.t for each row execute function
            relay.row_event('t', 't', E'x"\\\\,\\n"', '{1}', '{}', 'id');
        insert into tenant.t values (1);
    """)
    assert [e["op"] for e in admin.events() if e["table"] == "t"] == ['x"\\,\n"'] * 2
