"""One-shot mode: deliver what is there, and end. For cron."""

import time

from relay.config import Receive
from relay.daemon import EX_OK, EX_TEMPFAIL
from relay.log import Log
from relay.receiving.chore import Chore
from relay.receiving.lease import parked_name
from relay.receiving.receiver import Receiver

LOOK_EVERY = 0.2  # seconds between two looks whether all is done

_log = Log("receiver")


class Drain:
    """Runs one session until the queue is empty, `limit` events are delivered, or `max_seconds` are over.

    Args:
        limit: exactly so many deliveries at most; None = all.
        max_seconds: from now on; what is in flight then is awaited. None = as long as it takes.
    """

    def __init__(self, config: Receive, receiver: Receiver, limit: int | None, max_seconds: float | None) -> None:
        self._config = config
        self._receiver = receiver
        self._end = None if max_seconds is None else time.monotonic() + max_seconds
        self._limit = limit
        self._status = EX_OK
        self._why = ""

    async def run(self) -> int:
        """Return the exit status: 0, or 75 where something must be tried again later. Raises RelayError."""
        receiver, dispatcher = self._receiver, self._receiver.parts.dispatcher
        dispatcher.budget = self._limit
        receiver.session.call_later(LOOK_EVERY, self._look)
        receiver.chores.append(Chore(lambda _now: self._is_idle(), self._count))
        await receiver.run()
        _log.info("queue drained", delivered=dispatcher.deliveries.delivered, why=self._why or "asked to stop")
        return self._status

    def _look(self) -> None:
        receiver = self._receiver
        receiver.session.call_later(LOOK_EVERY, self._look)
        dispatcher, index = receiver.parts.dispatcher, receiver.parts.index
        if self._end is not None and time.monotonic() > self._end:
            self._finish("time is over")
        elif self._limit is not None and dispatcher.deliveries.delivered >= self._limit:
            self._finish("limit reached")
        elif dispatcher.breaker.is_open:
            self._status = EX_TEMPFAIL
            self._finish(f"the endpoint does not work: {dispatcher.breaker.reason}")
        elif receiver.lot.is_full and not receiver.parts.strands.events and index.is_quiet():
            self._status = EX_TEMPFAIL
            self._finish("the parking lot is full")
        elif self._is_idle():
            receiver.wake()  # then `_count` looks into the queue, from the main flow

    def _is_idle(self) -> bool:
        """Has everything that is here been seen to? While it is not open, what was given back may not be there yet."""
        receiver = self._receiver
        is_empty = not receiver.parts.strands.events and receiver.parts.index.is_quiet()
        return is_empty and receiver.consumer.is_open and not receiver.lot.unpark.active

    async def _count(self, _now: float) -> None:
        receiver = self._receiver
        if (await receiver.fence.count(self._config.queue))[0]:
            return
        await receiver.consumer.catch_up()  # "none are left" may be here before the last ones
        if not receiver.parts.strands.events:
            refused = receiver.parts.index.dead
            self._finish(f"{refused} refused events in {parked_name(self._config.queue)}" if refused else "all done")

    def _finish(self, why: str) -> None:
        if not self._why:
            self._why = why
            self._receiver.stop()
