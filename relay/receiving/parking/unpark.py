"""The way out of the waiting room: one ordered pass through all of it, from the first event to the last.

The lanes that are due are delivered from there and acknowledged there; everything else stays unacknowledged, and goes
back in its old order when the channel is closed. Only the lease holder does this: to anybody else's reading, a
starting receiver would be blind. What arrives for such a lane meanwhile goes into the room behind it, and the
same pass delivers that, too. A lane that is empty leaves the room when the pass has ended and RabbitMQ's count of the
room agrees with ours; then its events take the direct way again.
"""

import functools
import time
from collections.abc import Callable

from pika.channel import Channel
from pika.spec import Basic

from relay.amqp.decode import Properties
from relay.amqp.wire import OnMessage, Wire
from relay.delivery import LANE_PREFIX, Event, Tries
from relay.errors import Unavailable
from relay.log import Log
from relay.receiving.codec import UNSIGNED
from relay.receiving.lanes import Item, Lanes
from relay.receiving.lost_acks import settle
from relay.receiving.parking.codec import ParkedReader
from relay.receiving.parking.index import Entry, ParkedIndex, Why
from relay.receiving.parking.park import Park

READ_MAX = 65_535  # messages that one pass can go through; ROOM_MAX keeps the room below it
RECHECK_SECONDS = 10.0  # until a lane that could not move in a pass is looked at again, if nothing happens before
REST = 4.0  # times as long as reading the room took, the next pass waits: thousands of lanes are due all the time
LONGEST = 600.0  # seconds: a third of RabbitMQ's acknowledgement timeout; then the channel is closed and opened anew
LONGEST_HURRIED = 2.0  # seconds, if a person has asked for something that only the next pass can do

# Looks in a row at which the counts differ, until the room is read anew: who browses the queue in RabbitMQ's management
# page holds messages for a moment.
DOUBTS = 4

Show = Callable[[Event | None, Entry | None], None]

_log = Log("receiver")


class Unpark:
    """Reads the waiting room.

    Args:
        room: the index; filled by `load`.
        park: puts events in behind what we read.
        budget: bytes of events that are held in memory at most.
        on_change: called when something may be started or has ended.
    """

    def __init__(
        self,
        wire: Wire,
        queue: str,
        reader: ParkedReader,
        lanes: Lanes,
        index: ParkedIndex,
        park: Park,
        budget: int,
        on_change: Callable[[], None],
    ) -> None:
        self._wire = wire
        self._queue = queue
        self._reader = reader
        self._lanes = lanes
        self._index = index
        self._park = park
        self._budget = budget
        self._on_change = on_change
        self._channel: Channel | None = None
        self._chosen: set[str] = set()
        self._discarding: set[str] = set()  # lanes of which the first events are thrown away
        self._discard_handles: set[str] = set()  # single events that are
        self._sought: set[str] = set()  # events that somebody wants to see
        self._stopped: set[str] = set()  # lanes that failed in this pass
        self._left: set[str] = set()  # lanes that were chosen, and of which something was left where it is
        self._skipped: set[str] = set()  # tables of which something was left where it is
        self._shut: set[str] = set()  # tables with a truncate that could not be reached
        self._moved: set[str] = set()  # lanes of which something was delivered
        self._gone: set[str] = set()  # handles that were acknowledged in this pass
        self._total = 0
        self._read = 0
        self._open_items = 0
        self._began = 0.0
        self._seconds = 0.0  # that reading the room took
        self._rests_until = 0.0
        self._hurried = False
        self._doubts = 0
        self.discard_handles: set[str] = set()
        self.shows: dict[str, Show] = {}  # by handle or event id; called with (None, None) if it is not there

    @property
    def active(self) -> bool:
        """Is a pass on its way?"""
        return self._channel is not None

    @property
    def finished(self) -> bool:
        """Has the pass read everything that it needs, and is nothing of it left to deliver?"""
        if self._channel is None:
            return False
        longest = LONGEST_HURRIED if self._hurried else LONGEST
        return self._is_whole or self._has_failed or time.monotonic() - self._began > longest

    @property
    def _has_failed(self) -> bool:
        """Has nothing that was chosen any more to hope for? Then there is no need to read what is behind it."""
        idle = not (self._open_items or self._discard_handles or self._sought)
        return idle and self._chosen <= self._stopped

    @property
    def _is_whole(self) -> bool:
        return self._read >= self._total and not self._open_items

    def wanted(self, now: float) -> bool:
        """Is there a reason for a pass, and none on its way?"""
        if self.active or self._doubts >= DOUBTS:
            return False
        asked = self._hurried or bool(self.shows or self.discard_handles)
        return asked or (now >= self._rests_until and (self._index.is_unsettled or bool(self._ready(now))))

    def _ready(self, now: float) -> set[str]:
        # A lane whose event is still with a worker, from the main queue or a pass before, waits for it.
        return {lane for lane in self._index.due(now) if not self._is_busy(lane)}

    def _is_busy(self, name: str) -> bool:
        lanes = (self._lanes.lane(key) for key in (name, LANE_PREFIX + name))
        return any(lane is not None and lane.busy for lane in lanes)

    def load(self) -> None:
        """Read the whole room into the index. Nothing else may be going on. Raises RelayError."""
        if self._doubts:
            self._wire.distrust(self._queue)
        self._doubts = 0
        self._gone.clear()
        self._park.begin_anew()
        total = self._wire.await_no_consumer(self._queue)
        while self._load_once(total) != (total := self._wire.await_no_consumer(self._queue)):
            continue  # a dead receiver's last message has come in
        if self._index.entries:
            _log.info("waiting room", lanes=len(self._index.entries), refused=self._index.dead)

    def _load_once(self, total: int) -> int:
        """Return how many messages there were, without those that mean nothing."""
        self._index.clear()
        self._lanes.deduplication.forget_stored()
        channel = self._wire.open_channel()
        read = probes = 0

        def on_message(_c: Channel, method: Basic.Deliver, properties: Properties, body: bytes) -> None:
            nonlocal read, probes
            read += 1
            if self._wire.is_probe(self._queue, properties, body):
                probes += 1
                channel.basic_ack(method.delivery_tag or 0)
            else:
                event, entry = self._reader.from_room(properties, body)
                self._index.enter(event, entry)
                self._lanes.deduplication.add(event, entry.lane, stored=True)
            if read >= total:
                self._wire.interrupt()

        if total:
            self._consume(channel, on_message)
            self._wire.run_until(lambda: read >= total)
        self._wire.close_channel(channel)
        return total - probes

    def _consume(self, channel: Channel, on_message: OnMessage) -> None:
        channel.add_on_cancel_callback(
            lambda _frame: self._wire.fail(Unavailable(f"RabbitMQ ended our reading: was queue {self._queue} deleted?"))
        )
        # Without a number a quorum queue stops at 2,000 unacknowledged messages; this is the largest that AMQP has.
        self._wire.ask(lambda cb: channel.basic_qos(prefetch_count=READ_MAX, callback=cb), "asking for the whole room")
        self._wire.consume(channel, self._queue, on_message)

    def hurry(self) -> None:
        """A person has asked for something: let a pass that is on its way not be in its way."""
        self._hurried = True

    def start(self, now: float) -> None:
        """Begin a pass. From the main flow. Raises RelayError."""
        self._hurried = False
        self._chosen = self._ready(now)
        self._discarding = {lane for lane in self._chosen if self._index.entries[lane].discard}
        self._discard_handles, self._sought = set(self.discard_handles), set(self.shows)
        self._stopped, self._left, self._skipped, self._shut, self._moved = set(), set(), set(), set(), set()
        self._read = self._open_items = 0
        self._began, self._seconds = now, 0.0
        self._total = self._wire.await_no_consumer(self._queue)
        self._channel = self._wire.open_channel()
        if self._total:
            self._consume(self._channel, self._on_message)

    def end(self, now: float) -> None:
        """Close the pass: what was not acknowledged goes back in its order. From the main flow. Raises RelayError."""
        whole = self._is_whole
        self._rests_until = now + REST * self._seconds
        self._park.rest()
        self.abandon(now)
        self._verify()
        for lane in self._left - self._moved - self._stopped:
            entry = self._index.entries.get(lane)
            if entry is not None and entry.due <= now:
                entry.due, entry.stuck = now + RECHECK_SECONDS, entry.why is Why.BEHIND
        if whole:
            self.discard_handles -= self._discard_handles
            for event_id in self._sought & self.shows.keys():
                self.shows.pop(event_id)(None, None)
        self._park.go_on(now)

    def abandon(self, now: float) -> None:
        """Close the pass, whatever it has reached; the session is about to end. From the main flow."""
        channel, self._channel = self._channel, None
        if channel is not None:
            self._wire.close_channel(channel)
        self._lanes.release(now, LANE_PREFIX)

    def _verify(self) -> None:
        """Nothing may leave the index before RabbitMQ has shown that it is gone: it would come back behind newer ones.

        RabbitMQ can forget acknowledgements when the channel closes (relay/receiving/lost_acks.py).
        """
        there = self._wire.await_no_consumer(self._queue)
        if there > self._known and self._gone:
            settle(
                self._wire, self._queue, self._reader.event_of_room, READ_MAX, lambda event: event.handle in self._gone
            )
            there = self._wire.await_no_consumer(self._queue)
        if there != self._known:
            self._doubt(there, DOUBTS)
            return
        self._gone.clear()
        self._index.settle()

    @property
    def _known(self) -> int:
        """Messages that the queue should hold."""
        return self._index.events - self._park.unsent

    @property
    def doubtful(self) -> bool:
        """Did the last look find another count than ours?"""
        return self._doubts > 0

    @property
    def must_be_read_anew(self) -> bool:
        """Is the index wrong, and nothing under way?"""
        return self._doubts >= DOUBTS and not self.active and not self._park.pending

    def compare(self) -> None:
        """Look whether the queue holds as many messages as the index. No pass is on its way; from the main flow.

        Whoever purges the queue, and a policy that expires what is in it, must not leave keys blocked for ever.

        Raises:
            Unavailable: it is gone.
        """
        known = self._known
        there, consumers = self._wire.count(self._queue)
        if consumers or self._park.pending or known != self._known or self._doubts >= DOUBTS:
            return  # that tells nothing
        if there == known:
            self._doubts = 0
        else:
            self._doubt(there, self._doubts + 1)

    def _doubt(self, there: int, doubts: int) -> None:
        self._doubts = doubts
        if doubts == DOUBTS:
            _log.warning(
                f"queue {self._queue} holds {there} messages and not {self._known}: it is read anew",
                remedy="none, if it was purged by hand; else receiver.py check looks what takes them away",
            )

    def _on_message(self, channel: Channel, method: Basic.Deliver, properties: Properties, body: bytes) -> None:
        if channel is not self._channel:
            return
        self._read += 1
        if self._read <= self._total:
            self._seconds = time.monotonic() - self._began
        event, entry = self._reader.from_room(properties, body)
        for name in {event.handle, event.id} & self.shows.keys():
            self.shows.pop(name)(event, self._index.entries.get(entry.lane))
        receipt = functools.partial(self._acknowledge, channel, method.delivery_tag or 0, entry.lane, event)
        self._place(event, entry.lane, receipt)
        if self.finished:
            self._on_change()

    def _place(self, event: Event, lane: str, receipt: Callable[[], None]) -> None:
        """Discard it, deliver it, or leave it where it is."""
        known = self._index.entries.get(lane)
        if known is None or not known.count:
            return  # not ours: `_verify` will find it
        if (lane in self._discarding and known.discard) or event.handle in self._discard_handles:
            self._discard_handles.discard(event.handle)
            _log.warning("discarded", event=event.id or event.handle, key=event.key or None, table=event.table or None)
            self._open_items += 1
            receipt()
            return
        if self._stays(event, lane):
            if lane in self._chosen:
                self._left.add(lane)
            self._skipped.add(event.table)
            return
        if event.claimed_id is not None:  # somebody wants it delivered, and it is no better than it was
            self._index.mark(known, Why.DEAD)
            known.tries = Tries(reason=UNSIGNED)
            self._stopped.add(lane)
            return
        self._open_items += 1
        if self._lanes.is_copy(event, LANE_PREFIX + lane):
            receipt()
            return
        first = self._lanes.lane(LANE_PREFIX + lane) is None
        tries = known.tries if first else None
        self._lanes.add(event, receipt, time.monotonic(), LANE_PREFIX + lane, tries)
        if first:
            known.begins_with(event)
        self._on_change()

    def _stays(self, event: Event, lane: str) -> bool:
        stays = self._must_stay(event, lane)
        if stays and self._index.is_barrier(event):
            self._shut.add(event.table)  # whatever the reason: nothing behind a truncate may pass it
        return stays

    def _must_stay(self, event: Event, lane: str) -> bool:
        if lane not in self._chosen or lane in self._stopped or event.table in self._shut:
            return True
        if self._index.is_barrier(event) and event.table in self._skipped:
            return True
        if self._lanes.size + event.size > self._budget and self._open_items:
            self._stopped.add(lane)
            self._moved.add(lane)  # the next pass may follow at once
            return True
        return False

    def _acknowledge(self, channel: Channel, tag: int, lane: str, event: Event) -> None:
        if not channel.is_open or channel is not self._channel:
            return  # it comes again, and is recognised by its id
        channel.basic_ack(tag)
        self._gone.add(event.handle)
        self._index.leave(lane, event)
        self.discard_handles.discard(event.handle)
        following = self._lanes.lane(LANE_PREFIX + lane)
        if following is not None and following.items:
            self._index.entries[lane].begins_with(following.items[0].event)
            self._index.entries[lane].tries = following.items[0].tries
        self._moved.add(lane)
        self._open_items -= 1
        if self.finished:
            self._on_change()

    def failed(self, item: Item, why: Why, now: float) -> None:
        """An event of the pass has failed: its lane stays in the room."""
        lane = item.lane.key.removeprefix(LANE_PREFIX)
        entry = self._index.entries.get(lane)
        if entry is not None:
            self._index.mark(entry, why)
            entry.tries, entry.due = item.tries, item.tries.not_before
            entry.begins_with(item.event)
        self._stopped.add(lane)
        self._drop(list(item.lane.items), now)
        if self._index.is_barred(item.event.table):
            self._shut.add(item.event.table)
            for other in [one for one in self._lanes.lanes() if one.key.startswith(LANE_PREFIX)]:
                later = [i for i in other.items if i.event.table == item.event.table and i.number > item.number]
                self._drop(later, now)
        if self.finished:
            self._on_change()

    def still_waits(self, item: Item) -> bool:
        """Does an event that failed in a pass wait for its next try, and is not with a worker again?"""
        entry = self._index.entries.get(item.lane.key.removeprefix(LANE_PREFIX))
        idle = self._lanes.lane(item.lane.key) is None
        return entry is not None and entry.tries is item.tries and entry.why is Why.OVERFLOW and idle

    def _drop(self, items: list[Item], now: float) -> None:
        for item in items:
            if item.receipt is not None:
                self._open_items -= 1
                self._lanes.drop(item, now, remember=False)
