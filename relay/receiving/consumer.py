"""The window of the main queue: how many messages, and how many bytes of them, are held here unacknowledged.

RabbitMQ limits a consumer's window by messages alone. So when the bytes of a window are full, what follows is dropped
(it stays unacknowledged, in its order), and once nothing more can be done with what is here, the channel is closed
and opened again with a window that suits the size of the messages.

The largest event is not counted: one that alone fills the window would keep out all others, and if it fails, nothing
else could show that it is not the endpoint's failure.
"""

import functools
import time
from collections.abc import Callable

from pika.channel import Channel
from pika.spec import Basic

from relay.amqp.acks import Acks
from relay.amqp.decode import Properties
from relay.config import PREFETCH_MAX
from relay.delivery import Event, strand_name
from relay.errors import Unavailable
from relay.log import Log
from relay.receiving.given_back import GivenBack, put_in_order
from relay.receiving.ground import Ground
from relay.receiving.lost_acks import Known, settle
from relay.receiving.parking.park import Park
from relay.receiving.strand import Origin
from relay.receiving.topics import Strays

OLDEST = 600.0  # seconds without an empty window: a third of RabbitMQ's acknowledgement timeout
_log = Log("receiver")

WIDEN_EVERY = 5.0  # seconds between two looks whether a narrowed window may be wider again


class _Intake:
    """How much may come in: in messages, as RabbitMQ limits it, and in bytes."""

    def __init__(self, events: int, size: int) -> None:
        self.events = events
        self.size = size
        self.prefetch = events  # what RabbitMQ was told
        self._average = 0.0  # bytes of a message
        self._noted = 0  # messages that it is made of, up to those that tell

    def note(self, size: int) -> None:
        """A message of so many bytes has come in."""
        self._noted = min(self._noted + 1, 50, self.events)
        self._average += (size - self._average) / self._noted

    def suitable(self) -> int:
        """Return how many messages of this size make a window."""
        return max(1, min(self.events, int(self.size / self._average))) if self._average else self.events

    def adapt(self, *, was_too_wide: bool) -> None:
        """Tell RabbitMQ of what suits from now on; less than half, if what seemed to has not."""
        most = max(1, self.prefetch // 2) if was_too_wide else self.events
        self.prefetch = min(self.suitable(), most)


class Consumer:
    """Consumes the main queue.

    Args:
        events, size: the window, in messages and bytes.
        widest: how many messages may have come back into the queue, at most.
        park: is shown each event that is new, and publishes on our channel.
        strays: is shown each message.
        wants: is an event asked for? What is not is acknowledged as done, at once, whatever waits before it.
        on_filter: called for each that is not.
        on_change: called when something may be started.
        is_single: has the queue a single active consumer? Then several can't put it in order, and need not: the window
            is as wide as any that was given back, and all of that is ours as soon as we consume.
    """

    def __init__(
        self,
        ground: Ground,
        *,
        events: int,
        size: int,
        park: Park,
        strays: Strays,
        on_change: Callable[[], None],
        widest: Callable[[], int] = lambda: PREFETCH_MAX,
        wants: Callable[[Event], bool] = lambda _event: True,
        on_filter: Callable[[], None] = lambda: None,
        is_single: bool = False,
    ) -> None:
        self._ground = ground
        self._intake = _Intake(events, size)
        self._widest = widest
        self._park = park
        self._strays = strays
        self._on_change = on_change
        self._wants = wants
        self._on_filter = on_filter
        self._is_single = is_single
        self._channel: Channel | None = None
        self._acks: Acks  # the channel's
        self._refused: int | None = None  # bytes of the first that did not fit: all from there on is dropped
        self._acknowledged = False
        self._opened = 0.0
        self._given_back = GivenBack(events)

    @property
    def is_open(self) -> bool:
        """Are messages coming in?"""
        return self._channel is not None

    @property
    def read(self) -> int:
        """Messages that this channel has had; 0 = there is none."""
        return 0 if self._channel is None else self._acks.last

    @property
    def is_full(self) -> bool:
        """Do others wait outside, perhaps?"""
        return self._refused is not None or self._ground.strands.events >= self._intake.prefetch

    async def open(self) -> None:
        """Start consuming. From the main flow. Raises RelayError."""
        await self._put_in_order()
        await self._ground.fence.await_no_consumer(self._ground.queue)
        channel = await self._ground.session.open_channel()
        if self._is_single:
            self._intake.prefetch = max(self._intake.events, self._widest())
        self._refused, self._opened = None, time.monotonic()
        await self._ground.session.call("setting the window", channel.basic_qos, prefetch_count=self._intake.prefetch)
        channel.add_on_cancel_callback(
            lambda _frame: self._ground.session.fail(
                Unavailable(f"RabbitMQ ended our reading: was queue {self._ground.queue} deleted?")
            )
        )
        await self._park.open(channel)
        self._channel, self._acks = channel, Acks(channel, self._ground.session.corked)
        await self._ground.session.consume(channel, self._ground.queue, self._on_message)

    async def catch_up(self) -> None:
        """Await what RabbitMQ has sent so far: a count of another channel may be here before it.

        From the main flow, while open. Raises RelayError.
        """
        channel = self._channel
        if channel is not None:  # a channel answers in turn; the window stays as it is
            await self._ground.session.call("catching up", channel.basic_qos, prefetch_count=self._intake.prefetch)

    async def close(self, now: float) -> None:
        """Give everything back, in its order. What is with a worker becomes a ghost. From the main flow."""
        self._park.close()
        channel, self._channel = self._channel, None
        if channel is not None:
            self._acks.flush()
            self._given_back.closed(self._intake.prefetch, self._acks.last)
            await self._ground.session.close_channel(channel)
        self._ground.strands.release(now, Origin.MAIN)

    async def settle(self) -> None:
        """Closed for good: see to it that no acknowledgement was forgotten. From the main flow. Raises RelayError."""
        if self._acknowledged:
            await self._put_in_order()  # what is known stays behind what is not
            begin = functools.partial(Known, self._ground.reader.to_event, self._may_go)
            most = max(self._intake.events, self._given_back.most)
            await settle(self._ground.session, self._ground.fence, self._ground.queue, most, begin)

    async def _put_in_order(self) -> None:
        if self._given_back.is_mixed and not self._is_single:
            window, widest = self._given_back.most, self._widest()
            most = await put_in_order(self._ground.session, self._ground.fence, self._ground.queue, window, widest)
            self._given_back.in_order(most)

    def _is_done(self, event: Event) -> bool:
        """Was it delivered, or put into the parking lot, and need only be acknowledged?"""
        deduplication, strand = self._ground.strands.deduplication, self._ground.strands.strand_key(event)
        known = deduplication.was_delivered(event) or deduplication.is_stored(event)
        return known and not self._ground.strands.holds_older(event, strand)

    def _may_go(self, event: Event) -> bool:
        return not self._wants(event) or self._is_done(event)

    @property
    def holds_unknown(self) -> bool:
        """Is something with a worker whose copy would not be recognised, and be delivered twice?"""
        firsts = (strand.items[0] for strand in self._ground.strands.of(Origin.MAIN) if strand.is_in_flight)
        return any(item.receipt and not item.event.seq for item in firsts)

    def renewal_wanted(self, now: float) -> bool:
        """Should it be closed and opened again?"""
        if not self.is_open:
            return False
        if self.holds_unknown:
            return False
        mine = self._ground.strands.of(Origin.MAIN)
        if self._refused is not None:
            sizes = [item.event.size for strand in mine for item in strand.items]
            return (
                not self._ground.strands.ready.has_ready(now, Origin.MAIN)
                and sum(sizes) - max(sizes, default=0) < self._intake.size // 2
                and self._has_room(self._refused)  # else all would come again for nothing
            )
        if not mine:
            self._opened = now if self._intake.prefetch == self._intake.events else self._opened
        narrowed = self._intake.prefetch < self._intake.events and self._intake.suitable() >= 2 * self._intake.prefetch
        return now - self._opened > (WIDEN_EVERY if narrowed and self._given_back.is_read(self._acks.last) else OLDEST)

    async def renew(self, now: float) -> None:
        """Close and open again, with a window that suits the messages. From the main flow."""
        is_full = self._refused is not None
        await self.close(now)
        if not self._is_single:
            self._intake.adapt(was_too_wide=is_full and self._given_back.is_mixed)
        await self.open()

    def _on_message(self, channel: Channel, method: Basic.Deliver, properties: Properties, body: bytes) -> None:
        if channel is not self._channel:
            return
        self._acks.last = method.delivery_tag or 0
        if self._ground.fence.is_probe(self._ground.queue, properties, body):
            self._acks.give(method.delivery_tag or 0)
            return
        event = self._ground.reader.to_event(method, properties, body)
        objection = self._strays.look(method, properties, event)
        receipt = functools.partial(self._acknowledge, self._acks, method.delivery_tag or 0, event.id)
        if not self._wants(event):
            self._on_filter()
            receipt()
            return
        self._intake.note(event.size)
        if self._refused is None and not self._has_room(event.size):
            self._refused = event.size
        if self._refused is not None:
            return  # everything from here on, or the order would be lost
        if _log.debugs:
            again = event.redelivered or None
            _log.debug("event received", event=event.id, topic=event.topic, key=event.key or None, redelivered=again)
        if self._is_done(event):
            receipt()
            return
        strand = strand_name(f"\0stray-{event.id}") if objection else None  # a stranger's holds up no row
        self._park.arrived(self._ground.strands.add(event, receipt, time.monotonic(), strand), objection)
        self._on_change()

    def _has_room(self, size: int) -> bool:
        strands = self._ground.strands
        over = strands.size + size - self._intake.size
        # What comes out of the parking lot may fill the window, and wait for the success of one that is in our queue.
        return over <= 0 or not strands.of(Origin.MAIN) or over <= max(size, strands.largest())

    def _acknowledge(self, acks: Acks, tag: int, event_id: str) -> None:
        acks.give(tag)  # on a closed channel it comes again, and is recognised by its id
        self._acknowledged = True
        if _log.debugs:
            _log.debug("event acknowledged", event=event_id)
