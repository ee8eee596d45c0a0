"""`listen.py status`: what the listener at work says of itself; what the database says; never silence."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pika
import pytest

from dev.database import Database
from dev.process import wait_until
from dev.script import ROOT, Script
from dev.vhost import Vhost
from tests.listening import Listening, command, run
from tests.receiving import with_constants

Make = Callable[..., Script]


@pytest.fixture
def listening(script: Make, database: Database, vhost: Vhost) -> Listening:
    made = Listening(script, database, vhost)
    made.bind()
    made.table()
    return made


def shown(listening: Listening) -> str:
    result = run(listening, "status")
    assert (result.returncode, result.stderr) == (0, ""), result
    return result.stdout


def document(listening: Listening) -> dict[str, Any]:
    result = run(listening, "status", "--json")
    assert (result.returncode, result.stderr) == (0, ""), result
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_of_a_listener_at_work(listening: Listening) -> None:
    listening.start()
    listening.execute("insert into t values (1)", "insert into t values (2)")
    listening.await_empty()
    found = document(listening)
    told = found["listener"]
    assert found["problem"] == found["database_problem"] == ""
    assert (told["state"], told["source"]) == ("at work", listening.database.name)
    assert (told["published"], told["refused"], told["alarm"], told["last_error"]) == (2, 0, None, None)
    assert 0 <= told["last_lag_seconds"] < 10
    wait_until(lambda: document(listening)["listener"]["wake_up"] == "asleep", 10, "it to sleep")
    text = shown(listening)
    assert text.startswith(f"listener of {listening.database.name}: at work\n   at work ")
    for line in ("   wake-up    asleep: a commit wakes it\n", "   outbox     0 events in the outbox\n", ", 2 in all; "):
        assert line in text


def test_what_waits_and_why_is_told(listening: Listening) -> None:
    """A table that no queue takes, a refused event with its key, and how much waits of each topic."""
    listening.vhost.channel().queue_unbind("out", "relay", "#")
    listening.start()
    listening.execute("insert into t values (1)", "insert into t values (2)")
    listening.script.wait_for_log("table public.t waits")
    found = document(listening)
    held = found["listener"]["held"]
    assert (held["groups"], held["first"][0]["what"], held["first"][0]["reason"]) == (1, "table public.t", "unroutable")
    assert [(one["topic"], one["events"]) for one in found["pending"]] == [("public.t", 2)]
    text = shown(listening)
    assert "!  held       tables and topics that wait: 1\n" in text
    assert re.search(r"\n   table public\.t +unroutable +\d+ s +[\d.]+ s\n", text)
    listening.bind()
    listening.await_empty()
    listening.admin("select relay.publish('x', '{}', 'k', '{\"CC\": \"elsewhere\"}')")
    listening.script.wait_for_log("event refused by the broker")
    wait_until(lambda: document(listening)["refused"], 10, "the mark")
    text = shown(listening)
    assert "!  refused    1 refused by the broker; their keys wait -> listen.py release ID" in text
    assert "!  held keys  1 key behind a refused event" in text
    assert "header CC would have RabbitMQ send copies elsewhere" in text
    assert document(listening)["listener"]["last_refused"][0]["key"] == "k"


def test_without_a_listener_the_database_is_shown(listening: Listening) -> None:
    listening.execute("insert into t values (1)")
    text = shown(listening)
    assert "!  listener  no listener is at work: " in text
    assert "1 event in the outbox" in text
    assert document(listening)["listener"] is None
    listening.settings["RABBITMQ_URL"] = "amqp://nobody:nothing@127.0.0.1:1/"
    text = shown(listening)
    assert "is not reachable: Connection refused" in text
    assert "1 event in the outbox" in text


def test_a_standby_is_told_from_the_one_at_work(listening: Listening) -> None:
    listening.start()
    standby = listening.another()
    standby.start()
    standby.wait_for_log("state=standby")
    assert document(listening)["listener"]["process"] == listening.script.pid


def test_a_locked_outbox_is_told_with_who_has_it_locked_and_the_rest_is_shown(listening: Listening) -> None:
    """Without a word it waited as long as the lock was held."""
    blocker = listening.database.admin()
    blocker.autocommit = False
    with blocker.cursor() as cursor:
        cursor.execute("select pg_backend_pid()")
        ((pid,),) = cursor.fetchall()
        cursor.execute("lock table relay.outbox in access exclusive mode")
        began = time.monotonic()
        result = run(listening, "status")
        assert time.monotonic() - began < 10
        assert result.returncode == 75
        assert "no listener is at work" in result.stdout
        said = f"relay.outbox is locked: pid {pid} ("
        assert said in result.stdout
        assert said in result.stderr
        assert (
            "holds AccessExclusiveLock, since when PostgreSQL tells only members of pg_read_all_stats" in result.stdout
        )
        assert f"select pg_terminate_backend({pid});" in result.stdout
        listening.admin(f"grant pg_read_all_stats to {Database.LISTENER}")
        try:
            said = run(listening, "release", "--all").stderr
        finally:
            listening.admin(f"revoke pg_read_all_stats from {Database.LISTENER}")
        assert re.search(rf"pid {pid} .* holds AccessExclusiveLock since \d{{4}}-.*, for \d+ s -> ", said)
        blocker.rollback()


def test_a_server_that_falls_silent_is_given_up(listening: Listening) -> None:
    blocker = listening.database.admin()
    blocker.autocommit = False
    words, environment = command(listening, "status")
    environment |= with_constants(
        *(f"relay.listening.operate.{one}" for one in ("LOCK_SECONDS=60", "STATEMENT_SECONDS=60", "PATIENCE=1"))
    )
    with blocker.cursor() as cursor:
        cursor.execute("lock table relay.outbox in access exclusive mode")
        result = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=30)
        blocker.rollback()
    assert result.returncode == 75
    assert "PostgreSQL has not answered for 1 s" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_listener_that_waits_for_the_outbox_answers(listening: Listening) -> None:
    """The lease is taken, and nothing can be deleted: between two tries nobody answers."""
    blocker = listening.database.admin()
    blocker.autocommit = False
    with blocker.cursor() as cursor:
        cursor.execute("lock table relay.outbox in access exclusive mode")
        listening.script.start()
        listening.script.wait_for_log("lock timeout")

        def told() -> dict[str, Any]:
            found = json.loads(run(listening, "status", "--json").stdout)["listener"]
            return found or {}

        wait_until(lambda: told().get("state", "").startswith("waiting: "), 30, "an answer of the waiting listener")
        blocker.rollback()
    listening.script.wait_for_log("recovered")
    assert "lock timeout" in document(listening)["listener"]["last_error"]["what"]


def test_with_older_rights_it_works_on_with_one_warning(listening: Listening) -> None:
    """No right to make the queue, to read it, or to answer: each is told once, whoever asks how often."""
    broker, vhost = listening.vhost.broker, listening.vhost
    lease = re.escape(f"relay.lease.{listening.database.name}")
    control = re.escape(f"relay.control.{listening.database.name}")
    broker.add_user("older", "secret")
    everything = listening.settings["RABBITMQ_URL"]
    for number, (configure, write, read) in enumerate((
        (f"^(relay|{lease})$", "^relay$", "^$"),
        (f"^(relay|{lease}|{control})$", "^(amq\\.default|relay)$", "^$"),
        (f"^(relay|{lease}|{control})$", "^relay$", f"^{control}$"),
    )):  # fmt: skip
        broker.grant(vhost.name, "older", configure, write, read)
        script = listening.another(RABBITMQ_URL=broker.url(vhost.name, "older", "secret"))
        script.start()
        script.wait_for_log("relaying")
        for _ in range(2):
            listening.settings["RABBITMQ_URL"] = everything
            listening.execute(f"insert into t values ({number * 10 + _})")
            listening.await_empty()
            found = document(listening)
            assert found["listener"] is None
            assert "a listener is at work" in found["problem"]
        vhost.broker.close_connections()
        script.wait_for_log("recovered")
        script.wait_for_log("can't ask this listener")
        assert script.log().count("can't ask this listener") == 1, script.log()
        assert script.log().count("rabbitmqctl set_permissions") == 1
        script.terminate()
        assert script.wait() == 0


def test_commands_are_believed_only_with_the_secret_and_answered_only_to_who_asks(
    script: Make, database: Database, vhost: Vhost
) -> None:
    listening = Listening(script, database, vhost, CONTROL_SECRET="a secret of both, long enough")
    listening.bind()
    listening.start()
    assert document(listening)["listener"]["state"] == "at work"
    listening.settings["CONTROL_SECRET"] = "another secret, of somebody else"
    assert "its signature is wrong" in document(listening)["problem"]
    listening.settings["CONTROL"] = "off"
    assert document(listening)["problem"] == "CONTROL=off: the listener is not asked"
    listening.script.wait_for_log("a command was refused")
    assert "a secret of both" not in listening.script.log()


def test_whatever_comes_into_the_queue_the_listener_goes_on(listening: Listening) -> None:
    listening.start()
    channel, queue = listening.vhost.channel(), f"relay.control.{listening.database.name}"
    for body in (
        b"",
        b"[",
        b"7",
        b"{}",
        b"[" * 60_000,
        b"x" * 200_000,
        b'{"command": "drop"}',
        b'{"command": ["status"]}',
    ):
        for reply_to in (None, "out", "amq.rabbitmq.reply-to.nobody", "amq.rabbitmq.reply-to.g1h2AA==.x"):
            channel.basic_publish("", queue, body, pika.BasicProperties(reply_to=reply_to))
    listening.execute("insert into t values (1)")
    listening.await_empty()
    assert document(listening)["listener"]["published"] == 1
    assert len(listening.messages(1)) == 1, "an answer came into a queue"
    assert "Traceback" not in listening.script.log()


@pytest.mark.parametrize("alarm", ["memory", "disk"])
def test_during_an_alarm_it_is_told_and_relaying_goes_on_afterwards(
    script: Make, database: Database, private_vhost: Vhost, alarm: str
) -> None:
    """Asked again and again: an answer on the publishing connection would have RabbitMQ read nothing more of it."""
    listening = Listening(script, database, private_vhost)
    listening.bind()
    listening.table()
    listening.start()
    words, environment = command(listening, "status", "--watch", "1")
    asking = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    set_alarm = getattr(private_vhost.broker, f"set_{alarm}_alarm")
    try:
        listening.execute("insert into t values (1)")
        listening.await_empty()
        set_alarm(True)
        listening.execute("insert into t values (2)")
        listening.script.wait_for_log("RabbitMQ blocks this connection")
        text = shown(listening)
        assert "has an alarm, of memory or disk, and carries out no command -> rabbitmq-diagnostics alarms" in text
        assert "1 event in the outbox" in text
        set_alarm(False)
        listening.await_empty()
        wait_until(lambda: document(listening)["listener"]["published"] == 2, 20, "an answer after the alarm")
    finally:
        set_alarm(False)
        asking.terminate()
        asking.wait()
    assert len(listening.messages(2)) == 2


def test_it_can_be_watched(listening: Listening) -> None:
    listening.start()
    words = [sys.executable, "-u", str(ROOT / "listen.py"), "--env-file", str(listening.script.env_file), "status"]
    with subprocess.Popen(
        [*words, "--watch", "1"], stdout=subprocess.PIPE, text=True, env={"PATH": os.environ["PATH"]}
    ) as watching:
        assert watching.stdout is not None
        seen = 0
        for line in watching.stdout:
            seen += line == f"listener of {listening.database.name}: at work\n"
            if seen == 2:
                break
        watching.terminate()
    assert seen == 2
