"""Answers to commands, over a connection of their own that only publishes.

From a connection that publishes during an alarm RabbitMQ reads nothing any more, no acknowledgement, not even its end
(its documentation: Blocked Connection Notifications): on the daemon's own one, an answer would stop its work.
"""

from collections.abc import Awaitable, Callable

import pika.exceptions
from pika.channel import Channel
from pika.spec import BasicProperties

from relay.amqp.replies import ACCESS_REFUSED, closing
from relay.amqp.session import Session
from relay.amqp.stream import Connection
from relay.errors import RelayError

WAITING_MAX = 100  # answers until the connection is open


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
        self._opening = False
        self._told = False

    def send(self, reply_to: str, correlation_id: str | None, body: bytes) -> None:
        """Send one, now or soon. Never raises: who does not get it asks again."""
        properties = BasicProperties(correlation_id=correlation_id, content_type="application/json")
        if len(self._waiting) < WAITING_MAX:
            self._waiting.append((reply_to, properties, body))
        self._flush()
        self.prepare()

    def prepare(self) -> None:
        """There will be answers: open the connection, if it is not open."""
        if not self._opening and (self._channel is None or not self._channel.is_open):
            self._opening = True
            self._session.start(self._open())

    def _flush(self) -> None:
        while self._waiting and self._channel is not None and self._channel.is_open:
            reply_to, properties, body = self._waiting.pop(0)
            self._channel.basic_publish("", reply_to, body, properties)

    async def _open(self) -> None:
        try:
            connection = await self._another()
            self._session.attach(connection, vital=False)
            self._channel = await self._session.open_channel(connection)
            self._channel.add_on_close_callback(self._on_closed)
        except RelayError as error:
            self._waiting.clear()
            self._tell(error)
        finally:
            self._opening = False
        self._flush()

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
