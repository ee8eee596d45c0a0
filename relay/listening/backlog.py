"""How much waits in the outbox, looked at now and then: for a warning, and for who looks at the daemon."""

import time
from collections.abc import Callable
from typing import NamedTuple

from relay.alerts import AGE, REFUSED
from relay.cli import duration, plural
from relay.listening.source import Rows, Source
from relay.listening.tally import Tally
from relay.log import Log

MEASURE_INTERVAL = 30.0  # seconds between two looks
SHOWN_INTERVAL = 5.0  # the same where STATUS_ADDR is set
SHARE = 0.01  # of the time, that looking may take at most: with the dead rows that an old snapshot keeps it takes long
COUNTED_MIN = 10_000  # events that are counted at least, if there are so many


class Topic(NamedTuple):
    """What waits of one topic."""

    topic: str
    events: int
    oldest: float  # seconds of the epoch
    refused: int


class Measured(NamedTuple):
    """What a look has found.

    Args:
        at: when that was, in seconds of the epoch.
        events: those in the outbox.
        is_more: they were not counted to the end.
        oldest: when the oldest was written, in seconds of the epoch; None = there is none.
        refused: how many of them the broker has refused.
        topics: the longest of them.
        age: seconds that the oldest which is not refused has waited, by PostgreSQL's clock; None = there is none.
        come: events that have come into the outbox since the process began, as far as it knows.
    """

    at: float
    events: int
    is_more: bool
    oldest: float | None
    refused: int
    topics: list[Topic]
    age: float | None
    come: int


class Backlog:
    """Measured by one session after another.

    Args:
        warn_at: OUTBOX_WARN.
        is_shown: is STATUS_ADDR or ALERT_COMMAND set?
        tally: knows how many have left.
    """

    def __init__(self, warn_at: int, tally: Tally, log: Log, *, is_shown: bool) -> None:
        self._warn_at = warn_at
        self._tally = tally
        self._log = log
        self._interval = SHOWN_INTERVAL if is_shown else MEASURE_INTERVAL
        self._wanted = is_shown or warn_at > 0
        self._most = max(warn_at, COUNTED_MIN)
        self._due = time.monotonic()
        self._long = False
        self.measured: Measured | None = None

    def measure(self, source: Source, undeleted: int, go_on: Callable[[], None]) -> bool:
        """Look, if it is time; return True if a statement was sent.

        Args:
            source: idle.
            undeleted: events that have been published and are still in the outbox.
            go_on: called when the statement has ended.
        """
        began = time.monotonic()
        if not self._wanted or began < self._due:
            return False

        def found(rows: Rows) -> None:
            took = time.monotonic() - began
            self._due = began + max(self._interval, took / SHARE)
            self._take_in(rows, undeleted)
            go_on()

        def failed(reason: str) -> None:
            self._due = began + MEASURE_INTERVAL
            self._log.debug("can't see how much waits", reason=reason)
            go_on()

        source.measure(self._most + 1, found, failed)
        return True

    def _take_in(self, rows: Rows, undeleted: int) -> None:
        (_, events, oldest, refused, age), *topics = rows
        come = self._tally.published + max(0, events - undeleted)
        self.measured = Measured(
            time.time(), events, events > self._most, oldest, refused, [Topic(*row[:4]) for row in topics], age, come
        )
        long = 0 < self._warn_at < events
        if long and not self._long:
            remedy = "is the broker taking them? listen.py status shows what waits"
            self._log.warning("the outbox is long", events=f">{self._warn_at}", remedy=remedy)
        elif self._long and not long:
            self._log.info("the outbox is short again")
        self._long = long

    def troubles(self, maximum: float) -> dict[str, str]:
        """Of which a person is alerted, as `alerts.Alerts.look` takes them. `maximum`: ALERT_AGE, 0 = none."""
        if self.measured is None:
            return {}
        age, refused = self.measured.age or 0.0, self.measured.refused
        oldest = f"the oldest event in the outbox has waited for {duration(age)}"
        count = f"RabbitMQ refused {plural(refused, 'event')}: listen.py status"
        return {AGE: oldest if 0 < maximum < age else "", REFUSED: count if refused else ""}
