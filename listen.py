#!/usr/bin/env python3
"""The listening daemon: committed rows of relay.outbox, and plain NOTIFY payloads, to a RabbitMQ exchange."""

import argparse
import contextlib
import functools
import shlex
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import psycopg2
import psycopg2.extensions
from pika.adapters.select_connection import IOLoop, SelectConnection
from pika.channel import Channel

import connection
from relay import checks, cli, config, daemon, findings, transport
from relay.amqp import rights
from relay.amqp.session import Session
from relay.amqp.standby import Listeners
from relay.amqp.topology import Setup
from relay.backoff import Backoff
from relay.errors import RelayError, Standby, Unavailable
from relay.findings import Finding, of_error
from relay.listening import check, check_broker, operate, outbox
from relay.listening.database import STATEMENT_DEADLINE, Database, Rows, refusal
from relay.listening.inlet import Inlet
from relay.listening.outbox_relay import Capture, Carried
from relay.listening.publisher import Publisher
from relay.listening.sleep import LOCK_NOT_AVAILABLE, Sleep
from relay.listening.window import Window
from relay.log import Log, complain, printable, reopen_on_hangup, setup

FENCE_SECONDS, FENCE_PAUSE = 10.0, 0.05  # to wait for an earlier session's end, and between two looks

log = Log("listen")


class Listener:
    """Sessions of the listening half: each opens both servers, takes the lease, and relays until something breaks."""

    def __init__(self, settings: config.Listen, stop: daemon.Stop) -> None:
        self._config = settings
        self._daemon = daemon.Daemon(stop, log, Backoff(settings.reconnect_min, settings.reconnect_max))
        self._stop = stop
        self._others = Listeners(settings.rabbitmq_url.vhost)
        self._carried = Carried()

    def run(self) -> int:
        """Run until a stop is asked for; return the exit status."""
        log.info(
            "starting", database=self._config.database_url.shown(), rabbitmq=self._config.rabbitmq_url.shown(),
            exchange=self._config.exchange,
        )  # fmt: skip
        transport.warn(self._config, log)
        return self._daemon.run(self._session)

    def _session(self) -> None:
        settings = self._config
        session = Session(IOLoop(), self._stop)
        postgres = self._open_postgres("relay listen")
        database = Database(postgres, session.loop, lambda *notification: work.woken(*notification), session.fail)
        rabbitmq, notifications = None, None
        try:
            key, source = self._prepare_database(session, database, postgres.info.backend_pid)
            rabbitmq = connection.open_rabbitmq(settings, name="relay listen", loop=session.loop, stop=self._stop)
            sleep = Sleep(session, database, key, settings.poll_interval, notify=settings.notify, log=log)
            window = Window(settings.window_events, settings.window_mb << 20)
            work = Capture(session, database, sleep, window, log, settings.outbox_warn, self._daemon, self._carried)
            self._prepare_broker(session, rabbitmq, database, source, work)
            _listen(session, database, self._take_outbox(session, database))
            inlet = Inlet(work.step)
            if settings.listen_channels:
                postgres = self._open_postgres("relay notifications")
                notifications = Database(postgres, session.loop, inlet.notified, session.fail)
                _ask(session, notifications, outbox.STEADY)
                inlet.pause = notifications.pause
                for each in settings.listen_channels:
                    _listen(session, notifications, each)

            def ready() -> None:
                if self._daemon.ready():
                    log.info("relaying", source=source, channels=",".join(settings.listen_channels) or None)

            self._feed_watchdog(session)
            work.start(inlet, ready)
            session.run(work.stop)
        finally:
            database.close()
            if notifications is not None:
                notifications.close()
            if rabbitmq is not None:
                connection.close_rabbitmq(rabbitmq, session.loop)
            session.loop.close()

    def _prepare_database(self, session: Session, database: Database, told: int) -> tuple[int, str]:
        """Check that the server is no pooler, its version and role.

        Args:
            session: runs the loop.
            database: idle.
            told: the backend's pid, as libpq was told it.

        Returns:
            The sleep lock's key and the name of this source.
        """
        ((backend,),) = _ask(session, database, connection.BACKEND)
        if backend != told:
            raise connection.pooler(self._config.database_url)  # before anything is set
        _ask(session, database, outbox.STEADY)
        (row,) = _ask(session, database, outbox.SESSION)
        key, name = outbox.judge(row, self._config.database_url.shown())
        return key, self._config.source or name

    def _take_outbox(self, session: Session, database: Database) -> str:
        """Make it our turn (outbox.DELETE), and end an earlier session's statement that stands in the way.

        Returns:
            The channel that the triggers notify.

        Raises:
            Unavailable: what an earlier session has under way does not end.
        """

        def pause(done: Callable[[], None]) -> None:
            session.loop.call_later(FENCE_PAUSE, done)

        confirmed = self._carried.confirmed
        until, told = time.monotonic() + FENCE_SECONDS, False
        while not (taken := _ask(session, database, outbox.TAKE, confirmed.step, refused={LOCK_NOT_AVAILABLE})):
            holders = _ask(session, database, outbox.END_HOLDERS)
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
            session.ask("a pause", pause, FENCE_SECONDS)
        ((turn, channel),) = taken
        confirmed.took(turn)
        if confirmed.last is not None:
            seq, event_id = confirmed.last
            ((left,),) = _ask(session, database, outbox.LEFT, outbox.array([seq]), outbox.array([event_id]))
            if left:
                confirmed.void()
        return str(channel)

    def _open_postgres(self, name: str) -> psycopg2.extensions.connection:
        settings = self._config
        return connection.open_postgres(
            settings.database_url, name=name, timeout=settings.connect_timeout, stop=self._stop
        )

    def _take_lease(self, session: Session, setup_: Setup, channel: Channel, database: Database, lease: str) -> None:
        """Raises Standby, with what PostgreSQL knows of whoever holds it; asked before, since a refusal is the end."""
        (found,) = _ask(session, database, outbox.OTHERS)
        try:
            setup_.lease(channel, lease)
        except Standby as standby:
            raise self._others.judge(lease, standby, *found) from None

    def _prepare_broker(
        self, session: Session, rabbitmq: SelectConnection, database: Database, source: str, work: Capture
    ) -> None:
        """Take the lease before anything is published, on the connection that publishes."""
        setup_ = Setup(rabbitmq, session, rights.command(self._config))
        channel = setup_.channel()
        self._take_lease(session, setup_, channel, database, rights.lease(source))
        channel = setup_.exchange(channel, self._config.exchange, self._config.exchange_type)
        for queue in self._config.required_queues:
            setup_.require_queue(channel, queue)
        publisher = Publisher(channel, self._config.exchange, work.confirmed, work.declined, self._config.sign_events)
        setup_.confirms(channel, publisher.on_confirm)
        work.publisher = publisher
        setup_.hand_over(work.closed)
        rabbitmq.add_on_connection_blocked_callback(lambda _connection, frame: work.blocked(frame.method.reason))
        rabbitmq.add_on_connection_unblocked_callback(lambda _connection, _frame: work.unblocked())

    def _feed_watchdog(self, session: Session) -> None:
        """systemd's watchdog hears from us only while the loop turns."""
        interval = self._daemon.systemd.watchdog_interval
        if interval:
            self._daemon.feed_watchdog()
            session.loop.call_later(interval, lambda: self._feed_watchdog(session))


def _listen(session: Session, database: Database, channel: str) -> None:
    _ask(session, database, 'listen "{}"'.format(channel.replace('"', '""')))


def _ask(session: Session, database: Database, sql: str, *parameters: object, refused: Collection[str] = ()) -> Rows:
    """Run one statement during set-up and wait for its rows; none for an SQLSTATE that is in `refused`."""
    answer: Rows = []

    def start(done: Callable[[], None]) -> None:
        def answered(rows: Rows) -> None:
            answer.extend(rows)
            done()

        def failed(error: psycopg2.Error) -> None:
            if error.pgcode in refused:
                done()
            else:
                session.fail(refusal(error))

        database.run(sql, parameters, answered, failed)

    session.ask("a statement at the start", start, STATEMENT_DEADLINE)
    return answer


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made, command = cli.parser("Relays committed rows of PostgreSQL, and NOTIFY payloads, to a RabbitMQ exchange.")
    cli.add_json(command("status", "show what waits in the outbox, what the broker refused, what is watched"))
    check_options = command("check", "look whether PostgreSQL, RabbitMQ and the settings fit each other")
    checks.add_options(check_options, parked=False)
    release = command("release", "let the listener try refused events again")
    which = release.add_mutually_exclusive_group(required=True)
    which.add_argument("id", metavar="ID", nargs="?", help="one event; status shows the ids")
    which.add_argument("--all", action="store_true", help="all refused events")
    drop = command("drop", "delete one refused event for good")
    drop.add_argument("id", metavar="ID", help="the event; status shows the ids")
    drop.add_argument("--yes", action="store_true", help="do not ask")
    resend = command("resend", "send a table's existing rows, as events with op snapshot")
    resend.add_argument("table", metavar="TABLE", help="for example public.orders")
    resend.add_argument(
        "--where",
        metavar="SQL",
        help="only rows that meet this condition; functions and types of your own with their schema",
    )
    resend.add_argument("--after", metavar="KEY", help='go on after this key, for example {"id": 42}')
    resend.add_argument(
        "--chunk", type=cli.positive, default=1000, metavar="N", help="rows a transaction (default 1000)"
    )
    return made


def _load(env_file: Path | None, *, runs: bool) -> config.Listen:
    return cli.load(lambda: config.load(config.Listen, env_file), env_file, runs=runs)


def _command(settings: config.Listen, arguments: argparse.Namespace) -> int:
    """Run one command on a connection of its own; return the exit status."""
    with contextlib.closing(
        connection.postgres_now(settings.database_url, name="relay command", timeout=settings.connect_timeout)
    ) as db:
        db.autocommit = True
        if arguments.command == "status":
            found = operate.status(db)
            if arguments.json:
                sys.stdout.write(operate.as_json(found) + "\n")
            else:
                for line in operate.told(found):
                    cli.say(line)
        elif arguments.command == "release":
            return _changed(operate.release(db, arguments.id), arguments.id, "released")
        elif arguments.command == "drop":
            return _drop(db, arguments.id, sure=arguments.yes)
        else:
            if connection.is_pooled(db):
                raise connection.pooler(settings.database_url)  # it sets a lock_timeout
            return _resend(db, arguments)
    return daemon.EX_OK


def _check(env_file: Path | None, options: argparse.Namespace) -> Iterator[Finding]:
    """Nothing is changed, and no lease taken: it may run beside the listener."""
    settings = _load(env_file, runs=False)
    yield from findings.exposed(config.read_by_others(config.Listen, env_file))
    yield from checks.log_file(settings.log_file)
    yield from transport.findings(settings)
    source, topics = settings.source, set[str]()
    try:
        with contextlib.closing(
            connection.postgres_now(settings.database_url, name="relay check", timeout=settings.connect_timeout)
        ) as db:
            source = source or db.info.dbname
            db.autocommit = True
            if connection.is_pooled(db):  # before anything is set
                with contextlib.closing(
                    connection.postgres_now(settings.database_url, name="relay check", timeout=settings.connect_timeout)
                ) as other:
                    other.autocommit = True
                    same = connection.backend(other) == connection.backend(db)
                raise connection.pooler(settings.database_url, transactions=same)
            yield from check.postgres(db, settings, checks.limits(options))
            with contextlib.suppress(RelayError):  # told already
                topics = check.topics(db)
    except RelayError as error:
        yield of_error("PostgreSQL", error)
    try:
        with connection.rabbitmq_now(settings, name="relay listen check") as handle:
            yield from check_broker.rabbitmq(handle, settings, source)
        yield from check_broker.routes(functools.partial(connection.ask_management, settings), settings, topics)
    except RelayError as error:
        yield of_error("RabbitMQ", error)


def _drop(db: psycopg2.extensions.connection, event_id: str, *, sure: bool) -> int:
    question = f"Delete event {event_id} for good? It will never be published. [y/N] "
    if not sure and not cli.agreed(question, ("y", "yes")):
        complain("nothing was dropped; answer y, or give --yes")
        return cli.EX_FAILED
    return _changed(operate.drop(db, event_id), event_id, "dropped")


def _changed(count: int, event_id: str | None, what: str) -> int:
    if event_id is not None and not count:
        complain(f"no refused event {event_id}; listen.py status shows their ids")
        return cli.EX_FAILED
    cli.say(f"{cli.counted(count, 'event')} {what}")
    return daemon.EX_OK


def _resend(db: psycopg2.extensions.connection, arguments: argparse.Namespace) -> int:
    from tqdm import tqdm  # here: the daemon and the other commands have no bar

    resent, finished = operate.Resent(arguments.after), False
    whole = arguments.where is None and arguments.after is None
    total = operate.estimate(db, arguments.table)
    with tqdm(unit=" rows", desc=arguments.table, disable=None, total=total if whole else None) as bar:

        def waits(why: str) -> None:
            bar.set_postfix_str(printable(why))
            if bar.disable and why:
                complain(f"{arguments.table}: {why}")

        try:
            operate.resend(
                db, arguments.table, resent, where=arguments.where, chunk=arguments.chunk, progress=bar.update,
                waits=waits,
            )  # fmt: skip
            finished = True
        finally:
            bar.close()
            if resent.rows and not finished:
                complain(f"{cli.counted(resent.rows, 'row')} sent; to go on: {_again(arguments, resent)}")
    cli.say(f"{cli.counted(resent.rows, 'row')} of {arguments.table} sent")
    return daemon.EX_OK


def _again(arguments: argparse.Namespace, resent: operate.Resent) -> str:
    """The command that goes on where this one ended."""
    words = [Path(sys.argv[0]).name]
    words += ["--env-file", str(arguments.env_file)] if arguments.env_file else []
    words += ["resend", arguments.table]
    words += ["--where", arguments.where] if arguments.where else []
    words += ["--after", resent.after] if resent.after else []
    return shlex.join([*words, "--chunk", str(arguments.chunk)])


def main() -> int:
    """Parse the command line, read the settings, run."""
    arguments = parser().parse_args()
    env_file = config.env_file(arguments.env_file, __file__)
    if arguments.command:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    if arguments.command == "check":
        return findings.tell(_check(env_file, arguments), style=arguments.style)
    settings = _load(env_file, runs=not arguments.command)
    if arguments.command:
        return _command(settings, arguments)
    setup(settings.log_level, settings.log_file, settings.log_format)
    reopen_on_hangup()
    findings.warn_of_exposed(config.read_by_others(config.Listen, env_file), log)
    stop = daemon.Stop()
    stop.install()
    return Listener(settings, stop).run()


if __name__ == "__main__":
    sys.exit(cli.run(main))
