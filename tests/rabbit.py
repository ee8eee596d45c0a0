"""A model of RabbitMQ as its clients see it, at the height of pika: each frame is on its way until a test moves it.

Its rules are those that were measured (docs/architecture.md): a quorum queue hands out first what was given back, in
the order in which that was; a channel's consumers give back in the order of their names; acknowledgements that were
held back are forgotten when their channel closes; what was published is stored later, but before the channel is gone.
"""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pika.exceptions
from pika.spec import Basic, BasicProperties

from relay.amqp.decode import read_properties
from relay.amqp.headers import DELIVERY_COUNT

HELD_BACK = 2  # acknowledgements of a channel that are never forgotten, at least: 32 of RabbitMQ


class Message:
    """In a queue."""

    def __init__(self, body: bytes, properties: BasicProperties, topic: str) -> None:
        self.body = body
        self.properties = properties
        self.topic = topic
        self.returns = 0

    def read(self) -> Any:
        properties = self.properties
        if self.returns:
            headers = (properties.headers or {}) | {DELIVERY_COUNT: self.returns}
            made = {name: getattr(properties, name) for name in ("message_id", "type", "timestamp", "delivery_mode")}
            properties = BasicProperties(headers=headers, content_type=properties.content_type, **made)
        return read_properties(b"".join(properties.encode()))


class Queue:
    def __init__(self, owner: Link | None, arguments: dict[str, object]) -> None:
        self.owner = owner  # of an exclusive one
        self.arguments = arguments
        self.returned: collections.deque[Message] = collections.deque()
        self.fresh: collections.deque[Message] = collections.deque()
        self.consumers: list[Consumer] = []
        self.is_full = False

    @property
    def ready(self) -> list[Message]:
        return [*self.returned, *self.fresh]

    def messages(self) -> list[Message]:
        """All of them, those that somebody holds first."""
        held = [held for one in self.consumers for held in one.held.values()]
        return [*held, *self.ready]

    def take(self) -> Message:
        return self.returned.popleft() if self.returned else self.fresh.popleft()

    def serve(self) -> None:
        moved = True
        while moved and (self.returned or self.fresh):
            moved = False
            for consumer in self.consumers:
                if (self.returned or self.fresh) and len(consumer.held) < consumer.most:
                    consumer.hand_out(self.take())
                    moved = True


class Consumer:
    def __init__(self, channel: Channel, queue: str, name: str, most: int, on_message: Callable[..., None]) -> None:
        self.channel, self.queue, self.name, self.most, self.on_message = channel, queue, name, most, on_message
        self.held: dict[int, Message] = {}

    def hand_out(self, message: Message) -> None:
        channel = self.channel
        channel.tags += 1
        self.held[channel.tags] = message
        exchange = "relay" if message.topic else ""
        method = Basic.Deliver(
            self.name, channel.tags, redelivered=message.returns > 0, exchange=exchange, routing_key=message.topic
        )
        properties, body = message.read(), message.body
        channel.answer(lambda: self.name in channel._consumers and self.on_message(channel, method, properties, body))


class Channel:
    """Both of its ends. The client's are called as pika.channel.Channel's."""

    def __init__(self, link: Link, opened: Callable[..., None]) -> None:
        self.connection = link
        self._broker = link.broker
        self.is_open = True
        self._gone = False  # at RabbitMQ's end
        self._consumers: dict[str, Callable[..., None]] = {}
        self._on_close: list[Callable[..., None]] = []
        self._on_confirm: Callable[..., None] | None = None
        self._on_return: Callable[..., None] | None = None
        self._on_empty: Callable[..., None] | None = None
        self._most = 0
        self._published = 0
        self._numbers: dict[int, str] = {}
        self.tags = 0
        self.at_work: list[Consumer] = []
        self._taken: dict[int, tuple[str, Message]] = {}  # by basic.get
        self.acked: list[tuple[str, int, str, Message]] = []  # consumer, tag, queue
        self.storing: collections.deque[tuple[int, str, Message]] = collections.deque()
        self.stored: list[int] = []  # to be confirmed
        link.tell(lambda: self._open(opened))

    def _open(self, opened: Callable[..., None]) -> None:
        self.connection.channels.append(self)
        self.answer(lambda: opened(self))

    def answer(self, call: Callable[[], object]) -> None:
        self.connection.down.append(call)

    def _ask(self, callback: Callable[..., None] | None, work: Callable[[], Any]) -> None:
        if not self.is_open:
            raise pika.exceptions.ChannelWrongStateError("closed")

        def asked() -> None:
            if self._gone:
                return
            try:
                answer = work()
            except _Refused as refused:
                self.end()
                reason = pika.exceptions.ChannelClosedByBroker(refused.code, refused.text)
                self.answer(lambda: self._closed(reason))
            else:
                if callback is not None:
                    self.answer(lambda: self.is_open and callback(SimpleNamespace(method=answer)))

        self.connection.tell(asked)

    def _closed(self, reason: Exception) -> None:
        if self.is_open:
            self.is_open = False
            for call in self._on_close:
                call(self, reason)

    def lost(self, reason: Exception) -> None:
        self._closed(reason)

    # -- what a client calls -----------------------------------------------------------------------------------

    def add_on_close_callback(self, call: Callable[..., None]) -> None:
        self._on_close.append(call)

    def add_on_cancel_callback(self, call: Callable[..., None]) -> None:
        pass

    def add_on_return_callback(self, call: Callable[..., None]) -> None:
        self._on_return = call

    def add_callback(self, call: Callable[..., None], _replies: object) -> None:
        self._on_empty = call

    def close(self) -> None:
        assert not self._consumers, "a cancel would put what is unacknowledged out of order"

        def close() -> None:
            self.end()
            self.answer(lambda: self._closed(pika.exceptions.ChannelClosedByClient(0, "")))

        self.connection.tell(close)

    def confirm_delivery(self, on_confirm: Callable[..., None], callback: Callable[..., None]) -> None:
        self._on_confirm = on_confirm
        self._ask(callback, lambda: None)

    def basic_qos(self, prefetch_count: int, callback: Callable[..., None]) -> None:
        def work() -> None:
            self._most = prefetch_count

        self._ask(callback, work)

    def basic_consume(
        self,
        queue: str,
        on_message: Callable[..., None],
        consumer_tag: str = "",
        callback: Callable[..., None] | None = None,
    ) -> None:
        name = consumer_tag or "ctag"
        self._consumers[name] = on_message

        def work() -> None:
            found = self._broker.find(queue, self.connection)
            consumer = Consumer(self, queue, name, self._most or 2000, on_message)
            found.consumers.append(consumer)
            self.at_work.append(consumer)

        self._ask(callback, work)
        self.connection.tell(lambda: self._broker.serve())

    def basic_ack(self, delivery_tag: int, multiple: bool = False) -> None:
        if not self.is_open:
            raise pika.exceptions.ChannelWrongStateError("closed")
        self._broker.on_ack(self, delivery_tag, multiple)

        def work() -> None:
            if not self._gone:
                tags = [tag for one in self.at_work for tag in one.held] + list(self._taken)
                acked = [tag for tag in tags if tag == delivery_tag or (multiple and tag <= delivery_tag)]
                assert delivery_tag in tags, "406: unknown delivery tag"
                for tag in sorted(acked):
                    self.acked.append(self._let_go(tag))
                self._broker.serve()

        self.connection.tell(work)

    def _let_go(self, tag: int) -> tuple[str, int, str, Message]:
        if tag in self._taken:
            return "", tag, *self._taken.pop(tag)
        consumer = next(one for one in self.at_work if tag in one.held)
        return consumer.name, tag, consumer.queue, consumer.held.pop(tag)

    def held(self, tag: int, multiple: bool) -> list[tuple[str, Message]]:
        """What a client acknowledges by this."""
        found = [(t, one.queue, m) for one in self.at_work for t, m in one.held.items()]
        found += [(t, queue, m) for t, (queue, m) in self._taken.items()]
        return [(queue, m) for t, queue, m in found if t == tag or (multiple and t <= tag)]

    def basic_get(self, queue: str, callback: Callable[..., None]) -> None:
        def get() -> None:
            found = self._broker.find(queue, self.connection)
            if not found.ready:
                self.answer(lambda: self._on_empty and self._on_empty(None))
                return
            self.tags += 1
            message = found.take()
            self._taken[self.tags] = (queue, message)
            method, properties = SimpleNamespace(delivery_tag=self.tags), message.read()
            self.answer(lambda: callback(self, method, properties, message.body))

        self._ask(None, get)

    def basic_publish(
        self,
        exchange: str,
        queue: str,
        body: bytes,
        properties: BasicProperties,
        mandatory: bool = False,  # noqa: ARG002
    ) -> None:
        assert not exchange
        if not self.is_open:
            raise pika.exceptions.ChannelWrongStateError("closed")
        self._published += 1
        number, message = self._published, Message(body, properties, "")
        self._numbers[number] = properties.message_id or ""

        def work() -> None:
            if not self._gone:
                self.storing.append((number, queue, message))

        self.connection.tell(work)

    def queue_declare(
        self,
        queue: str,
        passive: bool = False,
        durable: bool = False,  # noqa: ARG002
        exclusive: bool = False,
        auto_delete: bool = False,  # noqa: ARG002
        arguments: dict[str, object] | None = None,
        callback: Callable[..., None] | None = None,
    ) -> None:
        def declare() -> Any:
            queues = self._broker.queues
            if queue not in queues and passive:
                raise _Refused(404, f"NOT_FOUND - no queue '{queue}' in vhost '/'")
            if queue not in queues:
                queues[queue] = Queue(self.connection if exclusive else None, arguments or {})
                if exclusive:
                    self._broker.on_exclusive(queue, self.connection)
            found = self._broker.find(queue, self.connection)
            for name, value in (arguments or {}).items() if not passive else ():
                if (current := found.arguments.get(name)) != value:
                    what = f"inequivalent arg '{name}' for queue '{queue}' in vhost '/': received '{value}'"
                    raise _Refused(406, f"PRECONDITION_FAILED - {what} but current is '{current}'")
            return SimpleNamespace(message_count=len(found.ready), consumer_count=len(found.consumers))

        self._ask(callback, declare)

    def queue_delete(self, queue: str, callback: Callable[..., None]) -> None:
        self._ask(callback, lambda: self._broker.delete(queue))

    # -- at RabbitMQ's end -------------------------------------------------------------------------------------

    def store(self) -> None:
        """The next message that was published gets into its queue, or is refused."""
        number, queue, message = self.storing.popleft()
        found = self._broker.queues.get(queue)
        if found is None:
            return
        if found.is_full:
            self.answer(lambda: self._confirmed(Basic.Nack(number)))
            return
        self._broker.on_store(queue, message)
        found.fresh.append(message)
        self.stored.append(number)
        self._broker.serve()

    def confirm(self, *, multiple: bool) -> None:
        """RabbitMQ confirms the first one that is stored, or all of them."""
        numbers = self.stored if multiple else self.stored[:1]
        self.stored = self.stored[len(numbers) :]
        method = Basic.Ack(numbers[-1], multiple)
        self.answer(lambda: self._confirmed(method))

    def _confirmed(self, method: Any) -> None:
        if self.is_open and self._on_confirm is not None:
            last = method.delivery_tag
            numbers = [one for one in self._numbers if one == last or (method.multiple and one < last)]
            ids = {self._numbers.pop(one) for one in numbers}
            self._broker.confirmed |= ids if isinstance(method, Basic.Ack) else set()
            self._on_confirm(SimpleNamespace(method=method))

    def end(self) -> None:
        """It is gone at RabbitMQ's end: what was held goes back."""
        while self.storing:
            self.store()
        self._gone = True
        if self in self.connection.channels:
            self.connection.channels.remove(self)
        forgotten = self._broker.forgets(max(0, len(self.acked) - HELD_BACK))
        # What RabbitMQ has not heard of is given back in its place of old.
        back: list[tuple[str, int, str, Message]] = []
        for ack in reversed(self.acked[len(self.acked) - forgotten :]):
            consumer = next((one for one in self.at_work if one.name == ack[0]), None)
            mine = [one for one in back if one[0] == ack[0]]
            if consumer is None or len(consumer.held) + len(mine) >= consumer.most:
                break  # what it does not know of yet is in the window
            back.append(ack)
        back += [(one.name, tag, one.queue, message) for one in self.at_work for tag, message in one.held.items()]
        back += [("", tag, queue, message) for tag, (queue, message) in self._taken.items()]
        for _name, _tag, queue, message in sorted(back, key=lambda one: one[:2]):
            if queue in self._broker.queues:
                message.returns += 1
                self._broker.queues[queue].returned.append(message)
        for one in self.at_work:
            if one.queue in self._broker.queues:
                self._broker.queues[one.queue].consumers.remove(one)
        self.at_work = []
        self._broker.serve()


class _Refused(Exception):
    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code, self.text = code, text


class Link:
    """A connection. `up` and `down`: what is on its way to RabbitMQ, and back."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.server_properties = {"version": "3.10.8"}
        self.up: collections.deque[Callable[[], object]] = collections.deque()
        self.down: collections.deque[Callable[[], object]] = collections.deque()
        self.channels: list[Channel] = []  # as RabbitMQ knows them
        self._made: list[Channel] = []
        self._on_close: list[Callable[..., None]] = []
        self.is_open = True  # as the client knows
        self.is_lost = False
        self._received = 0
        self.params = SimpleNamespace(frame_max=131072, virtual_host="/")
        broker.links.append(self)

    @property
    def bytes_received(self) -> int:
        self._received += not self.is_lost
        return self._received

    def is_up(self) -> bool:
        return self.is_open and not self.is_lost

    @contextlib.contextmanager
    def corked(self) -> Iterator[None]:
        yield

    def tell(self, work: Callable[[], object]) -> None:
        if self.is_up():
            self.up.append(work)

    def channel(self, on_open_callback: Callable[..., None]) -> Channel:
        if not self.is_open:
            raise pika.exceptions.ConnectionWrongStateError("closed")
        made = Channel(self, on_open_callback)
        self._made.append(made)
        return made

    def add_on_close_callback(self, call: Callable[..., None]) -> None:
        self._on_close.append(call)

    def add_on_connection_blocked_callback(self, call: Callable[..., None]) -> None:
        pass

    def close(self) -> None:
        def close() -> None:
            self.is_lost = True
            self.down.append(lambda: self.ended(pika.exceptions.ConnectionClosedByClient(200, "")))

        if self.is_up():
            self.up.append(close)

    def abort(self) -> None:
        self.is_open, self.is_lost = False, True

    def store_acks(self) -> None:
        """None of the acknowledgements that RabbitMQ has got will be forgotten."""
        for channel in self.channels:
            channel.acked.clear()

    def lose(self, done: int) -> None:
        """The stream breaks: of what was on its way, so much has reached RabbitMQ, and nothing comes back any more."""
        for _ in range(done):
            if self.up and not self.is_lost:
                self.up.popleft()()
        self.is_lost = True
        self.up.clear()
        self.down.clear()

    def ended(self, reason: Exception) -> None:
        """The client learns of its end."""
        if self.is_open:
            self.is_open = False
            for channel in self._made:
                channel.lost(reason)
            for call in self._on_close:
                call(self, reason)


class Broker:
    """RabbitMQ."""

    def __init__(self) -> None:
        self.queues: dict[str, Queue] = {}
        self.links: list[Link] = []
        self.on_ack: Callable[[Channel, int, bool], None] = lambda _channel, _tag, _multiple: None
        self.on_exclusive: Callable[[str, Link], None] = lambda _queue, _link: None
        self.forgets: Callable[[int], int] = lambda _most: 0
        self.confirmed: set[str] = set()  # ids of messages of which a client knows that they are stored
        self.on_store: Callable[[str, Message], None] = lambda _queue, _message: None

    def find(self, queue: str, link: Link) -> Queue:
        found = self.queues.get(queue)
        if found is None:
            raise _Refused(404, f"NOT_FOUND - no queue '{queue}' in vhost '/'")
        if found.owner is not None and found.owner is not link:
            raise _Refused(405, f"RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{queue}'")
        return found

    def delete(self, queue: str) -> Any:
        self.queues.pop(queue, None)
        return SimpleNamespace(message_count=0)

    def serve(self) -> None:
        for queue in self.queues.values():
            queue.serve()

    def clean_up(self, link: Link) -> bool:
        """Go on with the end of a lost connection: first its exclusive queues go, then one channel after another."""
        mine = [name for name, queue in self.queues.items() if queue.owner is link]
        for name in mine:
            del self.queues[name]
        if not mine and link.channels:
            link.channels[0].end()
        elif not mine:
            self.links.remove(link)
        return True
