"""Are we with the majority of a cluster? With QUEUE_TYPE=failover a request is begun only while that is known.

On such a queue the consumer of a node that the others do not see holds nobody up, whether the node is dead or only cut
off. But a receiver that is cut off with its node gets heartbeats from it, and has a window of events. So whoever is at
work sends a message to itself every now and then, over the queue that is its mark (`lease.Holder`): a quorum queue, so
that it comes back only with a majority's consent. Another receiver takes that queue away before it begins, and then
waits until nothing that came back before can still be believed.
"""

import asyncio
import contextlib
import math
import secrets
import time
from collections.abc import Awaitable, Callable

from pika.channel import Channel
from pika.exceptions import AMQPError
from pika.spec import Basic, BasicProperties

from relay.amqp.decode import Properties
from relay.amqp.replies import NOT_FOUND, ChannelRefused
from relay.amqp.session import Session
from relay.amqp.stream import Connection
from relay.errors import ConfigError, Ousted, Unavailable

EVERY = 1.0  # seconds between two messages
HOLDS = 5.0  # seconds for which one that came back is believed, from when it was sent on
BEGIN_AFTER = 6.0  # seconds from the taking of the mark on: another one's are not believed any more
SILENCE = 3.0  # seconds after which another connection is tried: this one may ask a leader that was
CUT_OFF = 30.0  # seconds after which the session is given up
_STEP = 5.0  # seconds for each step of a connection


class Pulse:
    """Of one session.

    Args:
        another: opens one more connection. Raises RelayError.
        mark: the queue that is our mark.
        is_first: another receiver may have been at work before.
    """

    def __init__(
        self, session: Session, another: Callable[[], Awaitable[Connection]], mark: str, *, is_first: bool
    ) -> None:
        self._session = session
        self._another = another
        self._mark = mark
        self._name = secrets.token_bytes(8)  # what others have sent is nothing to us
        self._sent = 0.0  # monotonic seconds, of the last one that came back
        self._is_blocked = False  # an alarm: nothing gets through, and what came back before counts
        self._begun = time.monotonic()
        self._begin_at = self._begun + BEGIN_AFTER if is_first else 0.0
        session.start(self._run())

    def begin_until(self, now: float) -> float:
        """Until when requests may be begun."""
        if now < self._begin_at or not self._sent:
            return 0.0
        return math.inf if self._is_blocked else self._sent + HOLDS

    async def _run(self) -> None:
        """Beat over one connection after another. Raises RelayError: there is no use in it."""
        while True:
            with contextlib.suppress(Unavailable, TimeoutError, AMQPError):
                async with asyncio.timeout(_STEP):
                    connection = await self._another()
                self._session.attach(connection, vital=False)
                try:
                    await self._beat(connection)
                finally:
                    connection.abort()
            if not self._is_blocked and time.monotonic() - max(self._sent, self._begun) > CUT_OFF:
                raise Unavailable(
                    "RabbitMQ's majority does not answer: is our node cut off from the others?",
                    "rabbitmqctl cluster_status on each of them",
                )
            await asyncio.sleep(EVERY)

    async def _beat(self, connection: Connection) -> None:
        connection.add_on_connection_blocked_callback(lambda *_: self._blocked())
        connection.add_on_connection_unblocked_callback(lambda *_: self._unblocked())
        try:
            async with asyncio.timeout(_STEP):
                channel = await self._session.open_channel(connection)
                channel.add_on_cancel_callback(lambda _frame: self._taken())
                await self._session.consume(channel, self._mark, self._on_message, auto_ack=True)
        except ChannelRefused as refused:
            if refused.code == NOT_FOUND:
                self._taken()
                return
            raise ConfigError((f"QUEUE_TYPE=failover reads {self._mark}: {refused.detail}", refused.remedy)) from None
        since = time.monotonic()
        while channel.is_open and (self._is_blocked or time.monotonic() - max(self._sent, since) < SILENCE):
            if not self._is_blocked:
                body = self._name + repr(time.monotonic()).encode()
                channel.basic_publish("", self._mark, body, BasicProperties(delivery_mode=1))
            await asyncio.sleep(EVERY)
        self._unblocked()

    def _blocked(self) -> None:
        self._is_blocked = True

    def _unblocked(self) -> None:
        if self._is_blocked:
            self._sent = time.monotonic()
        self._is_blocked = False

    def _taken(self) -> None:
        self._session.fail(Ousted(f"queue {self._mark}, our mark, is gone: another receiver takes over"))

    def _on_message(self, _channel: Channel, _method: Basic.Deliver, _properties: Properties, body: bytes) -> None:
        if body.startswith(self._name):
            self._sent = max(self._sent, float(body[len(self._name) :]))
