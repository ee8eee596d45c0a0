"""A virtual host for one test."""

from __future__ import annotations

import contextlib

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import AMQPError

from dev.rabbitmq import RabbitMQ


class Vhost:
    """A virtual host made for one test. Connections it hands out end with it."""

    def __init__(self, broker: RabbitMQ, name: str) -> None:
        self.broker = broker
        self.name = name
        self._open: list[pika.BlockingConnection] = []

    @classmethod
    def create(cls, broker: RabbitMQ, name: str) -> Vhost:
        broker.add_vhost(name)
        return cls(broker, name)

    @property
    def url(self) -> str:
        return self.broker.url(self.name)

    def connection(self) -> pika.BlockingConnection:
        opened = pika.BlockingConnection(pika.URLParameters(self.url))
        self._open.append(opened)
        return opened

    def channel(self) -> BlockingChannel:
        """A channel on a connection of its own."""
        return self.connection().channel()

    def queue_depth(self, queue: str) -> int:
        """Messages ready in a queue, without those that are delivered and not yet acknowledged."""
        return self.broker.queue_depth(self.name, queue)

    def close(self) -> None:
        """Close every connection that was handed out; one that the broker closed before is no error."""
        while self._open:
            with contextlib.suppress(AMQPError, OSError):
                self._open.pop().close()

    def delete(self) -> None:
        self.close()
        self.broker.delete_vhost(self.name)
