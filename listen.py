#!/usr/bin/env python3
"""The listening daemon: committed rows of relay.outbox, and plain NOTIFY payloads, to a RabbitMQ exchange."""

import signal

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it, without a traceback, until cli.run does

import argparse
import contextlib
import functools
import sys
from collections.abc import Awaitable, Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import psycopg2.extensions

import connection
from relay import alert_command, checks, cli, config, daemon, findings, setting, targets, transport
from relay.amqp import look, rights, stream
from relay.database_url import PolledUrl
from relay.errors import RelayError
from relay.findings import Finding, of_error
from relay.listening import check, check_outbox, operate, overview, resend_shown
from relay.listening import resend as resending
from relay.listening.listener import Listener, log
from relay.listening.polled.capture import commands
from relay.listening.postgres_errors import pooler
from relay.log import complain, reopen, setup
from relay.values import Dsn

if TYPE_CHECKING:
    import sqlalchemy

    from relay.listening.polled import operate as polled_operate


async def _run(settings: config.Listen) -> int:
    stop = daemon.Stop()
    stop.install(on_hangup=reopen)
    url, timeout = settings.database_url, settings.connect_timeout

    def open_rabbitmq(name: str) -> Awaitable[stream.Connection]:
        return connection.open_rabbitmq(settings, name=name)

    def open_postgres(name: str, *, raw: bool = False) -> Awaitable[psycopg2.extensions.connection]:
        return connection.open_postgres(cast("Dsn", url), name=name, timeout=timeout, raw=raw)

    open_polled = _open_polled(url, settings) if isinstance(url, PolledUrl) else None
    return await Listener(settings, stop, open_postgres, open_rabbitmq, open_polled).run()


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made, command = cli.parser("Relays committed rows of PostgreSQL, and NOTIFY payloads, to a RabbitMQ exchange.")
    shown = command("status", "show how the listener is, what waits, what the broker refused, what is watched")
    cli.add_json(shown)
    cli.add_watch(shown)
    check_options = command("check", "look whether PostgreSQL, RabbitMQ and the settings fit each other")
    checks.add_options(check_options, parked=False)
    release = command("release", "let the listener try refused events again")
    which = release.add_mutually_exclusive_group(required=True)
    which.add_argument("id", metavar="ID", nargs="?", help="one event; status shows the ids")
    which.add_argument("--all", action="store_true", help="all refused events")
    drop = command("drop", "delete one refused event for good")
    drop.add_argument("id", metavar="ID", help="the event; status shows the ids")
    drop.add_argument("--yes", action="store_true", help="do not ask")
    resend = command("resend", "send the existing rows of a table, or of several, as events with op snapshot")
    which = resend.add_mutually_exclusive_group(required=True)
    which.add_argument("table", metavar="TABLE", nargs="?", help="for example public.orders")
    which.add_argument(
        "--order",
        metavar="TABLES",
        help="several tables, one after the other, for example public.customers,public.orders",
    )
    resend.add_argument(
        "--where",
        metavar="SQL",
        help="only rows that meet this condition; functions and types of your own with their schema",
    )
    resend.add_argument(
        "--queue", metavar="NAME", help="to this queue alone, through the default exchange; other consumers get nothing"
    )
    resend.add_argument(
        "--after", metavar="KEY", help='go on after this key (of the first table), for example {"id": 42}'
    )
    resend.add_argument(
        "--chunk", type=cli.positive, default=1000, metavar="N", help="rows a transaction (default 1000)"
    )
    commands.add(command)
    return made


def _load(env_file: Path | None, *, runs: bool) -> config.Listen:
    others = targets.setting_names()
    return cli.load(lambda: config.load(config.Listen, env_file, others=others), env_file, runs=runs)


def _open_polled(url: PolledUrl, settings: config.Listen) -> Callable[[str], "sqlalchemy.Connection"]:
    return lambda name: connection.open_polled(url, name=name, timeout=settings.connect_timeout)


@contextlib.contextmanager
def _commands(url: PolledUrl, settings: config.Listen, name: str) -> "Iterator[polled_operate.Commands]":
    """A connection to a polled source, for a command."""
    from relay.listening.polled import operate as of_polled  # here: with PostgreSQL nobody needs SQLAlchemy

    with of_polled.opened(settings, url, _open_polled(url, settings), name) as db:
        yield db


def _of_database(settings: config.Listen) -> dict[str, Any]:
    url = settings.database_url
    if isinstance(url, PolledUrl):
        with _commands(url, settings, "relay status") as commands:
            return commands.status()
    more = {"timeout": settings.connect_timeout, "patience": operate.PATIENCE}
    with contextlib.closing(connection.postgres_now(url, name="relay status", **more)) as db:
        db.autocommit = True
        return operate.status(db)


def _status(settings: config.Listen, arguments: argparse.Namespace) -> int:
    """Ask the database and the listener, each for a limited time; what one of them does not say the other may."""
    database, problem, found, why = None, None, None, ""
    try:
        database = _of_database(settings)
    except RelayError as error:
        problem = error
    if settings.control:
        try:
            with connection.rabbitmq_now(settings, name="relay listen status") as handle:
                found, why = overview.ask_listener(handle, settings)
        except RelayError as error:
            why = str(error)
    else:
        why = "CONTROL=off: the listener is not asked"
    overview.show(settings, found, why, database, problem, as_json=arguments.json)
    if problem:
        raise problem
    return daemon.EX_OK


def _command(settings: config.Listen, arguments: argparse.Namespace) -> int:
    """Run one command on a connection of its own; return the exit status."""
    url = settings.database_url
    if isinstance(url, PolledUrl):
        return _polled_command(url, settings, arguments)
    with contextlib.closing(connection.postgres_now(url, name="relay command", timeout=settings.connect_timeout)) as db:
        db.autocommit = True
        if arguments.command in commands.NAMES:
            raise commands.of_postgres(arguments)
        if arguments.command == "release":
            return _changed(operate.release(db, arguments.id), arguments.id, "released")
        if arguments.command == "drop":
            return _drop(functools.partial(operate.drop, db), arguments.id, sure=arguments.yes)
        if connection.is_pooled(db):
            raise pooler(url)  # it sets a lock_timeout
        return _resend(db, arguments)


def _polled_command(url: PolledUrl, settings: config.Listen, arguments: argparse.Namespace) -> int:
    with _commands(url, settings, "relay command") as db:
        if arguments.command == "release":
            status = _changed(db.release(arguments.id), arguments.id, "released")
        elif arguments.command == "drop":
            status = _drop(db.drop, arguments.id, sure=arguments.yes)
        elif arguments.command == "resend":
            with db.translated():
                commands.resend(url, db.driver, arguments)
            return daemon.EX_OK
        else:
            with db.translated():
                commands.run(url, db.driver, arguments)
            return daemon.EX_OK
    if settings.control and status == daemon.EX_OK:
        with contextlib.suppress(RelayError), connection.rabbitmq_now(settings, name="relay command") as handle:
            overview.sweep(handle, settings)
    return status


def _check(env_file: Path | None, options: argparse.Namespace) -> Iterator[Finding]:
    """Nothing is changed, and no lease taken: it may run beside the listener."""
    from relay.amqp import management_api  # here: the daemon does without http.client, half a megabyte
    from relay.listening import check_broker

    settings = _load(env_file, runs=False)
    yield from findings.exposed(setting.read_by_others(config.Listen, env_file))
    yield from checks.log_file(settings.log_file)
    yield from checks.status_addr(settings.status_addr)
    yield from alert_command.findings(settings)
    yield from transport.findings(settings)
    source, known = settings.source, check_outbox.Known()
    api = functools.partial(management_api.ask, settings)
    url = settings.database_url
    try:
        if isinstance(url, PolledUrl):
            source = rights.source(settings)
            known = yield from _check_polled(url, settings, options)
        else:
            source, known = yield from _check_postgres(url, settings, options)
    except RelayError as error:
        yield of_error(url.product if isinstance(url, PolledUrl) else "PostgreSQL", error)
    try:
        with connection.rabbitmq_now(settings, name="relay listen check") as handle:
            yield from check_broker.room(handle, api, settings, source)
            yield from check_broker.rabbitmq(handle, settings, source, known)
        yield from check_broker.routes(api, settings, known.topics)
        with contextlib.suppress(RelayError):  # that it is not asked is told already
            yield checks.of_clock("RabbitMQ", *management_api.clock(settings))
        yield from look.certificates(settings)
    except RelayError as error:
        yield of_error("RabbitMQ", error)


def _check_postgres(
    url: Dsn, settings: config.Listen, options: argparse.Namespace
) -> Generator[Finding, None, tuple[str, check_outbox.Known]]:
    """Return the source's name, and what is known of the database."""
    known = check_outbox.Known()
    with contextlib.closing(connection.postgres_now(url, name="relay check", timeout=settings.connect_timeout)) as db:
        db.autocommit = True
        if connection.is_pooled(db):  # before anything is set
            with contextlib.closing(
                connection.postgres_now(url, name="relay check", timeout=settings.connect_timeout)
            ) as other:
                other.autocommit = True
                same = connection.backend(other) == connection.backend(db)
            raise pooler(url, transactions=same)
        yield from check.postgres(db, settings, checks.limits(options))
        with contextlib.suppress(RelayError):  # told already
            known = check.known(db)
        return settings.source or db.info.dbname, known


def _check_polled(
    url: PolledUrl, settings: config.Listen, options: argparse.Namespace
) -> Generator[Finding, None, check_outbox.Known]:
    """Return what is known of the database."""
    from relay.listening.polled import check as of_polled  # here: with PostgreSQL nobody needs SQLAlchemy

    with _commands(url, settings, "relay check") as db:
        yield from of_polled.polled(db, checks.limits(options))
        with contextlib.suppress(RelayError):  # told already
            return check_outbox.known(db.status())
    return check_outbox.Known()


def _drop(drop: Callable[[str], int], event_id: str, *, sure: bool) -> int:
    question = f"Delete event {event_id} for good? It will never be published. [y/N] "
    if not sure and not cli.agreed(question, ("y", "yes")):
        complain("nothing was dropped; answer y, or give --yes")
        return cli.EX_FAILED
    return _changed(drop(event_id), event_id, "dropped")


def _changed(count: int, event_id: str | None, what: str) -> int:
    if event_id is not None and not count:
        complain(f"no refused event {event_id}; listen.py status shows their ids")
        return cli.EX_FAILED
    cli.print_line(f"{cli.plural(count, 'event')} {what}")
    return daemon.EX_OK


def _resend(db: psycopg2.extensions.connection, arguments: argparse.Namespace) -> int:
    """What is wrong with the tables' names is said before anything is sent."""
    tables = [arguments.table] if arguments.order is None else resending.in_order(db, arguments.order)
    known = {table: resending.resolve(db, table) for table in tables}

    def copy(table: str, resent: resending.Resent, **more: Any) -> None:
        resending.resend(db, known[table], resent, where=arguments.where, queue=arguments.queue, **more)

    resend_shown.resend(arguments, tables, copy, lambda table: resending.estimate(db, known[table]))
    return daemon.EX_OK


def main() -> int:
    """Parse the command line, read the settings, run."""
    made = parser()
    arguments = made.parse_args()
    if arguments.command == "resend" and arguments.order is not None and arguments.where is not None:
        made.error("resend: --where is for one table; without --order")
    env_file = setting.env_file(arguments.env_file, __file__)
    if arguments.command:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    if arguments.command == "check":
        return findings.report(_check(env_file, arguments), style=arguments.style)
    settings = _load(env_file, runs=not arguments.command)
    if arguments.command == "status":
        return cli.watched(functools.partial(_status, settings, arguments), arguments.watch)
    if arguments.command:
        return _command(settings, arguments)
    setup(settings.log_level, settings.log_file, settings.log_format)
    findings.warn_of_exposed(setting.read_by_others(config.Listen, env_file), log)
    return daemon.run(functools.partial(_run, settings))


if __name__ == "__main__":
    sys.exit(cli.run(main))
