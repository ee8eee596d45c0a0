"""How long things took, counted by size: for /metrics. Pure."""

import bisect

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

    def buckets(self) -> list[tuple[str, float]]:
        """How many took at most so long, for each bound and for `+Inf`: as Prometheus counts."""
        found, total = [], 0
        for bound, count in zip((*map(str, BOUNDS), "+Inf"), self._counts, strict=True):
            total += count
            found.append((bound, float(total)))
        return found
