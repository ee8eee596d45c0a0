"""Takes what may be delivered to the workers, and turns outcomes into acknowledgements or waits."""

import random
from collections.abc import Callable

from relay.delivery import Outcome, Verdict
from relay.dispatch import Dispatch, Item, Receipt
from relay.log import Log
from relay.workers import Workers


class Courier:
    """Between dispatch and workers; on the loop's thread.

    Args:
        dispatch: what is here.
        workers: who delivers.
        batch_size: events a request, at most.
        retry: (least, most) seconds of back-off after a failure.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        dispatch: Dispatch,
        workers: Workers,
        *,
        batch_size: int,
        retry: tuple[float, float],
        clock: Callable[[], float],
        log: Log,
    ) -> None:
        self._dispatch = dispatch
        self._workers = workers
        self._batch_size = batch_size
        self._retry = retry
        self._clock = clock
        self._log = log
        self._rng = random.Random()
        self.paused = False  # nothing new is given to the workers

    def start_ready(self) -> None:
        """Give free workers what is ready."""
        now = self._clock()
        while not self.paused and self._workers.busy < self._workers.count:
            batch = self._dispatch.take(now, self._batch_size)
            if not batch:
                return
            self._workers.start(batch)

    def collect(self) -> list[Receipt]:
        """Deal with what has finished. Return what may be acknowledged."""
        now = self._clock()
        receipts: list[Receipt] = []
        for batch, outcomes in self._workers.collect():
            for item, outcome in zip(batch, outcomes, strict=True):
                receipts += self._settle(item, outcome, now)
        return receipts

    def next_wake(self) -> float | None:
        """Seconds until a waiting key is ready; None = nothing waits."""
        wake = self._dispatch.next_wake()
        return None if wake is None else max(0.0, wake - self._clock())

    def _settle(self, item: Item, outcome: Outcome, now: float) -> list[Receipt]:
        if outcome.verdict is Verdict.DONE:
            # The one place where an event may leave RabbitMQ: the target has said that it has it.
            return self._dispatch.done(item, now)
        wait = max(self._backoff(item.failures), outcome.wait, outcome.running)
        event = item.event
        self._log.warning(
            "not delivered, will try again",
            event=event.id or None,
            key=event.key or None,
            reason=outcome.reason,
            attempt=item.failures + 1,
            wait_s=wait,
        )
        self._dispatch.again(item, now + wait, now, spent=True)
        return []

    def _backoff(self, failures: int) -> float:
        """Seconds, from the upper half of a span that doubles: keys that failed together do not come back together."""
        least, most = self._retry
        span = min(most, least * 2.0 ** min(failures, 32))
        return self._rng.uniform(span / 2, span)
