"""Now and then: are the lease, the exchange, the queues and the bindings still there?"""

import time

from relay.amqp.session import Session
from relay.receiving import lease
from relay.receiving.management import Lookout
from relay.receiving.queues import Declared

LOOK_SECONDS = 60.0  # between two looks


class Upkeep:
    """Looks, and makes again what is lost.

    Args:
        queue: whose lease it is.
        declared: makes the exchange, the queues and the bindings.
        lookout: looks at what AMQP does not tell; None = nobody does.
    """

    def __init__(self, session: Session, queue: str, declared: Declared, lookout: Lookout | None) -> None:
        self._session = session
        self._queue = queue
        self._declared = declared
        self._lookout = lookout
        self._look_at = 0.0  # monotonic seconds
        self._looking_out = False

    def begin(self) -> None:
        """Everything is there, for it was just made."""
        self._look_later()
        if self._lookout is not None:
            self._lookout.tell_arguments(self._session.version)
            self._lookout.begin()

    def tick(self, now: float) -> None:
        """Have the lookout begin, in time. `now`: monotonic seconds."""
        if self._lookout is not None and now >= self._look_at and not self._looking_out:
            self._looking_out = True
            self._lookout.begin()

    def is_due(self, now: float) -> bool:
        """Is it time for `look`? Not before the lookout has seen what is missing: it could not tell afterwards."""
        return now >= self._look_at and (self._lookout is None or (self._looking_out and not self._lookout.busy))

    async def look(self, _now: float) -> None:
        """From the main flow. Raises RelayError."""
        await lease.take(self._session, self._queue)
        await self._declared.look(self._session)
        self._look_later()

    def _look_later(self) -> None:
        self._look_at, self._looking_out = time.monotonic() + LOOK_SECONDS, False
