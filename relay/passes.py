"""The way out of the waiting room: one ordered pass through all of it, from the first event to the last.

The lanes that are due are delivered from there and acknowledged there; everything else stays unacknowledged, and goes
back in its old order when the channel is closed. Only the lease holder does this: to anybody else's reading, a
starting receiver would be blind. What arrives for such a lane meanwhile goes into the room behind it, and the
same pass delivers that, too; a lane that is empty leaves the room, and its events take the direct way again.

RabbitMQ can forget acknowledgements when the channel closes (relay/settle.py). Those come again in the next pass and
are recognised; as long as the queue holds more than the index knows of, there is a next pass.
"""

import functools
import time
from collections.abc import Callable

from pika.channel import Channel
from pika.spec import Basic, BasicProperties

from relay.delivery import Event
from relay.dispatch import Dispatch, Item
from relay.errors import Unavailable
from relay.log import Log
from relay.message import from_room
from relay.parking import LANE_PREFIX
from relay.room import Entry, Room, Why
from relay.wire import Wire

READ_MAX = 65_535  # messages that one pass can go through; ROOM_MAX keeps the room below it
RECHECK_SECONDS = 2.0  # until a lane that could not move in a pass is looked at again
LONGEST = 600.0  # seconds: a third of RabbitMQ's acknowledgement timeout; then the channel is closed and opened anew

OnMessage = Callable[[Channel, Basic.Deliver, BasicProperties, bytes], None]

_log = Log("receiver")


class Passes:
    """Reads the waiting room.

    Args:
        room: the index; filled by `load`.
        budget: bytes of events that are held in memory at most.
        on_change: called when something may be started or has ended.
    """

    def __init__(
        self, wire: Wire, queue: str, dispatch: Dispatch, room: Room, budget: int, on_change: Callable[[], None]
    ) -> None:
        self._wire = wire
        self._queue = queue
        self._dispatch = dispatch
        self._room = room
        self._budget = budget
        self._on_change = on_change
        self._channel: Channel | None = None
        self._chosen: set[str] = set()
        self._stopped: set[str] = set()  # lanes that failed in this pass
        self._skipped: set[str] = set()  # tables of which something was left where it is
        self._shut: set[str] = set()  # tables with a truncate that could not be reached
        self._moved: set[str] = set()  # lanes of which something was delivered
        self._gone: set[str] = set()  # ids that were acknowledged in this pass
        self._gone_before: set[str] = set()  # in the one before
        self.unsettled = False  # the queue held more, after the last pass, than it should have
        self._total = 0
        self._read = 0
        self._open_items = 0
        self._began = 0.0
        self.discard_ids: set[str] = set()
        self.shows: dict[str, Callable[[Event, Entry], None]] = {}  # by event id

    @property
    def active(self) -> bool:
        """Is a pass on its way?"""
        return self._channel is not None

    @property
    def finished(self) -> bool:
        """Has the pass read everything, and is nothing of it left to deliver?"""
        if self._channel is None:
            return False
        whole = self._read >= self._total and not self._open_items
        return whole or time.monotonic() - self._began > LONGEST

    def wanted(self, now: float) -> bool:
        """Is there a reason for a pass, and none on its way?"""
        return not self.active and bool(self.shows or self.discard_ids or self.unsettled or self._ready(now))

    def _ready(self, now: float) -> set[str]:
        # A lane whose event is still with a worker, from the main queue or a pass before, waits for it.
        return {lane for lane in self._room.due(now) if not self._is_busy(lane)}

    def _is_busy(self, name: str) -> bool:
        lanes = (self._dispatch.lane(key) for key in (name, LANE_PREFIX + name))
        return any(lane is not None and lane.busy for lane in lanes)

    def load(self) -> None:
        """Read the whole room into the index. Nothing else may be going on. Raises RelayError."""
        self._load_once(self._wire.await_no_consumer(self._queue))
        if self._room.entries:
            _log.info("waiting room", lanes=len(self._room.entries), refused=self._room.dead)

    def _load_once(self, total: int) -> None:
        self._room.clear()
        channel = self._wire.open_channel()
        read = 0

        def on_message(_c: Channel, _m: Basic.Deliver, properties: BasicProperties, body: bytes) -> None:
            nonlocal read
            read += 1
            event, entry = from_room(properties, body)
            self._room.enter(event, entry)
            self._room.stored(event)
            if read >= total:
                self._wire.interrupt()

        if total:
            self._consume(channel, on_message)
            self._wire.run_until(lambda: read >= total)
        self._wire.close_channel(channel)

    def _consume(self, channel: Channel, on_message: OnMessage) -> None:
        # Without a number a quorum queue stops at 2,000 unacknowledged messages; this is the largest that AMQP has.
        self._wire.ask(lambda cb: channel.basic_qos(prefetch_count=READ_MAX, callback=cb), "asking for the whole room")
        self._wire.ask(lambda cb: channel.basic_consume(self._queue, on_message, callback=cb), f"reading {self._queue}")

    def settle(self) -> None:
        """Read again, deliver nothing, until no acknowledgement was forgotten. From the main flow. As `start`."""
        while self.unsettled:
            self._start(set(), time.monotonic())
            self._wire.run_until(lambda: self.finished)
            self.end(time.monotonic())

    def start(self, now: float) -> None:
        """Begin a pass. From the main flow. Raises RelayError."""
        self._start(self._ready(now), now)

    def _start(self, chosen: set[str], now: float) -> None:
        self._chosen = chosen
        self._gone_before, self._gone = self._gone, set()
        self._stopped, self._skipped, self._shut, self._moved = set(), set(), set(), set()
        self._read = self._open_items = 0
        self._began = now
        self._total = self._wire.await_no_consumer(self._queue)
        channel = self._wire.open_channel()
        channel.add_on_cancel_callback(
            lambda _frame: self._wire.fail(Unavailable(f"RabbitMQ ended our reading: was queue {self._queue} deleted?"))
        )
        self._channel = channel
        if self._total:
            self._consume(channel, self._on_message)

    def end(self, now: float) -> None:
        """Close the pass: what was not acknowledged goes back in its order. From the main flow. Raises RelayError."""
        channel, self._channel = self._channel, None
        if channel is not None:
            self._wire.close_channel(channel)
            self.unsettled = self._wire.await_no_consumer(self._queue) > self._room.in_queue
        self._dispatch.release(now, LANE_PREFIX)
        for lane in self._chosen - self._moved:
            entry = self._room.entries.get(lane)
            if entry is not None and entry.due <= now:
                entry.due = now + RECHECK_SECONDS

    def _on_message(self, channel: Channel, method: Basic.Deliver, properties: BasicProperties, body: bytes) -> None:
        if channel is not self._channel:
            return
        self._read += 1
        event, entry = from_room(properties, body)
        if event.id in self._gone_before or event.id in self._gone:
            channel.basic_ack(method.delivery_tag or 0)
            if self.finished:
                self._on_change()
            return
        if event.id in self.shows:
            self.shows.pop(event.id)(event, self._room.entries.get(entry.lane, entry))
        receipt = functools.partial(self._acknowledge, channel, method.delivery_tag or 0, entry.lane, event)
        if entry.lane not in self._room.entries:
            # Its acknowledgement was forgotten, and it has no id to know it by: it is here, so it is delivered.
            self._room.enter(event, entry)
            self._room.stored(event)
        self._place(event, entry.lane, receipt)
        if self.finished:
            self._on_change()

    def _place(self, event: Event, lane: str, receipt: Callable[[], None]) -> None:
        """Discard it, deliver it, or leave it where it is."""
        known = self._room.entries[lane]
        if known.discard or event.id in self.discard_ids:
            self.discard_ids.discard(event.id)
            _log.warning("discarded", event=event.id or None, key=event.key or None, table=event.table or None)
            self._open_items += 1
            receipt()
            if not known.discard and lane in self._room.entries:
                known.why, known.due, known.attempts = Why.OVERFLOW, 0.0, 0  # what was behind it may go on
            return
        if self._stays(event, lane):
            self._skipped.add(event.table)
            return
        self._open_items += 1
        first = self._dispatch.lane(LANE_PREFIX + lane) is None
        item = self._dispatch.add(event, receipt, time.monotonic(), LANE_PREFIX + lane)
        if item is None:
            receipt()
            return
        if first and lane not in self._moved:
            item.failures = max(item.failures, known.attempts)
        self._on_change()

    def _stays(self, event: Event, lane: str) -> bool:
        stays = self._must_stay(event, lane)
        if stays and event.is_barrier:
            self._shut.add(event.table)  # whatever the reason: nothing behind a truncate may pass it
        return stays

    def _must_stay(self, event: Event, lane: str) -> bool:
        if lane not in self._chosen or lane in self._stopped or event.table in self._shut:
            return True
        if event.is_barrier and event.table in self._skipped:
            return True
        if self._dispatch.size + event.size > self._budget and self._open_items:
            self._stopped.add(lane)
            self._moved.add(lane)  # the next pass may follow at once
            return True
        return False

    def _acknowledge(self, channel: Channel, tag: int, lane: str, event: Event) -> None:
        if not channel.is_open or channel is not self._channel:
            return  # it comes again, and is recognised by its id
        channel.basic_ack(tag)
        if event.id:
            self._gone.add(event.id)
        self._room.leave(lane, event)
        self._moved.add(lane)
        self._open_items -= 1
        if self.finished:
            self._on_change()

    def failed(self, item: Item, why: Why, now: float) -> None:
        """An event of the pass has failed: its lane stays in the room."""
        lane = item.lane.key.removeprefix(LANE_PREFIX)
        entry = self._room.entries.get(lane)
        if entry is not None:
            entry.why, entry.reason, entry.attempts, entry.due = why, item.reason, item.failures, item.wake
            entry.first_id = item.event.id
        self._stopped.add(lane)
        self._drop(list(item.lane.items), now)
        if self._room.is_barred(item.event.table):
            self._shut.add(item.event.table)
            for other in [one for one in self._dispatch.lanes() if one.key.startswith(LANE_PREFIX)]:
                later = [i for i in other.items if i.event.table == item.event.table and i.number > item.number]
                self._drop(later, now)
        if self.finished:
            self._on_change()

    def _drop(self, items: list[Item], now: float) -> None:
        for item in items:
            if item.receipt is not None:
                self._open_items -= 1
                self._dispatch.drop(item, now, remember=False)
