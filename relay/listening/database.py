"""Statements on a non-blocking PostgreSQL connection, one after another, on the event loop.

psycopg2's async mode is autocommit and takes one statement at a time, so every statement here is a transaction.
While PostgreSQL works on one, the loop goes on publishing.
"""

import asyncio
import contextlib
import os
import resource
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import psycopg2
import psycopg2.extensions

from relay.errors import RelayError, Unavailable
from relay.listening.postgres_errors import first_line, refusal
from relay.listening.texts import execute, storable

Rows = list[tuple[Any, ...]]

STATEMENT_DEADLINE = 60.0  # seconds; a server that hangs (SIGSTOP, dead disk) must not hold the session for ever

UNREADABLE = "psycopg2 can't read the answer"

BACKEND = "select pg_catalog.pg_backend_pid()"  # not that which libpq was told: a pooler


@contextlib.contextmanager
def _grows_by(most: int) -> Iterator[None]:
    """Let this process take so much more memory meanwhile, or have libpq give the connection up; 0 = any amount.

    A notice is as long as a user's code likes, comes whatever the session has set, and libpq reads all of it.
    """
    if not most:
        yield
        return
    usual = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + most
    if usual[0] == resource.RLIM_INFINITY or limit < usual[0]:
        resource.setrlimit(resource.RLIMIT_AS, (limit, usual[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, usual)


class Database:
    """Runs statements on one open connection.

    Args:
        handle: open, in async mode. Its answers arrive on the running loop.
        notified: called with (channel, payload) for each notification.
        failed: called once when the connection is gone or silent; ends the session.
        deadline: seconds for a statement.
        most: bytes that this process may grow by while it takes an answer in; 0 = any number.
    """

    def __init__(
        self,
        handle: psycopg2.extensions.connection,
        notified: Callable[[str, str], None],
        failed: Callable[[RelayError], None],
        *,
        deadline: float = STATEMENT_DEADLINE,
        most: int = 0,
    ) -> None:
        self._handle = handle
        self._seconds, self._most = deadline, most
        self._loop = asyncio.get_running_loop()
        self._notified = notified
        self._failed = failed
        self._cursor: psycopg2.extensions.cursor | None = None
        self._done: Callable[[Rows], None] | None = None
        self._refused: Callable[[psycopg2.Error], None] | None = None
        self._asked: asyncio.Future[Rows] | None = None  # who awaits the statement
        self._heard: deque[tuple[str, str]] = deque()
        self._deadline = 0.0
        self._closed = False
        self._reading = True
        self._watched = (True, False)  # is the loop to tell when it can be read, and when written to?
        self._fd = os.dup(handle.fileno())  # ours: libpq closes its own when the connection is lost, behind our back
        self._loop.add_reader(self._fd, self._on_ready)
        self._timer = self._loop.call_later(1.0, self._check)

    def pause(self, *, reading: bool) -> None:
        """Read nothing more, so that the server waits with what it has to say (reading=False); or go on."""
        self._reading = reading
        self._watch(writing=self._watched[1])
        if reading:
            self._loop.call_soon(self._on_ready)  # as `_hear_the_rest`

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
            refused: called when the server refuses the statement, or psycopg2 a parameter; without it that ends the
                session.
        """
        assert self._cursor is None, "one statement at a time"  # noqa: S101
        self._done, self._refused = done, refused
        self._deadline = time.monotonic() + self._seconds
        try:
            self._cursor = self._handle.cursor()
            execute(self._cursor, sql, params or None)
        except psycopg2.DataError as error:  # of a parameter: nothing was sent
            self._on_error(error)
            return
        except psycopg2.Error as error:
            self._fail(refusal(error, self._handle))
            return
        self._on_ready()

    async def fetch(self, sql: str, *params: object) -> Rows:
        """Run a statement and await its rows; only when not `busy`.

        Raises:
            psycopg2.Error: the server refuses it, or psycopg2 a parameter.
            RelayError: the connection is lost.
        """
        answer: asyncio.Future[Rows] = self._loop.create_future()
        self._asked = answer

        def answered(rows: Rows) -> None:
            if not answer.done():
                answer.set_result(rows)

        def failed(error: psycopg2.Error) -> None:
            if not answer.done():
                answer.set_exception(error)

        self.run(sql, params, answered, failed)
        return await answer

    async def ask(self, sql: str, *params: object, refused: Collection[str] = ()) -> Rows:
        """The same for what ends the session.

        Args:
            refused: SQLSTATEs with which the server may refuse it: then there are no rows.

        Raises:
            RelayError: the server refuses it with another one, or the connection is lost.
        """
        try:
            return await self.fetch(sql, *params)
        except psycopg2.Error as error:
            if error.pgcode in refused:
                return []
            raise refusal(error, self._handle) from None

    def storable(self, text: str) -> str:
        """The same as this database takes it; see `texts.storable`."""
        return storable(text, self._handle)

    def refusal(self, error: psycopg2.Error) -> RelayError:
        """What it means that a statement of this connection has failed; see `refusal`."""
        return refusal(error, self._handle)

    def close(self) -> None:
        """Give the connection back to nobody: nothing is called any more."""
        if not self._closed:
            self._closed = True
            self._timer.cancel()
            self._loop.remove_reader(self._fd)
            self._loop.remove_writer(self._fd)
            os.close(self._fd)
            self._handle.close()

    def _watch(self, *, writing: bool) -> None:
        if self._closed:
            return
        was_reading, was_writing = self._watched
        self._watched = self._reading, writing
        if self._reading != was_reading:
            if self._reading:
                self._loop.add_reader(self._fd, self._on_ready)
            else:
                self._loop.remove_reader(self._fd)
        if writing != was_writing:
            if writing:
                self._loop.add_writer(self._fd, self._on_ready)
            else:
                self._loop.remove_writer(self._fd)

    def _on_ready(self) -> None:
        if self._closed:
            return
        try:
            with _grows_by(self._most):
                state = self._handle.poll()
            self._watch(writing=state == psycopg2.extensions.POLL_WRITE)
            if state == psycopg2.extensions.POLL_OK:
                self._deliver()
                self._hear_the_rest()
        except psycopg2.Error as error:
            self._on_error(error)
        except MemoryError:
            self._fail(Unavailable("PostgreSQL's answer is too large"))

    def _hear_the_rest(self) -> None:
        """Before we wait for the socket: what came right behind an answer is in libpq's memory, and no socket tells."""
        while self._reading and not self._closed and self._cursor is None:
            self._handle.poll()
            if not self._handle.notifies:
                return
            self._deliver()

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
                with contextlib.closing(cursor):  # so that libpq's copy is gone before the rows are taken apart
                    rows: Rows = cursor.fetchall() if cursor.description else []
            except Exception as error:  # noqa: BLE001 - text that is no UTF-8, JSON that Python does not parse, and the like
                self._on_error(psycopg2.DataError(f"{UNREADABLE}: {type(error).__name__}"))
            else:
                done(rows)
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
            self._fail(refusal(error, self._handle))

    def _check(self) -> None:
        self._timer = self._loop.call_later(1.0, self._check)
        if self._cursor is not None and time.monotonic() > self._deadline:
            self._fail(Unavailable(f"PostgreSQL has not answered a statement for {self._seconds:g} s"))

    def _fail(self, error: RelayError) -> None:
        self.close()
        self._failed(error)
        if self._asked is not None and not self._asked.done():  # else that has ended the session, and who awaits it
            self._asked.set_exception(error)
