"""A flood of commands: from a process of its own, which may do nothing but publish to the default exchange."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import struct
import time
import uuid
from collections.abc import Iterator
from multiprocessing.sharedctypes import Synchronized
from typing import Any

import pika

from dev.rabbitmq import RabbitMQ
from dev.vhost import Vhost
from relay.amqp.ask import REPLY_TO
from tests import raw

RATE = 4000  # commands a second: more would be a test of RabbitMQ
TOGETHER = 40


def _flood(url: str, queue: str, body: bytes, sent: Synchronized[int]) -> None:
    opened = pika.BlockingConnection(pika.URLParameters(url))
    channel = opened.channel()
    channel.basic_consume(REPLY_TO, lambda *_: None, auto_ack=True)
    number = int(channel.channel_number)
    method = raw.frame(1, number, struct.pack(">HHH", 60, 40, 0) + raw.short(b"") + raw.short(queue.encode()) + b"\0")
    one = method + raw.content(number, raw.properties(reply_to=raw.short(REPLY_TO.encode())), body)
    began = time.monotonic()
    while True:
        if sent.value < RATE * (time.monotonic() - began):
            channel.connection._impl._output_marshaled_frames([one * TOGETHER])
            sent.value += TOGETHER
        opened.process_data_events(0.002)


@contextlib.contextmanager
def flooded(rabbitmq: RabbitMQ, vhost: Vhost, queue: str, body: bytes) -> Iterator[Synchronized[int]]:
    """Meanwhile. Gives how many were sent."""
    rabbitmq.add_user("mallory", "secret")
    rabbitmq.grant(vhost.name, "mallory", "^$", "^amq\\.default$", "^$")
    url = vhost.url.replace(vhost.url[7 : vhost.url.index("@")], "mallory:secret")
    sent = multiprocessing.Value("i", 0)
    flooding = multiprocessing.Process(target=_flood, args=(url, queue, body, sent), daemon=True)
    flooding.start()
    try:
        yield sent
    finally:
        flooding.kill()
        flooding.join()


def ask(vhost: Vhost, queue: str, command: dict[str, Any], seconds: float) -> Any:
    """Ask again and again, as a person would, until an answer comes; None = none did."""
    opened = pika.BlockingConnection(pika.URLParameters(vhost.url))
    channel = opened.channel()
    answers: list[bytes] = []
    channel.basic_consume(REPLY_TO, lambda _c, _m, _p, body: answers.append(body), auto_ack=True)
    end = time.monotonic() + seconds
    while not answers and time.monotonic() < end:
        asking = pika.BasicProperties(reply_to=REPLY_TO, correlation_id=str(uuid.uuid4()))
        channel.basic_publish("", queue, json.dumps(command).encode(), asking)
        opened.process_data_events(0.5)
    opened.close()
    return json.loads(answers[0]) if answers else None
