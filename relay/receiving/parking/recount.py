"""Keeps the index true to the queue: it is read at the start, and RabbitMQ's count is compared with ours ever after.

Whoever purges the queue, and a policy that expires what is in it, must not leave keys blocked for ever. And RabbitMQ
can forget acknowledgements when a channel closes (relay/receiving/lost_acks.py): nothing may leave the index before it
has shown that it is gone, or it would come back behind newer events.
"""

import asyncio

from pika.channel import Channel
from pika.spec import Basic

from relay.amqp.decode import Properties
from relay.amqp.session import OnMessage, Session
from relay.delivery import Event
from relay.errors import Unavailable
from relay.log import Log
from relay.receiving.fence import Fence
from relay.receiving.lanes import Lanes
from relay.receiving.lost_acks import all_read, settle
from relay.receiving.parking.codec import ParkedReader
from relay.receiving.parking.index import ParkedIndex
from relay.receiving.parking.park import Park

# Messages that one pass can go through. ROOM_MAX keeps the parking lot below it, but others may publish into its queue.
READ_MAX = 65_535

# Looks in a row at which the counts differ, until the parking lot is read anew: who browses the queue in RabbitMQ's
# management page holds messages for a moment.
DOUBTS = 4

_log = Log("receiver")


async def read_all(session: Session, queue: str, channel: Channel, on_message: OnMessage) -> None:
    """Begin to read all that is in the parking lot. From the main flow. Raises RelayError."""
    channel.add_on_cancel_callback(
        lambda _frame: session.fail(Unavailable(f"RabbitMQ ended our reading: was queue {queue} deleted?"))
    )
    # Without a number a quorum queue stops at 2,000 unacknowledged messages; this is the largest that AMQP has.
    await session.call("asking for the whole parking lot", channel.basic_qos, prefetch_count=READ_MAX)
    await session.consume(channel, queue, on_message)


class Recount:
    """Compares the parking lot with its index.

    Args:
        index: filled by `load`.
        park: knows what the index has and the queue has not yet.
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
    ) -> None:
        self._session = session
        self._fence = fence
        self._queue = queue
        self._reader = reader
        self._lanes = lanes
        self._index = index
        self._park = park
        self._gone: set[str] = set()  # handles that were acknowledged, and RabbitMQ has not shown that it knows
        self._doubts = 0
        self._left_out = False

    @property
    def is_cut_off(self) -> bool:
        """Did the queue hold more than could be read? Somebody else has put it there; nothing may pass it."""
        return self._left_out

    async def load(self) -> None:
        """Read the whole parking lot into the index. Nothing else may be going on. Raises RelayError."""
        if self._doubts:
            self._fence.distrust(self._queue)
        self._doubts = 0
        self._gone.clear()
        self._park.begin_anew()
        total = await self._count()
        while await self._load_once(total) != (total := await self._count()):
            continue  # a dead receiver's last message has come in
        self._left_out = total == READ_MAX
        if self._index.entries:
            _log.info("parked queue read", keys=len(self._index.entries), refused=self._index.dead)

    async def _count(self) -> int:
        """Messages that there are, as far as one pass can go through them."""
        return min(await self._fence.await_no_consumer(self._queue), READ_MAX)

    async def _load_once(self, total: int) -> int:
        """Return how many messages there were, without those that mean nothing."""
        self._index.clear()
        self._lanes.deduplication.forget_stored()
        channel, whole = await self._session.open_channel(), asyncio.Event()
        read = probes = 0

        def on_message(_c: Channel, method: Basic.Deliver, properties: Properties, body: bytes) -> None:
            nonlocal read, probes
            read += 1
            if self._fence.is_probe(self._queue, properties, body):
                probes += 1
                channel.basic_ack(method.delivery_tag or 0)
            else:
                event, entry = self._reader.from_room(properties, body)
                self._index.enter(event, entry)
                self._lanes.deduplication.add(event, entry.lane, stored=True)
            if read >= total:
                whole.set()

        if total:
            await read_all(self._session, self._queue, channel, on_message)
            await all_read(self._queue, whole, lambda: read)
        await self._session.close_channel(channel)
        return total - probes

    def acknowledged(self, event: Event) -> None:
        """RabbitMQ was told that it may forget it."""
        self._gone.add(event.handle)

    async def verify(self) -> None:
        """Let lanes that are empty leave the index, if RabbitMQ shows that they are gone. After each pass.

        From the main flow. Raises RelayError.
        """
        there = await self._count()
        if there > self._known and self._gone:
            await settle(
                self._session,
                self._fence,
                self._queue,
                self._reader.event_of_room,
                READ_MAX,
                lambda event: event.handle in self._gone,
            )
            there = await self._count()
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
    def is_doubtful(self) -> bool:
        """Did the last look find another count than ours?"""
        return self._doubts > 0

    @property
    def is_wrong(self) -> bool:
        """Must the index be read anew?"""
        return self._doubts >= DOUBTS

    async def compare(self) -> None:
        """Look whether the queue holds as many messages as the index. No pass is on its way; from the main flow.

        Raises:
            Unavailable: it is gone.
        """
        known = self._known
        there, consumers = await self._fence.count(self._queue)
        if consumers or self._park.pending or known != self._known or self.is_wrong:
            return  # that tells nothing
        if min(there, READ_MAX) == known:
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
