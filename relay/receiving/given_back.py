"""Messages that have come back into the main queue, put into their order again before they are consumed.

A quorum queue hands out what was given back in the order in which it was. So when a window is narrower than what was
given back before (consumer.py narrows it for large events, or PREFETCH is smaller than it was), and it is given back
again before all of that was read, or the receiver dies then, what it holds comes behind the rest: of 80 messages given
back, and 10 of them read again, those 10 came behind the 70 (measured on 3.10 and 4.0).

RabbitMQ counts in a header how often a message has come back. Who is before another one was handed out at least as
often: who has come back less often than one behind it belongs behind that one. That stays so whoever reads the front of
the queue, and gives it back; so it does not matter where we are interrupted.

A classic queue puts what is given back where it was, and counts nothing (measured on both).
"""

import asyncio
import itertools
from collections.abc import Sequence

from pika.channel import Channel
from pika.spec import Basic

from relay.amqp.decode import Properties
from relay.amqp.headers import DELIVERY_COUNT
from relay.amqp.session import OnMessage, Session
from relay.log import Log
from relay.receiving.codec import believed
from relay.receiving.fence import Fence
from relay.receiving.lost_acks import all_read

RUNS_MAX = 32  # consumers of which RabbitMQ keeps the order, an Erlang map's; each death makes one run more

_log = Log("receiver")


class GivenBack:
    """What is known of the messages at the queue's front that have come back. Pure.

    Args:
        most: so many at most, as far as anybody knows.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.is_mixed = True  # perhaps out of order: a receiver before us may have died

    def is_read(self, read: int) -> bool:
        """Are those among the messages that a channel has read so far?"""
        return read >= self.most

    def closed(self, prefetch: int, read: int) -> None:
        """A channel gives back what it holds; so many messages it has read."""
        # As wide as what had come back, it was handed all of that when it began to read.
        self.is_mixed = prefetch < self.most and not self.is_read(read)
        if not self.is_mixed:
            self.most = prefetch

    def in_order(self, most: int) -> None:
        """It has been put in order, and so many have come back at most."""
        self.most, self.is_mixed = most, False


def runs(counts: Sequence[int | None], window: int) -> list[tuple[int, int]]:
    """How to put messages into their order: runs of them, each with its length and its place among the others.

    Args:
        counts: how often each has come back, in the order in which they come now; None = it can't be read, and is as
            that of the one before.

    Returns:
        Nothing, if they are in order.
    """
    known = [count for count in counts if count is not None]
    last = known[0] if known else 0
    filled = [last := last if count is None else count for count in counts]
    if all(one >= other for one, other in itertools.pairwise(filled)):
        return []
    found = [(count, len(list(same))) for count, same in itertools.groupby(filled)]
    in_order = sorted(range(len(found)), key=lambda at: -found[at][0])
    places = {at: place for place, at in enumerate(in_order)}
    placed = [(length, places[at]) for at, (_count, length) in enumerate(found)]
    return placed + ([(window - len(counts), len(placed))] if len(counts) < window else [])


async def put_in_order(session: Session, fence: Fence, queue: str, window: int, widest: int) -> int:
    """See to it that what has come back into `queue` has its order. From the main flow, when nobody else reads it.

    Args:
        window: messages that are looked at first: if one of them has never come back, that is enough.
        widest: messages that have come back, at most.

    Returns:
        So many at most have come back now, with those that were read here.

    Raises:
        RelayError: as `Session.call`.
    """
    counts, taken = await _counts(session, fence, queue, window, widest)
    found = runs(counts, taken)
    if not 0 < len(found) <= RUNS_MAX:
        return taken
    await fence.await_no_consumer(queue)
    channel = await session.open_channel()
    for length, place in found:
        await _take(session, channel, queue, length, place, lambda *_: None)
    # RabbitMQ gives back what they hold in the order of their names, and none of them can take what another one had.
    await session.close_channel(channel, taken)
    _log.info("messages that came back out of order were put in order", queue=queue, runs=len(found))
    return taken


async def _counts(session: Session, fence: Fence, queue: str, window: int, widest: int) -> tuple[list[int | None], int]:
    """How often each of the messages has come back that have, from the queue's front on; and how many were taken."""
    total = await fence.await_no_consumer(queue)
    found, taken, enough, is_fresh = list[int | None](), 0, asyncio.Event(), False

    def on_message(_channel: Channel, method: Basic.Deliver, properties: Properties, _body: bytes) -> None:
        nonlocal is_fresh
        is_fresh = is_fresh or not method.redelivered  # what has never come back is behind all that has
        if not is_fresh:
            count = believed(properties).get(DELIVERY_COUNT)
            found.append(count if isinstance(count, int) else None)
        if is_fresh or len(found) >= min(taken, total):
            enough.set()

    if total:
        channel = await session.open_channel()
        # Until one comes that has not come back. If the receiver before us had a wider window than we, what we had read
        # would come behind the rest of it.
        for place in range(RUNS_MAX):
            enough.clear()
            length = window if place == 0 else 1 if place == 1 else min(taken, widest - taken)
            taken += length
            await _take(session, channel, queue, length, place, on_message)
            await all_read(queue, enough, lambda: len(found))
            if is_fresh or taken >= min(total, widest):
                break
        await session.close_channel(channel, taken)
    return found, taken


async def _take(session: Session, channel: Channel, queue: str, length: int, place: int, on_message: OnMessage) -> None:
    """Hold the next messages of the queue; of those that hold some, this one gives them back at its place."""
    await session.call("asking for a part of the queue", channel.basic_qos, prefetch_count=length)
    await session.consume(channel, queue, on_message, consumer_tag=f"relay.{place:04}")
