"""Watch a table of SQLite and no longer: the statements, to be read, and their execution."""

import sqlite3
from collections.abc import Callable, Sequence

from relay.errors import ConfigError, NotFound, RelayError, Unavailable
from relay.listening.polled.capture.options import Options
from relay.listening.polled.capture.sqlite.table import describe, identifier, of_table, rows, text
from relay.listening.polled.capture.sqlite.triggers import Capture, capture, fingerprint, triggers

OLDEST = (3, 38)
_KINDS = ("replace", "displace", "insert", "update", "delete")


def plan(cursor: sqlite3.Cursor, name: str, options: Options) -> list[str]:
    """Return the statements that watch a table, for one transaction. Nothing is changed.

    Raises:
        ConfigError: this SQLite is too old, or the relay's tables are not there.
        NotFound: no such table, no such column.
        RelayError: it can't be watched like this.
    """
    _check(cursor)
    table = describe(cursor, name)
    for what, remedy in of_table(table, options):
        raise RelayError(what, remedy)
    captured = capture(table, options)
    _try(cursor, captured)
    made = triggers(captured)
    row = ", ".join(text(one) for one in (table.name, captured.topic, options.dump(), fingerprint(made)))
    return [
        *_drops(cursor, table.name),
        *(one.sql for one in made),
        f"insert or replace into relay_watched (tbl, topic, options, hash) values ({row})",  # noqa: S608
    ]


def _check(cursor: sqlite3.Cursor) -> None:
    ((version,),) = rows(cursor, "select sqlite_version()")
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
        raise ConfigError((f"SQLite is {version} here", "its triggers need 3.38 or newer, the application's too"))
    if not rows(cursor, "select 1 from main.sqlite_schema where name = 'relay_replaced'"):
        raise ConfigError(("the relay's tables are not there", "sqlite3 FILE < sql/sqlite/install.sql"))


def _try(cursor: sqlite3.Cursor, captured: Capture) -> None:
    """Have SQLite read the condition. Raises RelayError: it does not understand it."""
    if not captured.options.when:
        return
    name = identifier(captured.table.name)
    try:
        cursor.execute(f"select 1 from {name} where ({captured.options.when}) is true limit 0")  # noqa: S608
    except sqlite3.Error as error:
        raise RelayError(f"SQLite does not understand --when: {error}", "it is what follows WHERE in SQL") from None


def _drops(cursor: sqlite3.Cursor, name: str) -> list[str]:
    sql = "select name from main.sqlite_schema where type = 'trigger' and tbl_name = ? collate nocase"
    ours = {f"relay_{kind}_" for kind in _KINDS}
    found = [trigger for (trigger,) in rows(cursor, sql, name) if trigger.startswith(tuple(ours))]
    return [f"drop trigger {identifier(trigger)}" for trigger in found]


def unplan(cursor: sqlite3.Cursor, name: str) -> list[str]:
    """Return the statements that end the watch of a table. Raises NotFound: it is not watched."""
    drops = _drops(cursor, name)
    if not drops and not rows(cursor, "select 1 from relay_watched where tbl = ? collate nocase", name):
        raise NotFound(f"{name} is not watched", "listen.py watched shows what is")
    return [*drops, f"delete from relay_watched where tbl = {text(name)} collate nocase"]  # noqa: S608


def carry_out(cursor: sqlite3.Cursor, made: Callable[[], Sequence[str]]) -> None:
    """Execute a plan as one transaction.

    Raises:
        Unavailable: somebody else is writing, for longer than this connection waits.
        RelayError: SQLite refuses.
    """
    try:
        cursor.execute("begin immediate")
    except sqlite3.OperationalError as error:
        raise Unavailable(f"SQLite: {error}", "somebody is writing; try again") from None
    try:
        for statement in made():
            cursor.execute(statement)
        cursor.execute("commit")
    except BaseException as error:
        cursor.execute("rollback")
        if isinstance(error, sqlite3.Error):
            raise RelayError(
                f"SQLite refuses: {error}", "listen.py watch TABLE --print-sql shows the statements"
            ) from None
        raise


def script(statements: Sequence[str]) -> str:
    """For sqlite3's command line."""
    return "\n".join(["begin immediate;", *(f"{one};" for one in statements), "commit;"])
