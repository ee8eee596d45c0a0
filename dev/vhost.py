"""A virtual host for one test."""

from __future__ import annotations

import contextlib

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import (
    AMQPError,
    ChannelWrongStateError,
    ConnectionClosed,
    ConnectionWrongStateError,
    StreamLostError,
)

from dev.rabbitmq import RabbitMQ

_GONE = (ConnectionClosed, StreamLostError, ConnectionWrongStateError, ChannelWrongStateError)


class Vhost:
    """A virtual host made for one test. Connections it hands out end with it."""

    def __init__(self, broker: RabbitMQ, name: str) -> None:
        self.broker = broker
        self.name = name
        self._open: list[pika.BlockingConnection] = []
        self._counting: BlockingChannel | None = None

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
        """Messages ready in a queue, without those that are delivered and not yet acknowledged.

        On a channel that stays: tests ask again and again until a depth is reached, and a new connection for each
        question costs them and the broker ten times as much.
        """
        known, self._counting = self._counting, None
        if known is not None:
            with contextlib.suppress(*_GONE):
                return self._ask_depth(known, queue)
        return self._ask_depth(self.channel(), queue)

    def _ask_depth(self, channel: BlockingChannel, queue: str) -> int:
        depth = int(channel.queue_declare(queue, passive=True).method.message_count)
        self._counting = channel
        return depth

    def close(self) -> None:
        """Close every connection that was handed out; one that the broker closed before is no error."""
        self._counting = None
        while self._open:
            with contextlib.suppress(AMQPError, OSError):
                self._open.pop().close()

    def delete(self) -> None:
        self.close()
        self.broker.delete_vhost(self.name)
