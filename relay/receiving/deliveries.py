"""What was delivered since the process began, and what failed. Pure."""

from relay.delivery import Verdict
from relay.receiving.latency import Latency
from relay.receiving.strand import Item
from relay.status.by_table import ByTable


class Deliveries:
    """Counts."""

    def __init__(self) -> None:
        self.delivered = 0
        self.filtered = 0  # events that ONLY does not ask for: acknowledged, and not delivered
        self.failed = 0  # requests for an event that were not successful, whosever failure it was
        self.succeeded_at = 0.0  # monotonic seconds of the last delivery; 0 = none
        self.last_timestamp = 0  # of the event delivered then: seconds of the epoch; 0 = unknown
        self.latency = Latency()
        self.tries = ByTable("verdict")

    def have_succeeded(self, item: Item, now: float) -> None:
        """The endpoint has it; `now` in seconds of the dispatcher's clock."""
        self.delivered += 1
        self.tries.add(item.event.table, Verdict.DONE.value)
        self.latency.delivered(item, now)
        self.succeeded_at, self.last_timestamp = now, item.event.timestamp

    def have_filtered(self) -> None:
        """An event was not asked for."""
        self.filtered += 1

    def have_failed(self, item: Item, verdict: Verdict) -> None:
        """A request for an event was not successful."""
        self.failed += 1
        self.tries.add(item.event.table, verdict.value)


class Rate:
    """At most so many requests a second.

    Args:
        maximum: a second; 0 = no limit.
    """

    def __init__(self, maximum: float) -> None:
        self._spacing = 1 / maximum if maximum else 0.0
        self.next_start = 0.0  # seconds of the dispatcher's clock

    def started(self, now: float) -> None:
        """One was started."""
        self.next_start = now + self._spacing if self._spacing else 0.0
