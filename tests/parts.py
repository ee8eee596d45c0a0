"""The parts of a receiver, each by itself, on a session that a test drives."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import SimpleNamespace

import pika

from dev.vhost import Vhost
from relay.delivery import Event
from relay.receiving.codec import Reader
from relay.receiving.consumer import Consumer
from relay.receiving.ground import Ground
from relay.receiving.parking.codec import ParkedReader
from relay.receiving.parking.index import ParkedIndex
from relay.receiving.parking.park import Park
from relay.receiving.parking.recount import Recount
from relay.receiving.parking.room import Room
from relay.receiving.parking.unpark import Unpark
from relay.receiving.strand import Item, Origin
from relay.receiving.strands import Strands
from tests.wired import Wired

QUEUE, ROOM = "odoo", "odoo.parked"
WINDOW = (8, 1 << 20)


class Parts:
    """All that a session is made of, but for the session; `acknowledged` has what the main queue was told."""

    def __init__(self, vhost: Vhost, made: Wired, size: int = 1 << 20, events: int = 100) -> None:
        self.wire, self.strands, self.index = made, Strands(), ParkedIndex()
        session, fence = made.session, made.fence
        self.channel = vhost.channel()
        self.acknowledged: list[int] = []
        room = Room(session, fence, ROOM, ParkedReader(), self.strands, self.index)
        self.park = Park(room, WINDOW, lambda: None)
        self.consumer = Consumer(
            Ground(session, fence, QUEUE, Reader(), self.strands),
            events=events,
            size=size,
            park=self.park,
            strays=SimpleNamespace(look=lambda *_: ""),  # type: ignore[arg-type]
            on_change=lambda: None,
        )
        self.recount = Recount(room, self.park)
        self.unpark = Unpark(room, self.park, self.recount, budget=size, on_change=lambda: None)

    def add(self, seq: int, key: str, body: bytes = b"{}", op: str = "update") -> Item:
        event = Event(body, "t", id=f"id-{seq}", op=op, key=key, table="t", seq=seq)
        return self.strands.add(event, functools.partial(self.acknowledged.append, seq), 0.0)

    def declare(self, name: str, **arguments: object) -> None:
        self.channel.queue_declare(name, durable=True, arguments={"x-queue-type": "quorum", **arguments})

    def publish(self, *bodies: bytes, queue: str = QUEUE, key: str = "t 1") -> None:
        self.channel.confirm_delivery()
        for seq, body in enumerate(bodies, 1):
            headers = {"relay-seq": seq, "relay-key": key, "relay-table": "t"}
            own = pika.BasicProperties(message_id=f"id-{seq}", delivery_mode=2, type="update", headers=headers)
            self.channel.basic_publish("", queue, body, own)

    def deliver(self, now: float = 0.0, maximum: int = 1000) -> list[Callable[[], None]]:
        """All that may be delivered, one after another. Return the acknowledgements."""
        receipts: list[Callable[[], None]] = []
        while len(receipts) < maximum and (batch := self.strands.take(now)):
            receipts += self.strands.done(batch[0], now)
        return receipts

    def here(self, origin: Origin = Origin.MAIN) -> list[int]:
        return [item.event.seq for strand in self.strands.of(origin) for item in strand.items]


def give_up(parts: Parts, *items: Item) -> None:
    for item in items:
        item.tries.reason = "HTTP 422"
        parts.park.give_up(item)
