"""A listener: session after session, each opens both servers, takes the lease, and relays until something breaks."""

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from pika.channel import Channel

from relay import config, daemon, transport
from relay.alert_command import alerting
from relay.amqp import rights, topology
from relay.amqp.session import Session
from relay.amqp.standby import Listeners
from relay.amqp.stream import Connection
from relay.backoff import Backoff
from relay.database_url import PolledUrl
from relay.errors import Standby
from relay.listening import outbox, postgres_session
from relay.listening.carried import Carried
from relay.listening.control import Control
from relay.listening.inlet import Inlet
from relay.listening.notifications import OpenPostgres
from relay.listening.outbox_relay import OutboxRelay
from relay.listening.publisher import Publisher
from relay.listening.requests import Requests
from relay.listening.source import Opened
from relay.listening.status import Status
from relay.log import Log
from relay.status.show import shown

ANSWER_SECONDS = 15.0  # for each answer of RabbitMQ at the start
TICK = 1.0  # seconds between two looks at what is counted

if TYPE_CHECKING:
    from relay.listening.polled.start import OpenPolled

log = Log("listen")

OpenRabbitmq = Callable[[str], Awaitable[Connection]]
"""Open a connection of this name. Raises RelayError."""


class Listener:
    """The listening half.

    Args:
        settings: what config.env says.
        stop: ends it.
        open_postgres, open_rabbitmq: see there.
        open_polled: of a DATABASE_URL that is not PostgreSQL's.
    """

    def __init__(
        self,
        settings: config.Listen,
        stop: daemon.Stop,
        open_postgres: OpenPostgres,
        open_rabbitmq: OpenRabbitmq,
        open_polled: "OpenPolled | None" = None,
    ) -> None:
        self._config = settings
        self._daemon = daemon.Daemon(stop, log, Backoff(settings.reconnect_min, settings.reconnect_max))
        self._stop = stop
        self._open_postgres = open_postgres
        self._open_rabbitmq = open_rabbitmq
        self._open_polled = open_polled
        self._others = Listeners(settings.rabbitmq_url.vhost)
        self._carried = Carried(
            settings.outbox_warn, log, lambda call: asyncio.get_running_loop().call_soon(call),
            is_shown=settings.status_addr is not None or bool(settings.alert_command),
            rights=rights.command(settings),
        )  # fmt: skip
        self._status = Status(settings, self._carried, self._daemon)
        self._requests = Requests(
            lambda: open_postgres("relay requests"), self._carried.addressees, log, is_on=settings.requests
        )
        self._control = Control(
            settings, self._status.document, self._carried.questions.ask, self._requests, lambda: self._sweep(),
            lambda: open_rabbitmq("relay listen, answers"), log,
        )  # fmt: skip

        self._sweep: Callable[[], None] = lambda: None

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
            source = await self._open_source(session, lambda *notification: work.woken(*notification))
            inlet = Inlet(lambda: work.step())
            try:
                work = OutboxRelay(session, source.source, self._config, log, self._daemon, self._carried)
                self._status.follow(work.told)
                self._requests.begin(session, work.waiting)
                if isinstance(self._config.database_url, PolledUrl):  # PostgreSQL tells of marks by itself
                    self._sweep = lambda: work.woken("", outbox.SWEEP)
                await self._prepare_broker(session, source, work)
                another = functools.partial(self._publisher, session, work)
                await source.take(self._carried.confirmed)
                await source.listen(inlet)
                self._feed_watchdog(session)
                self._tick(session)
                session.on_closed(work.closed)
                session.on_stop(work.stop)
                work.start(await another(), another, inlet, lambda: self._ready(source.name))
                await session.finished()
            finally:
                self._status.follow(None)
                self._sweep = lambda: None
                source.close()

    def _ready(self, source: str) -> None:
        if self._daemon.ready():
            log.info("relaying", source=source, channels=",".join(self._config.listen_channels) or None)

    async def _open_source(self, session: Session, woken: Callable[[str, str], None]) -> Opened:
        """The one place that chooses which kind of source is relayed."""
        url = self._config.database_url
        if isinstance(url, PolledUrl) and self._open_polled is not None:
            from relay.listening.polled import start  # here: with PostgreSQL nobody needs it

            return await start.open_source(session, self._open_polled, url, self._config, log)
        return await postgres_session.open_source(session, self._open_postgres, self._config, woken, log)

    async def _take_lease(self, session: Session, channel: Channel, source: Opened, lease: str) -> None:
        """Raises Standby, with what the database knows of whoever holds it."""
        try:
            await topology.take_lease(session, channel, lease)
        except Standby as standby:
            raise self._others.describe(lease, standby, *await source.others()) from None

    async def _prepare_broker(self, session: Session, source: Opened, work: OutboxRelay) -> None:
        """Take the lease before anything is published, on the connection that publishes."""
        rabbitmq = await self._open_rabbitmq("relay listen")
        session.attach(rabbitmq)
        channel = await session.open_channel()
        lease = rights.lease(source.name)
        await self._take_lease(session, channel, source, lease)
        session.start(topology.hold(session, lease, auto_delete=True))
        await self._control.open(session, source.name)
        await topology.declare_exchange(session, self._config.exchange, self._config.exchange_type)
        for queue in self._config.required_queues:
            await topology.require_queue(session, queue)
        rabbitmq.add_on_connection_blocked_callback(lambda _connection, frame: work.blocked(frame.method.reason))
        rabbitmq.add_on_connection_unblocked_callback(lambda _connection, _frame: work.unblocked())

    async def _publisher(self, session: Session, work: OutboxRelay) -> Publisher:
        """One on a channel of its own, on the connection that has the lease. Raises RelayError."""
        channel = await session.open_channel()
        publisher = Publisher(
            channel, self._config.exchange, work.confirmed, work.declined, self._config.sign_events,
            lambda: self._carried.addressees.barred,
        )  # fmt: skip
        await topology.confirms(session, channel, publisher.on_confirm)
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
