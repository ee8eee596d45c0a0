"""What lies in a generation's parking lots goes into those of the next one: each event to its key's lane, in order.

An event is acknowledged here only after RabbitMQ has confirmed it there. In between it is in both, and is known by the
strand and the handle that it goes by. Of one strand one event is on its way at a time: with two, a nack of the first
would let the second overtake it.
"""

import asyncio
import collections
import dataclasses

from pika.channel import Channel
from pika.spec import Basic

from relay.amqp.decode import Properties
from relay.amqp.session import Session
from relay.amqp.single import Publisher
from relay.amqp.topology import is_there
from relay.config import Receive
from relay.delivery import Event, Tries
from relay.errors import Unavailable
from relay.receiving.fence import Fence
from relay.receiving.lanes.names import Generation
from relay.receiving.lease import parked_name
from relay.receiving.parking.acknowledged import Name
from relay.receiving.parking.codec import ParkedReader, parked_properties
from relay.receiving.parking.index import Entry, Why
from relay.receiving.parking.park import TRUNCATE
from relay.receiving.parking.recount import READINGS
from relay.receiving.whole import read_all

WINDOW = 500  # messages that are read ahead


class Mover:
    """Moves what is parked.

    Args:
        config: SIGN_EVENTS, LANES_TRUNCATE.
        fence: of this connection.
        to: whose parking lots it goes to; nobody reads them yet.
    """

    def __init__(self, session: Session, fence: Fence, config: Receive, to: Generation) -> None:
        self._session = session
        self._fence = fence
        self._config = config
        self._to = to
        self._reader = ParkedReader(config.sign_events)
        self._there: collections.Counter[Name] = collections.Counter()  # moved, and not yet seen again

    async def run(self, source: Generation) -> int:
        """Move all; with the leases of both. From the main flow. Return how many were moved. Raises RelayError."""
        for queue in self._to.queues:
            await self._note(parked_name(queue))
        moved = 0
        for queue in map(parked_name, source.queues):
            if not await is_there(self._session, queue):
                continue  # it never parked, or a killed process was so far already
            # RabbitMQ can forget acknowledgements when a channel closes. But all that was there is moved by the first
            # time, and who goes on publishing into it must not keep us.
            for _ in range(READINGS):
                if not (count := await self._fence.await_no_consumer(queue)):
                    break
                moved += await self._move(queue, count)
        return moved

    async def _note(self, queue: str) -> None:
        """What a killed process has moved before."""
        total, read, whole = await self._fence.await_no_consumer(queue), 0, asyncio.Event()

        def on_message(_channel: Channel, _method: Basic.Deliver, properties: Properties, body: bytes) -> None:
            nonlocal read
            read += 1
            if not self._fence.is_probe(queue, properties, body):
                event, entry = self._reader.from_room(properties, body)
                self._there[entry.strand, event.handle] += 1
            if read >= total:
                whole.set()

        if total:
            channel = await self._session.open_channel()
            await read_all(self._session, queue, channel, on_message, total)
            await whole.wait()
            await self._session.close_channel(channel, total)

    async def _move(self, queue: str, count: int) -> int:
        """Move so many from the front of a queue."""
        came: asyncio.Queue[tuple[int, Properties, bytes]] = asyncio.Queue()
        channel = await self._session.open_channel()
        await self._session.call("setting the window", channel.basic_qos, prefetch_count=WINDOW)
        publisher, moved = Publisher(self._session), 0
        await publisher.open()
        seen: collections.Counter[Name] = collections.Counter()
        await self._session.consume(
            channel,
            queue,
            lambda _c, method, properties, body: came.put_nowait((method.delivery_tag or 0, properties, body)),
        )
        for _ in range(count):
            tag, properties, body = await came.get()
            if not self._fence.is_probe(queue, properties, body):
                event, entry = self._reader.from_room(properties, body)
                name = entry.strand, event.handle
                seen[name] += 1
                if seen[name] > self._there[name]:
                    self._there[name] += 1
                    moved += await self._put(publisher, event, entry)
            channel.basic_ack(tag)
        await publisher.close()
        await self._session.close_channel(channel)
        return moved

    async def _put(self, publisher: Publisher, event: Event, entry: Entry) -> bool:
        if self._to.number and event.is_barrier:
            if self._config.lanes_truncate == "ignore":
                return False
            entry = dataclasses.replace(entry, why=Why.DEAD, tries=Tries(reason=TRUNCATE))
        made = parked_properties(event, entry, self._session.frame_max, self._reader.signer)
        room = parked_name(self._to.queues[self._to.lane_of(event.slot)])
        method = await publisher.put(room, event.body, made, "moving a parked event", mandatory=True)
        if not isinstance(method, Basic.Ack):
            raise Unavailable("RabbitMQ does not take a parked event for its new lane", "try again")
        return True
