"""What a standby says: who holds the lease, and whether that one does any work.

RabbitMQ refuses an exclusive queue without a word about whose it is, and AMQP has no question for that. The command
that tells is in the remedy; what can be found out without it, by the control queue or in PostgreSQL, is in the line
itself. Whoever may declare a queue can hold a lease, and a healthy holder can hang: messages that wait while nothing
is done are a warning.
"""

import time

from relay.amqp.replies import holder_of
from relay.errors import Standby

PATIENCE = 15.0  # seconds without a sign of work, until that is a warning
PATIENCE_WITH_REQUESTS = 60.0  # the same of a receiver that answers us: its endpoint may take long over a request


class Watch:
    """Has the holder done anything, as far as one look after another tells? Pure."""

    def __init__(self) -> None:
        self._sign: object = None
        self._since = 0.0

    def is_idle(self, sign: object, now: float, patience: float) -> bool:
        """Has nothing happened for so long that a person should know?

        Args:
            sign: changes whenever the holder does something; None = it has nothing to do.
            now: seconds, of any clock that goes on.
            patience: seconds that are "so long".
        """
        if sign is None or sign != self._sign:
            self._sign, self._since = sign, now
        return sign is not None and now - self._since >= patience


class Listeners:
    """A standby of listen.py; it knows of the holder by PostgreSQL alone. (Of receiver.py: holder.py.)"""

    def __init__(self, vhost: str) -> None:
        self._vhost = vhost
        self._watch = Watch()

    def describe(self, lease: str, plain: Standby, waiting: bool, deleted: int, holder: str | None) -> Standby:
        """What to say of a lease that another process holds.

        Args:
            plain: what is said of a holder that works.
            waiting: are there events that could be published?
            deleted: rows that ever left the outbox: those that were relayed.
            holder: the session in PostgreSQL that may be the holder's.
        """
        idle = self._watch.is_idle(deleted if waiting else None, time.monotonic(), PATIENCE)
        named = f": in PostgreSQL {holder}" if holder else ", and no other listener in PostgreSQL"
        if not idle:
            return Standby(plain.what + named, "" if holder else holder_of(self._vhost, lease))
        who = holder_of(self._vhost, lease)
        hint = f"a hanging listener, one of another database with this SOURCE, or a stranger; {who}"
        return Standby(f"events wait, and whoever holds the lease {lease} relays none{named}", hint, alarming=True)
