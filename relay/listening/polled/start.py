"""A polled source's part of a session: opened, looked at, and taken, with nothing of an earlier session under way."""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from relay import config
from relay.amqp.session import Session
from relay.database_url import MYSQL, SQLITE, PolledUrl
from relay.errors import ConfigError
from relay.listening import fencing
from relay.listening.event import Row
from relay.listening.inlet import Inlet
from relay.listening.polled import look
from relay.listening.polled.message import Text
from relay.listening.polled.outbox_table import OutboxTable, Unfit, mapped, own
from relay.listening.polled.reads import Driver, fetch
from relay.listening.polled.source import Polled, rows
from relay.listening.polled.statements import Statements, padded
from relay.listening.polled.unreachable import number, of_driver
from relay.listening.polled.worker import Result, Worker
from relay.listening.source import Confirming, Source
from relay.log import Log

if TYPE_CHECKING:
    import sqlalchemy

NOT_OURS = 1095  # MariaDB's and MySQL's: you are not owner of that session
LOCK_NAME = 64  # characters that MySQL takes
_MOST_TURNS = 1 << 62  # behind them SQLite counts in floats

OpenPolled = Callable[[str], "sqlalchemy.Connection"]
"""Open a blocking connection with this name. Raises RelayError."""


def table_of(settings: config.Listen, url: PolledUrl) -> OutboxTable:
    """Which table is relayed. Raises ConfigError: OUTBOX_TABLE and what belongs to it can't be read so."""
    if not settings.outbox_table:
        return own(url.kind)
    try:
        return mapped(
            settings.outbox_table, settings.outbox_columns, settings.outbox_pending, settings.outbox_done
        )  # fmt: skip
    except Unfit as error:
        raise ConfigError((error.what, error.remedy)) from None


def driver_of(opened: "sqlalchemy.Connection", url: PolledUrl, table: OutboxTable) -> Driver:
    """The driver's own connection, which commits by itself and gives SQLite's texts as the bytes that they are."""
    driver: Any = opened.connection.dbapi_connection
    if url.kind == MYSQL:
        driver.autocommit(True)  # noqa: FBT003 - of the DB-API's extensions
        if table.schema:
            driver.select_db(table.schema)  # DELETE by an alias needs one: 1046
    elif url.kind == SQLITE:
        driver.isolation_level, driver.text_factory = None, Text
    else:
        driver.autocommit = True
    return driver


async def open_source(
    session: Session, open_polled: OpenPolled, url: PolledUrl, settings: config.Listen, log: Log
) -> "PolledSession":
    """Open it, and see that it will do: the tables and their version.

    Raises:
        RelayError: it can't be opened, or will not do.
    """
    table = table_of(settings, url)
    opened: list[sqlalchemy.Connection] = []

    def open_() -> Driver:
        opened.append(open_polled("relay listen"))
        return driver_of(opened[0], url, table)

    worker = Worker(open_, lambda _driver: opened[0].close())
    try:
        index: str = await _ask(url, worker, lambda driver: look.index(url, table, driver) if table.pending else "")
        table = dataclasses.replace(table, index=index)
        statements = Statements(url.kind, opened[0].dialect, table)
        name = settings.source or url.name
        source = Polled(session, url, worker, statements, table, name, settings.poll_interval)
        made = PolledSession(url, worker, statements, table, source, name, log)
        await made.prepare()
    except BaseException:
        worker.end()
        raise
    return made


async def _ask(url: PolledUrl, worker: Worker, call: Callable[[Driver], Result]) -> Result:
    try:
        return await worker.ask(call)
    except Exception as error:  # noqa: BLE001 - each driver has errors of its own
        raise of_driver(url, error) from None


class PolledSession:
    """See source.Opened."""

    def __init__(
        self, url: PolledUrl, worker: Worker, statements: Statements, table: OutboxTable, source: Polled, name: str,
        log: Log,
    ) -> None:  # fmt: skip
        self._url = url
        self._worker = worker
        self._statements = statements
        self._table = table
        self._log = log
        self._lock = f"relay {table.shown}"[:LOCK_NAME]
        self.source: Source = source
        self.name = name

    async def _ask(self, call: Callable[[Driver], Result]) -> Result:
        return await _ask(self._url, self._worker, call)

    async def prepare(self) -> None:
        """See that the relay's tables are there, and of this version. Raises ConfigError."""
        if self._table.is_own:
            sql = f"select version, install from {look.listener(self._url)}"  # noqa: S608 - one of two names
            found = await self._ask(lambda driver: rows(driver, sql))
            if len(found) != 1:
                what = f"{self._url.product} {self._url.shown()}: {look.listener(self._url)} has not one row"
                raise ConfigError((what, "install the relay's tables anew"))
            ((version, install),) = found
            look.judge(self._url, int(version) if look.plain(version).isdecimal() else 0)
            # Not to be guessed: any login may take a lock, and no listener would run any more.
            self._lock = f"relay {look.plain(install)}"[:LOCK_NAME]

    async def others(self) -> tuple[bool, int, str | None]:
        """See Opened."""

        def look_around(driver: Driver) -> tuple[bool, int, str | None]:
            ((first,),) = fetch(driver, self._statements.first, {})[0]
            holder = self._holder(driver)
            return first is not None, int(first or 0), f"connection {holder}" if holder else None

        return await self._ask(look_around)

    def _holder(self, driver: Driver) -> int | None:
        """Whose session has the lock: its number."""
        if self._url.kind != MYSQL:
            return None
        cursor = driver.cursor()
        cursor.execute("select is_used_lock(%s)", (self._lock,))
        ((found,),) = cursor.fetchall()
        cursor.close()
        return None if found is None else int(found)

    async def take(self, confirmed: Confirming) -> None:
        """Make it our turn, and end an earlier session, with whatever it has under way.

        The broker's lease does not reach into the database: a DELETE of a dead process, executed after its successor's
        first read, would take the rest of a tail that is sent again.

        Raises:
            Unavailable: an earlier session does not end.
        """
        if self._url.kind == MYSQL:
            await fencing.taken(lambda: self._ask(self._locked), self._end_holders, self._table.shown, self._log)
        if not self._table.is_own:
            confirmed.void()  # nothing tells whether another one was at work
            return
        turn: int = await self._ask(lambda driver: self._take_turn(driver, confirmed.step))
        confirmed.took(turn)
        if confirmed.last:
            left: int = await self._ask(lambda driver: self._left(driver, confirmed.last))
            if left:
                confirmed.void()

    async def _end_holders(self) -> tuple[str, str]:
        holder = await self._ask(self._end_holder)
        return "" if holder is None else f"connection {holder}", f"as an administrator: kill {holder};"

    def _locked(self, driver: Driver) -> bool:
        cursor = driver.cursor()
        cursor.execute("select get_lock(%s, 0)", (self._lock,))
        ((found,),) = cursor.fetchall()
        cursor.close()
        return bool(found)

    def _end_holder(self, driver: Driver) -> int | None:
        holder = self._holder(driver)
        if holder is not None:
            try:
                rows(driver, f"kill {holder}")
            except Exception as error:
                if number(error) != NOT_OURS and "Unknown thread" not in str(error):
                    raise
        return holder

    def _take_turn(self, driver: Driver, step: int) -> int:
        listener = look.listener(self._url)
        cursor = driver.cursor()
        if self._url.kind == SQLITE:
            cursor.execute("begin immediate")
        cursor.execute(f"update {listener} set turn = turn + {step:d}")  # noqa: S608 - one of two names, a number
        cursor.execute(look.turn(self._url))
        ((turn,),) = cursor.fetchall()
        if self._url.kind == SQLITE:
            cursor.execute("commit")
        cursor.close()
        if abs(turn) >= _MOST_TURNS:
            raise ConfigError((f"{listener} has {turn} for turn", "set it to 0"))
        return int(turn)

    def _left(self, driver: Driver, batch: dict[int, Row]) -> int:
        size, given = padded("seq", list(batch))
        given |= padded("id", [row.id for row in batch.values()])[1]
        ((count,),) = fetch(driver, self._statements.left(size), given)[0]
        return int(count)

    async def listen(self, inlet: Inlet) -> None:
        """See Opened. Nothing wakes us."""

    def close(self) -> None:
        """See Opened."""
        self._worker.end()
