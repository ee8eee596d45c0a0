"""Rows whose links lead to records that are not there yet: they wait without an attempt, but not for ever unseen."""

import collections
import threading
import time
from collections.abc import Callable

from relay.delivery import Event, Outcome, Verdict
from relay.log import Log

REMEMBERED = 100_000  # events; more than the waiting room holds
REMINDER = 60.0  # seconds between two log lines

_log = Log("receiver")


class Orphans:
    """Shared by all threads of a target.

    Args:
        patience: seconds until a missing record counts as the row's own failure.
        waits: (least, most) seconds until the next try; it grows with the time that has passed.
    """

    def __init__(
        self, patience: float, waits: tuple[float, float], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._patience = patience
        self._waits = waits
        self._clock = clock
        self._lock = threading.Lock()
        self._since: collections.OrderedDict[str, float] = collections.OrderedDict()
        self._told = -REMINDER

    def missing(self, event: Event, what: str) -> Outcome:
        """What this row links to is not there."""
        now = self._clock()
        with self._lock:
            since = self._since.setdefault(event.id or event.key, now)
            if len(self._since) > REMEMBERED:
                self._since.popitem(last=False)
            count, tell = len(self._since), now - self._told >= REMINDER
            if tell:
                self._told = now
        if tell:
            _log.warning("rows wait for records they link to", rows=count, table=event.table, example=what)
        age = now - since
        if age >= self._patience:
            return Outcome(Verdict.MESSAGE, f"no record {what}, after {age:.0f} s")
        least, most = self._waits
        return Outcome(Verdict.CONFLICT, f"no record {what} yet", wait=min(max(age, least), most))

    def arrived(self, event: Event) -> None:
        """It was delivered."""
        if not self._since:
            return
        with self._lock:
            gone = self._since.pop(event.id or event.key, None)
            over = gone is not None and not self._since
        if over:
            self._told = -REMINDER
            _log.info("all rows have found the records they link to")
