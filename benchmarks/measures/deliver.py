"""From a full queue to an HTTP endpoint: the receiver, a raw client with as many connections, and mq-bridge.

The endpoint is the clock for all three: from its first request to its last answer. It is a process of its own.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pika

from benchmarks import bridge
from benchmarks.keys import Key
from benchmarks.meters import peak_mb
from benchmarks.site import QUEUE, Site
from dev.process import wait_until
from relay.receiving.queues import queue_arguments

KEYS = (
    Key("deliver_20ms_per_s", "16 workers, an endpoint that takes 20 ms", unit="/s"),
    Key("deliver_20ms_vs_limit", "deliver_20ms_per_s to a raw client with 16 connections", 0.9),
    Key("deliver_1ms_per_s", "16 workers, an endpoint that takes 1 ms", unit="/s"),
    Key("deliver_100ms_per_s", "16 workers, an endpoint that takes 100 ms: at most 160", unit="/s"),
    Key("deliver_instant_per_s", "4 workers, an endpoint that answers at once", 1000, unit="/s"),
    Key("deliver_instant_per_s_mq_bridge", "mq-bridge, amqp to http, 4 requests at a time", unit="/s"),
    Key("deliver_instant_vs_mq_bridge", "deliver_instant_per_s to mq-bridge's"),
    Key("deliver_batches_per_s", "the same with HTTP_BATCH=20", unit="/s"),
    Key("deliver_batches_vs_single", "deliver_batches_per_s to deliver_instant_per_s", 1.8),
    Key("deliver_batches_vs_mq_bridge", "deliver_batches_per_s to mq-bridge's, one by one", 1.0),
    Key("receiver_rss_mb_1m", "peak memory of the receiver with 1,000,000 events waiting", 50, low=True, unit="MB"),
)
COUNT = 10_000
WAITING = 1_000_000
TIMEOUT = 600
KEYS_OF_ROWS = 1000
BODY = b'{"filler":"' + b"x" * 280 + b'"}'


def measure(site: Site) -> dict[str, float]:
    """One round."""
    count = site.sizes.events(COUNT)
    slow, _ = by_receiver(site, count, count, 0.02, 16)
    limit = bare_rate(count, 0.02, 16)
    quick, _ = by_receiver(site, count, count, 0.001, 16)
    slowest, _ = by_receiver(site, count // 10, count // 10, 0.1, 16)
    instant, _ = by_receiver(site, count, count, 0.0, 4)
    together, _ = by_receiver(site, count, count, 0.0, 4, HTTP_BATCH=20)
    theirs = _bridge(site, count)
    _, memory = by_receiver(site, site.sizes.events(WAITING), count, 0.0, 4)
    return {
        "deliver_20ms_per_s": slow,
        "deliver_20ms_vs_limit": slow / limit,
        "deliver_1ms_per_s": quick,
        "deliver_100ms_per_s": slowest,
        "deliver_instant_per_s": instant,
        "deliver_instant_per_s_mq_bridge": theirs,
        "deliver_instant_vs_mq_bridge": instant / theirs,
        "deliver_batches_per_s": together,
        "deliver_batches_vs_single": together / instant,
        "deliver_batches_vs_mq_bridge": together / theirs,
        "receiver_rss_mb_1m": memory,
    }


@contextlib.contextmanager
def serving(delay: float, count: int, *, light: bool = False) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """Its port, and the process that prints how long `count` requests took. light: at once, and one event in each."""
    how = ["light"] if light else ["serve", str(delay)]
    command = [sys.executable, "-m", "benchmarks.endpoint", *how, str(count)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline()), process
        finally:
            process.kill()


def rate_of(process: subprocess.Popen[str], count: int) -> float:
    assert process.stdout is not None
    return count / float(process.stdout.readline())


def fill_queue(site: Site, queue: str, count: int, kind: str) -> None:
    channel = site.vhost.channel()
    channel.exchange_declare("relay", "topic", durable=True)
    channel.queue_declare(queue, durable=True, arguments=queue_arguments(kind) if kind else None)
    for n in range(count):
        event_id, key = f"00000000-0000-4000-8000-{n:012d}", f"t {n % KEYS_OF_ROWS}"
        headers: dict[str, Any] = {"relay-seq": n + 1, "relay-key": key, "relay-table": "t"}
        properties = pika.BasicProperties(message_id=event_id, delivery_mode=2, type="update", headers=headers)
        channel.basic_publish("", queue, BODY, properties)
    wait_until(lambda: site.vhost.queue_depth(queue) >= count, TIMEOUT, "a full queue")
    site.vhost.close()


def by_receiver(
    site: Site, waiting: int, count: int, delay: float, workers: int, **more: object
) -> tuple[float, float]:
    """Deliveries a second, over the first `count`; and the process's peak of memory, MB."""
    fill_queue(site, QUEUE, waiting, "quorum")
    site.settle()
    with serving(delay, count) as (port, endpoint):
        receiver = site.receiver(QUEUE=QUEUE, HTTP_URL=f"http://127.0.0.1:{port}/", WORKERS=workers, **more)
        with site.at_work(receiver):
            rate, memory = rate_of(endpoint, count), peak_mb(receiver.pid)
    site.drop_queues(QUEUE, f"{QUEUE}.parked")
    return rate, memory


def bare_rate(count: int, delay: float, clients: int) -> float:
    """Requests a second of a client that does nothing else."""
    with serving(delay, count) as (port, endpoint):
        command = [sys.executable, "-m", "benchmarks.endpoint", "ask", str(port), str(clients), str(count)]
        with subprocess.Popen(command):
            return rate_of(endpoint, count)


def _bridge(site: Site, count: int) -> float:
    fill_queue(site, "bridge", count, "")
    site.settle()
    with serving(0.0, count) as (port, endpoint), bridge.delivering(site, "bridge", f"http://127.0.0.1:{port}/", 500):
        began = time.monotonic()
        rate = rate_of(endpoint, count)
        assert time.monotonic() - began < TIMEOUT
    site.drop_queues("bridge")
    return rate
