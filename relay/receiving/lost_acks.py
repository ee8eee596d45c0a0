"""Acknowledgements that RabbitMQ forgets, seen to before we leave.

The broker's client of a quorum queue holds acknowledgements back while 32 are not yet stored (rabbit_fifo_client), and
what it holds back is lost when the channel closes. Measured on 3.10: of 100 acknowledgements followed by channel.close
up to 67 came back, of 20 none. While we run, such a message comes again and is known by its id. After an orderly stop
the next receiver would deliver it twice. So the queue is read once more, until nothing comes that we are done with.
"""

import asyncio
import contextlib
import math
from collections.abc import Callable, Iterable
from typing import Protocol

from pika.channel import Channel
from pika.spec import Basic

from relay.amqp.decode import Properties
from relay.amqp.session import Session
from relay.delivery import Event
from relay.errors import Unavailable
from relay.receiving.barriers import Before
from relay.receiving.fence import Fence
from relay.receiving.whole import READ_MOST, read_all

Read = Callable[[Basic.Deliver, Properties, bytes], Event]
SILENCE = 120.0  # seconds without a message that RabbitMQ has counted; a large one takes its time


class Reading(Protocol):
    """One reading of a queue: which of its messages need only be acknowledged?"""

    def look(self, method: Basic.Deliver, properties: Properties, body: bytes) -> None:
        """The next message of the queue."""

    def done(self) -> Iterable[int]:
        """Their delivery tags, when all has been looked at."""


class Known(Reading):
    """Of the messages that come again: which need only be acknowledged? Pure.

    In a tail that a crashed listener has sent again, an event that we have delivered stands behind older ones that
    somebody will deliver again: what is behind something that stays, stays.

    Args:
        read_event: makes an event of a message of this queue.
        is_done: was it delivered, or put elsewhere?
    """

    def __init__(self, read_event: Read, is_done: Callable[[Event], bool]) -> None:
        self._read_event = read_event
        self._is_done = is_done
        self._left = Before(lambda event: event.is_barrier)
        self._done: list[int] = []

    def look(self, method: Basic.Deliver, properties: Properties, body: bytes) -> None:
        """The next message of the queue."""
        if self.may_go(self._read_event(method, properties, body)):
            self._done.append(method.delivery_tag or 0)

    def done(self) -> Iterable[int]:
        """The delivery tags of those that may go."""
        return self._done

    def may_go(self, event: Event) -> bool:
        """It is the next message of the queue."""
        if self._is_done(event) and not self._left.holds_up(event.key, event):
            return True
        self._left.add(event.key, event)
        return False


async def settle(session: Session, fence: Fence, queue: str, maximum: int | None, begin: Callable[[], Reading]) -> None:
    """Acknowledge what is in `queue` although we are done with it. From the main flow, when nothing else reads it.

    What RabbitMQ has forgotten gets less each time, by 32 at least. What others go on putting there, the same again and
    again, does not, and is left.

    Args:
        maximum: messages from the front of the queue to be looked at: as many as we may have held; None = all.
        begin: makes what judges the messages, for each time that they are read.

    Raises:
        RelayError: as `Session.call`.
    """
    before: float = math.inf
    while 0 < (found := await _acknowledged(session, fence, queue, maximum, begin())) < before:
        before = found  # these may have been forgotten, too


async def _acknowledged(session: Session, fence: Fence, queue: str, maximum: int | None, reading: Reading) -> int:
    there = await fence.await_no_consumer(queue)
    total = min(READ_MOST if maximum is None else maximum, there)
    whole, read, done = asyncio.Event(), 0, list[int]()

    def on_message(_channel: Channel, method: Basic.Deliver, properties: Properties, body: bytes) -> None:
        nonlocal read
        read += 1
        if read <= total:
            reading.look(method, properties, body)
        if read >= total:
            whole.set()

    if total:
        channel = await session.open_channel()
        if maximum is None:
            await read_all(session, queue, channel, on_message, total)
        else:
            await session.call("setting the window", channel.basic_qos, prefetch_count=maximum)
            await session.consume(channel, queue, on_message)
        await all_read(queue, whole, lambda: read)
        done += reading.done()
        with session.corked():
            for tag in done:
                channel.basic_ack(tag)
        await session.close_channel(channel, total)
    return len(done)


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
