"""What the faults share: one database and one virtual host, of this session's two servers, for all of a module."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

import listen
import receiver
from dev import forkserver
from dev.database import Database, execute
from dev.doubles.endpoint import Endpoint
from dev.postgres import Postgres
from dev.rabbitmq import RabbitMQ
from dev.script import ROOT, Script
from dev.vhost import Vhost
from relay.findings import Finding, Level
from relay.receiving.arguments import arguments
from tests.receiving import settings

LISTEN, RECEIVE = "listen.py", "receiver.py"
AT_WORK = {LISTEN: "relaying", RECEIVE: "consuming"}


class Ground(NamedTuple):
    """Where a fault is made, and mended again."""

    database: Database
    vhost: Vhost
    endpoint: Endpoint

    def settings(self, script: str) -> dict[str, object]:
        """Of a daemon without a fault."""
        if script == RECEIVE:
            return {**settings(self.vhost, self.endpoint), "RABBITMQ_MANAGEMENT_URL": self.management}
        return {
            "DATABASE_URL": self.database.listener_dsn, "RABBITMQ_URL": self.vhost.url, "RECONNECT_MIN": 0.05,
            "RECONNECT_MAX": 0.3, "RABBITMQ_MANAGEMENT_URL": self.management,
        }  # fmt: skip

    @property
    def management(self) -> str:
        return f"http://127.0.0.1:{self.vhost.broker.management_port}"

    def sql(self, *statements: str) -> None:
        """As a superuser."""
        execute(self.database.admin_dsn, *statements)


@pytest.fixture(scope="module")
def ground(postgres: Postgres, rabbitmq: RabbitMQ) -> Iterator[Ground]:
    database, vhost = Database.create(postgres, "faults"), Vhost.create(rabbitmq, "faults")
    with Endpoint() as endpoint:
        made = Ground(database, vhost, endpoint)
        made.sql("create table t (id int primary key, n int)", f"alter table t owner to {Database.APP}")
        made.sql("select relay.watch('public.t')")
        channel = vhost.channel()
        channel.exchange_declare("relay", "topic", durable=True)
        channel.queue_declare("out")
        channel.queue_bind("out", "relay", "#")
        yield made
    vhost.delete()
    database.drop()


def findings(script: Script) -> list[Finding]:
    """What `check` finds, with the settings of a script; in this process, since there are many faults."""
    if script.name == RECEIVE:
        return list(receiver._check(script.env_file, arguments(["check"])))
    return list(listen._check(script.env_file, listen.parser().parse_args(["check"])))


def bad(script: Script) -> list[Finding]:
    return [one for one in findings(script) if one.level is not Level.OK]


def status(script: Script) -> str:
    """What `status` shows, or says instead."""
    command = [sys.executable, str(ROOT / script.name), "--env-file", str(script.env_file), "status"]
    done = forkserver.run(command, timeout=60)
    return f"{done.stdout}{done.stderr}".strip()


def told(script: Script, said: str) -> str:
    """The line of the log that tells of a fault: there is one, with its remedy, and no traceback."""
    (line,) = [line for line in script.log().splitlines() if said in line]
    assert " -> " in line or "remedy=" in line, line
    assert "Traceback" not in script.log()
    assert "s3cret" not in script.log()
    return line


Make = Callable[..., Script]
