"""From commit to queue on a quiet database, 100 events a second: the listener, and mq-bridge.

From the moment the writer's COMMIT has returned to the moment a consumer of the queue has the message in its hands, so
the broker's way to the consumer is in it. Writer and consumer are processes of their own, on one monotonic clock.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time

from benchmarks import bridge
from benchmarks.keys import Key
from benchmarks.site import COLUMNS, QUEUE, Site
from dev.process import wait_until

KEYS = (
    Key("latency_commit_to_queue_p50_ms", "at 100 events a second", 5, low=True, unit="ms"),
    Key("latency_commit_to_queue_p99_ms", "at 100 events a second", 20, low=True, unit="ms"),
    Key("mq_bridge_latency_commit_to_queue_p50_ms", "mq-bridge, the same", unit="ms"),
    Key("mq_bridge_latency_commit_to_queue_p99_ms", "mq-bridge, the same", unit="ms"),
)
PER_SECOND = 100
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


def measure(site: Site) -> dict[str, float]:
    """One round."""
    site.settle()
    with site.table() as table, site.queue() as url, site.listening():
        time.sleep(1)
        ours = _run(site, site.database.admin_dsn, table, url)
    source = bridge.Source(site)
    source.make(COLUMNS)
    with site.queue() as url, source.running(url) as process:
        wait_until(lambda: source.active() or not process.alive(), 20, "mq-bridge to read its slot")
        time.sleep(1)
        theirs = _run(site, source.database.admin_dsn, source.name, url)
    source.drop()
    return {
        "latency_commit_to_queue_p50_ms": _percentile(ours, 50),
        "latency_commit_to_queue_p99_ms": _percentile(ours, 99),
        "mq_bridge_latency_commit_to_queue_p50_ms": _percentile(theirs, 50),
        "mq_bridge_latency_commit_to_queue_p99_ms": _percentile(theirs, 99),
    }


def _run(site: Site, dsn: str, table: str, url: str) -> list[float]:
    """Milliseconds of each event, ascending."""
    count = PER_SECOND * site.sizes.seconds(SECONDS)
    consumer = subprocess.Popen(
        [sys.executable, "-c", _CONSUME, url, QUEUE, str(count)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert consumer.stdout is not None
        assert consumer.stdout.readline() == "consuming\n"
        writer = [sys.executable, "-c", _WRITE, dsn, table, str(PER_SECOND), str(count)]
        committed = json.loads(subprocess.run(writer, stdout=subprocess.PIPE, text=True, check=True).stdout)
        arrived = json.loads(consumer.communicate(timeout=60)[0])
    finally:
        consumer.kill()
        consumer.wait()
    assert arrived.keys() == committed.keys(), "other events arrived than were written"
    return sorted((arrived[i] - committed[i]) * 1000 for i in committed if int(i) >= WARM_UP)


def _percentile(ascending: list[float], percent: int) -> float:
    return ascending[min(len(ascending) - 1, len(ascending) * percent // 100)]
