"""Keeps the index true to the queue: it is read at the start, and RabbitMQ's count is compared with ours ever after.

Whoever purges the queue, and a policy that expires what is in it, must not leave keys blocked for ever. And RabbitMQ
can forget acknowledgements when a channel closes (relay/receiving/lost_acks.py): nothing may leave the index before it
has shown that it is gone, or it would come back behind newer events.
"""

import asyncio
import collections
import time
from collections.abc import Iterable

from pika.channel import Channel
from pika.spec import Basic

from relay.amqp.decode import Properties
from relay.log import Log
from relay.receiving.lost_acks import Reading, all_read, settle
from relay.receiving.parking.acknowledged import Acknowledged, Name
from relay.receiving.parking.codec import ParkedReader
from relay.receiving.parking.index import ROOM_BYTES
from relay.receiving.parking.park import Park
from relay.receiving.parking.room import Room
from relay.receiving.strand import Origin
from relay.receiving.whole import READ_MOST, read_all

# Looks in a row at which the counts differ, until the parking lot is read anew: who browses the queue in RabbitMQ's
# management page holds messages for a moment.
DOUBTS = 4

# Others may put messages there without end; what has come while it was read the next look finds.
READINGS = 2  # in a row at most
PAUSE_MIN, PAUSE_MAX = 5.0, 60.0  # seconds between two readings anew: it gets longer
SHARE = 0.1  # of the time, for readings anew

_log = Log("receiver")


class Recount:
    """Compares the parking lot with its index.

    Args:
        room: its index is filled by `load`.
        park: knows what the index has and the queue has not yet.
    """

    def __init__(self, room: Room, park: Park) -> None:
        self._room = room
        self._park = park
        self.acknowledged = Acknowledged()
        self._doubts = 0
        self._there = 0  # messages that the last doubt has found
        self._pause = PAUSE_MIN  # seconds
        self._anew_at = 0.0  # not to be read anew before, monotonic seconds
        self.forgotten = 0  # messages that are still there although they were acknowledged: the next pass finds them
        self.is_cut_off = False  # it held more than could be read: others have put it there; nothing may pass it
        self.most = READ_MOST  # messages of it that are read: what is behind them does not fit

    async def load(self) -> None:
        """Read the whole parking lot into the index. Nothing else may be going on. Raises RelayError."""
        began = time.monotonic()
        is_anew = self._doubts >= DOUBTS
        if is_anew:
            _log.warning(
                f"queue {self._room.queue} holds {self._there} messages and not {self._known}: it is read anew",
                remedy="none, if it was purged by hand; else receiver.py check looks what takes them away",
            )
        if self._doubts:
            self._room.fence.distrust(self._room.queue)
        self._doubts = self.forgotten = 0
        self._park.begin_anew()
        self.most = READ_MOST
        total = await self._count()
        for _ in range(READINGS):
            read = await self._load_once(total)
            total = await self._count()
            if total == read:
                break  # else a dead receiver's last message has come in
        self._room.index.complete()
        self.is_cut_off = total == self.most
        if is_anew:
            self._rest(began)
        if self._room.index.entries:
            _log.info("parked queue read", keys=len(self._room.index.entries), refused=self._room.index.dead)

    def _rest(self, began: float) -> None:
        """It has been read anew, from `began` on."""
        now, is_late = time.monotonic(), began - self._anew_at > self._pause
        self._pause = PAUSE_MIN if is_late else min(2 * self._pause, PAUSE_MAX)
        self._anew_at = now + max(self._pause, (now - began) / SHARE)

    async def _count(self) -> int:
        """Messages that there are, as far as one pass can go through them."""
        return min(await self._room.fence.await_no_consumer(self._room.queue), self.most)

    async def _load_once(self, total: int) -> int:
        """Return how many messages there were, without those that mean nothing, or nothing any more."""
        self._room.index.clear()
        self._room.strands.deduplication.forget_stored()
        channel, whole = await self._room.session.open_channel(), asyncio.Event()
        read, over, names = 0, list[int](), collections.Counter[Name]()

        def on_message(_c: Channel, method: Basic.Deliver, properties: Properties, body: bytes) -> None:
            nonlocal read
            if read >= total or whole.is_set():
                return  # what others have put there beyond what is read
            read += 1
            event, entry = self._room.reader.from_room(properties, body)
            # Delivered, and only its acknowledgement got lost. (Behind what stays nothing counts as delivered.)
            is_copy = self._room.strands.is_copy(event, entry.strand, Origin.PARKED)
            if self._room.fence.is_probe(self._room.queue, properties, body) or is_copy:
                over.append(method.delivery_tag or 0)
            else:
                self._room.index.enter(event, entry)
                strand = self._room.index.entries[entry.strand].strand  # one text for all that is in it
                names[strand, event.handle] += 1
                self._room.strands.deduplication.add(event, strand, stored=True)
            if self._room.index.size >= ROOM_BYTES:
                self.most = read
            if read >= min(total, self.most):
                whole.set()

        if total:
            await read_all(self._room.session, self._room.queue, channel, on_message, total)
            await all_read(self._room.queue, whole, lambda: read)
        for tag in over:
            channel.basic_ack(tag)
        await self._room.session.close_channel(channel, total)
        self._room.fence.have_read_all(self._room.queue)
        self.acknowledged.begin_anew(names)
        return min(total, self.most) - len(over)

    async def verify(self) -> None:
        """Let strands that are empty leave the index, if RabbitMQ shows that they are gone. After each pass.

        From the main flow. Raises RelayError.
        """
        there, gone = await self._count(), self.acknowledged
        self.forgotten = there - self._known
        if 0 < self.forgotten <= len(gone) and self._room.index.is_loose and not gone.is_ambiguous:
            return  # to read it all for them would take long, and nothing is behind them
        if there > self._known and gone:
            room = self._room
            await settle(room.session, room.fence, room.queue, None, lambda: _Again(room.reader, gone))
            there = await self._count()
        self.forgotten = 0
        if there != self._known:
            self._doubt(there, DOUBTS)
            return
        gone.clear()
        self._room.index.settle()

    @property
    def _known(self) -> int:
        """Messages that the queue should hold."""
        return self._room.index.events - self._park.unsent + self._room.fence.probes_in(self._room.queue)

    @property
    def is_doubtful(self) -> bool:
        """Did the last look find another count than ours, and must the next ones tell?"""
        return 0 < self._doubts < DOUBTS

    @property
    def is_wrong(self) -> bool:
        """Must the index be read anew, and may it be? Until then what it knows goes on. Cut off, nothing does."""
        return self._doubts >= DOUBTS and (self.is_cut_off or time.monotonic() >= self._anew_at)

    async def compare(self) -> None:
        """Look whether the queue holds as many messages as the index. No pass is on its way; from the main flow.

        Raises:
            Unavailable: it is gone.
        """
        known = self._known
        there, consumers = await self._room.fence.count(self._room.queue)
        if consumers or self._park.pending or known != self._known or self.is_wrong:
            return  # that tells nothing
        if min(there, self.most) == known + self.forgotten:
            self._doubts = 0
        else:
            self._doubt(there, self._doubts + 1)

    def _doubt(self, there: int, doubts: int) -> None:
        self._there, self._doubts = there, min(doubts, DOUBTS)


class _Again(Reading):
    """What is in the parking lot although it was acknowledged."""

    def __init__(self, reader: ParkedReader, acknowledged: Acknowledged) -> None:
        self._reader = reader
        self._acknowledged = acknowledged
        self._found: dict[Name, list[int]] = {}

    def look(self, method: Basic.Deliver, properties: Properties, body: bytes) -> None:
        event, entry = self._reader.from_room(properties, body)
        name = entry.strand, event.handle
        if name in self._acknowledged:
            self._found.setdefault(name, []).append(method.delivery_tag or 0)

    def done(self) -> Iterable[int]:
        return self._acknowledged.forgotten(self._found)
