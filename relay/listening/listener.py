"""A listener: session after session, each opens both servers, takes the lease, and relays until something breaks."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import psycopg2.extensions
from pika.channel import Channel

from relay import config, daemon, transport
from relay.alert_command import alerting
from relay.amqp import rights, topology
from relay.amqp.session import Session
from relay.amqp.standby import Listeners
from relay.amqp.stream import Connection
from relay.backoff import Backoff
from relay.errors import Standby, Unavailable
from relay.listening import outbox, schema
from relay.listening.control import Control
from relay.listening.database import BACKEND, Database, pooler
from relay.listening.inlet import Inlet
from relay.listening.outbox_relay import Carried, OutboxRelay
from relay.listening.publisher import Publisher
from relay.listening.sleep import LOCK_NOT_AVAILABLE
from relay.listening.status import Status
from relay.log import Log
from relay.status.show import shown

FENCE_SECONDS, FENCE_PAUSE = 10.0, 0.05  # to wait for an earlier session's end, and between two looks
ANSWER_SECONDS = 15.0  # for each answer of RabbitMQ at the start
TICK = 1.0  # seconds between two looks at what is counted

log = Log("listen")

OpenPostgres = Callable[[str], Awaitable[psycopg2.extensions.connection]]
"""Open a connection in async mode, with this application_name. Raises RelayError."""
OpenRabbitmq = Callable[[str], Awaitable[Connection]]
"""Open a connection of this name. Raises RelayError."""


class Listener:
    """The listening half.

    Args:
        settings: what config.env says.
        stop: ends it.
        open_postgres, open_rabbitmq: see there.
    """

    def __init__(
        self, settings: config.Listen, stop: daemon.Stop, open_postgres: OpenPostgres, open_rabbitmq: OpenRabbitmq
    ) -> None:
        self._config = settings
        self._daemon = daemon.Daemon(stop, log, Backoff(settings.reconnect_min, settings.reconnect_max))
        self._stop = stop
        self._open_postgres = open_postgres
        self._open_rabbitmq = open_rabbitmq
        self._others = Listeners(settings.rabbitmq_url.vhost)
        self._carried = Carried(
            settings.outbox_warn, log, lambda call: asyncio.get_running_loop().call_soon(call),
            is_shown=settings.status_addr is not None or bool(settings.alert_command),
        )  # fmt: skip
        self._status = Status(settings, self._carried, self._daemon)
        self._control = Control(
            settings, self._status.document, self._carried.questions.ask,
            lambda: open_rabbitmq("relay listen, answers"), log,
        )  # fmt: skip

    async def run(self) -> int:
        """Run until a stop is asked for; return the exit status."""
        log.info(
            "starting", database=self._config.database_url.shown(), rabbitmq=self._config.rabbitmq_url.shown(),
            exchange=self._config.exchange,
        )  # fmt: skip
        transport.warn(self._config, log)
        name = f"listener of {rights.source(self._config)}"
        async with (
            alerting(self._config, self._daemon, name, self._status.troubles, log),
            shown(self._status, self._config, log),
        ):
            return await self._daemon.run(self._session)

    async def _session(self) -> None:
        async with Session(self._stop, rights.command(self._config), ANSWER_SECONDS) as session:
            postgres = await self._open_postgres("relay listen")
            database = Database(postgres, lambda *notification: work.woken(*notification), session.fail)
            notifications: Database | None = None
            try:
                key, source = await self._prepare_database(database, postgres.info.backend_pid)
                work = OutboxRelay(session, database, key, self._config, log, self._daemon, self._carried)
                self._status.follow(work.told)
                publisher = await self._prepare_broker(session, database, source, work)
                await _listen(database, await self._take_outbox(database))
                inlet = Inlet(work.step)
                if self._config.listen_channels:
                    postgres = await self._open_postgres("relay notifications")
                    notifications = Database(postgres, inlet.notified, session.fail)
                    await notifications.ask(schema.STEADY)
                    inlet.pause = notifications.pause
                    for each in self._config.listen_channels:
                        await _listen(notifications, each)
                self._feed_watchdog(session)
                self._tick(session)
                session.on_closed(work.closed)
                session.on_stop(work.stop)
                work.start(publisher, inlet, lambda: self._ready(source))
                await session.finished()
            finally:
                self._status.follow(None)
                database.close()
                if notifications is not None:
                    notifications.close()

    def _ready(self, source: str) -> None:
        if self._daemon.ready():
            log.info("relaying", source=source, channels=",".join(self._config.listen_channels) or None)

    async def _prepare_database(self, database: Database, told: int) -> tuple[int, str]:
        """Check that the server is no pooler, its version and role.

        Args:
            database: idle.
            told: the backend's pid, as libpq was told it.

        Returns:
            The sleep lock's key and the name of this source.
        """
        ((backend,),) = await database.ask(BACKEND)
        if backend != told:
            raise pooler(self._config.database_url)  # before anything is set
        await database.ask(schema.STEADY)
        (row,) = await database.ask(schema.SESSION)
        key, name = schema.judge(row, self._config.database_url.shown())
        return key, self._config.source or name

    async def _take_outbox(self, database: Database) -> str:
        """Make it our turn (outbox.DELETE), and end an earlier session's statement that stands in the way.

        Returns:
            The channel that the triggers notify.

        Raises:
            Unavailable: what an earlier session has under way does not end.
        """
        confirmed = self._carried.confirmed
        until, told = time.monotonic() + FENCE_SECONDS, False
        while not (taken := await database.ask(outbox.TAKE, confirmed.step, refused={LOCK_NOT_AVAILABLE})):
            holders = await database.ask(outbox.END_HOLDERS)
            names = ", ".join(name for name, _pid, _ended in holders)
            if time.monotonic() > until:
                remedy = "as a superuser: " + " ".join(f"select pg_terminate_backend({pid});" for _, pid, _ in holders)
                raise Unavailable(f"an earlier listener is still at work on the outbox: {names}", remedy)
            if holders and not told:
                told = True
                log.warning(
                    "an earlier listener was still at work on the outbox: ending its session", session=names,
                    remedy="none, unless it comes again and again: two listeners of one database need one RabbitMQ",
                )  # fmt: skip
            await asyncio.sleep(FENCE_PAUSE)
        ((turn, channel),) = taken
        confirmed.took(turn)
        await database.ask(outbox.PREPARE)  # here: it waits for the same locks as TAKE, and has no remedy
        if confirmed.last:
            ((left,),) = await database.ask(outbox.LEFT, *outbox.rows(confirmed.last))
            if left:
                confirmed.void()
        return str(channel)

    async def _take_lease(self, session: Session, channel: Channel, database: Database, lease: str) -> None:
        """Raises Standby, with what PostgreSQL knows of whoever holds it."""
        try:
            await topology.take_lease(session, channel, lease)
        except Standby as standby:
            (found,) = await database.ask(outbox.OTHERS)
            raise self._others.describe(lease, standby, *found) from None

    async def _prepare_broker(self, session: Session, database: Database, source: str, work: OutboxRelay) -> Publisher:
        """Take the lease before anything is published, on the connection that publishes."""
        rabbitmq = await self._open_rabbitmq("relay listen")
        session.attach(rabbitmq)
        channel = await session.open_channel()
        await self._take_lease(session, channel, database, rights.lease(source))
        await self._control.open(session, source)
        await topology.declare_exchange(session, self._config.exchange, self._config.exchange_type)
        for queue in self._config.required_queues:
            await topology.require_queue(session, queue)
        publisher = Publisher(channel, self._config.exchange, work.confirmed, work.declined, self._config.sign_events)
        await topology.confirms(session, channel, publisher.on_confirm)
        rabbitmq.add_on_connection_blocked_callback(lambda _connection, frame: work.blocked(frame.method.reason))
        rabbitmq.add_on_connection_unblocked_callback(lambda _connection, _frame: work.unblocked())
        return publisher

    def _tick(self, session: Session) -> None:
        self._status.tick(time.monotonic())
        session.call_later(TICK, lambda: self._tick(session))

    def _feed_watchdog(self, session: Session) -> None:
        """systemd's watchdog hears from us only while the loop turns."""
        interval = self._daemon.systemd.watchdog_interval
        if interval:
            self._daemon.feed_watchdog()
            session.call_later(interval, lambda: self._feed_watchdog(session))


async def _listen(database: Database, channel: str) -> None:
    await database.ask('listen "{}"'.format(channel.replace('"', '""')))
