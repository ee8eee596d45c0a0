"""The way into the parking lot, `<queue>.parked`: published with confirm, then acknowledged.

What must hold whenever we are killed:

- An event is acknowledged in its queue only after RabbitMQ has confirmed it in the parking lot. In between it is in
  both: at the next start its id is found in the parking lot, and it is acknowledged only.
- A strand enters from its first event on, in order, and while it is there what arrives of it goes behind it.
- Of one strand one event is on its way at a time: with two, a nack of the first would let the second overtake it. For
  the same reason a truncate and events of its table are never on their way together.
- It is published on the very channel that reads the main queue. A successor waits until nobody reads that queue any
  more, and then nothing that we have published can come into the parking lot after it has looked.
"""

import asyncio
import collections
import dataclasses
import itertools
import sys
import time
from collections.abc import Callable, Iterable

from pika.channel import Channel
from pika.spec import BasicProperties

from relay.delivery import Event, key_name
from relay.errors import Unavailable
from relay.log import Log
from relay.receiving.barriers import Before
from relay.receiving.codec import UNSIGNED
from relay.receiving.parking.codec import new_handle, parked_properties
from relay.receiving.parking.index import Entry, Why
from relay.receiving.parking.room import Room
from relay.receiving.strand import Item, Origin, Strand

TRUNCATE = "a TRUNCATE reaches one lane only, and keeps no order among them"
AHEAD = 256  # events that are on their way at most, and that are looked at for another one that may go
LONG_REQUEST = 5.0  # seconds after which the strand of a request in flight may overflow, too

_log = Log("receiver")


@dataclasses.dataclass(frozen=True, slots=True)
class _Move:
    item: Item
    strand: str
    properties: BasicProperties


class Park:
    """Moves strands into the parking lot.

    Args:
        window: (events, bytes) of the main window; a strand in trouble may hold a quarter, all together half.
        on_change: called when nothing is on its way any more.
        is_lane: the main queue is one of several lanes.
    """

    def __init__(
        self, room: Room, window: tuple[int, int], on_change: Callable[[], None], *, is_lane: bool = False
    ) -> None:
        self._room = room
        self._is_lane = is_lane
        self._window = window
        self._waiting: collections.deque[_Move] = collections.deque()
        self._on_their_way: dict[int, _Move] = {}  # by the number that RabbitMQ confirms
        self._moving: set[Item] = set()  # of both
        self._numbers = itertools.count(1)
        self._on_change = on_change
        self._channel: Channel | None = None
        self._dropped = 0  # moves that were given up with the session
        self._resting = False
        self._rested = asyncio.Event()  # nothing is on its way
        self._held: dict[str, Strand] = {}  # what has arrived, while resting, for strands that leave the parking lot

    @property
    def busy(self) -> bool:
        """Is anything on its way?"""
        return bool(self._on_their_way)

    @property
    def pending(self) -> bool:
        """Does anything wait to be sent, or for its confirm? Then the main window must not be given back."""
        return bool(self._moving)

    async def open(self, channel: Channel) -> None:
        """Publish on this channel from now on. From the main flow. Raises RelayError."""
        await self._room.session.call("asking for confirms", channel.confirm_delivery, self._on_confirm)
        channel.add_on_return_callback(self._on_return)
        self._channel, self._numbers = channel, itertools.count(1)

    def close(self) -> None:
        """The channel is about to be closed: what has not been sent yet stays in the main queue."""
        self._channel = None
        self._moving.difference_update(move.item for move in self._waiting)
        self._dropped += len(self._waiting)
        self._waiting.clear()

    async def rest(self) -> None:
        """Publish nothing until `go_on`, and await the confirms of what is on its way. From the main flow."""
        self._resting = True
        if self._on_their_way:
            self._rested.clear()
            await self._rested.wait()

    def go_on(self, now: float) -> None:
        """Publish again; what waited for strands that have left the parking lot takes the direct way."""
        self._resting = False
        held, self._held = self._held, {}
        for strand in held.values():
            if not strand.items:
                continue
            if self._room.index.blocks(strand.key, strand.items[0].event):
                self._move(list(strand.items), _entry(strand.items[0]))
            else:
                self._room.strands.resume(strand, now)
        self._publish()

    def begin_anew(self) -> None:
        """The room has been read: its index knows what is in its queue, and nothing else."""
        self._dropped = 0

    @property
    def unsent(self) -> int:
        """Events that the parking lot's index knows, and its queue does not."""
        return len(self._waiting) + self._dropped

    def arrived(self, item: Item, objection: str = "") -> None:
        """A message of the main queue has come in. It goes into the parking lot if it must not overtake what is there.

        Or if it is not signed as it must be. No worker has to see that: it would be a request for no reason, and its
        failure would say that the endpoint answers.

        Args:
            objection: why it is not even tried, if the queue has such a reason.
        """
        if not self._room.index.blocks(item.strand.key, item.event):
            if reason := self._objection(item.event) or objection:
                item.tries.refuse(reason)
                _log.error("event refused and parked", event=item.event.id, topic=item.event.topic, reason=reason)
                self.give_up(item)
            return
        if self._resting and self._room.index.is_leaving(item.strand.key) and not item.event.is_barrier:
            self._room.strands.hold(item.strand)
            self._held[item.strand.key] = item.strand
        else:
            self._move(self._room.strands.together(item), _entry(item))

    def _objection(self, event: Event) -> str:
        """Why it is not even tried; empty = it is."""
        if event.claimed_id is not None:
            return UNSIGNED
        return TRUNCATE if self._is_lane and event.is_barrier else ""

    def give_up(self, item: Item) -> None:
        """Its last attempt has failed: it waits for a person, and what follows of its strand waits behind it."""
        self._room.strands.set_aside(item)
        self._move(self._room.strands.together(item), _entry(item, Why.DEAD))

    def overflow(self, now: float, *, full: bool = False) -> None:
        """Make room in the window: strands in trouble that hold more than their share of it, go.

        `full`: others wait outside, who might show that it is not the endpoint's trouble.
        """
        for strand in crowding(self._room.strands.of(Origin.MAIN), self._window, now, full=full):
            first = strand.items[0]
            self._enter(self._room.strands.together(first), _entry(first, Why.OVERFLOW))
        self._publish()

    def _move(self, items: list[Item], entry: Entry) -> None:
        self._enter(items, entry)
        self._publish()

    def _enter(self, items: list[Item], entry: Entry) -> None:
        if self._channel is None:
            return  # it is about to be given back, comes again, and is judged anew
        for item in items:
            if item.receipt is None or item in self._moving:
                continue
            strand = item.strand
            mine = entry if strand.key == entry.strand else _entry(item)
            self._room.strands.hold(strand)
            why = mine if self._room.index.enter(item.event, mine) else _entry(item)
            self._moving.add(item)
            properties = parked_properties(item.event, why, self._room.session.frame_max, self._room.reader.signer)
            self._waiting.append(_Move(item, strand.key, properties))

    def _publish(self) -> None:
        """Send what may go now, in its order."""
        if not self._waiting or self._resting or self._channel is None or not self._channel.is_open:
            return
        with self._room.session.corked():
            self._send(self._channel)

    def _send(self, channel: Channel) -> None:
        # If what is before one failed to get in, that one would overtake it.
        before, stay = Before(self._room.index.is_barrier), list[_Move]()
        for move in self._on_their_way.values():
            before.add(move.strand, move.item.event)
        while self._waiting and len(self._on_their_way) < AHEAD and len(stay) < AHEAD:
            move = self._waiting.popleft()
            if move.item.receipt is None:  # its request has succeeded in the meantime
                self._moving.discard(move.item)
                self._room.index.leave(move.strand, move.item.event)
                continue
            if before.holds_up(move.strand, move.item.event):
                stay.append(move)
            else:
                self._on_their_way[next(self._numbers)] = move
                channel.basic_publish("", self._room.queue, move.item.event.body, move.properties, mandatory=True)
            before.add(move.strand, move.item.event)
        self._waiting.extendleft(reversed(stay))

    def _on_return(self, *_: object) -> None:
        # The confirm that follows says no more than that the broker has dealt with the message.
        self._waiting.clear()
        self._on_their_way.clear()
        self._moving.clear()
        self._channel = None
        self._room.session.fail(Unavailable(f"queue {self._room.queue} is gone: an event could not be parked"))

    def _on_confirm(self, frame: object) -> None:
        method = frame.method  # type: ignore[attr-defined]
        confirmed = [method.delivery_tag]
        if method.multiple:
            confirmed = [number for number in self._on_their_way if number <= method.delivery_tag]
        moves = [self._on_their_way.pop(number) for number in confirmed if number in self._on_their_way]
        if type(method).__name__ != "Ack":
            self._channel = None  # nothing may follow it; other confirms may come before the session has ended
            self._room.session.fail(Unavailable(f"RabbitMQ could not store an event in {self._room.queue}"))
            return
        for move in moves:
            self._stored(move.item)
        if len(self._on_their_way) <= AHEAD // 2:  # some together: what is on its way is gone through each time
            self._publish()
        if not self._on_their_way:
            self._rested.set()
            self._on_change()

    def _stored(self, item: Item) -> None:
        self._moving.discard(item)
        receipt = item.receipt
        # Only now: RabbitMQ has said that the copy in the parking lot is safe. (None: it was delivered meanwhile.)
        if receipt is not None:
            self._room.strands.deduplication.add(item.event, item.strand.key, stored=True)
            _log.debug("event stored in the parking lot", event=item.event.id)
            receipt()
        self._room.strands.drop(item, time.monotonic(), remember=False)


def _entry(item: Item, why: Why = Why.BEHIND) -> Entry:
    event = item.event
    due = item.tries.not_before if why is Why.OVERFLOW else 0.0
    since = int(time.time())
    table = sys.intern(event.table)  # of a great many
    return Entry(item.strand.key, key_name(event.key), table, event.id, new_handle(), why, item.tries, since, due)


def crowding(strands: Iterable[Strand], window: tuple[int, int], now: float, *, full: bool) -> list[Strand]:
    """Strands in trouble that hold more than their share of the window: a quarter each, a half all together.

    Args:
        window: (events, bytes).
        full: others wait outside.
    """
    events, size = window
    stuck = [strand for strand in strands if _is_stuck(strand, window, now, full=full)]
    held = sum(len(strand.items) for strand in stuck)
    bytes_held = sum(item.event.size for strand in stuck for item in strand.items)
    is_crowded = held > events // 2 or bytes_held > size // 2
    found = []
    for strand in sorted(stuck, key=lambda strand: (-len(strand.items), -strand.items[0].tries.not_before)):
        own = sum(item.event.size for item in strand.items)
        if len(strand.items) > events // 4 or own > size // 4 or is_crowded:
            held -= len(strand.items)
            bytes_held -= own
            found.append(strand)
            is_crowded = is_crowded and (held > events // 4 or bytes_held > size // 4)
    return found


def _is_stuck(strand: Strand, window: tuple[int, int], now: float, *, full: bool) -> bool:
    if strand.is_held or not strand.items or strand.items[-1].receipt is None:
        return False
    first, (events, size) = strand.items[0], window
    if strand.is_in_flight:
        return now - first.since > LONG_REQUEST
    fills = full and first.tries.failed_tries > 0 and (first.event.size > size // 4 or events < 4)
    return fills or first.tries.not_before > now or first.tries.retry
