"""`listen.py check`: what it finds between real servers, and that it changes nothing there."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator

import pytest

from dev.database import Database, connect, create, drop
from dev.process import free_port
from dev.script import ROOT, Script
from dev.vhost import Vhost
from tests.listening import Listening, run

Make = Callable[..., Script]
SHOWN = {"ok": "ok", "warning": "WARN", "failed": "FAILED"}


@pytest.fixture
def listening(script: Make, database: Database, vhost: Vhost) -> Listening:
    return Listening(script, database, vhost)


def findings(listening: Listening, status: int = 0) -> dict[str, str]:
    """What `check` finds, by name, as `ok ...` or `FAILED ...`."""
    shown = run(listening, "check", "--json")
    assert shown.returncode == status, shown.stdout + shown.stderr
    assert shown.stderr == ""
    return {
        one["name"]: f"{SHOWN[one['level']]} {one['detail']} -> {one['remedy']}" for one in json.loads(shown.stdout)
    }


def failed(listening: Listening) -> dict[str, str]:
    return {name: text for name, text in findings(listening, status=78).items() if text.startswith("FAILED")}


def test_all_is_well_beside_a_running_listener(listening: Listening) -> None:
    listening.bind()
    listening.table()
    listening.settings["REQUIRED_QUEUES"] = "out"
    listening.start()
    shown = run(listening, "check")
    assert (shown.returncode, shown.stderr) == (0, "")
    lines = shown.stdout.splitlines()
    assert all(line.startswith("ok      ") for line in lines), shown.stdout
    name = listening.database.name
    for line in (
        "schema relay: version 3",
        f"rights: {Database.LISTENER} may do what the listener does",
        "watched: 1 table",
        "outbox: 0 events",
        "exchange relay: topic",
        "queue out",
        f"lease: relay.lease.{name}: a listener is at work",
    ):
        assert f"ok      {line}" in lines, shown.stdout
    assert lines[0].startswith("ok      PostgreSQL: ")
    (where,) = [line for line in lines if line.startswith("ok      listeners: in PostgreSQL pid ")]
    assert f" ({Database.LISTENER}, 127.0.0.1) since 20" in where
    listening.execute("insert into t values (1)")
    assert len(listening.messages(1)) == 1, "the listener goes on"


def test_nothing_is_made_and_no_lease_taken(listening: Listening) -> None:
    """Before the first start: the exchange, the queues and the lease are not there, and stay so."""
    broker, vhost = listening.vhost.broker, listening.vhost.name
    before = broker.api("GET", f"/exchanges/{vhost}")
    listening.table()
    listening.execute("insert into t values (1)")
    found = findings(listening)
    assert found["exchange relay"] == "ok not there yet; listen.py makes it when it runs -> "
    said = f"WARN relay.lease.{listening.database.name}: no listener is at work, and 1 event in the outbox -> "
    assert found["lease"].startswith(said)
    assert found["listeners"] == "ok none is in PostgreSQL -> "
    assert re.fullmatch(r"ok 1 event, \d+ KiB on disk, none comes and none goes -> ", found["outbox"])
    assert found["oldest event"].startswith("ok ")
    assert broker.api("GET", f"/exchanges/{vhost}") == before
    assert broker.api("GET", f"/queues/{vhost}") == []
    assert listening.pending() == 1


def test_what_would_keep_confirmed_events_is_named(listening: Listening) -> None:
    listening.bind()
    name = listening.database.name
    admin = listening.database.admin()
    with admin.cursor() as cursor:
        cursor.execute(f"alter database {name} set default_transaction_read_only = on")
        cursor.execute("create function keep() returns trigger language plpgsql as 'begin return null; end'")
        cursor.execute("create trigger keep before delete on relay.outbox for each row execute function keep()")
        cursor.execute("alter table relay.outbox enable row level security")
        cursor.execute("set application_name = 'somebody'; begin; lock table relay.outbox in share mode")
        found = failed(listening)
        assert found.keys() == {"writing", "lock on relay.outbox", "relay.outbox"}
        assert "default_transaction_read_only is on" in found["writing"]
        assert "somebody" in found["lock on relay.outbox"]
        assert f"pg_terminate_backend({admin.info.backend_pid})" in found["lock on relay.outbox"]


def test_a_missing_right_to_the_listeners_row_or_to_the_exchange_is_named(listening: Listening) -> None:
    listening.bind()
    vhost = listening.vhost
    user = f"publisher-{vhost.name}"
    vhost.broker.add_user(user, "secret", vhost.name)
    vhost.broker.grant(vhost.name, user, write="^$")
    listening.settings["RABBITMQ_URL"] = f"amqp://{user}:secret@{vhost.url.rpartition('@')[2]}"
    listening.admin("revoke update (turn) on relay.listener from relay_listener")
    found = failed(listening)
    assert found.keys() == {"rights", "publishing to relay"}
    assert "update (turn, wakes) on relay.listener" in found["rights"]
    assert "access to exchange 'relay'" in found["publishing to relay"]
    assert "rabbitmqctl set_permissions" in found["publishing to relay"]
    vhost.broker.grant(vhost.name, user)
    assert failed(listening).keys() == {"rights"}
    assert vhost.queue_depth("out") == 0, "nothing was published"


def test_nothing_watched_and_refused_events_are_told(listening: Listening) -> None:
    assert "relay.watch(" in findings(listening)["watched"]
    listening.table()
    listening.execute("insert into t values (1)")
    listening.admin("update relay.outbox set error = 'too large'")
    found = failed(listening)
    assert list(found) == ["refused"]
    assert "1 event refused by the broker" in found["refused"]
    assert "listen.py release" in found["refused"]


def test_limits_of_the_settings_are_told(listening: Listening) -> None:
    listening.settings["LISTEN_CHANNELS"] = "orders,stock"
    found = findings(listening)
    assert found["LISTEN_CHANNELS"].startswith("ok orders,stock; ")
    assert "8,000 bytes" in found["LISTEN_CHANNELS"]
    assert "relay.watch(" in found["LISTEN_CHANNELS"]
    ((prepared,),) = listening.admin("show max_prepared_transactions")
    assert f"max_prepared_transactions = {prepared};" in found["NOTIFY"]
    assert "NOTIFY=off" in found["NOTIFY"]
    listening.settings["NOTIFY"] = "off"
    assert "NOTIFY" not in findings(listening)


@pytest.fixture
def bare(database: Database) -> Iterator[Database]:
    """A database without the schema."""
    made = Database(database.server, f"{database.name}_bare")
    create(made.server, made.name)
    yield made
    drop(made.server, made.name)


def test_a_missing_schema_names_the_install_command(listening: Listening, bare: Database) -> None:
    listening.settings["DATABASE_URL"] = bare.listener_dsn
    found = failed(listening)
    assert list(found) == ["schema relay"]
    assert f"psql -v ON_ERROR_STOP=1 -f {ROOT}/sql/install.sql" in found["schema relay"]


def test_another_version_of_the_schema_is_told(listening: Listening) -> None:
    listening.admin("create or replace function relay.version() returns int language sql as 'select 4'")
    found = failed(listening)
    assert list(found) == ["schema relay"]
    assert "newer than this program knows (3)" in found["schema relay"]


def test_missing_rights_name_the_grant(listening: Listening) -> None:
    listening.settings["DATABASE_URL"] = listening.database.app_dsn
    found = failed(listening)
    assert list(found) == ["rights"]
    assert f'grant relay_listener to "{Database.APP}";' in found["rights"]
    listening.settings["DATABASE_URL"] = listening.database.listener_dsn
    listening.admin("revoke delete on relay.outbox from relay_listener")
    found = failed(listening)
    assert list(found) == ["rights"]
    assert f"{Database.LISTENER} lacks delete on relay.outbox ->" in found["rights"]


def test_a_server_that_is_away_does_not_hide_the_other(listening: Listening) -> None:
    listening.settings["REQUIRED_QUEUES"] = "missing"
    rabbitmq_url = listening.settings["RABBITMQ_URL"]
    listening.settings["RABBITMQ_URL"] = f"amqp://guest:hidden@127.0.0.1:{free_port()}/"
    shown = run(listening, "check")
    assert shown.returncode == 75, "it may be over by itself"
    assert "ok      schema relay: version 3" in shown.stdout
    assert "FAILED  RabbitMQ: RabbitMQ guest@127.0.0.1:" in shown.stdout
    assert "hidden" not in shown.stdout + shown.stderr
    listening.settings["RABBITMQ_URL"] = rabbitmq_url
    listening.settings["DATABASE_URL"] = f"postgresql://u:hidden@127.0.0.1:{free_port()}/db"
    shown = run(listening, "check")
    assert shown.returncode == 78
    assert "FAILED  PostgreSQL: PostgreSQL u@127.0.0.1:" in shown.stdout
    assert "FAILED  queue missing: required, and not there -> start its receiver" in shown.stdout
    assert "hidden" not in shown.stdout + shown.stderr


@pytest.mark.parametrize(
    ("kind", "options"),
    [("direct", {}), ("topic", {"durable": False}), ("topic", {"arguments": {"alternate-exchange": "other"}})],
)
def test_an_exchange_that_the_listener_could_not_use(
    listening: Listening, kind: str, options: dict[str, object]
) -> None:
    listening.vhost.channel().exchange_declare("relay", kind, **{"durable": True, **options})
    found = failed(listening)
    assert list(found) == ["exchange relay"]
    assert "set EXCHANGE_TYPE to what it is" in found["exchange relay"]
    listening.script.start()
    assert listening.script.wait() == 78, "the listener refuses it too"


def test_a_queue_in_the_place_of_the_lease(listening: Listening) -> None:
    name = f"relay.lease.{listening.database.name}"
    listening.vhost.channel().queue_declare(name)
    found = failed(listening)
    assert list(found) == ["lease"]
    assert f"delete the queue {name}" in found["lease"]


def test_a_broker_user_without_rights_sees_the_command(listening: Listening) -> None:
    listening.vhost.broker.add_user("looker", "secret")
    listening.vhost.broker.grant(listening.vhost.name, "looker", configure="^$", write="^$")
    listening.settings["RABBITMQ_URL"] = f"amqp://looker:secret@{listening.vhost.url.partition('@')[2]}"
    found = failed(listening)
    assert list(found) == ["exchange relay", "lease"]
    assert f"rabbitmqctl set_permissions -p {listening.vhost.name} looker '^(relay|relay" in found["exchange relay"]


def test_what_is_not_captured_any_more_is_in_check_in_status_and_in_the_log(listening: Listening) -> None:
    listening.bind()
    listening.table()
    listening.admin("""alter table t add total int; select relay.watch('t', "when" => 'total > 5')""")
    listening.execute("alter table t drop total cascade")
    note, remedy = "triggers are gone: !relay_delete, !relay_insert", "select relay.watch('public.t', ...);"
    assert failed(listening)["watched public.t"].startswith(f"FAILED {note}")
    assert remedy in failed(listening)["watched public.t"]
    assert f"NOT COMPLETE: {note}" in run(listening, "status").stdout
    listening.start()
    listening.script.wait_for_log("capture is not complete")
    (line,) = [line for line in listening.script.log().splitlines() if "capture is not complete" in line]
    assert note in line
    assert remedy in line


def test_a_transaction_that_is_open_for_long_is_named(listening: Listening) -> None:
    listening.bind()
    listening.table()
    listening.admin("grant pg_read_all_stats to relay_listener")
    try:
        with listening.database.app() as other, other.cursor() as cursor:
            cursor.execute("set application_name = 'a report'; begin; insert into t values (1)")
            assert "long transaction" not in findings(listening)
            shown = run(listening, "check", "--warn-transaction", "0")
            (line,) = [line for line in shown.stdout.splitlines() if "long transaction" in line]
            assert line.startswith(f"WARN    long transaction: pid {other.info.backend_pid} ({Database.APP}, a report")
            assert f"select pg_terminate_backend({other.info.backend_pid});" in line
            assert shown.returncode == 0
            failing = run(listening, "check", "--warn-transaction", "0", "--fail-transaction", "0")
            assert failing.returncode == 78
    finally:
        listening.admin("revoke pg_read_all_stats from relay_listener")


def test_a_transaction_that_is_open_for_long_in_another_database_is_named(listening: Listening) -> None:
    listening.admin("grant pg_read_all_stats to relay_listener")
    try:
        with contextlib.closing(connect(listening.database.server.dsn())) as other, other.cursor() as cursor:
            cursor.execute("begin; select pg_current_xact_id()")
            shown = run(listening, "check", "--warn-transaction", "0")
            who = f"long transaction: pid {other.info.backend_pid} ({other.info.user}"
            (line,) = [line for line in shown.stdout.splitlines() if who in line]
            assert line.startswith("WARN ")
            assert " in database postgres has been open for " in line
            assert ": numbers that are missing in the outbox are looked for until it ends -> end it" in line
    finally:
        listening.admin("revoke pg_read_all_stats from relay_listener")


def test_a_topic_that_no_queue_takes_is_named(listening: Listening) -> None:
    broker = listening.vhost.broker
    listening.table()
    listening.settings["RABBITMQ_MANAGEMENT_URL"] = "off"
    assert findings(listening)["routes"].startswith("ok not looked at: RABBITMQ_MANAGEMENT_URL=off -> on RabbitMQ's")
    listening.settings["RABBITMQ_MANAGEMENT_URL"] = f"http://127.0.0.1:{broker.management_port}"
    channel = listening.vhost.channel()
    channel.exchange_declare("relay", "topic", durable=True)
    assert findings(listening)["routes"].startswith("WARN no queue takes public.t: events of it wait in the outbox")
    channel.queue_declare("some")
    channel.queue_bind("some", "relay", "public.*")
    found = findings(listening)
    assert found["routes"] == "ok to some -> "
    assert found["clock of RabbitMQ"] == "ok as this host's -> "


def test_a_virtual_host_that_may_have_no_more_queues_is_named(listening: Listening) -> None:
    vhost = listening.vhost
    listening.settings["RABBITMQ_MANAGEMENT_URL"] = f"http://127.0.0.1:{vhost.broker.management_port}"
    vhost.broker.api("PUT", f"/vhost-limits/{vhost.name}/max-queues", {"value": 0})
    shown = run(listening, "check")
    (line,) = [line for line in shown.stdout.splitlines() if "number of queues" in line]
    said = f"0 queues in virtual host {vhost.name}, which may have 0: no room for relay.lease."
    assert line.startswith(f"FAILED  number of queues: {said}")
    assert f"rabbitmqctl set_vhost_limits -p {vhost.name}" in line
    assert shown.returncode == 78


def test_what_waits_is_measured_against_limits(listening: Listening) -> None:
    listening.bind()
    listening.table()
    listening.execute("insert into t select generate_series(1, 7)")
    found = findings(listening)
    assert found["outbox"].startswith("ok 7 events, ")
    assert found["oldest event"].startswith("ok ")
    shown = run(listening, "check", "--nagios", "--warn-waiting", "5", "--fail-age", "0")
    assert shown.returncode == 2
    first, *rest = shown.stdout.splitlines()
    assert first.startswith("RELAY CRITICAL - oldest event: ")
    assert " | outbox=7;5;;0 oldest=" in first
    assert any(line.startswith("WARNING outbox: 7 events") for line in rest)
    assert run(listening, "check", "--nagios").returncode == 1, "nobody sends them"


def test_settings_that_cannot_be_used_are_unknown_to_a_monitoring_system(listening: Listening) -> None:
    listening.settings["POLL_INTERVAL"] = "often"
    shown = run(listening, "check", "--nagios")
    assert shown.returncode == 3
    assert shown.stdout.startswith("RELAY UNKNOWN - POLL_INTERVAL")
    listening.settings["OUTBOX_WARN"] = "many"
    shown = run(listening, "check", "--nagios")
    (line,) = shown.stdout.splitlines()
    assert "POLL_INTERVAL=often" in line
    assert "OUTBOX_WARN=many" in line


@pytest.mark.parametrize("alarm", ["memory", "disk"])
def test_an_alarm_is_named_and_nothing_hangs(
    script: Make, database: Database, private_vhost: Vhost, alarm: str
) -> None:
    listening = Listening(script, database, private_vhost)
    listening.bind()
    set_alarm = getattr(private_vhost.broker, f"set_{alarm}_alarm")
    set_alarm(True)
    shown = run(listening, "check")
    set_alarm(False)
    assert shown.returncode == 75, shown.stdout + shown.stderr
    (line,) = [line for line in shown.stdout.splitlines() if line.startswith("FAILED")]
    assert "has an alarm, of memory or disk" in line
    assert "rabbitmq-diagnostics alarms names it" in line
    assert "lease: " in shown.stdout


def test_a_listener_that_hangs_or_is_missing_is_named(listening: Listening) -> None:
    """A stopped process keeps its lease for as long as RabbitMQ waits for its heartbeats."""
    listening.bind()
    listening.table()
    listening.settings["HEARTBEAT"] = "60"
    listening.start()
    listening.script.pause()
    found = findings(listening)
    assert found["lease"].startswith("ok ")
    assert found["listener"].startswith("WARN no answer within 2 s -> ")
    listening.script.resume()
    listening.script.kill()
    listening.execute("insert into t values (1)")
    missing = findings(listening)
    assert "listener" not in missing
    assert "no listener is at work, and 1 event in the outbox -> systemctl start " in missing["lease"]


def test_a_lease_without_a_listener_in_postgresql_is_named(listening: Listening) -> None:
    """Of another database with the same SOURCE, or a stranger's."""
    lease = f"relay.lease.{listening.database.name}"
    listening.vhost.channel().queue_declare(lease, exclusive=True)
    found = findings(listening)["lease"]
    assert found.startswith(f"WARN {lease} is held, and no listener is in PostgreSQL: ")
    assert f"rabbitmqctl list_queues -p {listening.vhost.name} name owner_pid" in found
