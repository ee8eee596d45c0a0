"""Events to the exchange, with pipelined publisher confirms.

Every message is persistent and mandatory. The broker answers each with an ack (every queue it was routed to has it
safe), with a return followed by an ack (no queue is bound), or with a nack (a queue would not take it). Which
one came is told to the owner of the events; nothing here decides what happens next.
"""

import time
from collections.abc import Callable, Iterable
from typing import Any

import pika
from pika.channel import Channel
from pika.frame import Method
from pika.spec import Basic, BasicProperties

from relay.event import Event


class Publisher:
    """Publishes on one channel in confirm mode.

    Args:
        channel: open; confirms are switched on by the caller with `on_confirm` as callback.
        exchange: where to.
        confirmed: called with an event that is safe in the broker.
        declined: called with an event that is not, and why: "unroutable" or "refused by a queue".
    """

    def __init__(
        self,
        channel: Channel,
        exchange: str,
        confirmed: Callable[[Event], None],
        declined: Callable[[Event, str], None],
    ) -> None:
        self._channel = channel
        self._exchange = exchange
        self._confirmed = confirmed
        self._declined = declined
        self._tag = 0  # the broker counts the messages of a channel from 1 (RabbitMQ: Publisher Confirms)
        self._unconfirmed: dict[int, Event] = {}
        self._returned: set[str] = set()
        self._answered_at = time.monotonic()
        channel.add_on_return_callback(self._on_return)

    def publish(self, events: Iterable[Event]) -> None:
        """Send events; each is answered through `confirmed` or `declined`, or the session ends."""
        if not self._unconfirmed:
            self._answered_at = time.monotonic()
        for event in events:
            self._tag += 1
            self._unconfirmed[self._tag] = event
            self._channel.basic_publish(self._exchange, event.topic, event.body, _properties(event), mandatory=True)

    def silence(self) -> float:
        """Return for how many seconds the broker has answered nothing, although something is unconfirmed."""
        return time.monotonic() - self._answered_at if self._unconfirmed else 0.0

    def oversized(self, most: int) -> list[Event]:
        """Return the unconfirmed events whose body is larger than `most` bytes."""
        return [event for event in self._unconfirmed.values() if len(event.body) > most]

    def on_confirm(self, frame: Method[Any]) -> None:
        """Take in basic.ack or basic.nack. `multiple`: the answer is for all tags up to this one."""
        self._answered_at = time.monotonic()
        method = frame.method
        if method.multiple:
            tags = [tag for tag in self._unconfirmed if tag <= method.delivery_tag]
        else:
            tags = [method.delivery_tag]
        for tag in tags:
            event = self._unconfirmed.pop(tag)
            if isinstance(method, Basic.Nack):
                self._declined(event, "refused by a queue")
            elif event.id in self._returned:
                self._returned.discard(event.id)
                self._declined(event, "unroutable")
            else:
                self._confirmed(event)

    def _on_return(self, _channel: Channel, _method: object, properties: BasicProperties, _body: bytes) -> None:
        # basic.return always comes before the ack of the same message (RabbitMQ: Publisher Confirms).
        self._returned.add(str(properties.message_id))


def _properties(event: Event) -> BasicProperties:
    headers: dict[str, Any] = dict(event.headers or {})
    headers["relay-seq"] = event.seq
    if event.key is not None:
        headers["relay-key"] = event.key
    if event.table is not None:
        headers["relay-table"] = event.table
    return pika.BasicProperties(
        content_type="application/json",
        delivery_mode=2,  # persistent
        message_id=event.id,
        timestamp=event.at,
        type=event.op,
        headers=headers,
    )
