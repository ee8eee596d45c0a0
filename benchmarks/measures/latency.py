"""From commit to queue, and to an HTTP endpoint, on a quiet database, 100 events a second: the relay and its peers.

From the moment the writer's COMMIT has returned to the moment a consumer of the queue, or the endpoint, has the event
in its hands. Writer and consumer are processes of their own, on one monotonic clock.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator

from benchmarks import bridge, handwritten
from benchmarks.keys import Key
from benchmarks.measures import handmade
from benchmarks.site import COLUMNS, QUEUE, Site
from dev.process import Process, wait_until

KEYS = (
    Key("latency_commit_to_queue_p50_ms", "at 100 events a second", 5, low=True, unit="ms"),
    Key("latency_commit_to_queue_p99_ms", "at 100 events a second", 20, low=True, unit="ms"),
    Key("mq_bridge_latency_commit_to_queue_p50_ms", "mq-bridge, the same", unit="ms"),
    Key("mq_bridge_latency_commit_to_queue_p99_ms", "mq-bridge, the same", unit="ms"),
    Key("latency_commit_to_endpoint_p50_ms", "through both daemons, at 100 events a second", 5, low=True, unit="ms"),
    Key("latency_commit_to_endpoint_p99_ms", "through both daemons, at 100 events a second", 25, low=True, unit="ms"),
    Key("mq_bridge_latency_p50_ms", "mq-bridge, postgres_cdc to amqp to http, the same", unit="ms"),
    Key("mq_bridge_latency_p99_ms", "mq-bridge, postgres_cdc to amqp to http, the same", unit="ms"),
    Key("handwritten_latency_p50_ms", "the hand-written scripts, the same", unit="ms"),
    Key("handwritten_latency_p99_ms", "the hand-written scripts, the same", unit="ms"),
)
PER_SECOND = 100
BATCH_OF_BRIDGE = 512  # its default
SECONDS = 15
WARM_UP = 100  # the first events of each run are not counted
_WRITE = """
import json, psycopg2, sys, time
dsn, table, rate, count = sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
handle = psycopg2.connect(dsn); handle.autocommit = True
cursor = handle.cursor(); committed = {}; start = time.monotonic()
for i in range(count):
    time.sleep(max(0.0, start + i / rate - time.monotonic()))
    cursor.execute(f"insert into {table} values (%s, 1, 'confirmed', 12.50, 'a note', now(), 0)", (i,))
    committed[i] = time.monotonic()
print(json.dumps(committed))
"""
_CONSUME = """
import json, pika, re, sys, time
arrived, count = {}, int(sys.argv[3])
def take(channel, method, properties, body):
    now = time.monotonic()
    arrived[int(re.search(rb'"id": ?"?(\\d+)"?[,}]', body)[1])] = now
    if len(arrived) == count:
        channel.stop_consuming()
connection = pika.BlockingConnection(pika.URLParameters(sys.argv[1]))
channel = connection.channel()
channel.basic_consume(sys.argv[2], take, auto_ack=True)
print("consuming", flush=True)
channel.start_consuming()
print(json.dumps(arrived))
"""


_SERVE = """
import asyncio, json, os, re, sys, time
arrived, count = {}, int(sys.argv[1])
async def serve(reader, writer):
    while count > len(arrived):
        try:
            head = await reader.readuntil(b'\\r\\n\\r\\n')
        except asyncio.IncompleteReadError:
            break
        body = await reader.readexactly(int(re.search(rb'(?i)content-length: *(\\d+)', head)[1]))
        arrived[int(re.search(rb'"id": ?"?(\\d+)"?[,}]', body)[1])] = time.monotonic()
        writer.write(b'HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\n{}')
    writer.close()
async def main():
    server = await asyncio.start_server(serve, '127.0.0.1', 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    while len(arrived) < count:
        await asyncio.sleep(0.05)
    print(json.dumps(arrived), flush=True)
    os._exit(0)
asyncio.run(main())
"""


def measure(site: Site) -> dict[str, float]:
    """One round."""
    count = PER_SECOND * site.sizes.seconds(SECONDS)
    site.settle()
    found: dict[str, float] = {}
    with site.table() as table, site.queue() as url, site.listening():
        time.sleep(1)
        found |= _summary("latency_commit_to_queue", _run(site.database.admin_dsn, table, count, _consumer(url, count)))
    source = bridge.Source(site)
    source.make(COLUMNS)
    with site.queue() as url, source.running(url) as process:
        _await_slot(source, process)
        ours = _run(source.database.admin_dsn, source.name, count, _consumer(url, count))
    source.drop()
    found |= _summary("mq_bridge_latency_commit_to_queue", ours)
    found |= _summary("latency_commit_to_endpoint", _relay(site, count))
    found |= _summary("mq_bridge_latency", _bridge(site, count))
    found |= _summary("handwritten_latency", _by_hand(site, count))
    return found


def _relay(site: Site, count: int) -> list[float]:
    with (
        site.table() as table,
        _endpoint(count) as (port, endpoint),
        site.receiving(f"http://127.0.0.1:{port}/"),
        site.listening(),
    ):
        time.sleep(1)
        return _run(site.database.admin_dsn, table, count, endpoint)


def _bridge(site: Site, count: int) -> list[float]:
    """Through a classic queue: its consumer knows no other kind."""
    source = bridge.Source(site)
    source.make(COLUMNS)
    channel = site.vhost.channel()
    channel.queue_declare("bridge", durable=True)
    with (
        _endpoint(count) as (port, endpoint),
        bridge.delivering(site, "bridge", f"http://127.0.0.1:{port}/", BATCH_OF_BRIDGE),
        source.running(site.vhost.url, "bridge") as process,
    ):
        _await_slot(source, process)
        found = _run(source.database.admin_dsn, source.name, count, endpoint)
    source.drop()
    channel.queue_delete("bridge")
    site.vhost.close()
    return found


def _by_hand(site: Site, count: int) -> list[float]:
    with site.table(watch=None) as table, site.queue() as url, _endpoint(count) as (port, endpoint):
        site.sql(handwritten.TRIGGER.format(table=table))
        with (
            handmade.script(site, "listen", site.database.admin_dsn, url, QUEUE),
            handmade.script(site, "receive", url, QUEUE, f"http://127.0.0.1:{port}/"),
        ):
            found = _run(site.database.admin_dsn, table, count, endpoint)
    site.sql("drop function notify_row()")
    return found


def _await_slot(source: bridge.Source, process: Process) -> None:
    wait_until(lambda: source.active() or not process.alive(), 20, "mq-bridge to read its slot")
    time.sleep(1)


def _consumer(url: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _CONSUME, url, QUEUE, str(count)]
    consumer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert consumer.stdout is not None
    assert consumer.stdout.readline() == "consuming\n"
    return consumer


@contextlib.contextmanager
def _endpoint(count: int) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """Its port, and the process that prints when each event arrived."""
    with subprocess.Popen([sys.executable, "-c", _SERVE, str(count)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline()), process
        finally:
            process.kill()


def _run(dsn: str, table: str, count: int, consumer: subprocess.Popen[str]) -> list[float]:
    """Milliseconds of each event, ascending."""
    try:
        writer = [sys.executable, "-c", _WRITE, dsn, table, str(PER_SECOND), str(count)]
        committed = json.loads(subprocess.run(writer, stdout=subprocess.PIPE, text=True, check=True).stdout)
        arrived = json.loads(consumer.communicate(timeout=60)[0])
    finally:
        consumer.kill()
        consumer.wait()
    assert arrived.keys() == committed.keys(), "other events arrived than were written"
    return sorted((arrived[i] - committed[i]) * 1000 for i in committed if int(i) >= WARM_UP)


def _summary(name: str, ascending: list[float]) -> dict[str, float]:
    return {f"{name}_p50_ms": _percentile(ascending, 50), f"{name}_p99_ms": _percentile(ascending, 99)}


def _percentile(ascending: list[float], percent: int) -> float:
    return ascending[min(len(ascending) - 1, len(ascending) * percent // 100)]
