"""How many commands are taken in a second: a token bucket whose rate may change; and of how much time. Pure."""

import contextlib
import time
from collections.abc import Callable, Iterator

SHARE = 0.1  # of the loop's time
TURN = 0.005  # seconds


class Pace:
    """A bucket.

    Args:
        rate: how many a second, as things are now; above 0.
        burst: how many at once, after a pause.
        together: how many the next turn is for, if there are so many: each turn wakes both sides up.
        clock: monotonic seconds.
    """

    def __init__(
        self, rate: Callable[[], float], burst: int, together: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate = rate
        self._burst = burst
        self._together = together
        self._clock = clock
        self._tokens = float(burst)
        self._at = clock()

    def take(self) -> bool:
        """May one more be taken now? Then it counts."""
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate())
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    @property
    def wait(self) -> float:
        """Seconds until the next turn."""
        return max(0.0, self._together - self._tokens) / self._rate()


class Share:
    """A share of a thread's time: turns, and pauses between them that are as long as they must be.

    Args:
        share: as things are now.
        clock: monotonic seconds.
        spent: seconds of the processor's time that this thread has had.
    """

    def __init__(
        self,
        share: Callable[[], float] = lambda: SHARE,
        clock: Callable[[], float] = time.monotonic,
        spent: Callable[[], float] = time.thread_time,
    ) -> None:
        self._share = share
        self._clock = clock
        self._spent = spent
        self._began: float | None = None  # of the turn under way
        self._more = 0.0  # seconds that were spent elsewhere
        self._next_at = 0.0

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """What is done inside counts."""
        self._began = self._spent()
        try:
            yield
        finally:
            self._next_at = self._clock() + (self._spent() - self._began + self._more) / self._share()
            self._began, self._more = None, 0.0

    def charge(self, seconds: float) -> None:
        """Add what was spent elsewhere to this turn, or the next one."""
        self._more += seconds

    @property
    def is_over(self) -> bool:
        """Should the turn under way end?"""
        return self._began is not None and self._spent() - self._began + self._more >= TURN

    @property
    def wait(self) -> float:
        """Seconds until the next turn."""
        return max(0.0, self._next_at - self._clock())
