"""Statements on a non-blocking PostgreSQL connection, one after another, on the event loop.

psycopg2's async mode is autocommit and takes one statement at a time, so every statement here is a transaction.
While PostgreSQL works on one, the loop goes on publishing.
"""

import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg2
import psycopg2.extensions
from pika.adapters.select_connection import IOLoop

from relay.errors import ConfigError, RelayError, Unavailable

Rows = list[tuple[Any, ...]]

STATEMENT_DEADLINE = 60.0  # seconds; a server that hangs (SIGSTOP, dead disk) must not hold the session for ever

UNREADABLE = "psycopg2 can't read the answer"

INSTALL = f"psql -v ON_ERROR_STOP=1 -f {Path(__file__).parents[2] / 'sql' / 'install.sql'} -d <database>"

_REMEDIES = {  # SQLSTATE: what a person has to do
    "3F000": f"install the schema: {INSTALL}",
    "42P01": f"install or upgrade the schema: {INSTALL}",
    "42883": f"install or upgrade the schema: {INSTALL}",
    "42703": f"install or upgrade the schema: {INSTALL}",
    "42501": "grant relay_listener to <the user of DATABASE_URL>;",
}
_HINTS = {  # SQLSTATE of what may end by itself: where to look, if it does not
    "25006": "default_transaction_read_only, of the server, the database or the role",
    "55P03": "listen.py check names who has it locked",
}


def first_line(error: psycopg2.Error) -> str:
    """What the server, or libpq, says happened, without its advice."""
    return str(error).strip().partition("\n")[0] or "connection lost"


def refusal(error: psycopg2.Error) -> RelayError:
    """Sort an error of a statement. The server's message is one line and holds no row values here."""
    said = first_line(error)
    remedy = _REMEDIES.get(error.pgcode or "")
    if remedy:
        return ConfigError((f"PostgreSQL: {said}", remedy))
    return Unavailable(f"PostgreSQL: {said}", _HINTS.get(error.pgcode or "", ""))


class Database:
    """Runs statements on one open connection.

    Args:
        handle: open, in async mode.
        loop: where answers arrive.
        notified: called with (channel, payload) for each notification.
        failed: called once when the connection is gone or silent; ends the session.
    """

    def __init__(
        self,
        handle: psycopg2.extensions.connection,
        loop: IOLoop,
        notified: Callable[[str, str], None],
        failed: Callable[[RelayError], None],
    ) -> None:
        self._handle = handle
        self._loop = loop
        self._notified = notified
        self._failed = failed
        self._cursor: psycopg2.extensions.cursor | None = None
        self._done: Callable[[Rows], None] | None = None
        self._refused: Callable[[psycopg2.Error], None] | None = None
        self._heard: deque[tuple[str, str]] = deque()
        self._deadline = 0.0
        self._closed = False
        self._reading = True
        self._watching = loop.READ
        self._fd = os.dup(handle.fileno())  # ours: libpq closes its own when the connection is lost, behind our back
        loop.add_handler(self._fd, self._on_ready, loop.READ)
        self._timer = loop.call_later(1.0, self._check)

    def pause(self, *, reading: bool) -> None:
        """Read nothing more, so that the server waits with what it has to say (reading=False); or go on."""
        self._reading = reading
        self._watch(self._loop.READ)

    @property
    def busy(self) -> bool:
        """Is a statement under way?"""
        return self._cursor is not None

    def run(
        self,
        sql: str,
        params: tuple[object, ...] | dict[str, object],
        done: Callable[[Rows], None],
        refused: Callable[[psycopg2.Error], None] | None = None,
    ) -> None:
        """Send a statement; only when not `busy`.

        Args:
            sql: one statement.
            params: its parameters.
            done: called with the rows (an empty list where there are none).
            refused: called when the server refuses the statement; without it that ends the session.
        """
        assert self._cursor is None, "one statement at a time"  # noqa: S101
        self._done, self._refused = done, refused
        self._deadline = time.monotonic() + STATEMENT_DEADLINE
        try:
            self._cursor = self._handle.cursor()
            self._cursor.execute(sql, params or None)
        except psycopg2.Error as error:
            self._fail(refusal(error))
            return
        self._on_ready(self._fd, self._loop.READ)

    def close(self) -> None:
        """Give the connection back to nobody: nothing is called any more."""
        if not self._closed:
            self._closed = True
            self._loop.remove_timeout(self._timer)
            self._loop.remove_handler(self._fd)
            os.close(self._fd)
            self._handle.close()

    def _watch(self, wanted: int) -> None:
        wanted = wanted if self._reading else wanted & ~self._loop.READ
        if wanted != self._watching and not self._closed:
            self._watching = wanted
            self._loop.update_handler(self._fd, wanted)

    def _on_ready(self, _fd: int, _events: int) -> None:
        if self._closed:
            return
        try:
            state = self._handle.poll()
            self._watch(self._loop.READ | (self._loop.WRITE if state == psycopg2.extensions.POLL_WRITE else 0))
            if state == psycopg2.extensions.POLL_OK:
                self._deliver()
        except psycopg2.Error as error:
            self._on_error(error)

    def _deliver(self) -> None:
        """PostgreSQL is idle: the statement, if there was one, is over.

        Both callbacks may send the next statement, which may be answered, with more notifications, before they
        return: the queue keeps those in their order.
        """
        self._heard.extend((note.channel, note.payload) for note in self._handle.notifies)
        self._handle.notifies.clear()
        cursor, done = self._cursor, self._done
        if cursor is not None and done is not None:
            self._cursor = None
            try:
                rows: Rows = cursor.fetchall() if cursor.description else []
            except Exception as error:  # noqa: BLE001 - text that is no UTF-8, JSON that Python does not parse, and the like
                self._on_error(psycopg2.DataError(f"{UNREADABLE}: {type(error).__name__}"))
            else:
                done(rows)
            finally:
                cursor.close()
        while self._heard:
            self._notified(*self._heard.popleft())

    def _on_error(self, error: psycopg2.Error) -> None:
        refused, self._cursor = self._refused, None
        if isinstance(error, psycopg2.DataError) and refused is not None:
            refused(error)
        elif self._handle.closed or error.pgcode is None or error.pgcode.startswith("57P"):
            self._fail(Unavailable(f"PostgreSQL: {first_line(error)}"))
        elif refused is not None:
            refused(error)
        else:
            self._fail(refusal(error))

    def _check(self) -> None:
        self._timer = self._loop.call_later(1.0, self._check)
        if self._cursor is not None and time.monotonic() > self._deadline:
            self._fail(Unavailable(f"PostgreSQL has not answered a statement for {STATEMENT_DEADLINE:g} s"))

    def _fail(self, error: RelayError) -> None:
        self.close()
        self._failed(error)
