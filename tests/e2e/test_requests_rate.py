"""How many requests a second, and what a flood of them costs the relay of the outbox."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable
from multiprocessing.sharedctypes import Synchronized

import pika
import pika.exceptions
import pytest

from benchmarks.meters import cpu_seconds
from dev.database import Database
from dev.process import Process
from dev.script import Script
from dev.vhost import Vhost
from relay.amqp import blocking
from relay.amqp.ask import REPLY_TO
from relay.ask import Client
from relay.listening.requests import BUSY_RATE
from tests.listening import Listening

CLIENTS, EACH, EVENTS = 16, 600, 60_000
FLOODED = 5000  # requests a second: more would be a test of RabbitMQ


def ask(url: str, source: str, found: multiprocessing.Queue[tuple[float, list[float]]]) -> None:
    """1,000 a second of all clients together, evenly."""
    times = []
    with Client(url, source) as client:
        client.get("public.t", {"id": 1})
        begin = time.monotonic()
        for number in range(EACH):
            time.sleep(max(0.0, begin + number * CLIENTS / 1000 - time.monotonic()))
            asked = time.monotonic()
            assert client.get("public.t", {"id": number % 1000 + 1})
            times.append(time.monotonic() - asked)
        found.put((EACH / (time.monotonic() - begin), times))


def flood(url: str, source: str, asked: Synchronized[int], rows: Synchronized[int]) -> None:
    """FLOODED a second, without an answer awaited. `rows`: how many have come."""
    began = time.monotonic()

    def answered(_channel: object, _method: object, _properties: object, body: bytes) -> None:
        rows.value += bool((json.loads(body).get("rows") or [None])[0])

    def go_on() -> None:
        opened, channel = blocking.connect(pika.URLParameters(url))
        channel.basic_consume(REPLY_TO, answered, auto_ack=True)
        properties = pika.BasicProperties(reply_to=REPLY_TO, expiration="5000")
        while True:
            while asked.value < FLOODED * (time.monotonic() - began):
                body = b'{"command": "get", "table": "public.t", "keys": "{\\"id\\": %d}"}' % (asked.value % 1000 + 1)
                channel.basic_publish("", f"relay.control.{source}", body, properties)
                asked.value += 1
            opened.wait(0.02)

    while True:
        with contextlib.suppress(pika.exceptions.AMQPError):  # RabbitMQ has not read for seconds
            go_on()


@pytest.mark.long
@pytest.mark.timeout(300)
def test_gets_a_second(script: Callable[..., Script], database: Database, vhost: Vhost) -> None:
    listening = Listening(script, database, vhost, REQUESTS="on")
    listening.bind()
    listening.table(count=1000)
    listening.start()
    found: multiprocessing.Queue[tuple[float, list[float]]] = multiprocessing.Queue()
    clients = [multiprocessing.Process(target=ask, args=(vhost.url, database.name, found)) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    told = [found.get() for _ in clients]
    rate, times = sum(one for one, _ in told), [seconds for _, some in told for seconds in some]
    for client in clients:
        client.join()
    p50, p99 = (statistics.quantiles(times, n=100)[at] * 1000 for at in (49, 98))
    print(f"{rate:.0f} gets a second, p50 {p50:.1f} ms, p99 {p99:.1f} ms")  # noqa: T201
    assert rate > 900
    assert p99 < 50


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_a_flood_costs_the_relay_little(script: Callable[..., Script], database: Database, vhost: Vhost) -> None:
    """Medians of three drains of a backlog each, in turns; by processor time, as on a quiet machine."""
    listening = Listening(script, database, vhost, REQUESTS="on")
    listening.bind()
    listening.table(count=1000)
    costs: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    for flooded in (False, True) * 3:
        listening.execute(f"insert into t select 10000 + i, 0 from generate_series(1, {EVENTS}) i")
        counts = multiprocessing.Value("i", 0), multiprocessing.Value("i", 0)
        flooding = multiprocessing.Process(target=flood, args=(vhost.url, database.name, *counts), daemon=True)
        if flooded:
            flooding.start()
        listening.start()
        before, began = spent(listening), time.monotonic()
        listening.await_empty(240)
        costs[flooded].append((time.monotonic() - began, spent(listening) - before))
        if flooded:
            flooding.kill()
            flooding.join()
            (asked, rows), seconds = (one.value for one in counts), costs[flooded][-1][0]
            print(f"{asked} asked, {rows} rows, in {seconds:.2f} s")  # noqa: T201
            assert asked > 1000 * seconds, "it is no flood"
            assert 10 * seconds < rows < BUSY_RATE * (seconds + 2), "some are answered while the relay has much to do"
        listening.script.terminate()
        listening.script.wait()
        listening.script = listening.another()
        listening.execute("delete from t where id > 10000")
        listening.admin("truncate relay.outbox")
        vhost.channel().queue_purge("out")
    (plain, alone), (under, together) = (
        [statistics.median(one) for one in zip(*costs[flooded], strict=True)] for flooded in (False, True)
    )
    taken = (together - alone) / under
    print(f"{EVENTS} events: {plain:.2f} s, under a flood {under:.2f} s, which took {taken:.3f} processors")  # noqa: T201
    assert taken < 0.1, "processors that it takes of the listener and of PostgreSQL, of the two that relay"


def spent(listening: Listening) -> float:
    """Seconds of processor time of the listener, and of PostgreSQL."""
    process, server = Process.of(listening.script.pid), listening.database.server.process
    assert process is not None
    assert server is not None
    return cpu_seconds(process) + cpu_seconds(server)
