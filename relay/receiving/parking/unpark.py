"""The way out of the parking lot: one ordered pass through all of it, from the first event to the last.

The strands that are due are delivered from there and acknowledged there; everything else stays unacknowledged, and goes
back in its old order when the channel is closed. Only the lease holder does this: to anybody else's reading, a
starting receiver would be blind. What arrives for such a strand meanwhile goes into the parking lot behind it, and the
same pass delivers that, too. A strand that is empty leaves the parking lot when the pass has ended and RabbitMQ's count
of it agrees with ours (`recount.py`); then its events take the direct way again.
"""

import functools
import time
from collections.abc import Callable, Collection

from pika.channel import Channel
from pika.spec import Basic

from relay.amqp.decode import Properties
from relay.delivery import Event, Tries
from relay.log import Log
from relay.receiving.codec import UNSIGNED
from relay.receiving.parking.index import Why
from relay.receiving.parking.pace import Pace
from relay.receiving.parking.park import Park
from relay.receiving.parking.recount import Recount
from relay.receiving.parking.room import Room
from relay.receiving.parking.sweep import Sweep, Wishes, reach_of
from relay.receiving.strand import Item, Origin
from relay.receiving.whole import is_large, read_all, read_some

RECHECK_SECONDS = 10.0  # until a strand that could not move in a pass is looked at again, if nothing happens before

_log = Log("receiver")


class Unpark:
    """Makes the passes: when, and what is done with each message.

    Args:
        park: puts events in behind what we read.
        recount: sees to it that what we have acknowledged is gone.
        budget: bytes of events that are held in memory at most.
        on_change: called when something may be started or has ended.
    """

    def __init__(self, room: Room, park: Park, recount: Recount, *, budget: int, on_change: Callable[[], None]) -> None:
        self._room = room
        self._park = park
        self._recount = recount
        self._budget = budget
        self._on_change = on_change
        self._sweep: Sweep | None = None  # the pass that is on its way
        self._channel: Channel | None = None  # it is read on this one
        self._pace = Pace()
        self.expedite = self._pace.expedite  # let a pass that is on its way not be in the way of what a person wants
        self._size = 2000.0  # bytes of an event there, on average
        self._large = False  # it takes several consumers, and nothing can be put in meanwhile
        self._to_acknowledge: list[int] = []  # once all has been read
        self.wishes = Wishes()

    @property
    def active(self) -> bool:
        """Is a pass on its way?"""
        return self._sweep is not None

    @property
    def finished(self) -> bool:
        """Has the pass read everything that it needs, and is nothing of it left to deliver?"""
        sweep, pace = self._sweep, self._pace
        if sweep is None:
            return False
        now = time.monotonic()
        is_through = sweep.is_whole or sweep.has_failed or sweep.is_starved or pace.is_outweighed(sweep, now)
        return is_through or pace.is_over(sweep, now, large=self._large)

    @property
    def must_be_read_anew(self) -> bool:
        """Is the index wrong, and nothing under way?"""
        return self._recount.is_wrong and not self.active and not self._park.pending

    def wanted(self, now: float) -> bool:
        """Is there a reason for a pass, and none on its way?"""
        if self.active or self._recount.is_wrong:
            return False
        index, asked = self._room.index, self._pace.is_hurried or bool(self.wishes)
        if not self._pace.may_begin(now, len(index.entries), asked=asked):
            return False
        return asked or index.is_unsettled or bool(self._due(now))

    def _due(self, now: float) -> set[str]:
        # A strand whose event is still with a worker, from the main queue or a pass before, waits for it.
        return {strand for strand in self._room.index.due(now) if not self._is_in_flight(strand)}

    def _is_in_flight(self, name: str) -> bool:
        strands = (self._room.strands.strand(name, origin) for origin in Origin)
        return any(strand is not None and strand.is_in_flight for strand in strands)

    async def start(self, now: float) -> None:
        """Begin a pass. From the main flow. Raises RelayError."""
        self._pace.begin()
        chosen = self._due(now)
        discarding = {strand for strand in chosen if self._room.index.entries[strand].discard}
        named, sought = set(self.wishes.to_discard), set(self.wishes.shows)
        whole = bool(discarding or named or sought)
        reach = 0 if whole else reach_of(self._room.index, int(self._budget / self._size), self._pace.vain)
        total = await self._room.fence.await_no_consumer(self._room.queue)
        self._large = not reach and is_large(max(total, self._room.index.events))
        if self._large:
            await self._park.rest()
            total = await self._room.fence.await_no_consumer(self._room.queue)
        self._channel = await self._room.session.open_channel()
        self._sweep = Sweep(
            min(total, self._recount.most), now, chosen, discarding, named, sought, reach, self._recount.forgotten
        )
        if total and reach:
            await read_some(self._room.session, self._room.queue, self._channel, self._on_message, reach)
        elif total:
            await read_all(self._room.session, self._room.queue, self._channel, self._on_message, total)

    def join(self, strands: Collection[str]) -> None:
        """What these strands have waited for has come: if they are ahead, the pass takes them along."""
        joined = 0
        if self._sweep is not None:
            joined = self._sweep.join([strand for strand in strands if not self._is_in_flight(strand)])
        self._pace.wake(len(strands) - joined)

    async def end(self, now: float) -> None:
        """Close the pass: what was not acknowledged goes back in its order. From the main flow. Raises RelayError."""
        sweep = self._sweep
        is_whole = sweep is not None and sweep.is_whole
        if sweep is not None:
            self._pace.end(sweep, now, large=self._large)
        await self._park.rest()
        await self.abandon(now)
        await self._recount.verify()
        for strand in sweep.immovable() if sweep is not None else ():
            self._room.index.did_not_move(strand, now, now + RECHECK_SECONDS)
        if sweep is not None and is_whole:
            self.wishes.to_discard -= sweep.to_discard
            for event_id in sweep.missing & self.wishes.shows.keys():
                self.wishes.shows.pop(event_id)(None, None)
        self._park.go_on(now)

    async def abandon(self, now: float) -> None:
        """Close the pass, whatever it has reached; the session is about to end. From the main flow."""
        self._acknowledge_now()
        held = self._sweep.held if self._sweep is not None else 0
        channel, self._channel, self._sweep = self._channel, None, None
        if channel is not None:
            await self._room.session.close_channel(channel, held)
        self._room.strands.release(now, Origin.PARKED)

    def _on_message(self, channel: Channel, method: Basic.Deliver, properties: Properties, body: bytes) -> None:
        sweep = self._sweep
        if sweep is None or channel is not self._channel:
            return
        if self._recount.is_cut_off and sweep.has_read_all:
            return  # it is not known to the index, nor may it pass what is
        sweep.read()
        if self._room.fence.is_probe(self._room.queue, properties, body):
            self._acknowledge_soon(sweep, channel, method.delivery_tag or 0)
            sweep.found_probe()
        else:
            self._take(sweep, channel, method.delivery_tag or 0, properties, body)
        if sweep.has_read_all:
            self._acknowledge_now()
        if self.finished:
            self._on_change()

    def _take(self, sweep: Sweep, channel: Channel, tag: int, properties: Properties, body: bytes) -> None:
        event, entry = self._room.reader.from_room(properties, body)
        self._size += (event.size - self._size) / 100
        for name in {event.handle, event.id} & self.wishes.shows.keys():
            sweep.found(name)
            self.wishes.shows.pop(name)(event, self._room.index.entries.get(entry.strand))
        if self._recount.acknowledged.is_forgotten((entry.strand, event.handle)):
            self._acknowledge_soon(sweep, channel, tag)
            sweep.found_forgotten()
        else:
            receipt = functools.partial(self._acknowledge, channel, tag, entry.strand, event)
            self._place(sweep, event, entry.strand, receipt)

    def _place(self, sweep: Sweep, event: Event, strand: str, receipt: Callable[[], None]) -> None:
        """Discard it, deliver it, or leave it where it is."""
        known, under_way = self._room.index.entries.get(strand), self._room.strands.strand(strand, Origin.PARKED)
        if known is None or known.count <= (len(under_way.items) if under_way is not None else 0):
            return  # not ours: `Recount.verify` will find it
        if sweep.is_discarded(event, strand, known.discard):
            _log.warning(
                "event discarded", event=event.id or event.handle, key=event.key or None, table=event.table or None
            )
            sweep.give_out()
            receipt()
            return
        fits = self._room.strands.size + event.size <= self._budget
        is_first = under_way is None
        if is_first:
            self._room.strands.failures.remind(event, known.tries)
        waits = is_first and known.tries.not_before > time.monotonic()
        if sweep.stays(event, strand, barrier=self._room.index.is_barrier(event), fits=fits, waits=waits):
            if waits:
                self._room.index.put_off(strand, known.tries)
            return
        if event.claimed_id is not None:  # somebody wants it delivered, and it is no better than it was
            self._room.index.refuse(strand, Tries(reason=UNSIGNED))
            sweep.stop(strand)
            return
        sweep.give_out()
        if self._room.strands.is_copy(event, strand, Origin.PARKED):
            receipt()
            return
        tries = known.tries if is_first else None
        item = self._room.strands.add(event, receipt, time.monotonic(), strand, tries, Origin.PARKED)
        if is_first:
            self._room.index.begins_with(strand, event, item.tries)
        self._on_change()

    def _acknowledge(self, channel: Channel, tag: int, strand: str, event: Event) -> None:
        sweep = self._sweep
        if sweep is None or not channel.is_open or channel is not self._channel:
            return  # it comes again, and is recognised by its id
        self._acknowledge_soon(sweep, channel, tag)
        _log.debug("event acknowledged, out of the parking lot", event=event.id)
        self._recount.acknowledged.add((strand, event.handle))
        self._room.index.leave(strand, event)
        self.wishes.to_discard.discard((strand, event.handle))
        following = self._room.strands.strand(strand, Origin.PARKED)
        if following is not None and following.items:
            self._room.index.begins_with(strand, following.items[0].event, following.items[0].tries)
        sweep.acknowledged(strand, was_last=not self._room.index.entries[strand].count)
        if self.finished:
            self._on_change()

    def _acknowledge_soon(self, sweep: Sweep, channel: Channel, tag: int) -> None:
        if self._large and not sweep.has_read_all:
            self._to_acknowledge.append(tag)
        else:
            channel.basic_ack(tag)

    def _acknowledge_now(self) -> None:
        tags, self._to_acknowledge = self._to_acknowledge, []
        if tags and self._channel is not None and self._channel.is_open:
            with self._room.session.corked():
                for tag in tags:
                    self._channel.basic_ack(tag)

    def failed(self, item: Item, why: Why, now: float) -> None:
        """An event of the pass has failed: its strand stays in the parking lot."""
        strand, table = item.strand.key, item.event.table
        self._room.index.failed(strand, why, item.event, item.tries)
        if self._sweep is not None:
            self._sweep.stop(strand)
        self._drop(list(item.strand.items), now)
        if self._room.index.is_barred(table):
            if self._sweep is not None:
                self._sweep.bar(table)
            for other in self._room.strands.of(Origin.PARKED):
                later = [one for one in other.items if one.event.table == table and one.number > item.number]
                self._drop(later, now)
        if self.finished:
            self._on_change()

    def still_waits(self, item: Item) -> bool:
        """Does an event that failed in a pass wait for its next try, and is not with a worker again?"""
        entry = self._room.index.entries.get(item.strand.key)
        is_gone = self._room.strands.strand(item.strand.key, Origin.PARKED) is None
        return entry is not None and entry.tries is item.tries and entry.why is Why.OVERFLOW and is_gone

    def _drop(self, items: list[Item], now: float) -> None:
        for item in items:
            if item.receipt is not None:
                if self._sweep is not None:
                    self._sweep.take_back()
                self._room.strands.drop(item, now, remember=False)
