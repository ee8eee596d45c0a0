"""How many commands are taken in a second: a token bucket whose rate may change. Pure."""

import time
from collections.abc import Callable


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
