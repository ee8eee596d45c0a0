"""Whose failure is it, the message's or the endpoint's? And when may a request start? Pure.

| the outcome                              | evidence                                      | then                 |
| ---------------------------------------- | --------------------------------------------- | -------------------- |
| surely the message's (400, 413, 422 ...) | none needed                                   | an attempt is spent  |
| surely the endpoint's (refused, 503 ...) | another key succeeded while it ran            | waits, none is spent |
| surely the endpoint's                    | none                                          | the breaker opens    |
| login refused (401), 429, Retry-After    | none needed                                   | the breaker opens    |
| unclear (500, 502, broken, too late ...) | another key, started afterwards, succeeds     | an attempt is spent  |
| unclear                                  | a streak of failures without any success      | the breaker opens    |
| unclear, and the endpoint has worked     | another key, or the target's own probe,       | an attempt is spent  |
| since it was so the last time            | succeeds afterwards, an outage in between or not |                   |
| a conflict (a lock, a missing link)      | none needed                                   | waits, none is spent |

While the breaker is open nothing is started but a probe now and then, no attempt is spent, and nothing is parked. A
success, the target's own probe, or a refusal that is surely the message's closes it.

An event that kills its worker, or all of the server, makes an outage each time. What fails at the beginning of an
outage is excused, once; what was there at the beginning of the last one as well, is not.
"""

import enum
import random

from relay.delivery import Outcome, Verdict
from relay.receiving.strand import Item

PROBE_LEAST = 0.6  # seconds: fewer than two probes a second, whatever RETRY_MIN says
PROBE_MAX = 4.0  # seconds: at work again within 5 s of the endpoint's return
LOGIN_INTERVAL = 60.0  # seconds: Odoo locks a login out for 60 s after five failures


class Blame(enum.Enum):
    """What to do with a failed event."""

    EVENT = "event"  # its own failure: an attempt is spent
    UNDECIDED = "undecided"  # a back-off, and no attempt is spent
    ENDPOINT = "endpoint"  # it goes on when the breaker closes


class Breaker:
    """Closed: requests flow. Open: one probe at a time.

    Args:
        streak: failures in a row without a success until unclear ones count as the endpoint's.
        minimum: seconds from opening to the first probe.
        rng: for jitter.
    """

    def __init__(self, *, streak: int, minimum: float, rng: random.Random | None = None) -> None:
        self._streak_limit = streak
        self._minimum = min(max(minimum, PROBE_LEAST), PROBE_MAX)
        self._rng = rng or random.Random()
        self._streak = 0
        self._suspects: list[tuple[Item, float, bool]] = []  # unclear failures, when, and again?: no evidence yet
        self._worked_at = 0.0  # when the last request to succeed had started
        self._successes: list[tuple[str, float]] = []  # the last success of each of the last two keys, and its end
        self._interval = self._minimum
        self._probe_at = 0.0
        self._probing = False
        self.opened_at: float | None = None
        self.reason = ""

    @property
    def is_open(self) -> bool:
        return self.opened_at is not None

    def may_start(self, now: float) -> bool:
        """May a request be started? While open, each one that is, is a probe."""
        return not self.is_open or (now >= self._probe_at and not self._probing)

    def probe_started(self, now: float) -> None:
        """The next probe comes later, and not before this one has ended: one that hangs takes one worker, not all."""
        self._probing = True
        self._probe_at = now + self._rng.uniform(0.9, 1.0) * self._interval
        self._interval = min(2 * self._interval, PROBE_MAX)

    def probe_ended(self) -> None:
        """However it went."""
        self._probing = False

    def probe_unused(self, now: float) -> None:
        """The target has no probe of its own: an event is one, now."""
        self._probe_at = min(self._probe_at, now)

    def next_probe(self) -> float | None:
        """When the next probe may start; None = closed, or one is under way."""
        return self._probe_at if self.is_open and not self._probing else None

    def succeeded(self, strand: str, started: float, now: float) -> list[Item]:
        """An event of this strand was delivered; its request had started at `started`.

        Return the events whose unclear failures have turned out to be their own: an attempt of each is spent.
        """
        self._successes = [*[(key, at) for key, at in self._successes if key != strand][-1:], (strand, now)]
        self._streak = 0
        proven = self._prove(strand, started)
        self._close_if_probe(started)
        return proven

    def probed(self, started: float) -> list[Item]:
        """The target's own probe, started at `started`, has succeeded. Returns the same as `succeeded`."""
        proven = self._prove(None, started)
        self.close()
        return proven

    def _prove(self, strand: str | None, started: float) -> list[Item]:
        self._worked_at = max(self._worked_at, started)
        # Only a request that started after a failure shows that the endpoint worked then.
        proven = [item for item, failed, _ in self._suspects if strand != item.strand.key and started >= failed]
        self._suspects = [(i, at, again) for i, at, again in self._suspects if strand == i.strand.key or started < at]
        for item in proven:
            item.tries.spend()
        return proven

    def _close_if_probe(self, started: float) -> None:
        # A request that was under way when the breaker opened says nothing about now, and Retry-After still holds.
        if self.opened_at is not None and started >= self.opened_at:
            self.close()

    def close(self) -> None:
        """The endpoint works."""
        self.opened_at, self.reason, self._interval = None, "", self._minimum

    def failed(self, item: Item, outcome: Outcome, started: float, now: float, *, counts: bool = True) -> Blame:
        """Decide about a failure. `counts`: false for a further event of a request that was counted already."""
        if outcome.verdict is Verdict.CONFLICT:
            return Blame.UNDECIDED
        if outcome.verdict is Verdict.MESSAGE:
            if outcome.shows:
                self._close_if_probe(started)
            return Blame.EVENT
        if outcome.verdict is Verdict.ENDPOINT and not outcome.likely:
            if not (outcome.login or outcome.wait or self.is_open) and self._other_succeeded(item, started):
                return Blame.UNDECIDED
            self.open(outcome, now)
            return Blame.ENDPOINT
        alone = outcome.likely and not self._other_succeeded(item, started)
        return self._unclear(item, outcome, now, counts=counts, limit=1 if alone else self._streak_limit)

    def open(self, outcome: Outcome, now: float) -> None:
        """It is the endpoint's failure, and so were the unclear ones before it, but for those that are so again."""
        if not self.is_open:
            self.opened_at, self._probing = now, False
            self._interval = self._minimum
            self._probe_at = now + self._minimum
        self.reason = outcome.reason
        self._suspects = [suspect for suspect in self._suspects if suspect[2]]
        wait = max(outcome.wait, LOGIN_INTERVAL if outcome.login else 0.0)
        if wait:
            self._probe_at = max(self._probe_at, now + wait)

    def _unclear(self, item: Item, outcome: Outcome, now: float, *, counts: bool, limit: int) -> Blame:
        self._streak += counts
        again = 0.0 < item.tries.unclear_at <= self._worked_at
        if not outcome.told:  # of a request with others nobody knows which of them it was
            item.tries.seem_unclear(now)
            if again or not self.is_open:
                self._suspects.append((item, now, again))
        if self.is_open:
            self.reason = outcome.reason
            return Blame.ENDPOINT
        if self._streak >= limit:
            self.open(outcome, now)
            return Blame.ENDPOINT
        return Blame.UNDECIDED

    def _other_succeeded(self, item: Item, started: float) -> bool:
        return any(key != item.strand.key and at >= started for key, at in self._successes)
