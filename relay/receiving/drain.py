"""One-shot mode: deliver what is there, and end. For cron."""

import time

from relay.config import Receive
from relay.daemon import EX_OK, EX_TEMPFAIL
from relay.log import Log
from relay.receiving.lease import parked_name
from relay.receiving.receiver import Session

LOOK_EVERY = 0.2  # seconds between two looks whether all is done

_log = Log("receiver")


class Drain:
    """Runs one session until the queue is empty, `limit` events are delivered, or `max_seconds` are over.

    Args:
        limit: exactly so many deliveries at most; None = all.
        max_seconds: from now on; what is in flight then is awaited. None = as long as it takes.
    """

    def __init__(self, config: Receive, session: Session, limit: int | None, max_seconds: float | None) -> None:
        self._config = config
        self._session = session
        self._end = None if max_seconds is None else time.monotonic() + max_seconds
        self._limit = limit
        self._status = EX_OK
        self._why = ""

    def run(self) -> int:
        """Return the exit status: 0, or 75 where something must be tried again later. Raises RelayError."""
        session, dispatcher = self._session, self._session.parts.dispatcher
        dispatcher.budget = self._limit
        session.wire.loop.call_later(LOOK_EVERY, self._look)
        session.on_chores = self._count
        session.run()
        _log.info("drained", delivered=dispatcher.delivered, why=self._why or "asked to stop")
        return self._status

    def _look(self) -> None:
        session, loop = self._session, self._session.wire.loop
        loop.call_later(LOOK_EVERY, self._look)
        dispatcher, index = session.parts.dispatcher, session.parts.index
        if self._end is not None and time.monotonic() > self._end:
            self._finish("time is over")
        elif self._limit is not None and dispatcher.delivered >= self._limit:
            self._finish("limit reached")
        elif dispatcher.breaker.is_open:
            self._status = EX_TEMPFAIL
            self._finish(f"the endpoint does not work: {dispatcher.breaker.reason}")
        elif session.is_full and not session.parts.lanes.events and index.is_quiet():
            self._status = EX_TEMPFAIL
            self._finish("the waiting room is full")
        elif session.consumer.is_open and not session.parts.lanes.events and index.is_quiet():
            session.wire.interrupt()  # then `_count` looks into the queue, from the main flow

    def _count(self) -> None:
        session = self._session
        if not session.consumer.is_open:
            return  # what it has just given back may not be in the queue again yet
        if session.parts.lanes.events or not session.parts.index.is_quiet() or session.unpark.active:
            return
        if session.wire.count(self._config.queue)[0]:
            return
        session.consumer.catch_up()  # "none are left" may be here before the last ones
        if not session.parts.lanes.events:
            refused = session.parts.index.dead
            self._finish(f"{refused} refused events in {parked_name(self._config.queue)}" if refused else "all done")

    def _finish(self, why: str) -> None:
        if not self._why:
            self._why = why
            self._session.stop()
