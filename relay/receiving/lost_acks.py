"""Acknowledgements that RabbitMQ forgets, seen to before we leave.

The broker's client of a quorum queue holds acknowledgements back while 32 are not yet stored (rabbit_fifo_client), and
what it holds back is lost when the channel closes. Measured on 3.10: of 100 acknowledgements followed by channel.close
up to 67 came back, of 20 none. While we run, such a message comes again and is known by its id. After an orderly stop
the next receiver would deliver it twice. So the queue is read once more, until nothing comes that we are done with.
"""

import asyncio
import contextlib
from collections.abc import Callable

from pika.channel import Channel
from pika.spec import Basic

from relay.amqp.decode import Properties
from relay.amqp.session import Session
from relay.delivery import Event
from relay.errors import Unavailable
from relay.receiving.barriers import Before
from relay.receiving.fence import Fence

Read = Callable[[Basic.Deliver, Properties, bytes], Event]
SILENCE = 120.0  # seconds without a message that RabbitMQ has counted; a large one takes its time


class Known:
    """Of the messages that come again: which need only be acknowledged? Pure.

    In a tail that a crashed listener has sent again, an event that we have delivered stands behind older ones that
    somebody will deliver again: what is behind something that stays, stays.

    Args:
        is_done: was it delivered, or put elsewhere?
    """

    def __init__(self, is_done: Callable[[Event], bool]) -> None:
        self._is_done = is_done
        self._left = Before(lambda event: event.is_barrier)

    def may_go(self, event: Event) -> bool:
        """It is the next message of the queue."""
        if self._is_done(event) and not self._left.holds_up(event.key, event):
            return True
        self._left.add(event.key, event)
        return False


async def settle(
    session: Session, fence: Fence, queue: str, read_event: Read, maximum: int, is_done: Callable[[Event], bool]
) -> None:
    """Acknowledge what is in `queue` although we are done with it. From the main flow, when nothing else reads it.

    Args:
        read_event: makes an event of a message of this queue.
        maximum: messages from the front of the queue to be looked at: as many as we may have held.

    Raises:
        RelayError: as `Session.call`.
    """
    while await _acknowledged(session, fence, queue, read_event, maximum, is_done):
        pass  # these may have been forgotten, too


async def _acknowledged(
    session: Session, fence: Fence, queue: str, read_event: Read, maximum: int, is_done: Callable[[Event], bool]
) -> int:
    total = min(maximum, await fence.await_no_consumer(queue))
    whole = asyncio.Event()
    read = acknowledged = 0
    known = Known(is_done)

    def on_message(channel: Channel, method: Basic.Deliver, properties: Properties, body: bytes) -> None:
        nonlocal read, acknowledged
        read += 1
        if read <= total and known.may_go(read_event(method, properties, body)):
            channel.basic_ack(method.delivery_tag or 0)
            acknowledged += 1
        if read >= total:
            whole.set()

    if total:
        channel = await session.open_channel()
        await session.call("setting the window", channel.basic_qos, prefetch_count=maximum)
        await session.consume(channel, queue, on_message)
        await all_read(queue, whole, lambda: read)
        await session.close_channel(channel)
    return acknowledged


async def all_read(queue: str, whole: asyncio.Event, read: Callable[[], int]) -> None:
    """Wait until all has come that RabbitMQ has counted in `queue`.

    Args:
        whole: set by who reads it.
        read: messages that have come so far.

    Raises:
        Unavailable: nothing comes any more: it was purged in between, or has expired.
    """
    before = -1
    while not whole.is_set():
        if before == (before := read()):
            raise Unavailable(f"queue {queue} has given out {before} messages, and counted more")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SILENCE):
                await whole.wait()
