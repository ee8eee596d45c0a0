"""When all that is in the outbox is read once more, from the beginning. Pure."""

# Seconds from the end of one to the next, when idle; and at least so many times what it took.
SWEEP_INTERVAL, SWEEP_SHARE = 60.0, 10.0


class Sweeps:
    """One ends when reading has come as far again as it was before.

    None begins sooner than `SWEEP_SHARE` times what the last one took after its end: whoever asks for one again and
    again would have nothing else read.

    Args:
        now: the session begins, and reads all anyway; in seconds, as of all `now`.
    """

    def __init__(self, now: float) -> None:
        self._since: float | None = None
        self._high = 0
        self._rests_until, self._next = 0.0, now + SWEEP_INTERVAL
        self.is_wanted = False
        """Has somebody asked for one that has not begun?"""

    def begin(self, now: float, high: int) -> None:
        """One begins, and reading had come to this number."""
        self._since, self._high, self.is_wanted = now, high, False

    def have_read(self, sent_at: float, high: int, now: float, *, whole: bool) -> None:
        """What was sent at `sent_at` was taken in, and has come to this number, or (`whole`) to the end."""
        if self._since is None or sent_at < self._since or not (whole or high >= self._high):
            return
        rest = SWEEP_SHARE * (now - self._since)
        self._since = None
        self._rests_until, self._next = now + min(SWEEP_INTERVAL, rest), now + max(SWEEP_INTERVAL, rest)

    def rest(self, now: float) -> float | None:
        """Seconds until one may begin; None = one is under way."""
        return None if self._since is not None else max(0.0, self._rests_until - now)

    def is_due(self, now: float) -> bool:
        """When idle: is it time for one that nobody has asked for?"""
        return self._since is None and now > self._next
