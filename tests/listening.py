"""What tests of listen.py share: a listener on a test's own database and vhost, and the messages that came out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

import pika
from psycopg2.extensions import connection

from dev import forkserver
from dev.database import Database
from dev.process import wait_until
from dev.script import ROOT, Script
from dev.vhost import Vhost

QUICK = {"RECONNECT_MIN": 0.05, "RECONNECT_MAX": 0.3}


class Message(NamedTuple):
    """One message as the queue held it."""

    routing_key: str
    properties: Any
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Listening:
    """listen.py between `database` and `vhost`; the queue `out` is bound to everything."""

    def __init__(self, make: Callable[..., Script], database: Database, vhost: Vhost, **settings: object) -> None:
        self._make = make
        self.database = database
        self.vhost = vhost
        self.settings = {
            "DATABASE_URL": database.listener_dsn,
            "RABBITMQ_URL": vhost.url,
            # Nothing in a test may be found by the slow poll: it would hide a lost wake-up.
            "POLL_INTERVAL": 3600,
            **QUICK,
            **settings,
        }
        self.script = self.another()
        self._connections: dict[str, connection] = {}

    def another(self, **settings: object) -> Script:
        """A second listener with the same settings, but for these."""
        return self._make("listen.py", {**self.settings, **settings})

    def bind(self, queue: str = "out", key: str = "#", **arguments: object) -> None:
        channel = self.vhost.channel()
        channel.exchange_declare("relay", "topic", durable=True)
        channel.queue_declare(queue, durable=True, arguments={"x-queue-type": "quorum", **arguments})
        channel.queue_bind(queue, "relay", key)

    def start(self) -> Listening:
        self.script.start()
        self.script.wait_for_log("relaying")
        return self

    def execute(self, *statements: str) -> None:
        """As the application: one transaction for each statement."""
        with self._connection("app").cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def admin(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        with self._connection("admin").cursor() as cursor:
            cursor.execute(statement, parameters or None)
            return cursor.fetchall() if cursor.description else []

    def _connection(self, role: str) -> connection:
        """One for each role, opened anew after the server has gone away."""
        known = self._connections.get(role)
        if known is None or known.closed:
            known = self._connections[role] = getattr(self.database, role)()
        return known

    def table(self, name: str = "t", count: int = 0) -> None:
        """Make and watch a table (id, n), with `count` rows made before it is watched."""
        self.execute(
            f"create table {name} (id int primary key, n int not null default 0)",
            f"insert into {name} select i from generate_series(1, {count}) i",
        )
        self.admin(f"select relay.watch('public.{name}')")

    def pending(self) -> int:
        return int(self.admin("select count(*) from relay.outbox")[0][0])

    def await_empty(self, timeout: float = 20) -> None:
        wait_until(lambda: self.pending() == 0, timeout, "the outbox to be empty")

    def messages(self, count: int, queue: str = "out", timeout: float = 20) -> list[Message]:
        """Take exactly `count` messages out of the queue; AssertionError if they do not come, or more do."""
        opened = pika.BlockingConnection(pika.URLParameters(self.vhost.url))
        found: list[Message] = []
        opened.channel().basic_consume(
            queue,
            lambda _c, method, properties, body: found.append(Message(method.routing_key, properties, body)),
            auto_ack=True,
        )
        end = time.monotonic() + timeout
        while len(found) < count and time.monotonic() < end:
            opened.process_data_events(time_limit=end - time.monotonic())
        opened.process_data_events(time_limit=0)
        opened.close()
        assert len(found) == count, f"{len(found)} messages instead of {count}"
        return found

    def all_messages(self, queue: str = "out") -> list[Message]:
        """Whatever is in the queue now, one by one: for few."""
        opened = pika.BlockingConnection(pika.URLParameters(self.vhost.url))
        channel = opened.channel()
        found: list[Message] = []
        while (got := channel.basic_get(queue, auto_ack=True))[0] is not None:
            found.append(Message(got[0].routing_key, got[1], got[2]))
        opened.close()
        return found


def command(listening: Listening, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """`listen.py ARGUMENTS`, and the environment with the settings."""
    environment = {key: str(value) for key, value in listening.settings.items()} | {"PATH": os.environ["PATH"]}
    return [sys.executable, str(ROOT / "listen.py"), *arguments], environment


def run(
    listening: Listening, *arguments: str, answer: str = "", timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run `listen.py ARGUMENTS` to its end."""
    words, environment = command(listening, *arguments)
    return forkserver.run(words, env=environment, given=answer, timeout=timeout)


def first_seen(messages: list[Message]) -> list[Message]:
    """The messages without repetitions."""
    seen: dict[str, Message] = {}
    for message in messages:
        seen.setdefault(message.properties.message_id, message)
    return list(seen.values())


def by_row(messages: list[Message]) -> dict[int, list[int]]:
    """n of each row, in the order of arrival."""
    rows: dict[int, list[int]] = defaultdict(list)
    for message in messages:
        event = message.json
        rows[event["key"]["id"]].append((event["new"] or event["old"])["n"])
    return rows
