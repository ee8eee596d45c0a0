"""Answers to commands, over a connection of their own that only publishes.

From a connection that publishes during an alarm RabbitMQ reads nothing any more, no acknowledgement, not even its end
(its documentation: Blocked Connection Notifications): on the daemon's own one, an answer would stop its work.
"""

import asyncio
from collections.abc import Awaitable, Callable

import pika.exceptions
from pika.channel import Channel
from pika.spec import BasicProperties

from relay import signature
from relay.amqp.replies import ACCESS_REFUSED, closing
from relay.amqp.session import Session
from relay.amqp.stream import Connection
from relay.errors import RelayError

UNSENT_MAX = 1 << 20  # bytes that may wait to be sent; an answer that comes then says so, up to twice as many
OVERHEAD = 500  # bytes that one takes beside its text
BUSY = b'{"done": true, "error": "too many answers are on their way", "again": true}'


class Answers:
    """Sends them; opens the connection when it is first needed.

    Args:
        session: ends the connection with itself.
        another: opens one.
        failed: called with why an answer can't be sent; once.
    """

    def __init__(
        self, session: Session, another: Callable[[], Awaitable[Connection]], failed: Callable[[RelayError], object]
    ) -> None:
        self._session = session
        self._another = another
        self._failed = failed
        self._channel: Channel | None = None
        self._waiting: list[tuple[str, BasicProperties, bytes]] = []
        self._bytes = 0  # of those that wait
        self._opening = False
        self._flushing = False  # it is on its way
        self._told = False

    def send(self, reply_to: str, correlation_id: str | None, body: bytes, sign: Callable[[bytes], str]) -> None:
        """Send one, now or soon. Never raises: who does not get it asks again.

        Args:
            sign: makes its signature; empty = it has none.
        """
        if self.is_busy:
            body = BUSY
        right = sign(body)
        properties = BasicProperties(
            correlation_id=correlation_id,
            content_type="application/json",
            headers={signature.HEADER: right} if right else None,
        )
        if self._unsent() < 2 * UNSENT_MAX:
            self._waiting.append((reply_to, properties, body))
            self._bytes += len(body) + OVERHEAD
        self._flush_soon()
        self.prepare()

    @property
    def is_busy(self) -> bool:
        """Does so much wait to be sent that nothing should be added?"""
        return self._unsent() >= UNSENT_MAX

    def _unsent(self) -> int:
        """Bytes: of answers until the connection is open, and of what RabbitMQ has not taken yet."""
        is_open = self._channel is not None and self._channel.is_open
        return self._bytes + (self._channel.connection.unsent if is_open else 0)  # type: ignore[union-attr]

    def prepare(self) -> None:
        """There will be answers: open the connection, if it is not open."""
        if not self._opening and (self._channel is None or not self._channel.is_open):
            self._opening = True
            self._session.start(self._open())

    def _flush_soon(self) -> None:
        """At the end of this turn of the loop: what is answered together is sent in one piece."""
        if not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self.flush)

    def flush(self) -> None:
        """Now, if they can be."""
        self._flushing = False
        channel = self._channel
        if channel is None or not channel.is_open:
            return
        waiting, self._waiting, self._bytes = self._waiting, [], 0
        with channel.connection.corked():  # type: ignore[attr-defined]
            for reply_to, properties, body in waiting:
                channel.basic_publish("", reply_to, body, properties)

    async def _open(self) -> None:
        try:
            connection = await self._another()
            self._session.attach(connection, vital=False)
            self._channel = await self._session.open_channel(connection)
            self._channel.add_on_close_callback(self._on_closed)
        except RelayError as error:
            self._waiting.clear()
            self._bytes = 0
            self._tell(error)
        finally:
            self._opening = False
        self._flush_soon()

    def _on_closed(self, channel: Channel, reason: Exception) -> None:
        """RabbitMQ has refused an answer: we have no right to send any, or it was to go to a stranger's odd address."""
        if isinstance(reason, pika.exceptions.ChannelClosedByBroker):
            channel.connection.abort()  # type: ignore[attr-defined]
            code, detail = closing(reason)
            if code == ACCESS_REFUSED:
                self._tell(RelayError(f"RabbitMQ refuses: {detail} ({code})", self._session.rights))

    def _tell(self, error: RelayError) -> None:
        if not self._told:
            self._failed(error)
        self._told = True
