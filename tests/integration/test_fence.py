"""What our looking at a queue may not change."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator

import pika
import pytest

from dev.process import answers, wait_until
from dev.rabbitmq import RabbitMQ
from dev.vhost import Vhost
from relay.errors import Unavailable
from relay.receiving.fence import PROBE, Probe
from tests.wired import Wired, wired

LOG_SECONDS = 4.0
QUORUM = {"x-queue-type": "quorum", "x-delivery-limit": 1_000_000}


@pytest.fixture
def wire(vhost: Vhost) -> Iterator[Wired]:
    with wired(vhost) as made:
        yield made


@pytest.fixture
def read(vhost: Vhost) -> Callable[[int], list[bytes]]:
    """Read so many messages, and give them back all at once by closing the connection."""

    def all_of(count: int) -> list[bytes]:
        found: list[bytes] = []
        opened = pika.BlockingConnection(pika.URLParameters(vhost.url))
        channel = opened.channel()
        channel.basic_qos(prefetch_count=1000)
        channel.basic_consume("q", lambda _c, _m, properties, body: found.append(body or properties.type.encode()))
        while len(found) < count:
            opened.process_data_events(0.1)
        # A close would cancel the consumer, which changes the order by itself; the transport's abort leaves the socket
        # to the garbage collector.
        opened._impl._transport._sock.shutdown(socket.SHUT_RDWR)
        return found

    return all_of


def test_to_find_out_whether_a_queue_works_does_not_change_its_order(
    vhost: Vhost, wire: Wired, read: Callable[[int], list[bytes]]
) -> None:
    """After a crash of RabbitMQ its messages have been given back, and it may say for a while that it has none."""
    channel = vhost.channel()
    channel.queue_declare("q", durable=True, arguments=QUORUM)
    channel.confirm_delivery()
    messages = [str(n).encode() for n in range(20)]
    for body in messages:
        channel.basic_publish("", "q", body, pika.BasicProperties(delivery_mode=2))
    assert read(20) == messages
    wait_until(lambda: vhost.queue_depth("q") == 20, 10, "all given back")
    assert wire.run(wire.fence.probe("q")) is Probe.CONFIRMED
    assert read(21) == [*messages, PROBE.encode()]


def test_an_empty_queue_stays_empty(vhost: Vhost, wire: Wired) -> None:
    vhost.channel().queue_declare("q", durable=True, arguments=QUORUM)
    assert wire.run(wire.fence.await_no_consumer("q")) == 0
    assert vhost.queue_depth("q") == 0


def test_a_full_queue_that_refuses_messages_is_read(vhost: Vhost, wire: Wired) -> None:
    channel = vhost.channel()
    channel.queue_declare("q", durable=True, arguments=QUORUM)
    channel.confirm_delivery()
    for _ in range(20):
        channel.basic_publish("", "q", b"", pika.BasicProperties(delivery_mode=2))
    limit = {"max-length": 10, "overflow": "reject-publish"}
    policy = {"pattern": "^q$", "definition": limit, "apply-to": "queues"}
    vhost.broker.api("PUT", f"/policies/{vhost.name}/full", policy)
    wait_until(lambda: wire.run(wire.fence.probe("q")) is Probe.REFUSED, 10, "the policy")
    assert wire.run(wire.fence.await_no_consumer("q")) >= 20


def test_after_a_crash_of_the_broker_a_dead_consumer_is_waited_for(
    private_vhost: Vhost, private_rabbitmq: RabbitMQ
) -> None:
    """It goes through its log again, and tells of a time when that consumer had not come yet."""
    channel = private_vhost.channel()
    channel.queue_declare("q", durable=True, arguments=QUORUM)
    channel.confirm_delivery()
    messages = [str(n).encode() for n in range(300)]
    for body in messages:
        channel.basic_publish("", "q", body, pika.BasicProperties(delivery_mode=2))
    time.sleep(LOG_SECONDS)  # no condition tells that the queue's process has noted how far it is
    reader = private_vhost.channel()
    reader.basic_qos(prefetch_count=100)
    held: list[bytes] = []
    reader.basic_consume("q", lambda _c, _m, _properties, body: held.append(body))
    while len(held) < 100:
        reader.connection.process_data_events(0.1)
    private_rabbitmq.kill()
    starting = threading.Thread(target=private_rabbitmq.start)
    starting.start()
    try:
        assert first_messages(private_vhost, 300) == messages
    finally:
        starting.join()


def first_messages(vhost: Vhost, count: int) -> list[bytes]:
    """As soon as the broker lets us in and nobody reads the queue any more, as a receiver reads it."""
    found: list[bytes] = []
    until = time.monotonic() + 60
    while True:
        wait_until(lambda: answers(vhost.broker.port), 60, "the broker")
        try:
            with wired(vhost) as wire:
                wire.run(wire.fence.await_no_consumer("q"))
                channel = wire.run(wire.session.open_channel())
                channel.basic_consume(
                    "q", lambda _c, _m, properties, body: properties.type != PROBE and found.append(body)
                )
                while len(found) < count:
                    wire.turn(0.01)
                return found
        except Unavailable:
            if time.monotonic() > until:
                raise
