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
from relay.amqp.session import Session
from relay.delivery import Event
from relay.errors import Unavailable
from relay.log import Log
from relay.receiving.codec import Reader
from relay.receiving.fence import Fence
from relay.receiving.lane import Origin
from relay.receiving.lanes import Lanes
from relay.receiving.lost_acks import settle
from relay.receiving.parking.park import Park
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

    def note(self, size: int) -> None:
        """A message of so many bytes has come in."""
        self._average += (size - self._average) / min(50, self.events)

    def suitable(self) -> int:
        """Return how many messages of this size make a window."""
        return max(1, min(self.events, int(self.size / self._average))) if self._average else self.events

    def adapt(self) -> None:
        """Tell RabbitMQ of what suits from now on."""
        self.prefetch = self.suitable()


class Consumer:
    """Consumes the main queue.

    Args:
        events, size: the window, in messages and bytes.
        park: is shown each event that is new, and publishes on our channel.
        strays: is shown each message.
        on_change: called when something may be started.
    """

    def __init__(
        self,
        session: Session,
        fence: Fence,
        queue: str,
        reader: Reader,
        lanes: Lanes,
        *,
        events: int,
        size: int,
        park: Park,
        strays: Strays,
        on_change: Callable[[], None],
    ) -> None:
        self._session = session
        self._fence = fence
        self._queue = queue
        self._reader = reader
        self._lanes = lanes
        self._intake = _Intake(events, size)
        self._park = park
        self._strays = strays
        self._on_change = on_change
        self._channel: Channel | None = None
        self._acks: Acks  # the channel's
        self._overflowing = False
        self._acknowledged = False
        self._follows = _log.debugs
        self._opened = 0.0

    @property
    def is_open(self) -> bool:
        """Are messages coming in?"""
        return self._channel is not None

    @property
    def is_full(self) -> bool:
        """Do others wait outside, perhaps?"""
        return self._overflowing or self._lanes.events >= self._intake.prefetch

    async def open(self) -> None:
        """Start consuming. From the main flow. Raises RelayError."""
        await self._fence.await_no_consumer(self._queue)
        channel = await self._session.open_channel()
        self._overflowing, self._opened = False, time.monotonic()
        await self._session.call("setting the window", channel.basic_qos, prefetch_count=self._intake.prefetch)
        channel.add_on_cancel_callback(
            lambda _frame: self._session.fail(
                Unavailable(f"RabbitMQ ended our reading: was queue {self._queue} deleted?")
            )
        )
        await self._park.open(channel)
        self._channel, self._acks = channel, Acks(channel)
        await self._session.consume(channel, self._queue, self._on_message)

    async def catch_up(self) -> None:
        """Await what RabbitMQ has sent so far: a count of another channel may be here before it.

        From the main flow, while open. Raises RelayError.
        """
        channel = self._channel
        if channel is not None:  # a channel answers in turn; the window stays as it is
            await self._session.call("catching up", channel.basic_qos, prefetch_count=self._intake.prefetch)

    async def close(self, now: float) -> None:
        """Give everything back, in its order. What is with a worker becomes a ghost. From the main flow."""
        self._park.close()
        channel, self._channel = self._channel, None
        if channel is not None:
            self._acks.flush()
            await self._session.close_channel(channel)
        self._lanes.release(now, Origin.MAIN)

    async def settle(self) -> None:
        """Closed for good: see to it that no acknowledgement was forgotten. From the main flow. Raises RelayError."""
        if self._acknowledged:
            await settle(
                self._session, self._fence, self._queue, self._reader.to_event, self._intake.prefetch, self._is_done
            )

    def _is_done(self, event: Event) -> bool:
        """Was it delivered, or put into the parking lot, and need only be acknowledged?"""
        deduplication, lane = self._lanes.deduplication, self._lanes.lane_key(event)
        known = deduplication.was_delivered(event) or deduplication.is_stored(event)
        return known and not self._lanes.holds_older(event, lane)

    @property
    def holds_unknown(self) -> bool:
        """Is something with a worker whose copy would not be recognised, and be delivered twice?"""
        firsts = (lane.items[0] for lane in self._lanes.of(Origin.MAIN) if lane.is_in_flight)
        return any(item.receipt and not item.event.seq for item in firsts)

    def renewal_wanted(self, now: float) -> bool:
        """Should it be closed and opened again?"""
        if not self.is_open:
            return False
        if self.holds_unknown:
            return False
        mine = self._lanes.of(Origin.MAIN)
        if self._overflowing:
            sizes = [item.event.size for lane in mine for item in lane.items]
            return (
                not self._lanes.has_ready(now, Origin.MAIN)
                and sum(sizes) - max(sizes, default=0) < self._intake.size // 2
            )
        if not mine:
            self._opened = now if self._intake.prefetch == self._intake.events else self._opened
        narrowed = self._intake.prefetch < self._intake.events and self._intake.suitable() >= 2 * self._intake.prefetch
        return now - self._opened > (WIDEN_EVERY if narrowed else OLDEST)

    async def renew(self, now: float) -> None:
        """Close and open again, with a window that suits the messages. From the main flow."""
        await self.close(now)
        self._intake.adapt()
        await self.open()

    def _on_message(self, channel: Channel, method: Basic.Deliver, properties: Properties, body: bytes) -> None:
        if channel is not self._channel:
            return
        if self._fence.is_probe(self._queue, properties, body):
            self._acks.give(method.delivery_tag or 0)
            return
        self._strays.look(method, properties)
        event = self._reader.to_event(method, properties, body)
        self._intake.note(event.size)
        if self._overflowing or not self._fits(event):
            self._overflowing = True  # everything from here on, or the order would be lost
            return
        if self._follows:
            again = event.redelivered or None
            _log.debug("event received", event=event.id, topic=event.topic, key=event.key or None, redelivered=again)
        receipt = functools.partial(self._acknowledge, self._acks, method.delivery_tag or 0, event.id)
        if self._is_done(event):
            receipt()
            return
        self._park.arrived(self._lanes.add(event, receipt, time.monotonic()))
        self._on_change()

    def _fits(self, event: Event) -> bool:
        over = self._lanes.size + event.size - self._intake.size
        return over <= 0 or not self._lanes.events or over <= max(event.size, self._lanes.largest())

    def _acknowledge(self, acks: Acks, tag: int, event_id: str) -> None:
        acks.give(tag)  # on a closed channel it comes again, and is recognised by its id
        self._acknowledged = True
        if self._follows:
            _log.debug("event acknowledged", event=event_id)
