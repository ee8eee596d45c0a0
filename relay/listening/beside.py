"""A connection to PostgreSQL beside the relay's own, for what others ask: opened when it is needed, given back after.

Whatever becomes of it ends no session. Code of users runs in it, in the box of relay.compute: a condition, a cast to
JSON. It can say as much as it likes, and it can go on after statement_timeout, which it may catch.
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
       set_config('plan_cache_mode', 'force_generic_plan', false), set_config('statement_timeout', '20s', false),
       (select set_config('lock_timeout', least(setting::int / 2, 200)::text, false)
        from pg_settings where name = 'deadlock_timeout')
"""
# Who waits for a lock that autovacuum holds for longer than deadlock_timeout has it cancelled (PostgreSQL, 25.1.6). No
# request may do that.

_END = """
select pg_terminate_backend(pid) from pg_stat_activity
where pid = %s and usename = current_user and application_name = current_setting('application_name')
"""
DEADLINE = 25.0  # seconds for a statement, more than statement_timeout
MEMORY = 160 << 20  # bytes; the rows of one statement (gets.py) are 26 MiB at most, of which libpq makes several copies


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

    async def ask(self, sql: str, *params: object) -> Rows:
        """Run a statement, a transaction of its own, and await its rows; one at a time.

        Raises:
            psycopg2.Error: the server refuses it.
            RelayError: there is no connection, or it broke.
        """
        database = self._database
        if database is None or self._lost:
            database = await self._open()
        backend = self._backend
        try:
            return await database.fetch(sql, *params)
        except RelayError:
            with contextlib.suppress(RelayError, psycopg2.Error):
                await (await self._open()).fetch(_END, backend)
            raise

    def close(self) -> None:
        """Give the connection back."""
        if self._database is not None:
            self._database.close()
            self._database = None

    async def _open(self) -> Database:
        self.close()
        self._lost = None
        handle = await self._another()
        self._backend = handle.info.backend_pid
        self._database = database = Database(
            handle, lambda _channel, _payload: None, self._failed, deadline=self._deadline, most=MEMORY
        )
        for statement in (schema.STEADY, _BEGIN):
            await database.fetch(statement)
        return database

    def _failed(self, error: RelayError) -> None:
        self._lost = error
