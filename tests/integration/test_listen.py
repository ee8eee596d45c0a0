"""listen.py on real servers: what is published, what never is, and in which order."""

from __future__ import annotations

import contextlib
import json
import signal
import time
import uuid
from collections.abc import Callable

import pytest

from dev.database import Database, connect
from dev.process import wait_until
from dev.script import Script
from dev.vhost import Vhost
from tests.listening import Listening, by_row

# The lock that tells writers to notify; the listener's other one, held while it works, is the next number.
ASLEEP = """select 1 from pg_locks where locktype = 'advisory' and mode = 'ExclusiveLock' and granted
    and (classid::bigint << 32 | objid::bigint) = relay.sleep_key()"""


@pytest.fixture
def listening(script: Callable[..., Script], database: Database, vhost: Vhost) -> Listening:
    made = Listening(script, database, vhost)
    made.bind()
    return made


def test_a_committed_change_is_published_and_leaves_the_outbox(listening: Listening) -> None:
    listening.table()
    listening.start()
    listening.execute("insert into t values (42, 7)")
    (message,) = listening.messages(1)
    event = message.json
    assert message.routing_key == "public.t"
    assert event["new"] == {"id": 42, "n": 7}
    assert (event["op"], event["key"], event["table"], event["old"]) == ("insert", {"id": 42}, "public.t", None)
    properties = message.properties
    assert properties.message_id == event["id"] == str(uuid.UUID(event["id"]))
    assert (properties.delivery_mode, properties.content_type, properties.type) == (2, "application/json", "insert")
    assert abs(properties.timestamp - time.time()) < 60
    assert properties.headers["relay-table"] == "public.t"
    assert properties.headers["relay-key"].startswith("public.t ")
    assert properties.headers["relay-seq"] > 0
    listening.await_empty()


def test_insert_update_and_delete_of_a_row_arrive_in_order(listening: Listening) -> None:
    listening.table()
    listening.start()
    listening.execute("insert into t values (1, 1)", "update t set n = 2", "delete from t")
    assert [m.json["op"] for m in listening.messages(3)] == ["insert", "update", "delete"]


def test_many_changes_of_one_row_leave_room_for_other_rows(
    script: Callable[..., Script], database: Database, vhost: Vhost
) -> None:
    """They go one after the other, each once the one before it is confirmed; others need not wait for that."""
    listening = Listening(script, database, vhost, WINDOW_EVENTS=200)
    listening.bind("t", "public.t")
    listening.bind("u", "public.u")
    listening.table("t", count=1)
    listening.table("u")
    listening.execute("""
        do $$ begin
            for i in 1..700 loop update t set n = i; end loop;
            insert into u values (1);
        end $$
    """)
    listening.start()
    listening.messages(1, "u", timeout=60)
    assert vhost.queue_depth("t") < 350
    assert [m.json["new"]["n"] for m in listening.messages(700, "t", timeout=60)] == list(range(1, 701))


def test_a_rolled_back_change_is_never_published(listening: Listening) -> None:
    listening.table()
    listening.start()
    app = listening.database.app()
    app.autocommit = False
    with app.cursor() as cursor:
        cursor.execute("insert into t values (1)")
        app.rollback()
        cursor.execute("insert into t values (2)")
        cursor.execute("savepoint s")
        cursor.execute("insert into t values (3)")
        cursor.execute("rollback to savepoint s")
        app.commit()
    (message,) = listening.messages(1)
    assert message.json["key"] == {"id": 2}


def test_what_was_committed_while_the_listener_was_away_is_published_when_it_starts(listening: Listening) -> None:
    listening.table()
    listening.execute("insert into t select i from generate_series(1, 5000) i")
    listening.start()
    keys = [m.json["key"]["id"] for m in listening.messages(5000)]
    assert sorted(keys) == list(range(1, 5001))


def test_a_number_taken_early_and_committed_last_is_not_lost_and_delays_no_one_else(listening: Listening) -> None:
    listening.table(count=2)
    listening.start()
    late = listening.database.app()
    late.autocommit = False
    with late.cursor() as cursor:
        cursor.execute("update t set n = 1 where id = 1")
        for n in range(1, 4):
            listening.execute(f"update t set n = {n} where id = 2")
        assert [m.json["new"]["n"] for m in listening.messages(3)] == [1, 2, 3]
        late.commit()
    (message,) = listening.messages(1)
    assert message.json["key"] == {"id": 1}
    listening.await_empty()


_KEPT_WITH_HOLES = """do $$ begin for i in 1..2500 loop
    perform relay.publish('%s', '{}', %s);
    perform nextval('relay.outbox_seq_seq');
end loop; end $$"""


@pytest.mark.parametrize(
    ("topic", "key", "refused"),
    [("away", "null", "false"), ("t", "'k' || i", "true"), ("t", "repeat('k', 300)", "seq = 1")],
    ids=["nobody takes them", "refused", "behind a refused one"],
)
def test_rows_that_stay_with_holes_between_them_while_a_transaction_is_open_delay_no_one_else(
    script: Callable[..., Script], database: Database, vhost: Vhost, topic: str, key: str, refused: str
) -> None:
    listening = Listening(script, database, vhost)
    listening.bind(key="public.t")
    listening.bind("rest", "t")
    listening.table()
    late = listening.database.app()
    late.autocommit = False
    with late.cursor() as cursor, contextlib.closing(connect(database.server.dsn())) as elsewhere:
        elsewhere.cursor().execute("begin; select pg_current_xact_id()")
        listening.admin(_KEPT_WITH_HOLES % (topic, key))
        cursor.execute("insert into t values (1, 1)")
        listening.admin(_KEPT_WITH_HOLES % (topic, key))
        listening.admin(f"update relay.outbox set error = 'by hand' where {refused}")
        listening.start()
        listening.execute("insert into t values (2)")
        assert listening.messages(1)[0].json["key"] == {"id": 2}
        late.commit()
        listening.execute("update t set n = 2 where id = 1")
        assert by_row(listening.messages(2)) == {1: [1, 2]}
        wait_until(lambda: listening.pending() == 5000, 5, "the others to be deleted")


def test_a_row_changed_twice_across_a_late_commit_keeps_its_order(listening: Listening) -> None:
    listening.table(count=50)
    listening.start()
    app = listening.database.app()
    app.autocommit = False
    with app.cursor() as cursor:
        for round_ in range(1, 40):
            # Low numbers, committed after others with higher ones; then at once a second change of the same rows.
            cursor.execute(f"update t set n = {2 * round_} where id <= 20")
            listening.execute(f"update t set n = {round_} where id > 20")
            app.commit()
            listening.execute(f"update t set n = {2 * round_ + 1} where id <= 20")
    rows: dict[int, list[int]] = {}
    for message in listening.messages(39 * (20 + 30 + 20)):
        rows.setdefault(message.json["key"]["id"], []).append(message.json["new"]["n"])
    assert all(numbers == sorted(numbers) for numbers in rows.values())


def test_a_transaction_that_was_open_when_the_listener_fell_asleep_still_wakes_it(listening: Listening) -> None:
    """It saw nobody sleep, so it does not notify; the slow poll is an hour away."""
    listening.table()
    app = listening.database.app()
    app.autocommit = False
    with app.cursor() as cursor:
        cursor.execute("insert into t values (1)")
        listening.start()
        wait_until(lambda: listening.admin(ASLEEP), 10, "the listener to fall asleep")
        app.commit()
    committed = time.monotonic()
    listening.messages(1, timeout=10)
    assert time.monotonic() - committed < 1


def test_no_transaction_notifies_while_the_listener_is_busy_or_stopped(listening: Listening) -> None:
    listening.table()
    ear = listening.database.admin()
    with ear.cursor() as cursor:
        ((channel,),) = listening.admin("select channel from relay.listener")
        cursor.execute(f"listen {channel}")
        listening.execute("insert into t values (1)")
        cursor.execute("select 1")
        ear.poll()
        assert ear.notifies == [], "nobody sleeps: nobody is to be woken"
        listening.start()
        listening.messages(1)
        wait_until(lambda: listening.admin(ASLEEP), 10, "the listener to sleep")
        listening.execute("insert into t values (2)")
        listening.messages(1)
        cursor.execute("select 1")
        ear.poll()
        assert [note.channel for note in ear.notifies] == [channel]


def test_with_notify_off_the_outbox_is_polled_and_nobody_ever_notifies(
    script: Callable[..., Script], database: Database, vhost: Vhost
) -> None:
    listening = Listening(script, database, vhost, NOTIFY="off", POLL_INTERVAL=0.2)
    listening.bind()
    listening.table()
    listening.start()
    app, anybody = listening.database.app(), listening.database.app()
    with app.cursor() as cursor, anybody.cursor() as stranger:
        stranger.execute("select pg_advisory_lock_shared(491327873401)")  # by which a listener says that it sleeps
        cursor.execute("begin")
        cursor.execute("insert into t values (1)")
        cursor.execute("prepare transaction 'p1'")  # refused by PostgreSQL after a NOTIFY
        cursor.execute("commit prepared 'p1'")
    assert listening.messages(1)[0].json["key"] == {"id": 1}


def test_somebody_else_holding_the_sleep_lock_is_named_and_events_still_flow(listening: Listening) -> None:
    listening.table()
    holder = listening.database.admin()
    with holder.cursor() as cursor:
        cursor.execute("set application_name = 'the culprit'")
        cursor.execute("select pg_advisory_lock_shared(relay.sleep_key())")
    listening.start()
    listening.script.wait_for_log("the sleep lock can't be had")
    assert "the culprit" in listening.script.log()
    listening.execute("insert into t values (1)")
    listening.messages(1)


def test_a_truncate_goes_between_what_was_before_and_what_came_after(listening: Listening) -> None:
    listening.table()
    listening.execute(
        "insert into t select i from generate_series(1, 300) i", "truncate t", "insert into t values (1, 9)"
    )
    listening.start()
    ops = [m.json["op"] for m in listening.messages(302)]
    assert ops == ["insert"] * 300 + ["truncate", "insert"]


def test_plain_notifications_go_the_same_way_in_order(
    script: Callable[..., Script], database: Database, vhost: Vhost
) -> None:
    listening = Listening(script, database, vhost, LISTEN_CHANNELS="orders, Odd Name")
    listening.bind()
    listening.start()
    with listening.database.app().cursor() as cursor:
        for number in range(2000):
            cursor.execute("select pg_notify('orders', %s)", (f'{{"n": {number}}}',))
        cursor.execute("select pg_notify('Odd Name', %s)", ("no JSON\n'\"at all",))
    messages = listening.messages(2001)
    orders = [m for m in messages if m.routing_key == "orders"]
    assert [m.body for m in orders] == [b'{"n": %d}' % n for n in range(2000)], "as they are, in order"
    (other,) = [m for m in messages if m.routing_key == "Odd Name"]
    assert other.json == {"payload": "no JSON\n'\"at all"}
    assert other.properties.headers["wrapped"] is True
    listening.await_empty()


def test_an_application_event_is_published_as_it_is_with_its_headers(listening: Listening) -> None:
    listening.start()
    payload = '{"total": 10.50, "big": 12345678901234567890.10}'
    listening.admin("""select relay.publish('shop.paid', %s, 'order 42', '{"trace": "abc"}')""", payload)
    (message,) = listening.messages(1)
    assert (message.routing_key, message.body.decode()) == ("shop.paid", payload)
    assert message.properties.headers["relay-key"] == "order 42"
    assert message.properties.headers["trace"] == "abc"
    assert "relay-table" not in message.properties.headers


def test_odd_headers_of_an_application_stop_nobody(listening: Listening) -> None:
    listening.start()
    headers = {"f": 1.5, "big": 2**70, "list": [1, {"a": 2.5}], "t": True, "none": None, "n": 7, "x" * 300: "y"}
    listening.admin("select relay.publish('shop.odd', '1'::text, 'k', %s::jsonb)", json.dumps(headers))
    listening.admin("select relay.publish('shop.next', '2'::text, 'k')")
    odd, following = listening.messages(2)
    found = odd.properties.headers
    assert (found["f"], found["t"], found["none"], found["n"]) == ("1.5", True, None, 7)
    assert json.loads(found["list"]) == [1, {"a": 2.5}]
    assert json.loads(found["big"]) == 2**70
    assert found["x" * 255] == "y"
    assert following.body == b"2"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_at_once_with_status_0(listening: Listening, number: signal.Signals) -> None:
    listening.start()
    began = time.monotonic()
    listening.script.signal(number)
    assert listening.script.wait() == 0
    assert time.monotonic() - began < 3
    assert "Traceback" not in listening.script.log()


def test_a_stop_in_the_middle_of_a_backlog_loses_and_repeats_nothing(listening: Listening) -> None:
    listening.table()
    listening.execute("insert into t select i from generate_series(1, 15000) i")
    listening.script.start()
    wait_until(lambda: listening.vhost.queue_depth("out") > 1000, 20, "the first thousand")
    listening.script.terminate()
    assert listening.script.wait() == 0
    left = listening.pending()
    assert 0 < left < 15000, "stopped in the middle"
    listening.script.start()
    keys = [m.json["key"]["id"] for m in listening.messages(15000, timeout=40)]
    assert sorted(keys) == list(range(1, 15001))


def test_what_waits_is_passed_by_many_rows_at_a_time(
    script: Callable[..., Script], database: Database, vhost: Vhost
) -> None:
    """At start, by a sweep, and when reading goes back for what flows again: it was read by 1,000, before all else."""
    listening = Listening(script, database, vhost)
    listening.bind(key="public.t")
    listening.table()
    listening.admin(f"alter database \"{database.name}\" set log_statement = 'all'")
    listening.admin("select relay.publish('comes', '{}')")
    listening.admin("select relay.publish_many(array_fill('away'::text, '{60000}'), array_fill('{}'::text, '{60000}'))")
    listening.start()
    listening.execute("insert into t values (1)")
    assert listening.messages(1)[0].json["key"] == {"id": 1}
    listening.admin("select pg_notify(channel, 'sweep') from relay.listener")
    listening.execute("insert into t values (2)")
    assert listening.messages(1)[0].json["key"] == {"id": 2}
    listening.bind("late", "comes")
    assert listening.messages(1, "late")[0].routing_key == "comes"
    listening.execute("insert into t values (3)")
    assert listening.messages(1)[0].json["key"] == {"id": 3}
    wait_until(lambda: listening.pending() == 60_000, 5, "the others to be deleted")
    log = [line for line in database.server.log.read_text().splitlines() if f"@{database.name} " in line]
    passed = sum("execute relay_skip" in line for line in log)
    read = sum("execute relay_read" in line for line in log)
    assert 9 <= passed <= 40, "at least three times through all"
    assert read <= 60, "three times through all of it are 180"
