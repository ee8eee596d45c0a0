"""Plain notifications (LISTEN_CHANNELS): the connection that they come over, and their way into the outbox.

Any login may send them, with any byte that its database takes. So nothing is converted on this connection: PostgreSQL
would end it at the first byte that it can't convert, since a notification is no statement that could fail. And its end
ends nothing else: it is opened anew beside the work on the outbox.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

import psycopg2
import psycopg2.extensions

from relay.amqp.session import Session
from relay.backoff import Backoff
from relay.config import Listen
from relay.errors import RelayError
from relay.listening import outbox, schema
from relay.listening.database import Database
from relay.listening.inlet import Inlet, Text
from relay.listening.texts import ESCAPED, is_utf8
from relay.log import Log

OpenPostgres = Callable[..., Awaitable[psycopg2.extensions.connection]]
"""Open a connection in async mode, with this application_name; raw=True: its texts are not converted. Raises
RelayError."""


class Notifications:
    """Lives as long as a session.

    Args:
        session: its timers and tasks.
        config: LISTEN_CHANNELS, RECONNECT_MIN, RECONNECT_MAX.
        inlet: takes what is notified.
        log: is told when the connection is lost, and when it is there again.
    """

    def __init__(self, session: Session, open_postgres: OpenPostgres, config: Listen, inlet: Inlet, log: Log) -> None:
        self._session = session
        self._open_postgres = open_postgres
        self._channels = config.listen_channels
        self._inlet = inlet
        self._log = log
        self._backoff, self._steady = Backoff(config.reconnect_min, config.reconnect_max), config.reconnect_max
        self._database: Database | None = None
        self._heard_since: float | None = None  # monotonic seconds; None = not yet, or not at the moment
        inlet.pause = self._pause

    async def open(self) -> None:
        """Begin to listen, if there are channels. Raises RelayError."""
        if not self._channels:
            return
        handle = await self._open_postgres("relay notifications", raw=True)

        known = is_utf8(handle)

        def notified(channel: str, payload: str) -> None:
            raw = channel.encode("latin-1"), payload.encode("latin-1")
            self._inlet.notified(*((text.decode() for text in raw) if known else raw))

        database = Database(handle, notified, self._lost)
        try:
            await database.ask(schema.STEADY)
            # Their names are ours, in UTF-8; from the first that is heard on nothing is converted any more.
            names = [each.replace('"', '""').encode().decode("latin-1") for each in self._channels]
            await database.ask("set client_encoding = 'UTF8'")
            await database.ask("".join(f'listen "{name}"; ' for name in names) + "set client_encoding = 'SQL_ASCII'")
        except BaseException:
            database.close()
            raise
        self._database, self._heard_since = database, time.monotonic()
        if self._inlet.is_full:
            self._pause(reading=False)

    def close(self) -> None:
        """Hear nothing more."""
        if self._database is not None:
            self._database.close()

    def _pause(self, *, reading: bool) -> None:
        if self._database is not None:
            self._database.pause(reading=reading)

    def _lost(self, error: RelayError) -> None:
        if self._heard_since is None:
            return  # `open` raises it
        now = time.monotonic()
        if now - self._heard_since > self._steady:
            self._backoff.reset()
        self._database = self._heard_since = None
        self._session.call_later(self._backoff.next(), lambda: self._session.start(self._open_again(error, now)))

    async def _open_again(self, error: RelayError, lost_at: float) -> None:
        """The session has outlived it: it was not PostgreSQL that went away."""
        remedy = "none, if they are heard again; what triggers of relay.watch write is never lost"
        self._log.warning("LISTEN_CHANNELS are not heard: their connection is lost", reason=error.what, remedy=remedy)
        while self._database is None:
            try:
                await self.open()
            except RelayError:
                await asyncio.sleep(self._backoff.next())
        away = round(time.monotonic() - lost_at, 1)
        self._log.info("LISTEN_CHANNELS are heard again; what was notified meanwhile is lost", after_s=away)


def store(
    database: Database,
    channels: Sequence[Text],
    payloads: Sequence[Text],
    done: Callable[[], None],
    failed: Callable[[RelayError], None],
) -> None:
    """Write notifications into the outbox, in their order. Of one that is no UTF-8 all but ASCII is escaped.

    Args:
        database: idle.
        failed: called with what else PostgreSQL refuses.
    """

    def refused(error: psycopg2.Error) -> None:
        half = len(payloads) // 2
        if not isinstance(error, psycopg2.DataError) or isinstance(payloads[0], str):
            failed(database.refusal(error))
        elif half:  # until it stands alone
            rest = channels[half:], payloads[half:]
            store(database, channels[:half], payloads[:half], lambda: store(database, *rest, done, failed), failed)
        else:
            escaped = payloads[0].decode("ascii", ESCAPED).encode()
            database.run(outbox.NOTIFIED_RAW, (channels, [escaped]), lambda _rows: done())

    sql = outbox.NOTIFIED if isinstance(payloads[0], str) else outbox.NOTIFIED_RAW
    database.run(sql, (channels, payloads), lambda _rows: done(), refused)
