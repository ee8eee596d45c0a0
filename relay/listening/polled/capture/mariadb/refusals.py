"""What can't be watched on MariaDB, or not with these options: at watch, and in `check` what has become so since."""

import re
from collections.abc import Iterator

from relay.errors import RelayError
from relay.listening.polled.capture.mariadb.names import qualified
from relay.listening.polled.capture.mariadb.table import Cursor, Table
from relay.listening.polled.capture.options import Options

_MYSQL = (8, 0, 13)  # expressions as defaults, SKIP LOCKED
_OURS = ("relay", "mysql", "information_schema", "performance_schema", "sys")


def refuse(cursor: Cursor, table: Table, options: Options) -> None:
    """Raises RelayError: the table can't be watched like this; the way out is its remedy."""
    for what, remedy in (*of_table(table, options), *_of_server(cursor), *_of_condition(cursor, table, options)):
        raise RelayError(what, remedy)


def of_table(table: Table, options: Options) -> Iterator[tuple[str, str]]:
    """What speaks against a table as it is now, and the way out."""
    label, name = table.label, qualified(table.schema, table.name)
    if table.schema.lower() in _OURS:
        yield f"{label} is a table of the {'relay' if table.schema == 'relay' else 'server'}'s own", "watch another one"
    if table.engine.lower() != "innodb":
        what = f"{label} is of engine {table.engine}: its rows would outlive a rollback, their events would not"
        yield what, f"alter table {name} engine = InnoDB"
    if not table.key and not options.key:
        yield f"{label} has no primary key", "add one; or name columns that identify a row: --key a,b"
    if table.cascades and not options.without_cascades:
        keys = ", ".join(table.cascades)
        what = f"{label} is a child of {keys}, whose ON DELETE or ON UPDATE changes rows without a trigger"
        yield (
            what,
            "use RESTRICT and let the application do it, or give --without-cascades: those changes are then not told",
        )


def _of_server(cursor: Cursor) -> Iterator[tuple[str, str]]:
    cursor.execute("select @@global.binlog_format, @@global.log_bin, version()")
    ((form, is_on, version),) = cursor.fetchall()
    if "mariadb" not in version.lower() and _release(version) < _MYSQL:
        yield f"this is MySQL {version}, which is too old", "it takes MySQL 8.0.13 or newer"
    if is_on and form == "STATEMENT":
        what = "binlog_format is STATEMENT: a replica would make events of its own, and READ COMMITTED writers fail"
        yield what, "set global binlog_format = 'MIXED' (or ROW), and in the server's configuration"


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def _of_condition(cursor: Cursor, table: Table, options: Options) -> Iterator[tuple[str, str]]:
    """A stored function may lock, and may read what its caller may not; ours would run as the triggers' owner."""
    if not options.when:
        return
    cursor.execute(
        "select routine_name from information_schema.routines where routine_schema = %s and routine_type = 'FUNCTION'",
        (table.schema,),
    )
    called = [name for (name,) in cursor.fetchall() if _calls(options.when, name)]
    if called:
        yield f"--when calls {called[0]}, a stored function", "use the server's own functions alone"


def _calls(condition: str, name: str) -> bool:
    return f"{name.lower()}(" in condition.lower().replace(" ", "").replace("`", "")
