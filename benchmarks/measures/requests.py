"""Rows asked for over the command queue (REQUESTS=on), and what a flood of requests costs the relay of the outbox.

1,000 gets a second of 16 clients together, one key each, one at a time a client. Each client is a process of its own;
what they, the listener, PostgreSQL and RabbitMQ need of a processor is counted apart: it says what two quiet cores can
do also where they are not quiet.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import time

from benchmarks import meters, programs
from benchmarks.keys import Key
from benchmarks.site import Site, fill
from dev.process import Process
from dev.site import Daemon

KEYS = (
    Key("requests_per_s", "gets a second of 16 clients that ask for 1,000", 950, unit="/s"),
    Key("requests_p50_ms", "at 1,000 gets a second", unit="ms"),
    Key("requests_p99_ms", "at 1,000 gets a second", 50, low=True, unit="ms"),
    Key("requests_listener_us", "processor time of the listener a get", 500, low=True, unit="us"),
    Key("requests_postgres_us", "of PostgreSQL", unit="us"),
    Key("requests_broker_us", "of RabbitMQ", unit="us"),
    Key("requests_client_us", "of relay.ask.Client", unit="us"),
    Key("requests_all_us", "of all four: two cores have 2,000 for each of 1,000 a second", 2000, low=True, unit="us"),
    Key(
        "flood_processors",
        "that a flood of gets takes of listener and PostgreSQL while a backlog drains",
        0.1,
        low=True,
    ),
    Key("flood_drain_ratio", "events a second from a backlog: under the flood to without; RabbitMQ has both to carry"),
    Key(
        "flood_elsewhere_drain_ratio", "the same flood into a queue that nobody reads: what RabbitMQ and the flood cost"
    ),
    Key("flood_relay_ratio", "flood_drain_ratio to that: what is left is the listener's", 0.9),
)
CLIENTS, PER_SECOND, COUNT, ROWS = 16, 1000, 600, 1000
FLOODED, BACKLOG = 5000, 60_000
ELSEWHERE = "flooded"
TIMEOUT = 600
_ASK = """
import json, sys, time
from relay.ask import Client
url, table, number, clients, rate, count = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
times = []
with Client(url) as client:
    for n in range(3):
        client.get(table, {"id": n + 1})
    print(flush=True)
    input()
    spent, begin = time.process_time(), time.monotonic()
    for n in range(count):
        time.sleep(max(0.0, begin + (n + number / clients) * clients / rate - time.monotonic()))
        asked = time.monotonic()
        assert client.get(table, {"id": (n * clients + number) % 1000 + 1})
        times.append(time.monotonic() - asked)
    print(json.dumps([time.process_time() - spent, time.monotonic() - begin, times]))
"""
_FLOOD = """
import sys, time, pika
from relay.amqp import blocking
url, queue, table, rate = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
sent, begin = 0, time.monotonic()
properties = pika.BasicProperties(reply_to="amq.rabbitmq.reply-to", expiration="5000")
while True:
    try:
        opened, channel = blocking.connect(pika.URLParameters(url))
        channel.basic_consume("amq.rabbitmq.reply-to", lambda *_: None, auto_ack=True)
        while True:
            while sent < (time.monotonic() - begin) * rate:
                body = '{"command": "get", "table": "%s", "keys": "{\\\\"id\\\\": %d}"}' % (table, sent % 1000 + 1)
                channel.basic_publish("", queue, body.encode(), properties)
                sent += 1
            opened.wait(0.02)
    except pika.exceptions.AMQPError:
        pass  # RabbitMQ has not read for seconds
"""


def measure(site: Site) -> dict[str, float]:
    """One round."""
    with site.table(rows=ROWS) as table, site.queue(), site.listening(REQUESTS="on") as listener:
        found = _gets(site, table, listener)
    ours = f"relay.control.{site.database.name}"
    plain, elsewhere, under = (_drain(site, flooded) for flooded in ("", ELSEWHERE, ours))
    return found | {
        "flood_processors": (under[1] - plain[1]) / under[0],
        "flood_drain_ratio": plain[0] / under[0],
        "flood_elsewhere_drain_ratio": plain[0] / elsewhere[0],
        "flood_relay_ratio": elsewhere[0] / under[0],
    }


def _gets(site: Site, table: str, listener: Daemon) -> dict[str, float]:
    count = site.sizes.events(CLIENTS * COUNT) // CLIENTS
    url = f"{site.vhost.url}?source={site.database.name}"
    more = [str(number) for number in (CLIENTS, PER_SECOND, count)]
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(programs.running(_ASK, url, f"public.{table}", str(number), *more))
            for number in range(CLIENTS)
        ]
        for client in clients:
            programs.line(client)  # it has had its first row
        before = _spent(site, listener)
        for client in clients:
            client.stdin.write("\n")  # type: ignore[union-attr]
            client.stdin.flush()  # type: ignore[union-attr]
        told = [json.loads(programs.line(client)) for client in clients]
        spent = {name: seconds - before[name] for name, seconds in _spent(site, listener).items()}
    gets = CLIENTS * count
    spent["client"] = sum(processor for processor, _, _ in told)
    cuts = statistics.quantiles([took for _, _, times in told for took in times], n=100)
    return {
        "requests_per_s": gets / max(seconds for _, seconds, _ in told),
        "requests_p50_ms": cuts[49] * 1000,
        "requests_p99_ms": cuts[98] * 1000,
        **{f"requests_{name}_us": seconds / gets * 1e6 for name, seconds in spent.items()},
        "requests_all_us": sum(spent.values()) / gets * 1e6,
    }


def _drain(site: Site, flooded: str) -> tuple[float, float]:
    """Seconds until a backlog is gone, and of processors for the listener and PostgreSQL. `flooded`: which queue."""
    count = site.sizes.events(BACKLOG)
    with site.table(rows=ROWS) as table, site.queue(), contextlib.ExitStack() as stack:
        fill(site.admin, table, ROWS + 1, count)
        site.settle()
        if flooded:
            site.vhost.channel().queue_declare(ELSEWHERE, arguments={"x-max-length": 1000})
            stack.callback(site.drop_queues, ELSEWHERE)
            stack.enter_context(programs.running(_FLOOD, site.vhost.url, flooded, f"public.{table}", str(FLOODED)))
        with site.listening(REQUESTS="on") as listener:
            began, before = time.monotonic(), _spent(site, listener)
            site.await_empty(TIMEOUT)
            seconds, after = time.monotonic() - began, _spent(site, listener)
            return seconds, sum(after[name] - before[name] for name in ("listener", "postgres"))


def _spent(site: Site, listener: Daemon) -> dict[str, float]:
    """Seconds of processor time so far."""
    process = Process.of(listener.pid)
    assert process is not None
    processes = {"listener": process, **site.servers()}
    return {name: meters.cpu_seconds(one) for name, one in processes.items() if name != "logical"}
