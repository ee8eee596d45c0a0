#!/usr/bin/env python3
"""The listening daemon: committed rows of relay.outbox, and plain NOTIFY payloads, to a RabbitMQ exchange."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from pika.adapters.select_connection import IOLoop, SelectConnection

import connection
from relay import config, daemon, outbox
from relay.capture import Capture
from relay.database import INSTALL, STATEMENT_DEADLINE, Database, Rows
from relay.errors import ConfigError, Unavailable
from relay.log import Log, setup
from relay.publisher import Publisher
from relay.retry import Backoff
from relay.session import Session
from relay.sleep import Sleep
from relay.topology import Setup
from relay.window import Window

log = Log("listen")


class Listener:
    """Sessions of the listening half: each opens both servers, takes the lease, and relays until something breaks."""

    def __init__(self, settings: config.Listen, stop: daemon.Stop) -> None:
        self._config = settings
        self._daemon = daemon.Daemon(stop, log, Backoff(settings.reconnect_min, settings.reconnect_max))
        self._stop = stop

    def run(self) -> int:
        """Run until a stop is asked for; return the exit status."""
        log.info(
            "starting", database=self._config.database_url.shown(), rabbitmq=self._config.rabbitmq_url.shown(),
            exchange=self._config.exchange,
        )  # fmt: skip
        return self._daemon.run(self._session)

    def _session(self) -> None:
        settings = self._config
        session = Session(IOLoop(), self._stop)
        postgres = connection.open_postgres(
            settings.database_url, name="relay listen", timeout=settings.connect_timeout, stop=self._stop
        )
        database = Database(postgres, session.loop, lambda *notification: work.notified(*notification), session.fail)
        rabbitmq = None
        try:
            key, source = self._prepare_database(session, database)
            rabbitmq = connection.open_rabbitmq(settings, name="relay listen", loop=session.loop, stop=self._stop)
            sleep = Sleep(session, database, key, settings.poll_interval, notify=settings.notify, log=log)
            window = Window(settings.window_events, settings.window_mb << 20)
            work = Capture(session, database, sleep, window, log)
            self._prepare_broker(session, rabbitmq, source, work)
            self._subscribe(session, database)
            log.info("relaying", source=source, channels=",".join(settings.listen_channels) or None)
            self._daemon.up()
            self._feed_watchdog(session)
            work.start()
            session.run(work.stop)
        finally:
            database.close()
            if rabbitmq is not None:
                connection.close_rabbitmq(rabbitmq, session.loop)
            session.loop.close()

    def _prepare_database(self, session: Session, database: Database) -> tuple[int, str]:
        """Check version and role of the server; return the sleep lock's key and the name of this source."""
        ((version, key, recovering, name, server, *_),) = _ask(session, database, outbox.SESSION)
        if server < 130000:
            raise ConfigError((f"PostgreSQL {server // 10000} is too old", "the relay needs 13 or newer"))
        if recovering:
            raise Unavailable(f"PostgreSQL {self._config.database_url.shown()} is in recovery, a standby", "wait")
        if version < outbox.SCHEMA_VERSION:
            problem = f"schema relay is version {version}, this program needs {outbox.SCHEMA_VERSION}"
            raise ConfigError((problem, f"upgrade it: {INSTALL}"))
        if version > outbox.SCHEMA_VERSION:
            problem = f"schema relay is version {version}, newer than this program knows ({outbox.SCHEMA_VERSION})"
            raise ConfigError((problem, "install the newer version of the relay"))
        return key, self._config.source or name

    def _subscribe(self, session: Session, database: Database) -> None:
        for channel in (outbox.CHANNEL, *self._config.listen_channels):
            _ask(session, database, 'listen "{}"'.format(channel.replace('"', '""')))

    def _prepare_broker(self, session: Session, rabbitmq: SelectConnection, source: str, work: Capture) -> None:
        """Take the lease before anything is published, on the connection that publishes."""
        setup_ = Setup(rabbitmq, session)
        channel = setup_.channel()
        setup_.lease(channel, f"relay.lease.{source}")
        setup_.exchange(channel, self._config.exchange)
        for queue in self._config.required_queues:
            setup_.require_queue(channel, queue)
        publisher = Publisher(channel, self._config.exchange, work.confirmed, work.declined)
        setup_.confirms(channel, publisher.on_confirm)
        work.publisher = publisher
        setup_.hand_over(work.channel_closed)
        rabbitmq.add_on_connection_blocked_callback(lambda _connection, frame: work.blocked(frame.method.reason))
        rabbitmq.add_on_connection_unblocked_callback(lambda _connection, _frame: work.unblocked())

    def _feed_watchdog(self, session: Session) -> None:
        """systemd's watchdog hears from us only while the loop turns."""
        interval = self._daemon.systemd.watchdog_interval
        if interval:
            self._daemon.feed_watchdog()
            session.loop.call_later(interval, lambda: self._feed_watchdog(session))


def _ask(session: Session, database: Database, sql: str) -> Rows:
    """Run one statement during set-up and wait for its rows."""
    answer: Rows = []

    def start(done: Callable[[], None]) -> None:
        def answered(rows: Rows) -> None:
            answer.extend(rows)
            done()

        database.run(sql, (), answered)

    session.ask("a statement at the start", start, STATEMENT_DEADLINE)
    return answer


def main() -> int:
    """Parse the command line, read the settings, run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--env-file", type=Path, help="settings; default: config.env beside this script, if it is there"
    )
    arguments = parser.parse_args()
    beside = Path(__file__).resolve().parent / "config.env"
    try:
        settings = config.load(config.Listen, arguments.env_file or (beside if beside.exists() else None))
        setup(settings.log_level, settings.log_file)
    except ConfigError as error:
        daemon.report(error)
        return daemon.EX_CONFIG
    stop = daemon.Stop()
    stop.install()
    return Listener(settings, stop).run()


if __name__ == "__main__":
    sys.exit(main())
