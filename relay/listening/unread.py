"""A row of relay.outbox that can be written, but not read: found by halving, marked, and left behind.

A byte that is no UTF-8 in a SQL_ASCII database, a character that UTF-8 lacks, a broken TOAST page, headers that Python
does not parse. It fails the whole read, and would fail it for ever.
"""

from collections.abc import Callable, Mapping

import psycopg2

from relay.errors import RelayError
from relay.listening import outbox, outbox_read
from relay.listening.database import Database, Rows
from relay.listening.postgres_errors import first_line
from relay.log import Log

LONG = 2.0  # seconds: a read that takes longer has all that is behind it wait
_TOO_LONG = "57014"  # the statement timeout's
_OF_A_ROW = ("22", "54", "XX")  # classes of SQLSTATE: data that does not fit, is too large for a text, is damaged


def is_of_rows(error: psycopg2.Error) -> bool:
    """Is it for what stands in the rows, or for how many they are, that a read failed?"""
    return error.pgcode is None or error.pgcode.startswith(_OF_A_ROW) or error.pgcode == _TOO_LONG


class Unread:
    """Which rows a read may take at most: so few that it ends in time, and that one that can't be read is found.

    Args:
        database: runs the statements that mark the row.
        log: gets an error for each such row.
        failed: ends the session; for an error that is not a row's.
        go_on: called when reading is to be tried again.
        usual: most rows of one read.
    """

    def __init__(
        self, database: Database, log: Log, failed: Callable[[RelayError], None], go_on: Callable[[], None], usual: int
    ) -> None:
        self._db = database
        self._log = log
        self._failed = failed
        self._go_on = go_on
        self._usual = usual
        self.maximum = usual

    def succeeded(self, took: float) -> None:
        """A read has come in, after so many seconds."""
        self.maximum = max(1, self.maximum // 2) if took > LONG else min(self._usual, self.maximum * 2)

    def met(self, error: psycopg2.Error, alone: str, params: Mapping[str, object], maximum: int) -> None:
        """A read has failed: take half of the rows, and when it is one, mark that row.

        Args:
            error: what PostgreSQL or psycopg2 says.
            alone: the statement that finds the first of those rows by seq and id, without reading more of it.
            params: of the read.
            maximum: how many rows it could have.
        """
        if not is_of_rows(error) or (error.pgcode == _TOO_LONG and maximum == 1):
            self._failed(self._db.refusal(error))
        elif maximum > 1:
            self.maximum = maximum // 2
            self._go_on()
        else:
            self._db.run(alone, {**params, "most": 1}, lambda rows: self._found(rows, first_line(error)))

    def _found(self, rows: Rows, detail: str) -> None:
        if not rows:
            self._go_on()
            return
        ((seq, event_id),) = rows

        def unknown(_error: psycopg2.Error) -> None:
            # The later events of such a key have it, too: none of them can be read, so none passes.
            self._refuse(seq, event_id, f"{outbox_read.NO_KEY}: {detail}", "")

        def known(found: Rows) -> None:
            self._refuse(seq, event_id, f"{outbox_read.UNREADABLE}: {detail}", found[0][0] if found else "")

        self._db.run(outbox_read.KEY, (seq, event_id), known, unknown)

    def _refuse(self, seq: int, event_id: str, reason: str, key: str) -> None:
        self._log.error(
            "event can't be read; its key waits", id=event_id, key=key or None, reason=reason,
            remedy=f"correct the row it tells of, then listen.py drop {event_id}",
        )  # fmt: skip
        self._db.run(outbox.REFUSE, (self._db.storable(reason), seq, event_id), lambda _rows: self._go_on())
