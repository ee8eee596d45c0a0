"""listen.py watch, unwatch, watched, and `resend` of a polled source."""

import argparse
import json
import shlex
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from relay.cli import Subcommand, add_json, plural, print_line
from relay.database_url import MYSQL, SQLITE, PolledUrl
from relay.errors import RelayError
from relay.listening import resend_shown
from relay.listening.polled import capture
from relay.listening.polled.capture.notes import Watched
from relay.listening.polled.capture.options import Options
from relay.listening.resend import Resent

if TYPE_CHECKING:
    from relay.listening.polled.capture.resend import Copier

NAMES = ("watch", "unwatch", "watched")


def add(command: Subcommand) -> None:
    """Add the three commands to the command line."""
    watch = command("watch", "capture a table of MariaDB or SQLite by triggers (PostgreSQL: select relay.watch(...))")
    watch.add_argument("table", metavar="TABLE", help="for example shop.orders")
    for name, what in (
        ("--columns", "the columns in the events; default: all"),
        ("--ignore", "or: those that are not; an update that changes only these writes no event"),
        ("--key", "the columns that identify a row; default: the primary key"),
    ):
        watch.add_argument(name, metavar="A,B", type=_names, default=(), help=what)
    watch.add_argument("--topic", default="", help="routing key; default: the table's name")
    watch.add_argument("--when", metavar="SQL", default="", help="a condition on the row, with plain names of columns")
    watch.add_argument("--without-cascades", action="store_true", help="what its foreign keys cascade need not be told")
    watch.add_argument("--lock-tables", action="store_true", help="MariaDB: it is written to under LOCK TABLES")
    unwatch = command("unwatch", "end the capture of a table of MariaDB or SQLite")
    unwatch.add_argument("table", metavar="TABLE")
    for one in (watch, unwatch):
        one.add_argument("--print-sql", action="store_true", help="print the statements, and change nothing")
    add_json(
        command("watched", "show which tables of MariaDB or SQLite are captured, and what is not right about them")
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def of_postgres(arguments: argparse.Namespace) -> RelayError:
    """What to do instead where DATABASE_URL is PostgreSQL's."""
    if arguments.command == "watched":
        return RelayError("watched is for MariaDB and SQLite", "listen.py status; in SQL: select * from relay.watched")
    call = f"select relay.{arguments.command}('{arguments.table}')"
    return RelayError(f"{arguments.command} is for MariaDB and SQLite", f"with PostgreSQL, in psql: {call}")


def run(url: PolledUrl, driver: Any, arguments: argparse.Namespace) -> None:
    """Run one of the three.

    Args:
        url: DATABASE_URL.
        driver: a DB-API connection; autocommit.
        arguments: as parsed.

    Raises:
        RelayError: it can't be done; the way out is its remedy.
    """
    if url.kind not in (MYSQL, SQLITE):
        raise RelayError(
            f"{url.product}: triggers are not written by this program", "sql/oracle/ shows one to start from"
        )
    if arguments.command == "watched":
        _show(capture.watched(url, driver), as_json=arguments.json)
    elif url.kind == SQLITE:
        _sqlite(driver, arguments)
    else:
        _mariadb(url, driver, arguments)


def _options(arguments: argparse.Namespace) -> Options:
    return Options(
        arguments.columns, arguments.ignore, arguments.topic, arguments.key, arguments.when,
        arguments.without_cascades, arguments.lock_tables,
    )  # fmt: skip


def _mariadb(url: PolledUrl, driver: Any, arguments: argparse.Namespace) -> None:
    from relay.listening.polled.capture.mariadb import watch
    from relay.listening.polled.capture.mariadb.table import parts

    schema, name = parts(arguments.table, url.database)
    cursor = driver.cursor()

    def plan() -> watch.Plan:
        if arguments.command == "unwatch":
            return watch.unplan(cursor, schema, name)
        return watch.plan(cursor, schema, name, _options(arguments))

    if arguments.print_sql:
        print_lines(watch.translated(plan).script())
        return
    watch.carry_out(cursor, plan)
    _done(arguments, f"{schema}.{name}")


def _sqlite(driver: Any, arguments: argparse.Namespace) -> None:
    from relay.listening.polled.capture.sqlite import watch
    from relay.listening.polled.capture.sqlite.table import plain

    with plain(driver) as cursor:

        def plan() -> list[str]:
            if arguments.command == "unwatch":
                return watch.unplan(cursor, arguments.table)
            return watch.plan(cursor, arguments.table, _options(arguments))

        if arguments.print_sql:
            print_lines(watch.script(plan()))
            return
        watch.carry_out(cursor, plan)
    _done(arguments, arguments.table)


def _done(arguments: argparse.Namespace, table: str) -> None:
    if arguments.command == "unwatch":
        print_line(f"{table} is not watched any more; events already written stay")
        return
    print_line(f"{table} is watched; the rows that are there already: {shlex.join(['listen.py', 'resend', table])}")


def print_lines(text: str) -> None:
    """Print a script as it is."""
    for line in text.split("\n"):
        print_line(line)


def _show(found: list[Watched], *, as_json: bool) -> None:
    if as_json:
        said = [
            {"table": one.tbl, "topic": one.topic, "options": json.loads(one.options.dump()), "note": one.note,
             "remedy": one.remedy}
            for one in found
        ]  # fmt: skip
        print_lines(json.dumps(said, indent=2, ensure_ascii=False))
        return
    print_line(f"{plural(len(found), 'table')} watched")
    for one in found:
        print_line("  ".join([one.tbl, one.topic, shlex.join(one.options.words())]).rstrip())
        if one.note:
            print_line(f"    {one.note} -> {one.remedy}")


def resend(url: PolledUrl, driver: Any, arguments: argparse.Namespace) -> None:
    """Send rows again: what is wrong with the tables is said before anything is sent. Raises RelayError."""
    from relay.listening.polled.capture import resend as polled

    if arguments.queue:
        raise RelayError("--queue is for PostgreSQL", "without it the rows go to all that are bound")
    tables = [arguments.table] if arguments.order is None else _names(arguments.order)
    with ExitStack() as opened:
        copiers = {table: opened.enter_context(_copier(url, driver, table, arguments.where)) for table in tables}

        def copy(table: str, resent: Resent, **more: Any) -> None:
            polled.resend(copiers[table], resent, **more)

        resend_shown.resend(arguments, tables, copy, lambda _table: None)


@contextmanager
def _copier(url: PolledUrl, driver: Any, table: str, where: str | None) -> "Iterator[Copier]":
    """What copies a table's rows. Raises RelayError: it is not watched, or the database refuses."""
    if url.kind == SQLITE:
        from relay.listening.polled.capture.sqlite import resend as of_sqlite

        yield of_sqlite.copier(driver, table, where)
    elif url.kind == MYSQL:
        from relay.listening.polled.capture.mariadb import resend
        from relay.listening.polled.capture.mariadb.table import parts

        schema, name = parts(table, url.database)
        yield resend.copier(driver, schema, name, where)
    else:
        raise RelayError(
            f"{url.product}: resend is not there", "insert rows with op snapshot into relay.outbox yourself"
        )
