"""Takes what may be delivered to the workers, and turns outcomes into acknowledgements, waits and parking."""

import dataclasses
import math
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Protocol

from relay.backoff import Backoff
from relay.delivery import Event, Outcome, Verdict
from relay.log import Log
from relay.receiving.breaker import Blame, Breaker
from relay.receiving.decision import decide, is_last
from relay.receiving.deliveries import Deliveries, Rate
from relay.receiving.outage import OutageLog
from relay.receiving.ready import Patience
from relay.receiving.strand import Item, Receipt
from relay.receiving.strands import Strands
from relay.receiving.workers import Finished, Workers

# How long a batch waits to become full while other requests are under way: until it has not grown for the first time,
# and no longer than the second. (After a batch the window fills again message by message.) While no worker is free it
# would only lie there.
LINGER: Patience = (0.03, 0.25)
LINGER_BUSY: Patience = (0.5, 0.5)
LOGGED_FAILURES = 3  # of one event; after them a line for each further one would drown everything else


class Desk(Protocol):
    """Where a refused event goes. The session's."""

    def give_up(self, item: Item, reason: str, now: float) -> None:
        """Its last attempt has failed."""
        ...

    def waits(self, item: Item) -> None:
        """It has failed, and waits for its next try."""
        ...

    def still_waits(self, item: Item) -> bool:
        """Has nothing become of it since?"""
        ...

    def wake(self, strands: Collection[str], now: float) -> None:
        """What they wait for has come."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class _Policy:
    batch_size: int  # events a request, at most
    backoff: Backoff
    max_attempts: int  # an event's own failures until it is given up; 0 = never


class Dispatcher:
    """Between the strands and the workers; on the loop's thread.

    Args:
        strands: what is here.
        workers: who delivers.
        breaker: whose failure it is.
        batch_size: events a request, at most.
        retry: (least, most) seconds of back-off after a failure.
        max_attempts: an event's own failures until it is given up; 0 = never.
        max_rate: requests a second; 0 = no limit.
        clock: monotonic seconds.
        where: the endpoint, for the log.
    """

    def __init__(
        self,
        strands: Strands,
        workers: Workers,
        breaker: Breaker,
        *,
        batch_size: int,
        retry: tuple[float, float],
        max_attempts: int,
        max_rate: float,
        clock: Callable[[], float],
        log: Log,
        where: str = "",
    ) -> None:
        self._strands = strands
        self._workers = workers
        self.breaker = breaker
        self._policy = _Policy(batch_size, Backoff(*retry), max_attempts)
        self._rate = Rate(max_rate)
        # A few batches lie ready, so that a thread goes on without waiting for the loop. With a rate, each must count.
        ready = max(workers.count // 4, 1 if batch_size > 1 else 0)
        self._capacity = workers.count + (0 if max_rate else ready)
        self._clock = clock
        self._log = log
        self.outage = OutageLog(log, where)
        self._probe: list[Item] | None = None  # the batch that was started last while the breaker was open
        self._can_probe = True  # until the target says that it cannot
        self.desk: Desk | None = None
        self.paused = False  # nothing new is given to the workers
        self.budget: int | None = None  # so many events more may be delivered; None = no limit
        self.deliveries = Deliveries()

    def start_ready(self) -> None:
        """Give free workers what is ready."""
        now = self._clock()
        while not self.paused and self._workers.busy < self._capacity and now >= self._rate.next_start:
            if not self.breaker.may_start(now):
                return
            if not self._start_one(now):
                return

    def _start_one(self, now: float) -> bool:
        batch: list[Item] = []
        if not (self.breaker.is_open and self._can_probe):
            maximum = self._policy.batch_size if self.budget is None else min(self._policy.batch_size, self.budget)
            batch = self._strands.take(now, maximum, *self._minimum(maximum)) if maximum else []
            if not batch:
                return False
            if self.budget is not None:
                self.budget -= len(batch)
        self._workers.start(batch)
        if self.breaker.is_open:
            self._probe = batch
            self.breaker.probe_started(now)
        self._rate.started(now)
        return True

    def _may_start_one(self, now: float) -> bool:
        return self._workers.busy < self._capacity and self.budget != 0 and self.breaker.may_start(now)

    def _minimum(self, maximum: int) -> tuple[int, Patience]:
        """How many events make a batch, and how long do fewer wait?"""
        if not self._workers.busy:
            return 1, (0.0, 0.0)  # on a quiet system a single row is never held back
        return maximum, LINGER if self._workers.busy < self._workers.count else LINGER_BUSY

    def pause(self) -> None:
        """Give nothing new to the workers, and take back what they have not begun."""
        self.paused = True
        self._recall()

    def _recall(self) -> None:
        for batch in self._workers.recall():
            self._end_probe(batch)
            self._put_back(batch, self._clock())

    def _end_probe(self, batch: list[Item]) -> None:
        if batch is self._probe:
            self._probe = None
            self.breaker.probe_ended()

    def _put_back(self, batch: list[Item], now: float) -> None:
        for item in batch:
            self._strands.again(item, now, now, spent=False)
        if self.budget is not None:
            self.budget += len(batch)

    def collect(self) -> list[Receipt]:
        """Deal with what has finished. Return what may be acknowledged."""
        now = self._clock()
        receipts: list[Receipt] = []
        for finished in self._workers.collect():
            self._end_probe(finished.batch)
            if finished.batch and not finished.outcomes:
                self._put_back(finished.batch, now)
            elif finished.batch:
                self._wake([event for outcome in finished.outcomes for event in outcome.wakes], now)
                unclear = False  # a request is one piece of evidence, however many events were in it
                for item, outcome in zip(finished.batch, finished.outcomes, strict=True):
                    receipts += self._settle(item, outcome, finished.started, now, counts=not unclear)
                    unclear = unclear or outcome.verdict is Verdict.UNCLEAR
            else:
                self._probed(finished, now)
        return receipts

    def go_on(self, events: Sequence[Event]) -> None:
        """What these wait for has come, or never will."""
        self._wake(events, self._clock())

    def _wake(self, events: Sequence[Event], now: float) -> None:
        strands = {self._strands.strand_key(event) for event in events}
        if strands:
            self._strands.wake(strands, now)
            if self.desk:
                self.desk.wake(strands, now)

    def next_wake(self) -> float | None:
        """Seconds until something may be started that may not be now; None = nothing waits."""
        if self.paused:
            return None
        now, probe = self._clock(), self.breaker.next_probe()
        times = [probe] if probe is not None and probe > now else []
        if self._may_start_one(now):  # else the end of a request, or the next probe, is what we wait for
            ready = self._strands.ready
            due = (ready.next_wake(), ready.next_ripe(self._minimum(self._policy.batch_size)[1]))
            times += [max(at, self._rate.next_start) for at in due if at is not None]
        return max(0.0, min(times) - now) if times else None

    def _probed(self, finished: Finished, now: float) -> None:
        outcome = finished.outcomes[0] if finished.outcomes else None
        if outcome is None:
            self._can_probe = False
            self.breaker.probe_unused(now)
        elif outcome.verdict is Verdict.DONE:
            opened_at = self.breaker.opened_at
            self._prove(self.breaker.probed(finished.started), now)
            self._report_if_closed(opened_at, now)
        else:
            self.breaker.open(outcome, now)

    def _settle(self, item: Item, outcome: Outcome, started: float, now: float, *, counts: bool) -> list[Receipt]:
        opened_at = self.breaker.opened_at
        if self._log.debugs:
            reason = outcome.reason or None
            self._log.debug("event answered", event=item.event.id, verdict=outcome.verdict.value, reason=reason)
        if outcome.verdict is Verdict.DONE:
            if outcome.shows:
                self._prove(self.breaker.succeeded(item.strand.key, started, now), now)
                self._report_if_closed(opened_at, now)
            self.deliveries.have_succeeded(item, now)
            # It may leave RabbitMQ: the target has said that it has it.
            return self._strands.done(item, now)
        self.deliveries.have_failed(item, outcome.verdict)
        if self.budget is not None:
            self.budget += 1
        blame = self.breaker.failed(item, outcome, started, now, counts=counts)
        self._report_if_closed(opened_at, now)
        if opened_at is None and self.breaker.is_open:
            self.outage.began(outcome, now)
            self._recall()
        self._retry_or_park(item, outcome, blame, now)
        return []

    def _retry_or_park(self, item: Item, outcome: Outcome, blame: Blame, now: float) -> None:
        desk, tries = self.desk, item.tries
        # Unclear, it goes behind the others also while the breaker is open: always the same would be the probe.
        own = blame is not Blame.ENDPOINT or outcome.verdict is Verdict.UNCLEAR
        tries.failed(outcome.reason, retry=own, running_until=now + outcome.running)
        can_park = desk is not None and item.receipt is not None
        decision = decide(tries, outcome, blame, max_attempts=self._policy.max_attempts, can_park=can_park)
        if desk and decision.gives_up:
            tries.spend(decision.spent)
            desk.give_up(item, outcome.reason, now)
            return
        pause = self._policy.backoff.delay(decision.failures - 1) if decision.failures else 0.0
        if blame is not Blame.ENDPOINT:
            pause = max(pause, outcome.wait)
            self._report(item, outcome, blame, max(pause, outcome.running))
        not_before = self._bunched(now + max(pause, outcome.running), pause)
        self._strands.again(item, not_before, now, spent=decision.spent)
        if desk and blame is not Blame.ENDPOINT:
            desk.waits(item)

    def _bunched(self, wake: float, pause: float) -> float:
        """Where events share requests, those that wait come back a few times together, not one by one."""
        if self._policy.batch_size == 1 or not pause:
            return wake
        grid = 2.0 ** (math.floor(math.log2(pause)) - 1)  # the same for waits of about the same length
        return math.ceil(wake / grid) * grid

    def _prove(self, items: Iterable[Item], now: float) -> None:
        """Unclear failures have turned out to be the events' own: they wait, or are parked after the last attempt."""
        for item in items:
            tries = item.tries
            if tries.not_before <= now:  # it has waited for the endpoint alone
                tries.wait_as_own(now + self._policy.backoff.delay(tries.attempts - 1))
            desk = self.desk if item.receipt and is_last(tries.attempts, self._policy.max_attempts) else None
            if desk and desk.still_waits(item):
                desk.give_up(item, tries.reason, now)

    def _report(self, item: Item, outcome: Outcome, blame: Blame, pause: float) -> None:
        # A conflict ends by itself, and may be met by thousands of rows: their target says it in one line.
        quiet = outcome.told or outcome.verdict is Verdict.CONFLICT
        loud = item.tries.failed_tries <= LOGGED_FAILURES and not quiet
        write = self._log.warning if loud else self._log.debug
        event = item.event
        write(
            "not delivered, will try again",
            event=event.id or None,
            key=event.key or None,
            reason=outcome.reason,
            attempt=item.tries.attempts + (blame is Blame.EVENT),
            wait_s=pause,
        )

    def _report_if_closed(self, opened_at: float | None, now: float) -> None:
        if opened_at is not None and not self.breaker.is_open:
            self.outage.ended(now - opened_at)
