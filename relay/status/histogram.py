"""How long things took, counted by size: for /metrics. Pure."""

import bisect
from collections.abc import Sequence

# Seconds: from what a quiet system takes to what only an outage does.
BOUNDS = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    300.0,
    1800.0,
    7200.0,
)


class Histogram:
    """Lives as long as the process."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS) + 1)
        self.sum = 0.0  # seconds

    def observe(self, seconds: float) -> None:
        """One more took so long. A clock that was set back counts as 0."""
        seconds = max(0.0, seconds)
        self._counts[bisect.bisect_left(BOUNDS, seconds)] += 1
        self.sum += seconds

    def observe_until(self, now: int, begun: Sequence[int]) -> None:
        """Some more have ended now; all times in microseconds.

        A batch is mostly in one bucket, and then it is one step: an event each would cost the listener 3 % (measured).
        """
        least, most = max(0, now - max(begun)) / 1e6, max(0, now - min(begun)) / 1e6
        bucket = bisect.bisect_left(BOUNDS, least)
        if least > 0 and bucket == bisect.bisect_left(BOUNDS, most):
            self._counts[bucket] += len(begun)
            self.sum += (now * len(begun) - sum(begun)) / 1e6
        else:
            for each in begun:
                self.observe((now - each) / 1e6)

    def buckets(self) -> list[tuple[str, float]]:
        """How many took at most so long, for each bound and for `+Inf`: as Prometheus counts."""
        found, total = [], 0
        for bound, count in zip((*map(str, BOUNDS), "+Inf"), self._counts, strict=True):
            total += count
            found.append((bound, float(total)))
        return found
