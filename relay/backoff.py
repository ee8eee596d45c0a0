"""How long to wait before the next try. Pure: it never sleeps itself."""

import random


class Backoff:
    """Exponential back-off with jitter.

    The n-th delay is drawn from the upper half of `minimum * 2**n`, so that many clients of one server that failed
    together do not come back together; it is never above `maximum`.

    Args:
        minimum: first delay, seconds (> 0).
        maximum: upper bound, seconds (>= minimum).
        rng: source of randomness; a seeded one makes the delays repeatable.
    """

    def __init__(self, minimum: float, maximum: float, rng: random.Random | None = None) -> None:
        self._minimum = minimum
        self._maximum = maximum
        self._rng = rng or random.Random()
        self._tries = 0

    def next(self) -> float:
        """Return the next delay in seconds."""
        self._tries += 1
        return self.delay(self._tries - 1)

    def delay(self, tries: int) -> float:
        """Return the delay in seconds after so many others (>= 0); for who counts by itself, many things at once."""
        ceiling = min(self._maximum, self._minimum * 2.0 ** min(max(0, tries), 32))
        return float(self._rng.uniform(ceiling / 2, ceiling))

    def reset(self) -> None:
        """Begin again at `minimum`: the thing has worked."""
        self._tries = 0
