"""A connection to PostgreSQL beside the relay's own, for what others ask: opened when it is needed, given back after.

Whatever becomes of it ends no session. Code of users runs in it, in the box of relay.compute: a condition, a cast to
JSON. It can say as much as it likes, and it can go on after statement_timeout, which it may catch; in PL/Perl or PL/Tcl
even after pg_terminate_backend: a loop in these does not listen to it.
"""

import contextlib
from collections.abc import Awaitable, Callable

import psycopg2
import psycopg2.extensions

from relay.errors import RelayError
from relay.listening import schema
from relay.listening.database import Database, Rows

_BEGIN = """
select set_config('search_path', 'pg_catalog, pg_temp', false), set_config('jit', 'off', false),
       set_config('application_name', 'relay requests', false),
       set_config('plan_cache_mode', 'force_generic_plan', false), set_config('statement_timeout', '20s', false),
       (select set_config('lock_timeout', least(setting::int / 2, 200)::text, false)
        from pg_settings where name = 'deadlock_timeout')
"""
# Who waits for a lock that autovacuum holds for longer than deadlock_timeout has it cancelled (PostgreSQL, 25.1.6). No
# request may do that.

# Sessions like this one that nobody awaits any more: the one before (%s), and those of listeners that have ended since.
# Code that says nothing to its client does not learn that it has gone.
_LEFT = """
pg_stat_activity a where a.pid <> pg_backend_pid() and a.datname = current_database() and a.usename = current_user
and a.application_name = 'relay requests'
and (a.pid = %s or a.query like '%%relay.present_rows(%%' or a.query like '%%relay.resend_%%')
"""
_END = f"select pg_terminate_backend(a.pid) from {_LEFT}"  # noqa: S608 - of constants
# Of code that is at work in one it is known whose it is: the table's (relay.lock_plain).
_AT_WORK = f"""
select a.pid from {_LEFT} and exists (
    select from pg_locks l join pg_class c on c.oid = l.relation
    where l.pid = a.pid and l.granted and l.locktype = 'relation' and l.mode = 'ShareUpdateExclusiveLock'
    and c.relowner = (select w.relowner from pg_class w where w.oid = relay.watched_table(%s)))
"""  # noqa: S608 - of constants
DEADLINE = 25.0  # seconds for a statement, more than statement_timeout
MEMORY = 160 << 20  # bytes; the rows of one statement (gets.py) are 26 MiB at most, of which libpq makes several copies


class StillAtWork(Exception):
    """Code of a table's owner goes on in a session that was told to end. Its text says which."""


class Beside:
    """One connection.

    Args:
        another: opens one. Raises RelayError.
        deadline: seconds for a statement.
    """

    def __init__(
        self, another: Callable[[], Awaitable[psycopg2.extensions.connection]], *, deadline: float = DEADLINE
    ) -> None:
        self._another = another
        self._deadline = deadline
        self._database: Database | None = None
        self._lost: RelayError | None = None
        self._backend = 0
        self._is_left = False  # perhaps a session that was told to end goes on

    async def ask(self, sql: str, *params: object, table: str = "") -> Rows:
        """Run a statement, a transaction of its own, and await its rows; one at a time.

        Args:
            table: the watched table whose owner's code it may run.

        Raises:
            StillAtWork: code of that owner's is, since an earlier one. Each would keep one of PostgreSQL's connections.
            psycopg2.Error: the server refuses it.
            RelayError: there is no connection, or it broke.
        """
        database = self._database
        if database is None or self._lost:
            database = await self._open()
        if self._is_left and table:
            await self._look(database, table)
        try:
            return await database.fetch(sql, *params)
        except RelayError:
            with contextlib.suppress(RelayError, psycopg2.Error):
                await self._open()
            raise

    async def _look(self, database: Database, table: str) -> None:
        if found := await database.fetch(_AT_WORK, 0, table):
            raise StillAtWork(
                f"PostgreSQL's session {found[0][0]} goes on with code of this table's owner, although it was told "
                "to end: a cast to json, or what the watch's condition calls"
            )
        self._is_left = bool(await database.fetch(_END, 0))

    def close(self) -> None:
        """Give the connection back."""
        if self._database is not None:
            self._database.close()
            self._database = None

    async def _open(self) -> Database:
        self.close()
        before, self._lost = self._backend, None
        handle = await self._another()
        self._backend = handle.info.backend_pid
        self._database = database = Database(
            handle, lambda _channel, _payload: None, self._failed, deadline=self._deadline, most=MEMORY
        )
        for statement in (schema.STEADY, _BEGIN):
            await database.fetch(statement)
        self._is_left = bool(await database.fetch(_END, before))
        return database

    def _failed(self, error: RelayError) -> None:
        self._lost = error
