"""The way out of the parking lot: one ordered pass through all of it, from the first event to the last.

The lanes that are due are delivered from there and acknowledged there; everything else stays unacknowledged, and goes
back in its old order when the channel is closed. Only the lease holder does this: to anybody else's reading, a
starting receiver would be blind. What arrives for such a lane meanwhile goes into the parking lot behind it, and the
same pass delivers that, too. A lane that is empty leaves the parking lot when the pass has ended and RabbitMQ's count
of it agrees with ours (`recount.py`); then its events take the direct way again.
"""

import functools
import time
from collections.abc import Callable

from pika.channel import Channel
from pika.spec import Basic

from relay.amqp.decode import Properties
from relay.amqp.session import Session
from relay.delivery import Event, Tries
from relay.log import Log
from relay.receiving.codec import UNSIGNED
from relay.receiving.fence import Fence
from relay.receiving.lane import Item, Origin
from relay.receiving.lanes import Lanes
from relay.receiving.parking.codec import ParkedReader
from relay.receiving.parking.index import Entry, ParkedIndex, Why
from relay.receiving.parking.park import Park
from relay.receiving.parking.recount import READ_MAX, Recount, read_all
from relay.receiving.parking.sweep import Sweep

RECHECK_SECONDS = 10.0  # until a lane that could not move in a pass is looked at again, if nothing happens before
REST = 4.0  # times as long as reading the parking lot took, the next pass waits: thousands of lanes are always due
LONGEST = 600.0  # seconds: a third of RabbitMQ's acknowledgement timeout; then the channel is closed and opened anew
LONGEST_HURRIED = 2.0  # seconds, if a person has asked for something that only the next pass can do

Show = Callable[[Event | None, Entry | None], None]

_log = Log("receiver")


class Wishes:
    """What a person has asked for, that only a pass can do."""

    def __init__(self) -> None:
        self.discard_handles: set[str] = set()
        self.shows: dict[str, Show] = {}  # by handle or event id; called with (None, None) if it is not there

    def __bool__(self) -> bool:
        return bool(self.shows or self.discard_handles)

    def clear(self) -> None:
        """Nothing any more."""
        self.shows.clear()
        self.discard_handles.clear()


class Unpark:
    """Makes the passes: when, and what is done with each message.

    Args:
        index: what is there.
        park: puts events in behind what we read.
        recount: sees to it that what we have acknowledged is gone.
        budget: bytes of events that are held in memory at most.
        on_change: called when something may be started or has ended.
    """

    def __init__(
        self,
        session: Session,
        fence: Fence,
        queue: str,
        reader: ParkedReader,
        lanes: Lanes,
        index: ParkedIndex,
        park: Park,
        recount: Recount,
        *,
        budget: int,
        on_change: Callable[[], None],
    ) -> None:
        self._session = session
        self._fence = fence
        self._queue = queue
        self._reader = reader
        self._lanes = lanes
        self._index = index
        self._park = park
        self._recount = recount
        self._budget = budget
        self._on_change = on_change
        self._sweep: Sweep | None = None  # the pass that is on its way
        self._channel: Channel | None = None  # it is read on this one
        self._rests_until = 0.0
        self._hurried = False
        self.wishes = Wishes()

    @property
    def active(self) -> bool:
        """Is a pass on its way?"""
        return self._sweep is not None

    @property
    def finished(self) -> bool:
        """Has the pass read everything that it needs, and is nothing of it left to deliver?"""
        sweep, longest = self._sweep, LONGEST_HURRIED if self._hurried else LONGEST
        if sweep is None:
            return False
        return sweep.is_whole or sweep.has_failed or time.monotonic() - sweep.began > longest

    @property
    def must_be_read_anew(self) -> bool:
        """Is the index wrong, and nothing under way?"""
        return self._recount.is_wrong and not self.active and not self._park.pending

    def wanted(self, now: float) -> bool:
        """Is there a reason for a pass, and none on its way?"""
        if self.active or self._recount.is_wrong:
            return False
        asked = self._hurried or bool(self.wishes)
        return asked or (now >= self._rests_until and (self._index.is_unsettled or bool(self._due(now))))

    def _due(self, now: float) -> set[str]:
        # A lane whose event is still with a worker, from the main queue or a pass before, waits for it.
        return {lane for lane in self._index.due(now) if not self._is_in_flight(lane)}

    def _is_in_flight(self, name: str) -> bool:
        lanes = (self._lanes.lane(name, origin) for origin in Origin)
        return any(lane is not None and lane.is_in_flight for lane in lanes)

    def expedite(self) -> None:
        """A person has asked for something: let a pass that is on its way not be in its way."""
        self._hurried = True

    async def start(self, now: float) -> None:
        """Begin a pass. From the main flow. Raises RelayError."""
        self._hurried = False
        chosen = self._due(now)
        discarding = {lane for lane in chosen if self._index.entries[lane].discard}
        handles, sought = set(self.wishes.discard_handles), set(self.wishes.shows)
        total = await self._fence.await_no_consumer(self._queue)
        self._channel = await self._session.open_channel()
        self._sweep = Sweep(min(total, READ_MAX), now, chosen, discarding, handles, sought)
        if total:
            await read_all(self._session, self._queue, self._channel, self._on_message)

    async def end(self, now: float) -> None:
        """Close the pass: what was not acknowledged goes back in its order. From the main flow. Raises RelayError."""
        sweep = self._sweep
        is_whole = sweep is not None and sweep.is_whole
        if sweep is not None:
            self._rests_until = now + REST * sweep.seconds
        await self._park.rest()
        await self.abandon(now)
        await self._recount.verify()
        for lane in sweep.immovable() if sweep is not None else ():
            self._index.did_not_move(lane, now, now + RECHECK_SECONDS)
        if sweep is not None and is_whole:
            self.wishes.discard_handles -= sweep.discard_handles
            for event_id in sweep.sought & self.wishes.shows.keys():
                self.wishes.shows.pop(event_id)(None, None)
        self._park.go_on(now)

    async def abandon(self, now: float) -> None:
        """Close the pass, whatever it has reached; the session is about to end. From the main flow."""
        channel, self._channel, self._sweep = self._channel, None, None
        if channel is not None:
            await self._session.close_channel(channel)
        self._lanes.release(now, Origin.PARKED)

    def _on_message(self, channel: Channel, method: Basic.Deliver, properties: Properties, body: bytes) -> None:
        sweep = self._sweep
        if sweep is None or channel is not self._channel:
            return
        sweep.read(time.monotonic())
        event, entry = self._reader.from_room(properties, body)
        for name in {event.handle, event.id} & self.wishes.shows.keys():
            self.wishes.shows.pop(name)(event, self._index.entries.get(entry.lane))
        receipt = functools.partial(self._acknowledge, channel, method.delivery_tag or 0, entry.lane, event)
        self._place(sweep, event, entry.lane, receipt)
        if self.finished:
            self._on_change()

    def _place(self, sweep: Sweep, event: Event, lane: str, receipt: Callable[[], None]) -> None:
        """Discard it, deliver it, or leave it where it is."""
        known = self._index.entries.get(lane)
        if known is None or not known.count:
            return  # not ours: `Recount.verify` will find it
        if sweep.is_discarded(event, lane, known.discard):
            _log.warning(
                "event discarded", event=event.id or event.handle, key=event.key or None, table=event.table or None
            )
            sweep.give_out()
            receipt()
            return
        fits = self._lanes.size + event.size <= self._budget
        if sweep.stays(event, lane, barrier=self._index.is_barrier(event), fits=fits):
            return
        if event.claimed_id is not None:  # somebody wants it delivered, and it is no better than it was
            self._index.refuse(lane, Tries(reason=UNSIGNED))
            sweep.stop(lane)
            return
        sweep.give_out()
        if self._lanes.is_copy(event, lane, Origin.PARKED):
            receipt()
            return
        is_first = self._lanes.lane(lane, Origin.PARKED) is None
        tries = known.tries if is_first else None
        item = self._lanes.add(event, receipt, time.monotonic(), lane, tries, Origin.PARKED)
        if is_first:
            self._index.begins_with(lane, event, item.tries)
        self._on_change()

    def _acknowledge(self, channel: Channel, tag: int, lane: str, event: Event) -> None:
        sweep = self._sweep
        if sweep is None or not channel.is_open or channel is not self._channel:
            return  # it comes again, and is recognised by its id
        channel.basic_ack(tag)
        _log.debug("event acknowledged, out of the parking lot", event=event.id)
        self._recount.acknowledged(event)
        self._index.leave(lane, event)
        self.wishes.discard_handles.discard(event.handle)
        following = self._lanes.lane(lane, Origin.PARKED)
        if following is not None and following.items:
            self._index.begins_with(lane, following.items[0].event, following.items[0].tries)
        sweep.acknowledged(lane)
        if self.finished:
            self._on_change()

    def failed(self, item: Item, why: Why, now: float) -> None:
        """An event of the pass has failed: its lane stays in the parking lot."""
        lane, table = item.lane.key, item.event.table
        self._index.failed(lane, why, item.event, item.tries)
        if self._sweep is not None:
            self._sweep.stop(lane)
        self._drop(list(item.lane.items), now)
        if self._index.is_barred(table):
            if self._sweep is not None:
                self._sweep.bar(table)
            for other in self._lanes.of(Origin.PARKED):
                later = [one for one in other.items if one.event.table == table and one.number > item.number]
                self._drop(later, now)
        if self.finished:
            self._on_change()

    def still_waits(self, item: Item) -> bool:
        """Does an event that failed in a pass wait for its next try, and is not with a worker again?"""
        entry = self._index.entries.get(item.lane.key)
        is_gone = self._lanes.lane(item.lane.key, Origin.PARKED) is None
        return entry is not None and entry.tries is item.tries and entry.why is Why.OVERFLOW and is_gone

    def _drop(self, items: list[Item], now: float) -> None:
        for item in items:
            if item.receipt is not None:
                if self._sweep is not None:
                    self._sweep.take_back()
                self._lanes.drop(item, now, remember=False)
