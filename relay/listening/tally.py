"""What one process has published and what was refused, from session to session. Pure."""

import collections
import time
from collections.abc import Callable
from typing import NamedTuple

from relay.listening.event import OutboxEvent
from relay.log import Log
from relay.status.by_table import ByTable
from relay.status.histogram import Histogram

STATS_INTERVAL = 60.0  # seconds between two log lines with counts
REFUSED_KEPT, KEY_MAX = 10, 200  # of the last refused events; characters of a key, which any writer can make large


class Refusal(NamedTuple):
    """An event that the broker has refused."""

    id: str
    table: str | None
    key: str | None
    reason: str
    at: float  # seconds of the epoch


class Tally:
    """Counts.

    Args:
        log: gets a line with counts now and then.
        soon: calls what it is given, when what goes on has ended.
    """

    def __init__(self, log: Log, soon: Callable[[Callable[[], None]], object]) -> None:
        self._log = log
        self._soon = soon
        self._confirmed: list[OutboxEvent] = []  # one batch of confirms
        self._told_at, self._told = time.monotonic(), 0
        self.published = 0
        self.refused = 0
        self.last_at = 0.0  # when the last event was confirmed: seconds of the epoch; 0 = none was
        self.last_lag = 0.0  # seconds from its commit to then
        self.lag = Histogram()
        self.by_table = ByTable()
        self.refusals: collections.deque[Refusal] = collections.deque(maxlen=REFUSED_KEPT)

    def confirmed(self, event: OutboxEvent) -> None:
        """The broker has the event safe."""
        self.published += 1
        if not self._confirmed:
            self._soon(self._observe)
        self._confirmed.append(event)

    def _observe(self) -> None:
        now, events = time.time(), self._confirmed
        self.last_at, self.last_lag = now, max(0.0, now - events[-1].at / 1e6)
        self.lag.observe_until(int(now * 1e6), [event.at for event in events])
        for table, count in collections.Counter(event.table for event in events).items():
            self.by_table.add(table or "", count=count)
        events.clear()

    def declined(self, event: OutboxEvent, reason: str) -> None:
        """The broker will never take it."""
        self.refused += 1
        self.refusals.append(Refusal(event.id, event.table, event.key and event.key[:KEY_MAX], reason, time.time()))

    def tell(self, now: float, waiting_groups: int) -> None:
        """Write a line, if one is due. Often called; `now` as time.monotonic()."""
        if now - self._told_at <= STATS_INTERVAL:
            return
        if events := self.published - self._told:
            self._log.info("relayed", events=events, seconds=now - self._told_at, waiting_groups=waiting_groups or None)
        self._told_at, self._told = now, self.published
