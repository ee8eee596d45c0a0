"""listen.py when something is wrong: what it says, what waits, what flows, and what it never does."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg2
import pytest

from dev.database import Database
from dev.postgres import Postgres
from dev.process import free_port, wait_until
from dev.script import Script
from dev.vhost import Vhost
from tests.listening import Listening, by_row

ROOT = Path(__file__).parents[2]


@pytest.fixture
def listening(script: Callable[..., Script], database: Database, vhost: Vhost) -> Listening:
    return Listening(script, database, vhost)


def refused(script: Script, *expected: str) -> None:
    """The script ends with 78 and says one clear line for each thing, without a traceback."""
    script.start()
    assert script.wait(20) == 78
    log = script.log()
    for text in expected:
        assert text in log, log
    assert "Traceback" not in log


# -- what only a person can mend ---------------------------------------------------------------------------------


def test_a_wrong_database_password_ends_with_78_and_shows_no_secret(listening: Listening) -> None:
    database = listening.database
    listening.settings["DATABASE_URL"] = database.listener_dsn.replace(f":{database.PASSWORD}@", ":s3cret@")
    script = listening.another()
    refused(script, "password authentication failed", "DATABASE_URL")
    assert "s3cret" not in script.log()


def test_a_database_that_does_not_exist_ends_with_78(listening: Listening) -> None:
    listening.settings["DATABASE_URL"] = listening.database.listener_dsn.replace(listening.database.name, "no_such")
    refused(listening.another(), 'database "no_such" does not exist', "create it, or correct DATABASE_URL")


def test_a_wrong_rabbitmq_password_ends_with_78_and_shows_no_secret(listening: Listening) -> None:
    url = listening.vhost.url
    secret = url.split(":")[2].split("@")[0]
    listening.settings["RABBITMQ_URL"] = url.replace(secret, "s3cret")
    script = listening.another()
    refused(script, "refuses the user or password", "correct RABBITMQ_URL")
    assert "s3cret" not in script.log()


def test_a_vhost_that_does_not_exist_ends_with_78_and_the_command_that_makes_it(listening: Listening) -> None:
    listening.settings["RABBITMQ_URL"] = listening.vhost.url.replace(listening.vhost.name, "no-such")
    refused(listening.another(), "vhost does not exist", "rabbitmqctl add_vhost no-such")


def test_a_missing_schema_ends_with_78_and_the_file_to_run(listening: Listening) -> None:
    listening.admin("drop schema relay cascade")
    refused(listening.another(), 'schema "relay" does not exist', "sql/install.sql")


def test_a_missing_permission_ends_with_78_and_the_grant(listening: Listening) -> None:
    listening.settings["DATABASE_URL"] = listening.database.app_dsn
    refused(listening.another(), "permission denied", f'grant relay_listener to "{Database.APP}";')


def test_an_older_and_a_newer_schema_are_refused_with_what_to_do(listening: Listening) -> None:
    for version, remedy in ((0, "sql/install.sql"), (99, "newer version of the relay")):
        listening.admin(f"create or replace function relay.version() returns int language sql as 'select {version}'")
        refused(listening.another(), f"version {version}", remedy)


def test_an_exchange_of_another_kind_ends_with_78(listening: Listening) -> None:
    listening.vhost.channel().exchange_declare("relay", "fanout", durable=True)
    refused(listening.another(), "exchange relay can't be used", "EXCHANGE")


def test_a_bad_env_file_ends_with_78_and_all_problems_at_once(listening: Listening) -> None:
    listening.settings |= {"WINDOW_EVENTS": "many", "EXCHAGNE": "x", "RABBITMQ_URL": "http://h"}
    refused(listening.another(), "WINDOW_EVENTS=many", "did you mean EXCHANGE?", "RABBITMQ_URL=")


def test_a_log_file_that_can_not_be_written_ends_with_78(listening: Listening) -> None:
    listening.settings["LOG_FILE"] = "/no/such/directory/listen.log"
    refused(listening.another(), "LOG_FILE=/no/such/directory/listen.log can't be written")


# -- what mends itself -------------------------------------------------------------------------------------------


def test_unreachable_servers_are_waited_for_said_once_and_a_signal_ends_the_wait(listening: Listening) -> None:
    for key, url in (
        ("RABBITMQ_URL", f"amqp://u:p@127.0.0.1:{free_port()}/"),
        ("DATABASE_URL", f"postgresql://u:p@127.0.0.1:{free_port()}/db"),
    ):
        listening.settings[key] = url
        script = listening.another()
        script.start()
        script.wait_for_log("is not reachable")
        assert script.alive(), "it waits"
        script.terminate()
        assert script.wait(3) == 0
        assert script.log().count("is not reachable") == 1
        assert "Traceback" not in script.log()


def test_a_required_queue_is_waited_for_and_named(
    script: Callable[..., Script], database: Database, vhost: Vhost
) -> None:
    listening = Listening(script, database, vhost, REQUIRED_QUEUES="out,other")
    listening.bind()
    listening.table()
    listening.execute("insert into t values (1)")
    listening.script.start()
    listening.script.wait_for_log("required queue other is missing")
    assert vhost.queue_depth("out") == 0, "nothing is published before all are there"
    listening.bind("other")
    listening.script.wait_for_log("relaying")
    listening.messages(1)  # "other" may have been declared, and not bound yet, when it was published


def test_an_unroutable_table_waits_others_flow_and_it_flows_by_itself_once_bound(listening: Listening) -> None:
    listening.bind("b_only", "public.b")
    listening.table("a", count=500)
    listening.table("b", count=500)
    listening.start()
    listening.execute("update a set n = 1", "update b set n = 1")
    listening.script.wait_for_log("table public.a waits")
    listening.execute("update a set n = 2", "update b set n = 2")
    assert len(listening.messages(1000, "b_only")) == 1000
    assert "reason=unroutable" in listening.script.log()
    assert "routing_key=public.a" in listening.script.log()
    # What is confirmed is deleted a moment later.
    wait_until(lambda: listening.pending() == 1000, 10, "what can't be routed, and no more, in the outbox")
    listening.execute("update a set n = 3")
    listening.bind("late", "public.a")
    messages = listening.messages(1500, "late", timeout=30)
    assert all(numbers == [1, 2, 3] for numbers in by_row(messages).values())
    listening.await_empty()
    assert "table public.a flows again" in listening.script.log()


def test_a_queue_that_refuses_more_makes_its_table_wait_in_order(listening: Listening) -> None:
    arguments = {"x-queue-type": "classic", "x-max-length": 10, "x-overflow": "reject-publish"}
    listening.bind("small", "public.t", **arguments)
    listening.table(count=30)
    listening.start()
    listening.execute("update t set n = 1", "update t set n = 2")
    listening.script.wait_for_log("table public.t waits")
    assert "refused by a queue" in listening.script.log()
    assert "rabbitmqctl list_bindings" in listening.script.log(), "it may be anybody's"
    found: list[object] = []

    def drained() -> bool:
        found.extend(listening.all_messages("small"))
        return len(found) >= 60

    wait_until(drained, 60, "everything to have come through the small queue")
    assert all(numbers == [1, 2] for numbers in by_row(found).values())  # type: ignore[arg-type]
    listening.await_empty()


def test_an_event_the_broker_refuses_is_marked_and_blocks_its_key_only(
    script: Callable[..., Script], database: Database, private_vhost: Vhost
) -> None:
    private_vhost.broker.set_max_message_size(100_000)
    listening = Listening(script, database, private_vhost)
    listening.bind()
    listening.execute("create table t (id int primary key, n int, pad text)")
    listening.admin("select relay.watch('public.t')")
    listening.start()
    listening.execute(
        "insert into t values (1, 1, repeat('x', 200000))",
        "insert into t values (2, 1, '')",
        "update t set n = 2, pad = ''",
    )
    listening.script.wait_for_log("event refused by the broker")
    assert [m.json["new"]["n"] for m in listening.messages(2)] == [1, 2], "row 2 flows"
    wait_until(lambda: listening.pending() == 2, 10, "what was confirmed to be deleted")
    marked = listening.admin("select op, key, error from relay.outbox order by seq")
    assert [op for op, _key, _error in marked] == ["insert", "update"]
    assert marked[0][2] == "larger than the broker's max_message_size (100000 bytes)"
    assert marked[1][2] is None, "only what can't go is marked; the update of the same row waits behind it"
    assert listening.script.alive()
    listening.execute("update t set n = 3 where id = 2")
    assert [m.json["new"]["n"] for m in listening.messages(1)] == [3]


@pytest.mark.parametrize("alarm", ["memory", "disk"])
def test_an_alarm_of_the_broker_is_waited_out_and_said(
    script: Callable[..., Script], database: Database, private_vhost: Vhost, alarm: str
) -> None:
    listening = Listening(script, database, private_vhost)
    listening.bind()
    listening.table()
    listening.start()
    listening.execute("insert into t values (0)")
    listening.messages(1)
    set_alarm = getattr(private_vhost.broker, f"set_{alarm}_alarm")
    set_alarm(True)
    listening.execute("insert into t select i from generate_series(1, 5000) i")
    listening.script.wait_for_log("RabbitMQ blocks this connection")
    set_alarm(False)
    listening.script.wait_for_log("RabbitMQ no longer blocks this connection")
    assert len(listening.messages(5000)) == 5000
    listening.await_empty()
    assert listening.script.log().count("relaying") == 1, "the connection was kept"


def test_a_second_listener_is_a_standby_and_takes_over_within_5_s_of_a_kill(listening: Listening) -> None:
    listening.bind()
    listening.table()
    listening.start()
    second = listening.another()
    second.start()
    second.wait_for_log("another process holds the lease")
    listening.execute("insert into t values (1)")
    listening.messages(1)
    listening.await_empty()  # what was confirmed but not deleted yet would come again
    listening.script.kill()
    listening.execute("insert into t values (2)")
    killed = time.monotonic()
    assert listening.messages(1)[0].json["key"] == {"id": 2}
    assert time.monotonic() - killed < 5
    assert "Traceback" not in second.log()


def test_a_dead_listeners_last_delete_does_not_cut_off_what_its_successor_sends_again(listening: Listening) -> None:
    """Killed, it has left a DELETE in PostgreSQL, which is executed after its successor's first read."""
    listening.bind()
    listening.table(count=1)
    for _ in range(5):
        listening.execute("update t set n = n + 1")
    listening.admin("begin")
    listening.admin("select from relay.outbox for update")  # it may be read
    listening.start()
    waiting = "select 1 from pg_locks where not granted"  # of the one other session that there is
    wait_until(lambda: listening.admin(waiting), 20, "the DELETE")
    listening.script.kill()
    second = listening.another(WINDOW_EVENTS=1)
    second.start()
    wait_until(lambda: listening.vhost.queue_depth("out") == 6, 20, "the first event, again")
    listening.admin("commit")
    listening.await_empty()
    tail = [1, 2, 3, 4, 5]
    assert [message.json["new"]["n"] for message in listening.messages(10)] == tail + tail


def test_a_dead_listeners_delete_that_waits_for_the_table_finds_that_its_turn_is_over(listening: Listening) -> None:
    listening.bind()
    listening.table(count=1)
    listening.start()
    writer, locker = listening.database.app(), listening.database.admin()
    writer.autocommit = locker.autocommit = False
    with writer.cursor() as writing, locker.cursor() as locking, ThreadPoolExecutor(1) as pool:
        for _ in range(5):
            writing.execute("update t set n = n + 1")
        locked = pool.submit(
            locking.execute, "lock table relay.outbox in share mode"
        )  # after the writer, before DELETE
        waiting = "select pid from pg_locks where relation = 'relay.outbox'::regclass and not granted"
        wait_until(lambda: listening.admin(waiting), 20, "the lock to be asked for")
        writer.commit()
        locked.result()
        wait_until(lambda: listening.admin(waiting), 20, "the DELETE")
        dead = listening.admin(waiting)
        listening.script.kill()
        second = listening.another()
        second.start()
        wait_until(lambda: set(listening.admin(waiting)) - set(dead), 20, "the successor to try whether it can delete")
        locker.commit()
        listening.await_empty()
    tail = [1, 2, 3, 4, 5]
    assert [message.json["new"]["n"] for message in listening.messages(10)] == tail + tail


def test_an_earlier_session_that_stands_in_the_way_is_ended(listening: Listening) -> None:
    """As a DELETE of a dead process does that waits for a lock, and has the turn locked."""
    listening.bind()
    listening.table(count=1)
    earlier = listening.database.listener()
    with earlier.cursor() as cursor:
        cursor.execute("begin; select 1 from relay.listener for share")
        listening.start()
        assert "ending its session" in listening.script.log()
        with pytest.raises(psycopg2.OperationalError):
            cursor.execute("select 1")


def test_a_stopped_process_is_replaced_and_does_no_harm_when_it_comes_back(
    script: Callable[..., Script], database: Database, vhost: Vhost
) -> None:
    listening = Listening(script, database, vhost, HEARTBEAT=5)
    listening.bind()
    listening.table(count=1)
    listening.start()
    second = listening.another()
    second.start()
    second.wait_for_log("another process holds the lease")
    listening.script.pause()
    for n in range(1, 50):
        listening.execute(f"update t set n = {n}")
    second.wait_for_log("relaying", timeout=40)
    messages = listening.messages(49, timeout=40)
    listening.script.resume()
    listening.script.wait_for_log("state=")
    listening.execute("update t set n = 50")
    messages += listening.messages(1)
    assert [m.json["new"]["n"] for m in messages] == list(range(1, 51))


def test_a_standby_server_of_postgresql_is_waited_for(
    script: Callable[..., Script], private_postgres: Postgres, private_database: Database, vhost: Vhost
) -> None:
    """Until it is promoted."""
    private_database.close()
    private_postgres.stop("fast")
    (private_postgres.data / "standby.signal").touch()
    private_postgres.start()
    listening = Listening(script, private_database, vhost)
    listening.bind()
    listening.script.start()
    listening.script.wait_for_log("is in recovery")
    listening.admin("select pg_promote()")
    listening.script.wait_for_log("relaying")
    listening.table()
    listening.execute("insert into t values (1)")
    assert len(listening.messages(1)) == 1


def test_a_long_outbox_is_said_and_does_not_stop_anything(
    script: Callable[..., Script], database: Database, vhost: Vhost
) -> None:
    listening = Listening(script, database, vhost, OUTBOX_WARN=1000)
    listening.bind()
    listening.table()
    listening.execute("insert into t select i from generate_series(1, 3000) i")
    listening.start()
    listening.script.wait_for_log("the outbox is long")
    listening.messages(3000)


def test_rows_with_numbers_from_the_past_are_found_by_a_sweep(listening: Listening) -> None:
    """A restore sets the sequence back; a command (or the minute) has everything read once more."""
    listening.bind()
    listening.table()
    listening.start()
    listening.execute("insert into t select i from generate_series(1, 100) i")
    listening.messages(100)
    listening.await_empty()
    listening.admin("select setval('relay.outbox_seq_seq', 1, false)")
    listening.execute("insert into t select i from generate_series(101, 110) i")
    listening.admin("select pg_notify(channel, 'sweep') from relay.listener")
    assert sorted(by_row(listening.messages(10))) == list(range(101, 111))
    listening.await_empty()


def test_a_sweep_asked_for_while_a_read_is_under_way_is_not_forgotten(listening: Listening) -> None:
    """That read asked for numbers above the highest seen; what the sweep is to find lies below."""
    listening.bind()
    listening.table()
    listening.start()
    listening.execute("insert into t select i from generate_series(1, 100) i")
    listening.messages(100)
    listening.await_empty()
    blocker = listening.database.admin()
    blocker.autocommit = False
    with blocker, blocker.cursor() as cursor:
        cursor.execute(
            "insert into relay.outbox (seq, topic, tbl, op, key, body) overriding system value select i, 'restored', "
            "'public.t', 'insert', i::text, '{}' from generate_series(1, 10) i"
        )
        cursor.execute("lock table relay.outbox in access exclusive mode")
        # One transaction: both arrive at once. The first begins a read, which the lock holds.
        listening.admin("select pg_notify(channel, ''), pg_notify(channel, 'sweep') from relay.listener")
        waiting = "select 1 from pg_locks where relation = 'relay.outbox'::regclass and not granted"
        wait_until(lambda: listening.admin(waiting), 10, "the listener's read to wait for the lock")
    assert {message.routing_key for message in listening.messages(10)} == {"restored"}
    listening.await_empty()


def test_logging_to_a_file_that_logrotate_moves_away(
    script: Callable[..., Script], database: Database, vhost: Vhost, tmp_path: Path
) -> None:
    log = tmp_path / "listen.log"
    listening = Listening(script, database, vhost, LOG_FILE=log)
    listening.bind()
    listening.table()
    listening.script.start()
    wait_until(lambda: log.exists() and "relaying" in log.read_text(), 20, "the log file")
    log.rename(tmp_path / "listen.log.1")
    listening.script.terminate()
    assert listening.script.wait() == 0
    assert "stopped" in log.read_text()


def test_without_env_file_the_environment_alone_is_enough(listening: Listening, tmp_path: Path) -> None:
    assert not (ROOT / "config.env").exists() or os.environ.get("CI") is None
    listening.bind()
    listening.table()
    environment = {key: str(value) for key, value in listening.settings.items()}
    listening.settings = {}
    made = Script("listen.py", {}, tmp_path, environment=environment)
    try:
        made.start()
        made.wait_for_log("relaying")
    finally:
        made.kill()
