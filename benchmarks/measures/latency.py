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

from benchmarks import bridge, handwritten, programs
from benchmarks.keys import Key
from benchmarks.measures import handmade
from benchmarks.meters import spending
from benchmarks.site import COLUMNS, QUEUE, Site
from dev.process import Process, wait_until

KEYS = (
    Key("latency_commit_to_queue_p50_ms", "at 100 events a second", 5, low=True, unit="ms"),
    Key("latency_commit_to_queue_p99_ms", "at 100 events a second", 20, low=True, unit="ms"),
    Key("latency_cpu_us_per_event_postgres", "processor time meanwhile, the writer's statements included", unit="us"),
    Key("latency_cpu_us_per_event_listener", "the listener's", unit="us"),
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
together = max(1, round(rate / 500))  # rows a transaction
insert = f"insert into {table} select i, 1, 'confirmed', 12.50, 'a note', now(), 0 from generate_series(%s, %s) i"
for i in range(0, count, together):
    time.sleep(max(0.0, start + i / rate - time.monotonic()))
    rows = range(i, min(i + together, count))
    cursor.execute(insert, (rows[0], rows[-1]))
    committed |= dict.fromkeys(rows, time.monotonic())
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
    with site.table() as table, site.queue() as url, site.listening() as listener:
        time.sleep(1)
        process = Process.of(listener.pid)
        assert process is not None
        with spending(site.servers() | {"listener": process}) as spent:
            took = _run(site.database.admin_dsn, table, count, consumer(url, count))
        found |= summary("latency_commit_to_queue", took)
        found |= {f"latency_cpu_us_per_event_{name}": spent[name] / count * 1e6 for name in ("postgres", "listener")}
    source = bridge.Source(site)
    source.make(COLUMNS)
    with site.queue() as url, source.running(url) as process:
        await_slot(source, process)
        ours = _run(source.database.admin_dsn, source.name, count, consumer(url, count))
    source.drop()
    found |= summary("mq_bridge_latency_commit_to_queue", ours)
    found |= summary("latency_commit_to_endpoint", _relay(site, count))
    found |= summary("mq_bridge_latency", _bridge(site, count))
    found |= summary("handwritten_latency", _by_hand(site, count))
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
        await_slot(source, process)
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


def await_slot(source: bridge.Source, process: Process) -> None:
    """Await that mq-bridge is at work."""
    wait_until(lambda: source.active() or not process.alive(), 20, "mq-bridge to read its slot")
    time.sleep(1)


def consumer(url: str, count: int) -> subprocess.Popen[str]:
    """A process that prints when each message of the queue arrived; it consumes."""
    command = [sys.executable, "-c", _CONSUME, url, QUEUE, str(count)]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert started.stdout is not None
    assert started.stdout.readline() == "consuming\n"
    return started


@contextlib.contextmanager
def _endpoint(count: int) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """Its port, and the process that prints when each event arrived."""
    with programs.running(_SERVE, str(count)) as process:
        yield int(programs.line(process)), process


def _run(dsn: str, table: str, count: int, consumer: subprocess.Popen[str]) -> list[float]:
    return run(writer(dsn, table), count, consumer)


def writer(dsn: str, table: str) -> list[str]:
    """The command that writes into a table of COLUMNS, for `run`."""
    return [sys.executable, "-c", _WRITE, dsn, table]


def run(write: list[str], count: int, consumer: subprocess.Popen[str], per_second: float = PER_SECOND) -> list[float]:
    """Milliseconds of each event, ascending.

    Args:
        write: what writes them; it is told the rate and the count, and prints when each was committed.
        count: how many.
        consumer: prints when each arrived.
        per_second: the rate.
    """
    try:
        told = [*write, str(per_second), str(count)]
        committed = json.loads(subprocess.run(told, stdout=subprocess.PIPE, text=True, check=True).stdout)
        arrived = json.loads(consumer.communicate(timeout=180)[0])
    finally:
        consumer.kill()
        consumer.wait()
    assert arrived.keys() == committed.keys(), "other events arrived than were written"
    return sorted((arrived[i] - committed[i]) * 1000 for i in committed if int(i) >= WARM_UP)


def summary(name: str, ascending: list[float]) -> dict[str, float]:
    """The figures of a run."""
    return {f"{name}_p50_ms": _percentile(ascending, 50), f"{name}_p99_ms": _percentile(ascending, 99)}


def _percentile(ascending: list[float], percent: int) -> float:
    return ascending[min(len(ascending) - 1, len(ascending) * percent // 100)]
