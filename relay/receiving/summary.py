"""What receiver.py says without being asked: once a minute what it did, and in an outage that it still lasts."""

import time

from relay.log import Log
from relay.receiving.dispatcher import Dispatcher
from relay.receiving.parking.index import ParkedIndex
from relay.receiving.strands import Strands

EVERY = 60.0  # seconds between two lines, if anything happened


class Summary:
    """Lives as long as the process: a lost connection to RabbitMQ is no reason to count anew.

    Args:
        dispatcher, strands, index: what is counted.
    """

    def __init__(self, dispatcher: Dispatcher, strands: Strands, index: ParkedIndex, log: Log) -> None:
        self._dispatcher = dispatcher
        self._strands = strands
        self._index = index
        self._log = log
        self._told_at = time.monotonic()
        self._told = (0, 0, 0)  # delivered, failed and filtered until then

    def tick(self, now: float) -> None:
        """Write what is due. Often called; `now` as time.monotonic()."""
        if now - self._told_at >= EVERY:
            self._report(now)
        self._dispatcher.outage.tick(now, self._dispatcher.breaker)

    def _report(self, now: float) -> None:
        counts = self._dispatcher.deliveries
        delivered, failed = counts.delivered - self._told[0], counts.failed - self._told[1]
        filtered = counts.filtered - self._told[2]
        if delivered or failed or filtered:
            self._log.info(
                "deliveries",
                delivered=delivered,
                failed=failed or None,
                filtered=filtered or None,
                in_s=round(now - self._told_at),
                here=self._strands.events,
                parked_keys=len(self._index.entries) or None,
            )
        self._told_at, self._told = now, (counts.delivered, counts.failed, counts.filtered)
