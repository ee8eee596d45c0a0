"""What RabbitMQ has confirmed and the outbox still holds: carried from session to session, deleted first. Pure.

A session that begins without it publishes those events once more: 13 copies of each in 12 s, where the right to delete
was gone. It is void once another listener may have been at work in between: that one may have begun to send them again
and died in the middle, and the rest of them must not be taken from under its tail (in the queue 1 2 3 1). And it is
void once PostgreSQL has forgotten a DELETE: what that one took is sent again, and what follows it must be, too.
"""

import random

from relay.listening.event import OutboxEvent, Row


class Confirmed:
    """The rows of the confirmed events of one process; not their bodies, they are large."""

    def __init__(self) -> None:
        self._rows: dict[int, Row] = {}
        self.last: dict[int, Row] = {}
        """One of the events that were deleted last. DELETE does not wait for the disk: what a crash forgets are the
        last commits, so if this one is gone, all are. Empty = none was."""
        self.turn = 0
        """This process's last one, as TAKE gave it; 0 = it had none yet."""
        self.step = random.SystemRandom().randint(1, (1 << 31) - 1)
        """By how much TAKE raises the turn for this process: not 1, or after a failover or a crash of PostgreSQL that
        has forgotten our turn another's would look like ours."""

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, seq: int) -> bool:
        return seq in self._rows

    def took(self, turn: int) -> None:
        """TAKE has given us this turn. What is between it and our last one must be ours: TAKEs without an answer."""
        if turn <= self.turn or (turn - self.turn) % self.step:
            self.void()
        self.turn = turn

    def void(self) -> None:
        """All that is in the outbox is to be sent again: `last` is there once more, for example."""
        self._rows.clear()
        self.last = {}

    def add(self, event: OutboxEvent) -> None:
        """The broker has the event safe."""
        self._rows[event.seq] = event.row

    def batch(self) -> dict[int, Row]:
        """Return all of them as they are now, by seq: what is to be deleted."""
        return dict(self._rows)

    def deleted(self, batch: dict[int, Row]) -> None:
        """None of this batch is in the outbox any more."""
        for seq in batch:
            row = self._rows.pop(seq)
        if batch:
            self.last = {seq: row}
