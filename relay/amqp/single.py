"""One message, put into a queue or taken from it, with RabbitMQ's word for it awaited."""

import asyncio
from typing import Any

from pika.channel import Channel
from pika.spec import Basic, BasicProperties

from relay.amqp.session import Session
from relay.amqp.stream import Connection


class Publisher:
    """Puts one after another, each awaited, on a channel of its own.

    Args:
        other: the connection for it, instead of the session's first. Only of such a one an alarm is told.
    """

    def __init__(self, session: Session, other: Connection | None = None) -> None:
        self._session = session
        self._other = other
        self._answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._channel: Channel

    async def open(self) -> None:
        """Before the first `put`. Raises RelayError, as `Session.call`."""
        if self._other is not None:
            self._other.add_on_connection_blocked_callback(lambda _other, frame: self._answered(frame.method))
        self._channel = await self._session.open_channel(self._other)
        self._channel.add_on_return_callback(lambda _channel, method, *_message: self._answered(method))
        confirm = self._channel.confirm_delivery
        await self._session.call("asking for confirms", confirm, lambda frame: self._answered(frame.method))

    async def put(
        self, queue: str, body: bytes, properties: BasicProperties, what: str, *, mandatory: bool = False
    ) -> Any:
        """Publish one; return Basic.Ack, Basic.Nack, or Connection.Blocked.

        Args:
            what: it is done for, in an error: "writing to orders".
            mandatory: there must be such a queue. Else it is Basic.Return, after which nothing more can be put.

        Raises:
            RelayError: as `Session.awaited`.
        """
        channel = self._channel
        method = await self._session.awaited(
            what, self._answer, lambda: channel.basic_publish("", queue, body, properties, mandatory), channel
        )
        self._answer = asyncio.get_running_loop().create_future()
        return method

    async def close(self) -> None:
        """Close the channel."""
        await self._session.close_channel(self._channel)

    def _answered(self, method: Any) -> None:
        if not self._answer.done():
            self._answer.set_result(method)


async def put(
    session: Session, queue: str, body: bytes, properties: BasicProperties, what: str, other: Connection | None = None
) -> Any:
    """Publish one, as a `Publisher` that is closed again; that of an `other` connection ends with it."""
    publisher = Publisher(session, other)
    await publisher.open()
    method = await publisher.put(queue, body, properties, what)
    if other is None:
        await publisher.close()
    return method


async def get(session: Session, channel: Channel, queue: str) -> tuple[Any, ...]:
    """Take one: method, properties, body; nothing = there is none. Raises RelayError, as `Session.awaited`."""
    answer: asyncio.Future[tuple[Any, ...]] = asyncio.get_running_loop().create_future()

    def answered(*found: Any) -> None:
        if not answer.done():
            answer.set_result(found)

    def ask() -> None:
        channel.add_callback(lambda _frame: answered(), [Basic.GetEmpty])
        channel.basic_get(queue, lambda _channel, *found: answered(*found))

    return await session.awaited(f"looking into queue {queue}", answer, ask, channel)
