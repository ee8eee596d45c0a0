"""What was confirmed goes from the outbox, and it is seen to be gone."""

from collections.abc import Callable

from relay.errors import Ousted, RelayError, Unavailable
from relay.listening.confirmed import Confirmed
from relay.listening.event import OutboxEvent, Row
from relay.listening.follow import Follow
from relay.listening.gaps import Seen
from relay.listening.source import Deleted, Source

TAKEN_OVER = "another listener has taken the outbox over"
TAKEN_OVER_REMEDY = "if it comes again and again: two listeners of one database need one RabbitMQ and one SOURCE"
KEPT_REMEDY = "look for triggers, rules and policies of others on the outbox"


class Deletion:
    """Deletes the confirmed events.

    Args:
        source: deletes.
        confirmed: carried from session to session.
        seen: hears of each transaction id.
        follow: an event's way, for the log.
        failed: ends the session.
        deleted: called after each batch, with the number of its events.
    """

    def __init__(
        self,
        source: Source,
        confirmed: Confirmed,
        seen: Seen,
        follow: Follow,
        failed: Callable[[RelayError], None],
        deleted: Callable[[int], None],
    ) -> None:
        self._source = source
        self._confirmed = confirmed
        self._seen = seen
        self._follow = follow
        self._failed = failed
        self._deleted = deleted

    def __len__(self) -> int:
        """How many events are confirmed and not deleted yet."""
        return len(self._confirmed)

    def __contains__(self, seq: int) -> bool:
        return seq in self._confirmed

    def add(self, event: OutboxEvent) -> None:
        """The broker has the event safe; or it was for one queue, which is not there."""
        # Invariant: only what was confirmed, or what has no addressee any more, is ever deleted from the outbox.
        self._confirmed.add(event)

    def send(self) -> None:
        """Send the DELETE of all that is confirmed now; of nothing, it proves that we may, and can."""
        batch = self._confirmed.batch()
        self._source.delete(self._confirmed.turn, batch, lambda answer: self._have_deleted(batch, answer))

    def _have_deleted(self, batch: dict[int, Row], answer: Deleted) -> None:
        if not answer.mine:
            self._failed(Ousted(TAKEN_OVER, TAKEN_OVER_REMEDY))
            return
        self._seen.took_xid(answer.xid)
        if answer.gone < len(batch):
            self._source.left(batch, lambda left: self._are_gone(batch, left))
        else:
            self._are_gone(batch, 0)

    def _are_gone(self, batch: dict[int, Row], left: int) -> None:
        if left:
            problem = f"{self._source.server} has kept {left} events in the outbox that were to be deleted"
            self._failed(Unavailable(problem, KEPT_REMEDY))
            return
        self._confirmed.deleted(batch)
        if self._follow.on:
            self._follow.deleted(row.id for row in batch.values())
        self._deleted(len(batch))
