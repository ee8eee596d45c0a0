"""No wake-up is lost: 8 writers, thousands of random transactions, some open for 2 s, and no poll to hide behind."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable

import pika
import psycopg2
import pytest

from dev.database import Database
from dev.script import Script
from dev.vhost import Vhost
from tests.listening import Listening

WRITERS = 8


class Watch:
    """When each row number was committed, and when it arrived; and how slow the broker itself was meanwhile."""

    def __init__(self) -> None:
        self.broker_seconds = 0.0  # the longest that a message took which was published past the listener
        self.committed: dict[int, float] = {}
        self.arrived: dict[int, float] = {}
        self.failures: list[BaseException] = []

    def write(self, dsn: str, number: int, transactions: int) -> None:
        rng = random.Random(number)
        try:
            with contextlib.closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
                for count in range(transactions):
                    rows = [number * 10**7 + count * 10 + n for n in range(rng.randint(1, 3))]
                    for row in rows:
                        cursor.execute("insert into t values (%s)", (row,))
                    pause = rng.random()
                    # Now and then none at all for a moment, so that the listener falls asleep in between; and some stay
                    # open while it does, having seen it awake.
                    if pause < 0.002:
                        time.sleep(2)
                    elif pause < 0.05:
                        time.sleep(rng.random() / 10)
                    if rng.random() < 0.1:
                        connection.rollback()
                        continue
                    connection.commit()
                    now = time.monotonic()
                    self.committed.update(dict.fromkeys(rows, now))
        except psycopg2.Error as error:
            self.failures.append(error)

    def consume(self, url: str, stop: threading.Event) -> None:
        connection = pika.BlockingConnection(pika.URLParameters(url))

        def note(_channel: object, _method: object, properties: pika.BasicProperties, _body: bytes) -> None:
            key = str((properties.headers or {})["relay-key"])
            self.arrived.setdefault(int("".join(c for c in key if c.isdigit())), time.monotonic())

        def note_broker(_channel: object, _method: object, _properties: object, body: bytes) -> None:
            self.broker_seconds = max(self.broker_seconds, time.monotonic() - float(body))

        channel = connection.channel()
        channel.queue_declare("direct", durable=True, arguments={"x-queue-type": "quorum"})
        channel.basic_consume("direct", note_broker, auto_ack=True)
        channel.basic_consume("out", note, auto_ack=True)
        while not stop.is_set():
            channel.basic_publish("", "direct", repr(time.monotonic()).encode(), pika.BasicProperties(delivery_mode=2))
            connection.process_data_events(time_limit=0.1)
        connection.close()


def torture(listening: Listening, transactions: int) -> Watch:
    listening.bind()
    listening.table()
    listening.start()
    watch, stop = Watch(), threading.Event()
    consumer = threading.Thread(target=watch.consume, args=(listening.vhost.url, stop))
    consumer.start()
    writers = [
        threading.Thread(target=watch.write, args=(listening.database.app_dsn, number, transactions // WRITERS))
        for number in range(WRITERS)
    ]
    try:
        for thread in writers:
            thread.start()
        for thread in writers:
            thread.join()
        listening.await_empty(30)
        end = time.monotonic() + 10
        while len(watch.arrived) < len(watch.committed) and time.monotonic() < end:
            consumer.join(0.05)
    finally:
        stop.set()
        consumer.join()
    return watch


@pytest.mark.parametrize("transactions", [2400, pytest.param(20_000, marks=pytest.mark.long)])
def test_every_event_arrives_within_a_second_of_its_commit_and_none_by_the_slow_poll(
    script: Callable[..., Script], database: Database, vhost: Vhost, transactions: int
) -> None:
    watch = torture(Listening(script, database, vhost), transactions)
    assert watch.failures == []
    assert set(watch.arrived) == set(watch.committed), "none lost, none invented"
    late = sorted((watch.arrived[row] - at for row, at in watch.committed.items()), reverse=True)
    # On a busy machine RabbitMQ stands still for up to half a second now and then; that is not the listener's.
    broker = watch.broker_seconds
    assert late[0] < 1 + broker, f"the latest came {late[:5]} s after their commits, the broker took {broker} s"
