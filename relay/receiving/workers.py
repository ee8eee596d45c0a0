"""The worker threads: each takes a batch, hands it to its own link of the target, and returns the outcomes.

The threads outlive the sessions, because a request can: its outcome still counts after the connection to RabbitMQ is
gone. They never touch pika; an outcome is put into a list, and the loop is told.
"""

import collections
import dataclasses
import math
import queue
import threading
import time
from collections.abc import Callable, Sequence

from relay.delivery import Delivery, Event, Link, Outcome, Target, Verdict
from relay.errors import one_line, place
from relay.log import Log
from relay.receiving.lane import Item

_log = Log("receiver")


@dataclasses.dataclass(frozen=True, slots=True)
class Finished:
    """A batch that was tried (no outcome = it was not begun), or an empty batch: a probe (the target has none)."""

    batch: list[Item]
    outcomes: Sequence[Outcome]
    started: float  # monotonic seconds


class Workers:
    """A pool of threads.

    Args:
        target: opened once by each thread.
        count: threads, so requests at the same time.
    """

    def __init__(self, target: Target, count: int) -> None:
        self._target = target
        self._tasks: queue.SimpleQueue[list[Item] | None] = queue.SimpleQueue()
        self._finished: collections.deque[Finished] = collections.deque()
        self._lock = threading.Lock()
        self._wake: Callable[[], object] | None = None
        self._woken = False
        self.count = count
        self.begin_until = math.inf  # monotonic seconds; after it no thread begins a batch
        self.busy = 0  # batches given out and not yet collected; the loop's thread alone counts
        # Daemon threads: at the end of the grace time a request that hangs must not keep the process.
        self._threads = [threading.Thread(target=self._work, name=f"worker-{n}", daemon=True) for n in range(count)]
        for thread in self._threads:
            thread.start()

    def report_to(self, wake: Callable[[], object] | None) -> None:
        """Whom to tell, from any thread, that something has finished. None = nobody: the session has ended."""
        with self._lock:
            self._wake, self._woken = wake, False
        if self._finished:
            self._tell()

    @property
    def is_awake(self) -> bool:
        """Was the loop woken? Then threads with work before them wake it no more, until `collect` has found nothing."""
        return self._woken

    def may_begin(self) -> bool:
        """Is what we hold still ours to deliver?"""
        return time.monotonic() <= self.begin_until

    def start(self, batch: list[Item]) -> None:
        """Hand over a batch; an empty one is a probe. It begins when a thread is free."""
        self.busy += 1
        self._tasks.put(batch)

    def recall(self) -> list[list[Item]]:
        """Take back what no thread has begun."""
        found: list[list[Item]] = []
        while True:
            try:
                batch = self._tasks.get_nowait()
            except queue.Empty:
                return found
            if batch is not None:
                self.busy -= 1
                found.append(batch)

    def collect(self) -> list[Finished]:
        """What has finished since the last call."""
        found = self._taken()
        if not found:
            self._woken = False  # before looking again: who finishes from here on, tells
            found = self._taken()
        self.busy -= len(found)
        return found

    def _taken(self) -> list[Finished]:
        found: list[Finished] = []
        while self._finished:
            found.append(self._finished.popleft())
        return found

    def end(self, patience: float = 1.0) -> None:
        """Let idle threads end, and await it. Busy ones end with their request, or with the process.

        A thread that closes its connection while the interpreter exits made weakref's exit handler fail, with a
        traceback (`_exitfunc` walked over a registry in which urllib3's pools were): seen once in 900 runs.

        Args:
            patience: seconds for all of them together.
        """
        for _ in self._threads:
            self._tasks.put(None)
        until = time.monotonic() + patience
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _work(self) -> None:
        link = self._target.open()
        while (batch := self._tasks.get()) is not None:
            started = time.monotonic()
            outcomes = self._try(link, batch)
            self._finished.append(Finished(batch, outcomes, started))
            self._tell()
        link.close()

    def _tell(self) -> None:
        with self._lock:
            if self._wake and (not self._woken or self._tasks.empty()):  # at once, if a thread has nothing to do
                self._woken = True
                self._wake()

    def _try(self, link: Link, batch: list[Item]) -> Sequence[Outcome]:
        if not batch:
            return self._probe(link)
        return self._deliver(link, batch) if self.may_begin() else ()

    @staticmethod
    def _probe(link: Link) -> Sequence[Outcome]:
        try:
            outcome = link.probe()
        except Exception as error:  # noqa: BLE001
            _log.error("the target's probe has a defect, please report it", error=one_line(error), at=place(error))
            link.close()
            return []  # there is no way to ask: an event is the probe
        return [outcome] if outcome else []

    def _deliver(self, link: Link, batch: list[Item]) -> Sequence[Outcome]:
        """Its readable events in one request. The others no target can judge: nothing is known of what they mean."""
        readable = [item for item in batch if not item.event.problem]
        sent = iter(self._send(link, readable) if readable else ())
        return [_unreadable(item.event) if item.event.problem else next(sent) for item in batch]

    def _send(self, link: Link, batch: list[Item]) -> Sequence[Outcome]:
        try:
            outcomes = link.deliver([Delivery(item.event, item.tries.attempts + 1) for item in batch])
            if len(outcomes) != len(batch):
                raise ValueError(f"{len(outcomes)} outcomes for {len(batch)} events")
            return outcomes
        except Exception as error:  # noqa: BLE001
            # A defect of the target: the thread must go on, or its share of the work would stop without a word.
            link.close()  # what is left of an answer must not be taken for the next request's
            if len(batch) > 1:
                return self._send_halves(link, batch)
            event, said = batch[0].event, one_line(error)
            _log.error("defect in a target, please report it", error=said, at=place(error), event=event.id or None)
            # The one event that met it: the others of its batch came through, and so the endpoint works.
            return [Outcome(Verdict.MESSAGE, f"defect: {type(error).__name__} at {place(error)}")]

    def _send_halves(self, link: Link, batch: list[Item]) -> Sequence[Outcome]:
        """A defect counts for the event that met it: halving finds it. What was sent before may be sent again."""
        outcomes: list[Outcome] = []
        half = len(batch) // 2
        for part in (batch[:half], batch[half:]):
            may_begin = self.may_begin()
            outcomes += self._send(link, part) if may_begin else [Outcome(Verdict.CONFLICT, "not tried")] * len(part)
        return outcomes


def _unreadable(event: Event) -> Outcome:
    return Outcome(Verdict.MESSAGE, event.problem, final=True)
