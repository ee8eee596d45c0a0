"""Plain notifications on their way into the outbox, at most so many bytes of them.

Any login may send them (LISTEN_CHANNELS), 8 kB each and as many as it likes in one transaction. They arrive on a
connection of their own, which is not read while there are too many: PostgreSQL keeps them meanwhile, and the outbox is
worked on, on the other connection, as ever.
"""

from collections import deque
from collections.abc import Callable

BYTES_MAX = 4 << 20  # above it nothing more is read
BATCH = 1000  # notifications in one statement

Text = str | bytes
"""Bytes where the database is not UTF-8, and only it knows what they mean."""


class Inlet:
    """Notifications that are not in the outbox yet.

    Args:
        arrived: called when there are some.
    """

    pause: Callable[..., None]
    """Called with reading=False to stop what brings them, and with reading=True to let it go on."""

    def __init__(self, arrived: Callable[[], None]) -> None:
        self._arrived = arrived
        self._waiting: deque[tuple[Text, Text]] = deque()
        self._bytes = 0
        self._paused = False

    @property
    def waiting(self) -> bool:
        """Is there something to be stored?"""
        return bool(self._waiting)

    @property
    def is_full(self) -> bool:
        """Is nothing more to be read?"""
        return self._paused

    def notified(self, channel: Text, payload: Text) -> None:
        """One has arrived."""
        self._waiting.append((channel, payload))
        self._bytes += len(payload)
        if self._bytes > BYTES_MAX and not self._paused:
            self._paused = True
            self.pause(reading=False)
        self._arrived()

    def take(self) -> tuple[list[Text], list[Text]]:
        """Take the next ones out, to be stored in one statement: their channels and their payloads."""
        batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
        self._bytes -= sum(len(payload) for _, payload in batch)
        if self._paused and self._bytes < BYTES_MAX / 2:
            self._paused = False
            self.pause(reading=True)
        return [channel for channel, _ in batch], [payload for _, payload in batch]
