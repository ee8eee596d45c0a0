"""How fast a backlog reaches the default quorum queue: the listener, the limit, and mq-bridge, one after another.

The same clock for all: the queue's depth, from the first message seen in it to the last, confirms on.
"""

from __future__ import annotations

import subprocess
import sys

from benchmarks import bridge, limit
from benchmarks.keys import Key
from benchmarks.meters import Filled, await_filled, cpu_seconds
from benchmarks.site import COLUMNS, QUEUE, Site, fill
from dev.process import Process
from relay.listening import outbox_read
from relay.listening.event import OutboxEvent

KEYS = (
    Key("drain_per_s", "events of a backlog into a quorum queue", unit="/s"),
    Key("drain_vs_limit", "drain_per_s to that of frames encoded beforehand", 0.9),
    Key("drain_vs_mq_bridge", "drain_per_s to mq-bridge's", 1.3),
    Key("drain_direct_vs_mq_bridge", "with EXCHANGE_TYPE=direct, the type that mq-bridge publishes to"),
    Key("drain_per_s_direct", "events of a backlog, EXCHANGE_TYPE=direct", unit="/s"),
    Key("drain_per_s_limit", "frames encoded beforehand, written to the socket", unit="/s"),
    Key("drain_per_s_mq_bridge", "mq-bridge, postgres_cdc to amqp", unit="/s"),
    Key("cpu_s_per_100k_events_listener", "processor time while draining", unit="s"),
    Key("cpu_s_per_100k_events_postgres", "PostgreSQL's, for the listener", unit="s"),
    Key("cpu_s_per_100k_events_broker", "RabbitMQ's, for the listener", unit="s"),
    Key("cpu_s_per_100k_events_direct_broker", "RabbitMQ's, for the listener, EXCHANGE_TYPE=direct", unit="s"),
    Key("cpu_s_per_100k_events_mq_bridge", "mq-bridge's own", unit="s"),
    Key("cpu_s_per_100k_events_mq_bridge_postgres", "PostgreSQL's, for mq-bridge", unit="s"),
    Key("cpu_s_per_100k_events_mq_bridge_broker", "RabbitMQ's, for mq-bridge", unit="s"),
    Key("cpu_s_per_100k_events_limit", "of the client with encoded frames", unit="s"),
)
COUNT = 100_000
TIMEOUT = 600


def measure(site: Site) -> dict[str, float]:
    """One round. The limit's frames are the very events that the listener publishes next."""
    count = site.sizes.events(COUNT)
    with site.table(watch=", bulk => true") as table:
        fill(site.admin, table, 1, count)
        found = _limit(site, count) | _listener(site, count)
        fill(site.admin, table, count + 1, count)
        found |= _listener_direct(site, count, f"public.{table}")
    site.forget_events()
    found |= _bridge(site, count)
    found["drain_vs_limit"] = found["drain_per_s"] / found["drain_per_s_limit"]
    found["drain_vs_mq_bridge"] = found["drain_per_s"] / found["drain_per_s_mq_bridge"]
    found["drain_direct_vs_mq_bridge"] = found["drain_per_s_direct"] / found["drain_per_s_mq_bridge"]
    return found


class _Cpu:
    """Processor time of the servers, and of one client that was started later, since now; per 100,000 events."""

    def __init__(self, site: Site) -> None:
        self._servers = site.servers()
        self._before = {name: cpu_seconds(process) for name, process in self._servers.items()}

    def per_100k(self, count: int, client: Process | None) -> dict[str, float]:
        spent = {name: cpu_seconds(process) - self._before[name] for name, process in self._servers.items()}
        if client is not None:
            spent["client"] = cpu_seconds(client)
        return {name: seconds * 100_000 / count for name, seconds in spent.items()}


def _listener(site: Site, count: int) -> dict[str, float]:
    site.settle()
    with site.queue() as url:
        cpu = _Cpu(site)
        with site.listening() as script:
            filled = await_filled(url, QUEUE, count, TIMEOUT, script.alive)
            site.await_empty()
            spent = cpu.per_100k(count, Process.of(script.pid))
    return {
        "drain_per_s": filled.rate,
        "cpu_s_per_100k_events_listener": spent["client"],
        "cpu_s_per_100k_events_postgres": spent["postgres"],
        "cpu_s_per_100k_events_broker": spent["broker"],
    }


def _listener_direct(site: Site, count: int, topic: str) -> dict[str, float]:
    site.settle()
    with site.queue("relay.direct", "direct", topic) as url:
        cpu = _Cpu(site)
        with site.listening(EXCHANGE="relay.direct", EXCHANGE_TYPE="direct") as script:
            filled = await_filled(url, QUEUE, count, TIMEOUT, script.alive)
            site.await_empty()
            spent = cpu.per_100k(count, Process.of(script.pid))
    return {"drain_per_s_direct": filled.rate, "cpu_s_per_100k_events_direct_broker": spent["broker"]}


def _limit(site: Site, count: int) -> dict[str, float]:
    frames = site.directory / "frames"
    frames.write_bytes(limit.encode(_events(site), "relay"))
    site.settle()
    with site.queue() as url:
        filled, seconds = _publish(url, str(frames), count)
    frames.unlink()
    return {"drain_per_s_limit": filled.rate, "cpu_s_per_100k_events_limit": seconds * 100_000 / count}


def _events(site: Site) -> list[OutboxEvent]:
    with site.admin.cursor() as cursor:
        cursor.execute(
            "select seq, id::text, extract(epoch from at)::bigint, xid::text::bigint, topic, tbl, op, key, body,"
            " headers::text, null, false from relay.backlog order by seq"
        )
        return [outbox_read.event(row) for row in cursor]


def _publish(url: str, frames: str, count: int) -> tuple[Filled, float]:
    """Run the limit's client; return how the queue filled, and its processor time from the word go."""
    command = [sys.executable, "-m", "benchmarks.limit", url, frames]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        process = Process.of(client.pid)
        assert client.stdout.readline() == "ready\n"
        assert process is not None
        before = cpu_seconds(process)
        client.stdin.write("go\n")
        client.stdin.flush()
        filled = await_filled(url, QUEUE, count, TIMEOUT, lambda: True)
        seconds = cpu_seconds(process) - before
    return filled, seconds


def _bridge(site: Site, count: int) -> dict[str, float]:
    source = bridge.Source(site)
    source.make(COLUMNS)
    fill(source.database.admin(), source.name, 1, count)
    site.settle()
    with site.queue() as url:
        cpu = _Cpu(site)
        with source.running(url) as process:
            filled = await_filled(url, QUEUE, count, TIMEOUT, process.alive)
            spent = cpu.per_100k(count, process)
        source.drop()
    return {
        "drain_per_s_mq_bridge": filled.rate,
        "cpu_s_per_100k_events_mq_bridge": spent["client"],
        "cpu_s_per_100k_events_mq_bridge_postgres": spent["logical"],
        "cpu_s_per_100k_events_mq_bridge_broker": spent["broker"],
    }
