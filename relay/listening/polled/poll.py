"""How a source that can't wake us is waited for: polled, gently."""

import time
from collections import deque
from collections.abc import Callable

from relay.amqp.session import Session
from relay.listening.timed_rest import TimedRest

POLL_MIN, POLL_MAX = 0.02, 0.25  # seconds between two reads that find nothing
PATIENCE = 2.0  # seconds without an event until they grow rarer
GROWTH = 1.1  # a quarter of a second after 2.5 s more: in the five seconds after an event 2 % of a core, not 4 %
# Times what a read costs, at least: with an old snapshot open an empty one takes 19-43 ms (measured). The cheapest of
# some: on a busy machine one in ten takes 20 ms to be answered, and ten times that is no answer to it.
SHARE, SAMPLES = 10.0, 5
WAIT_MOST = 2.0  # seconds: whatever a read costs, what is new is seen then


class Poll(TimedRest):
    """See source.Rest.

    Args:
        session: holds the timer.
        longest: seconds; POLL_INTERVAL, if it is below POLL_MAX.
        cost: seconds that the last read took.
        go_on: called when it is time to read.
    """

    def __init__(self, session: Session, longest: float, cost: Callable[[], float], go_on: Callable[[], None]) -> None:
        super().__init__(session, go_on)
        self._longest = min(POLL_MAX, longest)
        self._cost = cost
        self._costs: deque[float] = deque(maxlen=SAMPLES)
        self._interval = POLL_MIN
        self._found_at = time.monotonic()

    @property
    def told(self) -> str:
        """How it is woken, for `status`."""
        return "polling"

    def have_read(self, *, found: int, whole: bool, xmin: int) -> None:  # noqa: ARG002 - of no transaction
        """A read has been taken in; after one that found something there is another."""
        self.must_read = self.must_read or bool(found) or not whole
        self._costs.append(self._cost())
        now = time.monotonic()
        if found:
            self._found_at, self._interval = now, POLL_MIN
        elif now - self._found_at > PATIENCE:
            self._interval = min(self._longest, self._interval * GROWTH)

    def unlock(self) -> bool:
        """Nothing is locked."""
        return False

    def step(self) -> bool:
        """Nothing to read: come back in a while."""
        if not self.must_read and self._timer is None:
            wait = max(min(self._interval, self._longest), SHARE * min(self._costs, default=0.0))
            self._come_back(min(WAIT_MOST, wait))
        return False
