"""What our looking at a queue may not change."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pika
import pytest
from pika.adapters.select_connection import IOLoop

import connection
from dev.process import wait_until
from dev.vhost import Vhost
from relay import config
from relay.daemon import Stop
from relay.wire import PROBE, Wire

QUORUM = {"x-queue-type": "quorum", "x-delivery-limit": 1_000_000}


@pytest.fixture
def wire(vhost: Vhost) -> Iterator[Wire]:
    loop = IOLoop()
    environ = {"RABBITMQ_URL": vhost.url, "QUEUE": "q", "HTTP_URL": "http://127.0.0.1:1/"}
    settings = config.load(config.Receive, None, environ)
    made = Wire(connection.open_rabbitmq(settings, name="test", loop=loop, stop=Stop()), loop)
    yield made
    made.close()


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
        opened._impl._transport.abort()  # a close would cancel the consumer, which changes the order by itself
        return found

    return all_of


def test_to_find_out_whether_a_queue_works_does_not_change_its_order(
    vhost: Vhost, wire: Wire, read: Callable[[int], list[bytes]]
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
    assert wire.probe("q")
    assert read(21) == [*messages, PROBE.encode()]


def test_an_empty_queue_stays_empty(vhost: Vhost, wire: Wire) -> None:
    vhost.channel().queue_declare("q", durable=True, arguments=QUORUM)
    assert wire.await_no_consumer("q") == 0
    assert vhost.queue_depth("q") == 0
