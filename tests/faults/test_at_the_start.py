"""What is wrong when a daemon starts: one line with the remedy; the end with 78, or waiting and going on by itself;
`check` names it beforehand in the same words, and `status` cannot be had for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import pytest

from dev.database import Database
from dev.process import free_port
from tests.faults.conftest import AT_WORK, LISTEN, RECEIVE, Ground, Make, bad, status, told

Changes = Callable[[Ground], Mapping[str, object]]


class Fault(NamedTuple):
    """One of them.

    Args:
        name: for people.
        script: whose.
        changes: to the settings.
        said: in the log.
        found: the names of what `check` finds.
        waits: it may be over by itself; else the daemon ends with 78.
        made, mended: SQL of a superuser.
        seen: `status` can't be had, and gives the same remedy.
    """

    name: str
    script: str
    changes: Changes
    said: str
    found: str
    waits: bool = False
    made: tuple[str, ...] = ()
    mended: tuple[str, ...] = ()
    seen: bool = False


def rabbitmq(host: str = "", **parts: str) -> Changes:
    """RABBITMQ_URL with another part."""

    def changes(ground: Ground) -> Mapping[str, object]:
        broker = ground.vhost.broker
        at = host or f"127.0.0.1:{broker.port}"
        user, vhost = parts.get("user", f"admin:{broker.password}"), parts.get("vhost", ground.vhost.name)
        return {"RABBITMQ_URL": f"amqp://{user}@{at.replace('PORT', str(free_port()))}/{vhost}"}

    return changes


def postgres(old: str, new: str) -> Changes:
    """DATABASE_URL with another part."""

    def changes(ground: Ground) -> Mapping[str, object]:
        dsn = ground.database.listener_dsn.replace(f":{ground.database.server.port}/", ":PORT/")
        dsn = dsn.replace(old, new) if old != "PORT" else dsn.replace("PORT", str(free_port()))
        return {"DATABASE_URL": dsn.replace("PORT", str(ground.database.server.port))}

    return changes


def at_rabbitmq(ground: Ground) -> Mapping[str, object]:
    return {"DATABASE_URL": f"postgresql://u:p@127.0.0.1:{ground.vhost.broker.port}/faults"}


def tls(ground: Ground) -> Mapping[str, object]:
    return {"RABBITMQ_URL": ground.vhost.url.replace("amqp:", "amqps:")}


def setting(**changed: object) -> Changes:
    return lambda _ground: changed


NONE = setting()
ROLE = Database.LISTENER
BOTH = [
    fault
    for script in (LISTEN, RECEIVE)
    for fault in (
        Fault("RabbitMQ: port", script, rabbitmq("127.0.0.1:PORT"), "is not reachable: Connection refused", "RabbitMQ",
              waits=True, seen=True),
        Fault("RabbitMQ: unknown host", script, rabbitmq("nobody.invalid"), "no host of this name is known", "RabbitMQ",
              waits=True, seen=True),
        Fault("RabbitMQ: password", script, rabbitmq(user="admin:s3cret"), "refuses the user or password", "RabbitMQ",
              seen=True),
        Fault("RabbitMQ: vhost", script, rabbitmq(vhost="nowhere"), "the vhost does not exist", "RabbitMQ",
              seen=True),
        Fault("RabbitMQ: no TLS there", script, tls, "speaks no TLS at this port", "RabbitMQ",
              seen=True),
        Fault("the exchange is of another type", script, setting(EXCHANGE="amq-like", EXCHANGE_TYPE="fanout"),
              "EXCHANGE_TYPE", "exchange amq-like"),
        Fault("LOG_FILE in a missing directory", script, setting(LOG_FILE="/no/such/directory/relay.log"),
              "LOG_FILE=/no/such/directory/relay.log can't be written", "LOG_FILE"),
    )
]  # fmt: skip
ONE = [
    Fault("PostgreSQL: port", LISTEN, postgres("PORT", ""), "Connection refused", "PostgreSQL", waits=True, seen=True),
    Fault("PostgreSQL: unknown host", LISTEN, postgres("127.0.0.1", "nobody.invalid"), "no host of this name is known",
          "PostgreSQL", waits=True, seen=True),
    Fault("PostgreSQL: password", LISTEN, postgres(f":{Database.PASSWORD}@", ":s3cret@"),
          "password authentication failed", "PostgreSQL", seen=True),
    Fault("PostgreSQL: the password has expired", LISTEN, NONE, f"alter role \"{ROLE}\" valid until 'infinity';",
          "PostgreSQL", made=(f"alter role {ROLE} valid until '2020-01-01'",),
          mended=(f"alter role {ROLE} valid until 'infinity'",), seen=True),
    Fault("PostgreSQL: another program's port", LISTEN, at_rabbitmq, "-> that is another program's port", "PostgreSQL",
          seen=True),
    Fault("PostgreSQL: database", LISTEN, postgres("/faults", "/nowhere"), 'database "nowhere" does not exist',
          "PostgreSQL", seen=True),
    Fault("PostgreSQL: no connection left", LISTEN, NONE, "-> raise max_connections", "PostgreSQL", waits=True,
          made=(f"alter role {ROLE} connection limit 0",), mended=(f"alter role {ROLE} connection limit -1",),
          seen=True),
    Fault("PostgreSQL: may not log in", LISTEN, NONE, f'-> alter role "{ROLE}" login;', "PostgreSQL",
          made=(f"alter role {ROLE} nologin",), mended=(f"alter role {ROLE} login",), seen=True),
    Fault("PostgreSQL: may not connect", LISTEN, NONE, f'-> grant connect on database "faults" to "{ROLE}";',
          "PostgreSQL", made=("revoke connect on database faults from public",),
          mended=("grant connect on database faults to public",), seen=True),
    Fault("the schema is missing", LISTEN, postgres("/faults", "/postgres"), "sql/install.sql -d postgres",
          "schema relay", seen=True),
    Fault("QUEUE was made in another way", RECEIVE, setting(QUEUE="other", QUEUE_TYPE="quorum"),
          "queue other exists with other arguments", "queue other"),
    Fault("QUEUE_TYPE=existing, and none is there", RECEIVE, setting(QUEUE="none", QUEUE_TYPE="existing"),
          "queue none does not exist, and QUEUE_TYPE=existing makes none", "queue none"),
]  # fmt: skip


@pytest.fixture(scope="module")
def others(ground: Ground) -> None:
    """What somebody else has made in RabbitMQ."""
    channel = ground.vhost.channel()
    channel.exchange_declare("amq-like", "topic", durable=True)
    channel.queue_declare("other", durable=True, arguments={"x-queue-type": "classic"})


@pytest.mark.usefixtures("others")
@pytest.mark.parametrize("fault", [*BOTH, *ONE], ids=lambda fault: f"{fault.name}, {fault.script}")
def test_a_fault_at_the_start(script: Make, ground: Ground, fault: Fault) -> None:
    daemon = script(fault.script, {**ground.settings(fault.script), **fault.changes(ground)})
    ground.sql(*fault.made)
    try:
        daemon.start()
        named = [one for one in bad(daemon) if one.name == fault.found]
        shown = status(daemon)
        daemon.wait_for_log(fault.said) if fault.waits else daemon.wait(20)
    finally:
        ground.sql(*fault.mended)
    line = told(daemon, fault.said)
    assert [one.outage for one in named] == [fault.waits]
    assert named[0].remedy
    if fault.seen:
        remedies = [text.rpartition(" -> ")[2] for text in shown.splitlines() if " -> " in text]
        assert any(remedy in line for remedy in remedies), shown
    else:
        assert "at work: none runs, or it waits for a server (its log says so)" in shown or "does not exist" in shown
    if fault.mended and fault.waits:
        daemon.wait_for_log(AT_WORK[fault.script])
    if fault.waits:
        assert "state=waiting" in line
        daemon.terminate()
    assert daemon.wait() == (0 if fault.waits else 78)


RIGHTS = {
    "select on relay.outbox": ("select", "relay.outbox"),
    "delete on relay.outbox": ("delete", "relay.outbox"),
    "update (error) on relay.outbox": ("update (error)", "relay.outbox"),
    "select on relay.listener": ("select", "relay.listener"),
    "update (turn, wakes) on relay.listener": ("update (turn, wakes)", "relay.listener"),
    "select on relay.pending": ("select", "relay.pending"),
    "select on relay.watched": ("select", "relay.watched"),
    "execute on relay.notified": ("execute", "function relay.notified(text[], text[])"),
}


@pytest.mark.parametrize("right", RIGHTS)
def test_each_right_in_postgresql_that_is_missing_is_named(script: Make, ground: Ground, right: str) -> None:
    what, where = RIGHTS[right]
    daemon = script(LISTEN, ground.settings(LISTEN))
    ground.sql(f"revoke {what} on {where} from relay_listener")
    try:
        (found,) = bad(daemon)
        shown = status(daemon)
    finally:
        ground.sql(f"grant {what} on {where} to relay_listener")
    assert (found.name, found.outage) == ("rights", False)
    assert found.detail.endswith(f"lacks {right}")
    assert found.remedy == f'grant relay_listener to "{ROLE}";'
    if where in ("relay.pending", "relay.watched"):  # what status itself reads
        assert found.remedy in shown
    assert bad(daemon) == []
