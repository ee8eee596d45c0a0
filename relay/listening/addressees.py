"""Queues that single events are for (OutboxEvent.queue): which of them are not there, and may we publish to one? Pure.

Such an event goes through the default exchange. One that comes back is let go: nobody is left to miss it, and it must
not hold its table for all others.
"""

import time
from collections.abc import Callable

from relay.log import Log

TOLD_MAX = 1000  # queues that are named in the log, once each
BARRED_SECONDS = 60.0  # until it is tried again whether the right is there
MISSING = "there is no such queue"
BARRED = "the listener may not publish to a single queue: it has no right to write to the default exchange"


class Addressees:
    """Lives as long as the process.

    Args:
        log: gets a line for each queue.
        rights: the command that gives the listener's user what it must be allowed.
    """

    def __init__(self, log: Log, rights: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._rights = rights
        self._clock = clock
        self._told: set[str] = set()
        self._barred_until = 0.0
        self.on_lost: Callable[[str, str], None] = lambda _queue, _why: None
        """Called with a queue and why what was for it is let go: whoever has asked for it waits in vain."""

    @property
    def barred(self) -> bool:
        """Is it known that RabbitMQ would close the channel for each of them?"""
        return self._clock() < self._barred_until

    def bar(self) -> None:
        """It has closed the channel for one."""
        self._barred_until = self._clock() + BARRED_SECONDS

    def lost(self, queue: str) -> None:
        """An event for this queue was let go."""
        barred = self.barred
        if queue not in self._told and len(self._told) < TOLD_MAX:
            self._told.add(queue)
            remedy = self._rights if barred else "none, if it was deleted; its receiver makes it, and asks again"
            self._log.warning(
                "events for one queue are let go", queue=queue, why=BARRED if barred else MISSING, remedy=remedy
            )
        self.on_lost(queue, BARRED if barred else MISSING)
