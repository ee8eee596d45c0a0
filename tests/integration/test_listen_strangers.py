"""What any login of the database may try against a running listener: take its locks, flood it, wake it for ever."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import psycopg2
import pytest

from dev.database import Database
from dev.process import wait_until
from dev.script import Script
from dev.vhost import Vhost
from relay.listening.outbox_read import TOO_LARGE
from tests.listening import Listening, run
from tests.receiving import with_constants


@pytest.fixture
def listening(script: Callable[..., Script], database: Database, vhost: Vhost) -> Listening:
    return Listening(script, database, vhost)


def _anonymous_bytes(script: Script) -> int:
    status = Path(f"/proc/{script.pid}/status").read_text()
    return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("RssAnon"))


def test_no_advisory_lock_of_a_stranger_stops_the_listener(listening: Listening) -> None:
    """Version 1 fenced with 491327873402; the sleep lock, 491327873401, costs only the polling."""
    stranger = listening.database.app()
    with stranger.cursor() as cursor:
        cursor.execute("select pg_advisory_lock(key) from generate_series(491327873395, 491327873410) key")
    listening.bind()
    listening.table()
    listening.settings["POLL_INTERVAL"] = 0.2
    listening.script = listening.another()
    listening.start()
    listening.script.wait_for_log("the sleep lock can't be had: polling instead", 60)
    listening.execute("insert into t select i from generate_series(1, 100) i")
    assert len(listening.messages(100)) == 100
    listening.await_empty()
    assert "earlier listener" not in listening.script.log()


def test_a_prepared_transaction_that_holds_the_sleep_lock_is_named_with_what_ends_it(listening: Listening) -> None:
    """Any login can leave one behind; it has no session, and outlives restarts."""
    listening.bind()
    listening.table()
    listening.settings["POLL_INTERVAL"] = 0.2
    listening.script = listening.another()
    with listening.database.app().cursor() as cursor:
        cursor.execute("begin; select pg_advisory_xact_lock_shared(491327873401); prepare transaction 'left behind'")
    try:
        listening.start()
        listening.script.wait_for_log("the sleep lock can't be had: polling instead", 60)
        log = listening.script.log()
        assert "held_by=\"the prepared transaction 'left behind' of app_test\"" in log
        assert "remedy=\"rollback prepared 'left behind';\"" in log
        listening.execute("insert into t values (1)")
        listening.messages(1)
    finally:
        listening.admin("rollback prepared 'left behind'")


@pytest.mark.parametrize(
    "statement",
    [
        "begin; lock table relay.listener in access share mode", "select * from relay.listener for update",
        "update relay.listener set turn = 0", "begin; lock table relay.outbox in access share mode",
    ],
)  # fmt: skip
def test_the_turn_cannot_be_locked_by_a_stranger(listening: Listening, statement: str) -> None:
    with listening.database.app().cursor() as cursor, pytest.raises(psycopg2.errors.InsufficientPrivilege):
        cursor.execute(statement)


def test_a_session_whose_turn_is_over_deletes_nothing_and_says_so(listening: Listening) -> None:
    listening.bind()
    listening.table()
    listening.start()
    listening.admin("update relay.listener set turn = turn + 1")
    listening.execute("insert into t values (1)")
    listening.script.wait_for_log("another listener has taken the outbox over")
    # The next session takes the turn, sends the event again and deletes it.
    listening.await_empty()
    copies = [message.properties.message_id for message in listening.all_messages()]
    assert len(copies) == 2
    assert len(set(copies)) == 1


def test_a_flood_of_notifications_costs_no_memory(listening: Listening) -> None:
    """On the channel of version 1, on others, and on one that is relayed: there nothing is lost either."""
    count = 5000
    listening.settings["LISTEN_CHANNELS"] = "loud"
    listening.script = listening.another()
    listening.bind()
    listening.table()
    listening.start()
    before = _anonymous_bytes(listening.script)
    stranger = listening.database.app()
    with stranger.cursor() as cursor:
        cursor.execute("select count(pg_notify('relay', lpad(i::text, 7900, '-'))) from generate_series(1, 5000) i")
        cursor.execute(
            "select count(pg_notify('loud', '\"' || lpad(i::text, 7900, '-') || '\"')) from generate_series(1, %s) i",
            (count,),
        )
    peak = 0

    def relayed() -> bool:
        nonlocal peak
        peak = max(peak, _anonymous_bytes(listening.script))
        return bool(listening.vhost.queue_depth("out") == count)

    wait_until(relayed, 60, "all notifications in the queue")
    assert peak - before < 48 << 20, f"{(peak - before) >> 20} MiB for 38 MiB of notifications"


def test_nobody_who_may_not_read_its_channel_can_have_everything_read_again(listening: Listening) -> None:
    """Rows with numbers from the past are found by a sweep only: a stranger's does not arrive, a command's does."""
    listening.bind()
    listening.table()
    listening.start()
    listening.execute("insert into t select i from generate_series(1, 100) i")
    listening.messages(100)
    listening.await_empty()
    listening.admin("select setval('relay.outbox_seq_seq', 1, false)")
    listening.execute("insert into t values (101)")
    stranger = listening.database.app()
    with stranger.cursor() as cursor:
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            cursor.execute("select channel from relay.listener")
        cursor.execute("select pg_notify('relay', 'sweep')")
    listening.admin("select setval('relay.outbox_seq_seq', 1000, false)")
    listening.execute("insert into t values (102)")
    assert [message.json["key"]["id"] for message in listening.messages(1)] == [102]
    wait_until(lambda: listening.pending() == 1, 20, "what was confirmed to be deleted")
    listening.admin("select pg_notify(channel, 'sweep') from relay.listener")
    assert [message.json["key"]["id"] for message in listening.messages(1)] == [101]
    listening.await_empty()


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        ("drop trigger \"!relay_update\" on t", "triggers are gone: !relay_update"),
        ("alter table t disable trigger \"!relay_insert\"", "a trigger is disabled"),
        ("drop function relay.row_event() cascade", "triggers are gone: !relay_delete, !relay_insert, !relay_update"),
    ],
)  # fmt: skip
def test_a_trigger_that_is_lost_is_an_error_in_the_log_and_in_check(
    listening: Listening, spoil: str, reason: str
) -> None:
    listening.bind()
    listening.table()
    listening.admin(spoil)
    listening.start()
    listening.script.wait_for_log("capture is not complete")
    (line,) = [line for line in listening.script.log().splitlines() if "capture is not complete" in line]
    assert " ERROR " in line
    assert reason in line
    assert "remedy=" in line
    checked = run(listening, "check")
    assert checked.returncode == 78
    assert reason in checked.stdout
    assert reason in run(listening, "status").stdout


# What the owner of a table, or a publisher, can put beside an event's body: {what: statements}.
UNSENDABLE = {
    "topic": "select pg_temp.trigger(repeat('t', 300), 'u', 'insert'); insert into u values (1)",
    "op": "select pg_temp.trigger('t', 'u', repeat('o', 300)); insert into u values (1)",
    "table": "select pg_temp.trigger('t', repeat('n', 200000), 'insert'); insert into u values (1)",
    "key": "select relay.publish('t', '{}', key => repeat('k', 200000))",
    "headers": "select relay.publish('t', '{}', headers => jsonb_build_object('h', repeat('h', 200000)))",
    "key of a row": "create table w (k text primary key); select relay.watch('w'); "
    "insert into w values (repeat('k', 200000))",
}


@pytest.mark.parametrize("what", UNSENDABLE)
def test_an_event_that_amqp_cannot_carry_stops_no_other(listening: Listening, what: str) -> None:
    listening.bind()
    listening.table()
    listening.admin("""
        create table u (id int primary key);
        create function pg_temp.trigger(topic text, name text, op text) returns void language plpgsql as $$
        begin
            execute format('create trigger "!relay_insert" after insert on u for each row execute function '
                'relay.row_event(%L, %L, %L, ''{1}'', ''{}'', ''id'')', topic, name, op);
        end $$
    """)
    for statement in UNSENDABLE[what].split("; "):
        listening.admin(statement)
    listening.start()
    listening.execute("insert into t values (1)")
    assert len(listening.messages(1)) == 1
    listening.script.wait_for_log("event refused by the broker")
    marked = "select error from relay.outbox where error is not null"
    wait_until(lambda: bool(listening.admin(marked)), 20, "the event to be marked")
    ((error,),) = listening.admin(marked)
    assert what.split()[0] in error
    assert "connection" not in listening.script.log()


def test_an_event_that_is_far_too_large_is_not_even_read(listening: Listening) -> None:
    """The outbox takes a gigabyte; the unit ends a listener that takes half of it into its memory."""
    listening.bind()
    listening.table()
    listening.start()
    listening.execute("insert into t values (1)")
    listening.admin("""
        select relay.publish('t', '"' || repeat('x', 140000000) || '"', key => 'a');
        select relay.publish('t', '1', key => repeat('k', 30000000));
        insert into relay.outbox (topic, op, body, headers)
        values ('t', 'message', '2', jsonb_build_object('h', repeat('h', 30000000)));
    """)
    listening.execute("insert into t values (2)")
    assert len(listening.messages(2)) == 2
    marked = "select count(*), min(error), max(error) from relay.outbox where error is not null"
    wait_until(lambda: listening.admin(marked)[0][0] == 3, 30, "the events to be marked")
    ((_count, *errors),) = listening.admin(marked)
    assert errors == [TOO_LARGE, TOO_LARGE]
    assert _anonymous_bytes(listening.script) < 150 << 20
    assert listening.script.log().count("relaying") == 1


def test_topics_that_nobody_reads_do_not_keep_the_listener_busy(listening: Listening) -> None:
    """Each was probed for, before anything else was read: with thousands of them nothing else ever was."""
    listening.bind(key="public.#")
    listening.table()
    listening.start()
    listening.admin("select count(relay.publish('nobody.' || i, '{}')) from generate_series(1, 3000) i")
    wait_until(lambda: listening.script.log().count("topic nobody.") >= 3000, 60, "all topics to wait")
    started = time.monotonic()
    for i in range(1, 11):
        listening.execute(f"insert into t values ({i})")
        assert len(listening.messages(1)) == 1
    assert time.monotonic() - started < 20
    assert _anonymous_bytes(listening.script) < 150 << 20


def test_topics_that_nobody_reads_have_no_table_s_event_refused(
    listening: Listening, script: Callable[..., Script]
) -> None:
    """Once as many waited as may, an event of a table whose queue was away for a moment waited for a person."""
    listening.script = script(
        "listen.py", listening.settings, environment=with_constants("relay.listening.holds.GROUPS_MOST=20")
    )
    listening.bind(key="shop.#")
    listening.table()
    listening.start()
    listening.admin("select count(relay.publish('nobody.' || i, '{}')) from generate_series(1, 25) i")
    wait_until(lambda: listening.admin("select 1 from relay.outbox where error is not null"), 30, "no more can wait")
    listening.execute("insert into t values (1)")
    listening.script.wait_for_log("table public.t waits")
    listening.bind(key="public.#")
    assert listening.messages(1)[0].json["key"] == {"id": 1}
