"""A connection to PostgreSQL beside the relay's own, for what others ask: opened when it is needed, given back after.

Whatever becomes of it ends no session.
"""

from collections.abc import Awaitable, Callable

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


class Beside:
    """One connection.

    Args:
        another: opens one. Raises RelayError.
    """

    def __init__(self, another: Callable[[], Awaitable[psycopg2.extensions.connection]]) -> None:
        self._another = another
        self._database: Database | None = None
        self._lost: RelayError | None = None

    async def ask(self, sql: str, *params: object) -> Rows:
        """Run a statement, a transaction of its own, and await its rows; one at a time.

        Raises:
            psycopg2.Error: the server refuses it.
            RelayError: there is no connection, or it broke.
        """
        database = self._database
        if database is None or self._lost:
            database = await self._open()
        return await database.fetch(sql, *params)

    def close(self) -> None:
        """Give the connection back."""
        if self._database is not None:
            self._database.close()
            self._database = None

    async def _open(self) -> Database:
        self.close()
        self._lost = None
        self._database = database = Database(await self._another(), lambda _channel, _payload: None, self._failed)
        for statement in (schema.STEADY, _BEGIN):
            await database.fetch(statement)
        return database

    def _failed(self, error: RelayError) -> None:
        self._lost = error
