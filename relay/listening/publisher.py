"""Events to the exchange, with pipelined publisher confirms.

Every message is persistent and mandatory. The broker answers each with an ack (every queue it was routed to has it
safe), with a return followed by an ack (no queue is bound), or with a nack (a queue would not take it). Which
one came is told to the owner of the events; nothing here decides what happens next.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from itertools import takewhile
from typing import Any

from pika.channel import Channel
from pika.frame import Method
from pika.spec import Basic, BasicProperties

from relay.listening.event import OutboxEvent
from relay.listening.frames import Frames, Unpublishable

UNROUTABLE = "unroutable"
REFUSED = "refused by a queue"


class Publisher:
    """Publishes on one channel in confirm mode.

    Args:
        channel: open; confirms are switched on by the caller with `on_confirm` as callback.
        exchange: where to.
        confirmed: called with an event that is safe in the broker.
        declined: called with an event that is not, and why: UNROUTABLE or REFUSED.
        secret: signs the events; empty = they are not signed.
        barred: may events for one queue not be sent? Then nothing of them is, and they are declined as UNROUTABLE.
    """

    def __init__(
        self,
        channel: Channel,
        exchange: str,
        confirmed: Callable[[OutboxEvent], None],
        declined: Callable[[OutboxEvent, str], None],
        secret: bytes,
        barred: Callable[[], bool] = lambda: False,
    ) -> None:
        self.channel = channel
        self._frames = Frames(channel.channel_number, channel.connection.params.frame_max, exchange, secret)
        self._confirmed = confirmed
        self._declined = declined
        self._barred = barred
        self._tag = 0  # the broker counts the messages of a channel from 1 (RabbitMQ: Publisher Confirms)
        self._unconfirmed: dict[int, OutboxEvent] = {}
        self._returned: set[str] = set()
        self._answered_at = time.monotonic()
        channel.add_on_return_callback(self._on_return)

    def publish(self, events: Iterable[OutboxEvent]) -> list[tuple[OutboxEvent, str]]:
        """Send events; each is answered through `confirmed` or `declined`, or the session ends.

        Returns:
            Those that can't be published, with the reason: nothing of them is sent.
        """
        if not self._unconfirmed:
            self._answered_at = time.monotonic()
        unfit: list[tuple[OutboxEvent, str]] = []
        if not self.channel.is_open:
            return unfit  # the session is about to end; what is not confirmed stays in the outbox
        messages: list[tuple[bytes, bytes]] = []
        for event in events:
            if event.queue is not None and self._barred():
                asyncio.get_running_loop().call_soon(self._declined, event, UNROUTABLE)
                continue
            try:
                head = self._frames.head(event)
            except Unpublishable as reason:
                unfit.append((event, str(reason)))
                continue
            self._tag += 1
            self._unconfirmed[self._tag] = event
            messages.append((head, event.body))
        # Whole batches, packed by ourselves: with basic_publish a backlog takes twice the time (docs/performance.md).
        for piece in self._frames.pack(messages):
            self.channel.connection._output_marshaled_frames([piece])  # type: ignore[attr-defined]
        return unfit

    def silence(self) -> float:
        """Return for how many seconds the broker has answered nothing, although something is unconfirmed."""
        return time.monotonic() - self._answered_at if self._unconfirmed else 0.0

    def be_patient(self) -> None:
        """Count the silence from now on: the broker had said that it would not answer."""
        self._answered_at = time.monotonic()

    @property
    def unconfirmed(self) -> list[OutboxEvent]:
        """What was sent and is not answered, in the order in which it was sent."""
        return list(self._unconfirmed.values())

    def on_confirm(self, frame: "Method[Any]") -> None:
        """Take in basic.ack or basic.nack. `multiple`: the answer is for all tags up to this one."""
        self._answered_at = time.monotonic()
        method = frame.method
        if method.multiple:
            # They stand in their order: not all of the window is looked at for each answer.
            tags = list(takewhile(lambda tag: tag <= method.delivery_tag, self._unconfirmed))
        else:
            tags = [method.delivery_tag]
        for tag in tags:
            event = self._unconfirmed.pop(tag)
            if isinstance(method, Basic.Nack):
                self._declined(event, REFUSED)
            elif event.id in self._returned:
                self._returned.discard(event.id)
                self._declined(event, UNROUTABLE)
            else:
                self._confirmed(event)

    def _on_return(self, _channel: Channel, _method: object, properties: BasicProperties, _body: bytes) -> None:
        # basic.return always comes before the ack of the same message (RabbitMQ: Publisher Confirms).
        self._returned.add(str(properties.message_id))
