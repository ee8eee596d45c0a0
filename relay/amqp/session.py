"""One way of talking with RabbitMQ in sequence: await the answer, while deliveries go on arriving.

pika's errors leave as `relay.errors`.
"""

import asyncio
import contextlib
import shlex
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import pika.exceptions
from pika.channel import Channel
from pika.spec import Basic

from relay.amqp.decode import Properties
from relay.amqp.lifetime import Lifetime
from relay.amqp.replies import ACCESS_REFUSED, ChannelRefused, closing, version, way_out
from relay.amqp.stream import Connection
from relay.daemon import Stop
from relay.errors import RelayError, Unavailable, one_line

CLOSE_SECONDS = 5.0
GIVING_BACK = 0.002  # seconds that RabbitMQ may take for each message that it gets back with a channel
ANSWER_SECONDS = 60.0  # a broker that answers nothing for so long is as good as away; heartbeats notice it before

Answer = TypeVar("Answer")
OnMessage = Callable[[Channel, Basic.Deliver, Properties, bytes], None]
OnClosed = Callable[[int, str], RelayError | None]
"""What a close means, by RabbitMQ's code (0 = the connection has just ended) and text; None = whoever is asked sees to
it."""


class Session(Lifetime):
    """One connection's life; entered with `async with`. Its main flow awaits RabbitMQ's answers.

    Args:
        stop: fails the session, unless `on_stop` says otherwise.
        rights: the command that gives the user what it must be allowed: the remedy where something is refused.
        patience: seconds for each of RabbitMQ's answers.
    """

    def __init__(self, stop: Stop, rights: str = "", patience: float = ANSWER_SECONDS) -> None:
        super().__init__(stop)
        self._rights = rights
        self._patience = patience
        self._closed: OnClosed | None = None
        self._connections: list[Connection] = []  # the first is the one that we talk over
        self._minor: set[Connection] = set()  # those that the session does not depend on
        self._channels: list[Channel] = []
        self._closing: set[Channel] = set()
        self._asking: dict[Channel, asyncio.Future[Any]] = {}

    def attach(self, connection: Connection, *, vital: bool = True) -> None:
        """Talk over this connection, if it is the first one, and close it in the end.

        Args:
            vital: the session fails if it is lost.
        """
        self._connections.append(connection)
        if not vital:
            self._minor.add(connection)
        connection.add_on_close_callback(self._on_connection_closed)

    def on_closed(self, judge: OnClosed) -> None:
        """From here on `judge` says what it means that a channel or the connection is closed without our asking."""
        self._closed = judge

    @property
    def received(self) -> int:
        """Bytes that have come from the broker."""
        return int(self._connection.bytes_received)

    def is_up(self) -> bool:
        """Is the connection open? The kernel is asked: its end may lie unread."""
        return self._connection.is_up()

    def corked(self) -> AbstractContextManager[None]:
        """What is sent inside, on whatever channel, is written in one piece."""
        return self._connection.corked()

    @property
    def frame_max(self) -> int:
        """Bytes that a frame may have."""
        return int(self._connection.params.frame_max)

    @property
    def vhost(self) -> str:
        """The virtual host, as a shell takes its name."""
        return shlex.quote(str(self._connection.params.virtual_host))

    @property
    def version(self) -> int:
        """RabbitMQ's major version; 0 = unknown."""
        return version(self._connection.server_properties)

    @property
    def rights(self) -> str:
        """The command that gives the user what it must be allowed."""
        return self._rights

    @property
    def _connection(self) -> Connection:
        return self._connections[0]

    async def open_channel(self, connection: Connection | None = None) -> Channel:
        """Open a channel, on the first connection or the given one. Raises Unavailable."""
        opener = connection or self._connection
        channel: Channel = await self._asked(
            "opening a channel", None, lambda answered: opener.channel(on_open_callback=answered)
        )
        channel.add_on_close_callback(self._on_channel_closed)
        self._channels.append(channel)
        return channel

    async def call(
        self, what: str, method: Callable[..., object], *arguments: Any, patience: float = 0.0, **more: Any
    ) -> Any:
        """Call a method of an open channel, and await RabbitMQ's answer. One at a time on each channel.

        Args:
            what: names the step in an error: "declaring orders".
            method: of a `Channel`; takes `callback`.
            patience: seconds, instead of ours; 0 = ours.

        Returns:
            The answer's frame.

        Raises:
            ChannelRefused: the broker closed the channel instead of answering.
            Unavailable: the connection broke.
        """
        channel: Channel = getattr(method, "__self__")  # noqa: B009 - a method's own
        return await self._asked(
            what, channel, lambda answered: method(*arguments, callback=answered, **more), patience
        )

    async def refusal(
        self, what: str, method: Callable[..., object], *arguments: Any, **more: Any
    ) -> ChannelRefused | None:
        """Ask, on a channel of its own, for what the broker may refuse: that ends nothing but the channel.

        Args:
            what: as of `call`.
            method: `Channel.queue_declare`, say.

        Raises:
            Unavailable: as `call`.
        """
        return (await self.asked(what, method, *arguments, **more))[1]

    async def asked(
        self, what: str, method: Callable[..., object], *arguments: Any, **more: Any
    ) -> tuple[Any, ChannelRefused | None]:
        """As `refusal`; return the answer's frame as well, None if there is none."""
        channel = await self.open_channel()
        try:
            frame = await self._asked(
                what, channel, lambda answered: method(channel, *arguments, callback=answered, **more)
            )
        except ChannelRefused as refused:
            return None, refused
        await self.close_channel(channel)
        return frame, None

    async def consume(self, channel: Channel, queue: str, on_message: OnMessage, **more: Any) -> None:
        """Begin to read a queue. Raises as `call`."""
        await self.call(f"reading {queue}", channel.basic_consume, queue, on_message, **more)

    async def close_channel(self, channel: Channel, held: int = 0) -> None:
        """Close a channel and await close-ok: what it had not acknowledged goes back into its queue, in order.

        Args:
            held: unacknowledged messages: RabbitMQ takes its time to give back a hundred thousand (15 s, seen).
        """
        if not channel.is_open:
            return
        self._closing.add(channel)
        _forget_consumers(channel)

        def close(answered: Callable[..., None]) -> None:
            channel.add_on_close_callback(answered)
            channel.close()

        await self._asked("closing a channel", None, close, self._patience + held * GIVING_BACK)

    async def awaited(
        self,
        what: str,
        answer: asyncio.Future[Answer],
        start: Callable[[], object],
        channel: Channel | None = None,
        patience: float = 0.0,
    ) -> Answer:
        """Ask RabbitMQ, and await what one of its callbacks will put into a future, for our patience at most.

        Args:
            what: as of `call`.
            start: asks.
            channel: that it is asked on: the future fails with it.
            patience: seconds, instead of ours; 0 = ours.

        Raises:
            ChannelRefused: the broker closed the channel instead.
            Unavailable: the connection broke.
        """
        late = Unavailable(f"RabbitMQ does not answer: {what}")
        timer = self.call_later(patience or self._patience, lambda: self.fail(late))
        if channel is not None:
            self._asking[channel] = answer
        try:
            start()
            return await answer
        except pika.exceptions.AMQPError as error:
            raise Unavailable(f"the connection to RabbitMQ broke while {what}: {one_line(error)}") from None
        finally:
            timer.cancel()
            if channel is not None:
                del self._asking[channel]

    async def _asked(
        self, what: str, channel: Channel | None, start: Callable[[Callable[..., None]], object], patience: float = 0.0
    ) -> Any:
        answer: asyncio.Future[Any] = self._loop.create_future()

        def answered(*arguments: object) -> None:
            if not answer.done():  # a raise here would cost the connection
                answer.set_result(arguments[0] if arguments else None)

        return await self.awaited(what, answer, lambda: start(answered), channel, patience)

    def _leave(self) -> None:
        self._closing.update(self._channels)
        for channel in self._channels:
            _forget_consumers(channel)

    async def _close(self) -> None:
        """Close all connections, the first one with a goodbye. Never raises for a broker that is gone."""
        if self._connections and self._connection.is_open:
            closed = asyncio.Event()
            self._connection.add_on_close_callback(lambda *_: closed.set())
            self._connection.close()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await closed.wait()
        for connection in self._connections:
            connection.abort()

    def _on_connection_closed(self, connection: Connection, reason: BaseException) -> None:
        if self._leaving:
            return
        if connection in self._minor:
            self._minor.discard(connection)
            self._connections.remove(connection)
            return
        if connection is not self._connection:
            self._connections = [one for one in self._connections if one is not connection]
        if isinstance(reason, pika.exceptions.ConnectionClosedByClient):
            return
        code, text = closing(reason)
        if self._closed is None:
            self.fail(Unavailable(f"the connection to RabbitMQ broke: {(why := one_line(reason))}", way_out(why)))
        else:
            self._judged(self._closed, code, text)

    def _on_channel_closed(self, channel: Channel, reason: Exception) -> None:
        if channel in self._channels:
            self._channels.remove(channel)
        if channel in self._closing:
            self._closing.discard(channel)
        elif isinstance(reason, pika.exceptions.ChannelClosedByBroker):
            code, detail = closing(reason)
            refused = ChannelRefused(code, detail, self._rights if code == ACCESS_REFUSED else way_out(detail))
            answer = self._asking.get(channel)
            if answer is not None and not answer.done():
                answer.set_exception(refused)
            elif channel.connection in self._minor:
                pass  # whoever has opened it sees to it
            elif self._closed is None:
                self.fail(refused)
            else:
                self._judged(self._closed, code, detail)

    def _judged(self, judge: OnClosed, code: int, text: str) -> None:
        error = judge(code, text)
        if error is not None:
            error.remedy = error.remedy or (self._rights if code == ACCESS_REFUSED else way_out(text))
            self.fail(error)


def _forget_consumers(channel: Channel) -> None:
    # pika's close() sends basic.cancel for each consumer first, and after a cancel RabbitMQ puts unacknowledged
    # messages back in another order. Without a consumer to cancel it sends channel.close alone.
    channel._consumers.clear()  # type: ignore[attr-defined]
