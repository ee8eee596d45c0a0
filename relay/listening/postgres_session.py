"""PostgreSQL's part of a session: what is asked before the work, whose turn it is, and what wakes us."""

from collections.abc import Callable

from relay import config
from relay.amqp.session import Session
from relay.listening import fencing, outbox, schema
from relay.listening.database import BACKEND, Database
from relay.listening.inlet import Inlet
from relay.listening.notifications import Notifications, OpenPostgres
from relay.listening.postgres import Postgres
from relay.listening.postgres_errors import pooler
from relay.listening.sleep import LOCK_NOT_AVAILABLE
from relay.listening.source import Confirming
from relay.log import Log
from relay.values import Dsn


async def open_source(
    session: Session, open_postgres: OpenPostgres, settings: config.Listen, woken: Callable[[str, str], None], log: Log
) -> "PostgresSession":
    """Open PostgreSQL, and see that it will do: no pooler, its version and role.

    Args:
        woken: called with what wakes us, a channel and a payload.

    Raises:
        RelayError: it can't be opened, or will not do.
    """
    handle = await open_postgres("relay listen")
    database = Database(handle, woken, session.fail)
    try:
        key, name = await _prepare(database, handle.info.backend_pid, settings)
    except BaseException:
        database.close()
        raise
    source = Postgres(session, database, key, settings.poll_interval, notify=settings.notify, log=log)
    return PostgresSession(session, database, source, settings.source or name, settings, open_postgres, log)


async def _prepare(database: Database, told: int, settings: config.Listen) -> tuple[int, str]:
    """Return the sleep lock's key and the database's name.

    Args:
        database: idle.
        told: the backend's pid, as libpq was told it.
    """
    url = settings.database_url
    assert isinstance(url, Dsn)  # noqa: S101 - listener.py has chosen
    ((backend,),) = await database.ask(BACKEND)
    if backend != told:
        raise pooler(url)  # before anything is set
    await database.ask(schema.STEADY)
    (row,) = await database.ask(schema.SESSION)
    return schema.judge(row, url.shown())


class PostgresSession:
    """See source.Opened."""

    def __init__(
        self, session: Session, database: Database, source: Postgres, name: str, settings: config.Listen,
        open_postgres: OpenPostgres, log: Log,
    ) -> None:  # fmt: skip
        self._session = session
        self._database = database
        self._settings = settings
        self._open_postgres = open_postgres
        self._log = log
        self._notifications: Notifications | None = None
        self._channel = ""
        self.source, self.name = source, name

    async def others(self) -> tuple[bool, int, str | None]:
        """See Opened."""
        ((waiting, deleted, holder),) = await self._database.ask(outbox.OTHERS)
        return waiting, deleted, holder

    async def take(self, confirmed: Confirming) -> None:
        """Make it our turn (outbox.DELETE), and end an earlier session's statement that stands in the way.

        Raises:
            Unavailable: what an earlier session has under way does not end.
        """
        database = self._database
        ((turn, channel),) = await fencing.taken(
            lambda: database.ask(outbox.TAKE, confirmed.step, self._settings.notify, refused={LOCK_NOT_AVAILABLE}),
            self._end_holders, "the outbox", self._log,
        )  # fmt: skip
        confirmed.took(turn)
        await database.ask(outbox.PREPARE)  # here: it waits for the same locks as TAKE, and has no remedy
        if confirmed.last:
            ((left,),) = await database.ask(outbox.LEFT, *outbox.rows(confirmed.last))
            if left:
                confirmed.void()
        self._channel = str(channel)

    async def _end_holders(self) -> tuple[str, str]:
        holders = await self._database.ask(outbox.END_HOLDERS)
        names, ends = ([str(holder[column]) for holder in holders] for column in (0, 1))
        return ", ".join(names), f"as a superuser: {' '.join(ends)}"

    async def listen(self, inlet: Inlet) -> None:
        """See Opened."""
        await _listen(self._database, self._channel)
        self._notifications = Notifications(self._session, self._open_postgres, self._settings, inlet, self._log)
        await self._notifications.open()

    def close(self) -> None:
        """See Opened."""
        self._database.close()
        if self._notifications is not None:
            self._notifications.close()


async def _listen(database: Database, channel: str) -> None:
    await database.ask('listen "{}"'.format(channel.replace('"', '""')))
