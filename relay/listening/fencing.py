"""Making it our turn: an earlier session's end is awaited, and asked for.

Two listeners of one database that have two leases (two brokers, or the two sides of a cluster that was parted with
cluster_partition_handling = ignore) would end each other's session for ever, and nothing would move. Who has ended
several of late leaves the next one alone for a while: it works. How many those were lives as long as the process.
"""

import asyncio
import collections
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from relay.errors import Unavailable
from relay.log import Log

FENCE_SECONDS, FENCE_PAUSE = 10.0, 0.05  # to wait for an earlier session's end, and between two looks
ENDED_MOST, ENDED_SECONDS = 3, 60.0  # so many sessions are ended in so long
TWO_LEASES = (
    "two listeners of one database need one RabbitMQ: do their RABBITMQ_URL name two? Is its cluster parted "
    "(rabbitmqctl cluster_status)? Then set cluster_partition_handling = pause_minority on each node, and restart "
    "those of one side"
)

Taken = TypeVar("Taken")


class Endings:
    """When other listeners' sessions were ended, of late; times in monotonic seconds. Pure."""

    def __init__(self) -> None:
        self._times: collections.deque[float] = collections.deque(maxlen=ENDED_MOST)

    def note(self, now: float) -> None:
        """One is ended."""
        self._times.append(now)

    def are_many(self, now: float) -> bool:
        """Is it enough for now?"""
        return len(self._times) == ENDED_MOST and now - self._times[0] < ENDED_SECONDS


_endings = Endings()


async def taken(
    take: Callable[[], Awaitable[Taken]], end_holders: Callable[[], Awaitable[tuple[str, str]]], what: str, log: Log
) -> Taken:
    """Take until it is ours.

    Args:
        take: returns nothing while somebody else has it.
        end_holders: ends their sessions, as far as it may; returns whose they are, if any, and how a person ends them.
        what: is taken.
        log: is told once that somebody was still there.

    Raises:
        Unavailable: they do not end; or so many did of late that this one is left alone.
    """
    until, told = time.monotonic() + FENCE_SECONDS, False
    while not (found := await take()):
        if not told and _endings.are_many(time.monotonic()):
            raise Unavailable(
                f"another listener is at work on {what}, and again each time its session is ended", TWO_LEASES
            )
        holders, remedy = await end_holders()
        if time.monotonic() > until:
            raise Unavailable(f"an earlier listener is still at work on {what}: {holders}", remedy)
        if holders and not told:
            told = True
            _endings.note(time.monotonic())
            log.warning(
                "an earlier listener was still at work on the outbox: ending its session", session=holders,
                remedy="none, unless it comes again and again: two listeners of one database need one RabbitMQ",
            )  # fmt: skip
        await asyncio.sleep(FENCE_PAUSE)
    return found
