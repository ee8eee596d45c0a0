"""The workers: each takes a batch, hands it to its own link of the target, and returns the outcomes.

They are tasks of the one event loop, and outlive the sessions, because a request can: its outcome still counts after
the connection to RabbitMQ is gone.
"""

import asyncio
import dataclasses
import functools
import math
import time
from collections.abc import Callable, Sequence

from relay.daemon import check_end
from relay.delivery import NOT_TRIED, Delivery, Event, Link, Outcome, Target, Verdict
from relay.errors import one_line, place
from relay.log import Log
from relay.receiving.strand import Item

_log = Log("receiver")


@dataclasses.dataclass(frozen=True, slots=True)
class Finished:
    """A batch that was tried (no outcome = it was not begun), or an empty batch: a probe (the target has none)."""

    batch: list[Item]
    outcomes: Sequence[Outcome]
    started: float  # monotonic seconds


class Workers:
    """A pool of tasks. To be made on the running loop.

    Args:
        target: opened once by each of them.
        count: so many requests at the same time.
        is_deleted: has a later event come that deletes the row of this one?
    """

    def __init__(self, target: Target, count: int, is_deleted: Callable[[Item], bool] = lambda _item: False) -> None:
        self._loop = asyncio.get_running_loop()
        self._target = target
        self._is_deleted = is_deleted
        self._batches: asyncio.Queue[list[Item]] = asyncio.Queue()
        self._finished: list[Finished] = []
        self._report: Callable[[], None] | None = None
        self._is_up: Callable[[], bool] = lambda: True
        self._reporting = False  # a report is on its way
        self.count = count
        self.begin_until = math.inf  # monotonic seconds; after it nothing is sent
        self.busy = 0  # batches given out and not yet collected
        self._follows = _log.debugs
        self._tasks = [self._loop.create_task(self._work(), name=f"worker {n}") for n in range(count)]
        for task in self._tasks:
            task.add_done_callback(check_end)

    def report_to(self, report: Callable[[], None] | None, is_up: Callable[[], bool] = lambda: True) -> None:
        """Whom to tell that something has finished: once for all that does in one turn of the loop. None = nobody:
        the session has ended. is_up: does its connection stand?
        """
        self._report, self._is_up = report, is_up
        if self._finished:
            self._tell()

    def may_begin(self) -> bool:
        """Is what we hold still ours to deliver? Asked right before a request is written: after a standstill of the
        process sockets may be served before anything else, and the endpoint's before RabbitMQ's.
        """
        return time.monotonic() <= self.begin_until and self._is_up()

    def start(self, batch: list[Item]) -> None:
        """Hand over a batch; an empty one is a probe. It begins when a worker is free."""
        self.busy += 1
        self._batches.put_nowait(batch)

    def recall(self) -> list[list[Item]]:
        """Take back what no worker has begun."""
        found = [self._batches.get_nowait() for _ in range(self._batches.qsize())]
        self.busy -= len(found)
        return found

    def collect(self) -> list[Finished]:
        """What has finished since the last call."""
        found, self._finished = self._finished, []
        self.busy -= len(found)
        return found

    async def end(self, patience: float = 1.0) -> None:
        """End all workers, and await it. What is still under way is broken off.

        Args:
            patience: seconds for all of them together: a target that hangs must not keep the process.
        """
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks, timeout=patience)

    async def _work(self) -> None:
        link = self._target.open(self.may_begin)
        try:
            while True:
                batch = await self._batches.get()
                started = time.monotonic()
                outcomes = await self._try(link, batch)
                self._finished.append(Finished(batch, outcomes, started))
                self._tell()
        finally:
            link.close()

    def _tell(self) -> None:
        if not self._reporting and self._report is not None:
            self._reporting = True
            self._loop.call_soon(self._tell_now)

    def _tell_now(self) -> None:
        self._reporting = False
        if self._report is not None:
            self._report()

    async def _try(self, link: Link, batch: list[Item]) -> Sequence[Outcome]:
        if not batch:
            return await self._probe(link)
        outcomes = await self._deliver(link, batch)
        return () if all(outcome is NOT_TRIED for outcome in outcomes) else outcomes

    @staticmethod
    async def _probe(link: Link) -> Sequence[Outcome]:
        try:
            outcome = await link.probe()
        except Exception as error:  # noqa: BLE001
            _log.error("the target's probe has a defect, please report it", error=one_line(error), at=place(error))
            link.close()
            return []  # there is no way to ask: an event is the probe
        return [outcome] if outcome else []

    async def _deliver(self, link: Link, batch: list[Item]) -> Sequence[Outcome]:
        """Its readable events in one request. The others no target can judge: nothing is known of what they mean."""
        readable = [item for item in batch if not item.event.problem]
        sent = iter(await self._send(link, readable) if readable else ())
        return [_unreadable(item.event) if item.event.problem else next(sent) for item in batch]

    async def _send(self, link: Link, batch: list[Item]) -> Sequence[Outcome]:
        if self._follows:
            for item in batch:
                _log.debug("event sent", event=item.event.id, attempt=item.tries.attempts + 1)
        try:
            outcomes = await link.deliver([self._delivery(item) for item in batch])
            if len(outcomes) != len(batch):
                raise ValueError(f"{len(outcomes)} outcomes for {len(batch)} events")
            return outcomes
        except Exception as error:  # noqa: BLE001
            # A defect of the target: the worker must go on, or its share of the work would stop without a word.
            link.close()  # what is left of an answer must not be taken for the next request's
            if len(batch) > 1:
                return await self._send_halves(link, batch)
            event, said = batch[0].event, one_line(error)
            _log.error("defect in a target, please report it", error=said, at=place(error), event=event.id or None)
            # The one event that met it: the others of its batch came through, and so the endpoint works.
            return [Outcome(Verdict.MESSAGE, f"defect: {type(error).__name__} at {place(error)}")]

    def _delivery(self, item: Item) -> Delivery:
        return Delivery(item.event, item.tries.attempts + 1, functools.partial(self._is_deleted, item))

    async def _send_halves(self, link: Link, batch: list[Item]) -> Sequence[Outcome]:
        """A defect counts for the event that met it: halving finds it. What was sent before may be sent again."""
        outcomes: list[Outcome] = []
        half = len(batch) // 2
        for part in (batch[:half], batch[half:]):
            outcomes += await self._send(link, part)
        return outcomes


def _unreadable(event: Event) -> Outcome:
    return Outcome(Verdict.MESSAGE, event.problem, final=True, shows=False)
