#!/usr/bin/env python3
"""The listening daemon: committed rows of relay.outbox, and plain NOTIFY payloads, to a RabbitMQ exchange."""

import argparse
import contextlib
import functools
import shlex
import signal
import sys
from collections.abc import Awaitable, Iterator
from pathlib import Path

import psycopg2.extensions

import connection
from relay import alert_command, checks, cli, config, daemon, findings, targets, transport
from relay.amqp import management_api
from relay.errors import RelayError
from relay.findings import Finding, of_error
from relay.listening import check, check_broker, operate, overview
from relay.listening.database import pooler
from relay.listening.listener import Listener, log
from relay.log import complain, printable, reopen, setup


async def _run(settings: config.Listen) -> int:
    stop = daemon.Stop()
    stop.install(on_hangup=reopen)

    def open_postgres(name: str) -> Awaitable[psycopg2.extensions.connection]:
        return connection.open_postgres(settings.database_url, name=name, timeout=settings.connect_timeout)

    return await Listener(
        settings, stop, open_postgres, lambda name: connection.open_rabbitmq(settings, name=name)
    ).run()


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
    others = targets.setting_names()
    return cli.load(lambda: config.load(config.Listen, env_file, others=others), env_file, runs=runs)


def _status(settings: config.Listen, arguments: argparse.Namespace) -> int:
    """Ask the database and the listener, each for a limited time; what one of them does not say the other may."""
    database, problem, found, why = None, None, None, ""
    try:
        with contextlib.closing(
            connection.postgres_now(
                settings.database_url, name="relay status", timeout=settings.connect_timeout, patience=operate.PATIENCE
            )
        ) as db:
            db.autocommit = True
            database = operate.status(db)
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
    with contextlib.closing(
        connection.postgres_now(settings.database_url, name="relay command", timeout=settings.connect_timeout)
    ) as db:
        db.autocommit = True
        if arguments.command == "release":
            return _changed(operate.release(db, arguments.id), arguments.id, "released")
        if arguments.command == "drop":
            return _drop(db, arguments.id, sure=arguments.yes)
        if connection.is_pooled(db):
            raise pooler(settings.database_url)  # it sets a lock_timeout
        return _resend(db, arguments)


def _check(env_file: Path | None, options: argparse.Namespace) -> Iterator[Finding]:
    """Nothing is changed, and no lease taken: it may run beside the listener."""
    settings = _load(env_file, runs=False)
    yield from findings.exposed(config.read_by_others(config.Listen, env_file))
    yield from checks.log_file(settings.log_file)
    yield from alert_command.findings(settings)
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
                raise pooler(settings.database_url, transactions=same)
            yield from check.postgres(db, settings, checks.limits(options))
            with contextlib.suppress(RelayError):  # told already
                topics = check.topics(db)
    except RelayError as error:
        yield of_error("PostgreSQL", error)
    try:
        with connection.rabbitmq_now(settings, name="relay listen check") as handle:
            yield from check_broker.rabbitmq(handle, settings, source)
        yield from check_broker.routes(functools.partial(management_api.ask, settings), settings, topics)
        with contextlib.suppress(RelayError):  # that it is not asked is told already
            yield checks.of_clock("RabbitMQ", *management_api.clock(settings))
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
    cli.print_line(f"{cli.plural(count, 'event')} {what}")
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
                complain(f"{cli.plural(resent.rows, 'row')} sent; to go on: {_again(arguments, resent)}")
    cli.print_line(f"{cli.plural(resent.rows, 'row')} of {arguments.table} sent")
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
        return findings.report(_check(env_file, arguments), style=arguments.style)
    settings = _load(env_file, runs=not arguments.command)
    if arguments.command == "status":
        return cli.watched(functools.partial(_status, settings, arguments), arguments.watch)
    if arguments.command:
        return _command(settings, arguments)
    setup(settings.log_level, settings.log_file, settings.log_format)
    findings.warn_of_exposed(config.read_by_others(config.Listen, env_file), log)
    return daemon.run(functools.partial(_run, settings))


if __name__ == "__main__":
    sys.exit(cli.run(main))
