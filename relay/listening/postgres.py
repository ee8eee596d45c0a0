"""PostgreSQL as the source: the statements of outbox.py, prepared and one at a time."""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from relay.amqp.session import Session
from relay.listening import notifications, outbox, outbox_read
from relay.listening.database import Database, Rows
from relay.listening.event import OutboxEvent, Row
from relay.listening.gaps import Seen
from relay.listening.inlet import Text
from relay.listening.postgres_errors import first_line
from relay.listening.sleep import Sleep
from relay.listening.source import Deleted, Read, Skipped, Waits, Wanted
from relay.listening.unread import Unread, is_of_rows
from relay.log import Log

if TYPE_CHECKING:
    import psycopg2

READ_ROWS = 1000  # most rows of one read; 200 to 5,000 make no difference to the rate, 2,000 took 3 MB more than 1,000
# Rows of the first SKIP of several, and of later ones, all of which it looks at; half as many once one is so slow (s).
SKIP_FIRST, SKIP_ROWS, SKIP_LONG = 1000, 20_000, 2.0


class Postgres:
    """See source.Source.

    Args:
        session: its timers and its end.
        database: idle.
        key: the advisory lock of the waking protocol.
        poll_interval: POLL_INTERVAL.
        notify: NOTIFY.
        log: for rows that can't be read, and who holds the sleep lock.
    """

    server = "PostgreSQL"

    def __init__(
        self, session: Session, database: Database, key: int, poll_interval: float, *, notify: bool, log: Log
    ) -> None:
        self._session = session
        self._db = database
        self._key = key
        self._poll_interval, self._notify = poll_interval, notify
        self._log = log
        self._again: Callable[[], None] = lambda: None
        self._unread = Unread(database, log, session.fail, lambda: self._again(), READ_ROWS)
        self._skips = SKIP_FIRST

    @property
    def busy(self) -> bool:
        """See Source."""
        return self._db.busy

    @property
    def most(self) -> int:
        """See Source."""
        return self._unread.maximum

    def begin(self, again: Callable[[], None]) -> None:
        """See Source."""
        self._again = again

    def seen(self) -> Seen:
        """See Source."""
        return Seen()

    def rest(self, go_on: Callable[[], None]) -> Sleep:
        """See Source."""
        return Sleep(
            self._session, self._db, self._key, self._poll_interval, notify=self._notify, log=self._log, go_on=go_on
        )

    def ask_ahead(self, seen: Seen, done: Callable[[], None]) -> bool:
        """See Source."""
        if not seen.wants_xid:
            return False

        def took(rows: Rows) -> None:
            seen.took_xid(rows[0][0])
            done()

        self._db.run(outbox.XID, (), took)
        return True

    def read(self, seen: Seen, wanted: Wanted, done: Callable[[Read], None]) -> None:
        """See Source."""
        firsts, lasts = seen.ranges()
        most, most_bytes, keys, tables, topics = wanted
        params = {
            "firsts": firsts, "lasts": lasts, "upto": seen.upto, "near": seen.near, "far": seen.far, "high": seen.high,
            "most": most, "bytes": most_bytes, "keys": keys, "tables": tables, "topics": topics,
        }  # fmt: skip

        sent_at = time.monotonic()

        def read(rows: Rows) -> None:
            self._unread.succeeded(time.monotonic() - sent_at)
            done(outbox_read.read(rows, most, most_bytes))

        self._db.run(
            outbox_read.READ, params, read, lambda error: self._unread.met(error, outbox_read.ALONE, params, most)
        )

    def skip(self, high: int, waits: Waits, done: Callable[[Skipped], None]) -> bool:
        """See Source."""
        most, sent_at = self._skips, time.monotonic()
        params = {"high": high, "most": most, "keys": waits.keys, "tables": waits.tables, "topics": waits.topics}

        def skipped(rows: Rows) -> None:
            found = outbox_read.skipped(rows, most)
            if not found.full:
                self._skips = SKIP_FIRST
            elif time.monotonic() - sent_at > SKIP_LONG:
                self._skips = max(SKIP_FIRST, most // 2)
            else:
                self._skips = min(SKIP_ROWS, most * 4)
            done(found)

        def failed(error: "psycopg2.Error") -> None:
            self._skips = SKIP_FIRST
            if is_of_rows(error):  # READ finds which
                done(Skipped([], [], full=False))
            else:
                self._session.fail(self._db.refusal(error))

        self._db.run(outbox_read.SKIP, params, skipped, failed)
        return True

    def probe(self, waiting: str, low: int, keys: list[str], done: Callable[[OutboxEvent | None], None]) -> None:
        """See Source."""
        params = {"low": low, "group": waiting, "keys": keys}
        self._db.run(
            outbox_read.PROBE, params, lambda rows: done(outbox_read.event(rows[0]) if rows else None),
            functools.partial(self._unread.met, alone=outbox_read.PROBE_ALONE, params=params, maximum=1),
        )  # fmt: skip

    def delete(self, turn: int, batch: Mapping[int, Row], done: Callable[[Deleted], None]) -> None:
        """See Source."""
        self._db.run(outbox.DELETE, (turn, *outbox.rows(batch)), lambda rows: done(Deleted(*rows[0][:3])))

    def left(self, batch: Mapping[int, Row], done: Callable[[int], None]) -> None:
        """See Source."""
        self._db.run(outbox.LEFT, outbox.rows(batch), lambda rows: done(rows[0][0]))

    def refuse(self, seq: int, event_id: str, reason: str, done: Callable[[], None]) -> None:
        """See Source."""
        self._db.run(outbox.REFUSE, (self._db.storable(reason), seq, event_id), lambda _rows: done())

    def measure(self, most: int, done: Callable[[Rows], None], failed: Callable[[str], None]) -> None:
        """See Source."""
        self._db.run(outbox.MEASURE, (most,), done, _told(failed))

    def incomplete(self, done: Callable[[Rows], None], failed: Callable[[str], None]) -> None:
        """See Source."""
        self._db.run(outbox.INCOMPLETE, (), done, _told(failed))

    def columns(self, table: str, done: Callable[[Rows], None], failed: Callable[[str], None]) -> None:
        """See Source."""
        self._db.run(outbox.COLUMNS, (table,), done, _told(failed))

    def store(self, channels: Sequence[Text], payloads: Sequence[Text], done: Callable[[], None]) -> None:
        """See Source."""
        notifications.store(self._db, channels, payloads, done, self._session.fail)


def _told(failed: Callable[[str], None]) -> "Callable[[psycopg2.Error], None]":
    return lambda error: failed(first_line(error))
