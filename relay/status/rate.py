"""How much happened in the last minute. Pure."""

import collections

EVERY, OVER = 5.0, 60.0  # seconds between two counts, and between the two that make a rate


class Rate:
    """Of counts that only grow.

    Args:
        now: monotonic seconds.
        kinds: how many are counted.
    """

    def __init__(self, now: float, kinds: int) -> None:
        counts = (now, (0,) * kinds)
        self._counts: collections.deque[tuple[float, tuple[int, ...]]] = collections.deque(
            [counts], maxlen=int(OVER / EVERY) + 1
        )

    def tick(self, now: float, *counts: int) -> None:
        """Often called: so many there are."""
        if now - self._counts[-1][0] >= EVERY:
            self._counts.append((now, counts))

    def a_minute(self, now: float, *counts: int) -> list[float]:
        """How many of each kind came in the last minute; in its first one, since it began."""
        at, before = self._counts[0]
        minutes = max(now - at, OVER) / 60
        return [round((count - old) / minutes, 1) for count, old in zip(counts, before, strict=True)]
