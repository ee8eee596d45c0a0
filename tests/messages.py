"""Messages as listen.py publishes them, for tests of the receiving half."""

from __future__ import annotations

import itertools
import json
import uuid
from typing import Any

import pika

from dev.process import wait_until
from dev.vhost import Vhost
from relay.amqp.headers import slot

_seq = itertools.count(1)

# RabbitMQ 3.10.8 killed within about a second of a quorum queue's creation never elects a leader for it again: measured
# here, 3 of 3 at once, 0 of 3 after 5 s. Nothing tells when it is over, so a test that kills a broker waits so long.
NEW_QUEUE_SECONDS = 5.0


def properties(
    event_id: str, key: str | None, table: str | None, op: str, headers: dict[str, Any] | None = None
) -> pika.BasicProperties:
    own: dict[str, Any] = {"relay-seq": next(_seq)}
    if key is not None:
        own["relay-key"], own["relay-slot"] = key, slot(key.encode())
    if table is not None:
        own["relay-table"] = table
    return pika.BasicProperties(
        message_id=event_id,
        content_type="application/json",
        delivery_mode=2,
        type=op,
        timestamp=1_700_000_000,
        headers={**(headers or {}), **own},
    )


class Publisher:
    """Publishes with confirms, one at a time, to the exchange `relay`."""

    def __init__(self, vhost: Vhost, exchange: str = "relay") -> None:
        self._exchange = exchange
        self._vhost = vhost
        self._channel = vhost.channel()
        self._channel.exchange_declare(exchange, "topic", durable=True)
        self._channel.confirm_delivery()

    def fill(self, queue: str, key: str, count: int) -> None:
        """Publish events of one key, numbered from 0, into a queue that nobody reads; returns when all are there.

        Without a confirm for each, which costs five times as much.
        """
        channel = self._vhost.channel()
        for n in range(count):
            event_id = str(uuid.uuid4())
            body = json.dumps({"id": event_id, "n": n, "key": key, "op": "update"}).encode()
            channel.basic_publish(self._exchange, "t", body, properties(event_id, key, "t", "update"))
        wait_until(lambda: self._vhost.queue_depth(queue) == count, 60, f"{count} events in {queue}")

    def event(
        self,
        key: str | None,
        n: int = 0,
        table: str | None = "t",
        op: str = "update",
        body: dict[str, Any] | None = None,
        **more: Any,
    ) -> str:
        """Publish an event; return its id. `body`: fields that win over those made here."""
        event_id = str(uuid.uuid4())
        made = {"id": event_id, "n": n, "key": key, "op": op, **more, **(body or {})}
        self._channel.basic_publish(
            self._exchange,
            table or "app",
            json.dumps(made).encode(),
            properties(event_id, key, table, op),
            mandatory=True,
        )
        return event_id

    @staticmethod
    def number(body: bytes) -> int:
        return int(json.loads(body)["n"])
