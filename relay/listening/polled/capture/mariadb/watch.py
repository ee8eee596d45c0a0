"""Watch a table of MariaDB and no longer: the statements, for a DBA to read, and their execution."""

import time
from collections.abc import Callable
from typing import NamedTuple

from relay.errors import NotFound, RelayError, Unavailable
from relay.listening.polled.capture.condition import qualify
from relay.listening.polled.capture.mariadb import refusals, triggers
from relay.listening.polled.capture.mariadb.names import (
    OWNER,
    SQL_MODE,
    identifier,
    qualified,
    text,
)
from relay.listening.polled.capture.mariadb.table import Cursor, Table, describe
from relay.listening.polled.capture.options import Options

PATIENCE = 10.0  # seconds in all that we try to get at a table which others use
LOCK_SECONDS = 1  # at most that long the application's next statements wait behind us; whole seconds, MariaDB's unit
_LOCKED = {1205}


class Plan(NamedTuple):
    """What is to be executed: before the table is locked, while it is, and afterwards."""

    before: tuple[str, ...]
    lock: str
    locked: tuple[str, ...]

    def script(self) -> str:
        """For the command line client."""
        said = ["set names utf8mb4;", f"set sql_mode = '{SQL_MODE}';", *(f"{one};" for one in self.before)]
        said += [f"{self.lock};", "delimiter ;;", *(f"{one};;" for one in self.locked), "delimiter ;", "unlock tables;"]
        return "\n".join(said)


def plan(cursor: Cursor, schema: str, name: str, options: Options) -> Plan:
    """What watches a table. Nothing is changed.

    Raises:
        NotFound: no such table, no such column.
        RelayError: it can't be watched like this.
    """
    table = describe(cursor, schema, name)
    refusals.refuse(cursor, table, options)
    what = triggers.capture(table, options)
    _try(cursor, what)
    made = triggers.triggers(what)
    columns = "table_schema, table_name, tbl, topic, options, hash"
    row = ", ".join(
        text(one)
        for one in (table.schema, table.name, table.label, what.topic, options.dump(), triggers.fingerprint(made))
    )
    noted = f"replace into relay.watched ({columns}) values ({row})"  # noqa: S608
    return Plan(
        _grants(table),
        f"lock tables {qualified(table.schema, table.name)} write, relay.watched write",
        (*(said for one in made for said in triggers.statements(what, one)), noted),
    )


def _grants(table: Table) -> tuple[str, ...]:
    """To the whole database: the right on a table alone does not follow when it is renamed, and then writers fail."""
    database = identifier(table.schema.replace("\\", "\\\\").replace("_", "\\_").replace("%", "\\%"))
    return (
        f"grant select, trigger on {database}.* to {OWNER}",
        f"grant select on {qualified(table.schema, table.name)} to relay_listener",
    )


def _try(cursor: Cursor, what: triggers.Capture) -> None:
    """Have MariaDB read the condition. Raises RelayError: it does not understand it."""
    if not what.options.when:
        return
    said = qualify(what.options.when, what.table.names, identifier, text_in_double_quotes=True)
    try:
        cursor.execute(f"select 1 from {qualified(what.table.schema, what.table.name)} where ({said}) is true limit 0")  # noqa: S608
    except Exception as error:
        if number(error) == 0:
            raise
        raise RelayError(
            f"MariaDB does not understand --when: {error.args[1]}", "it is what follows WHERE in SQL"
        ) from None
    cursor.fetchall()


def unplan(cursor: Cursor, schema: str, name: str) -> Plan:
    """What ends the watch of a table. Raises NotFound: it is not watched."""
    cursor.execute(
        "select trigger_name from information_schema.triggers where event_object_schema = %s "
        "and event_object_table = %s and trigger_name like 'relay\\_%%'",
        (schema, name),
    )
    found = [name for (name,) in cursor.fetchall()]
    cursor.execute("select 1 from relay.watched where table_schema = %s and table_name = %s", (schema, name))
    if not cursor.fetchall() and not found:
        raise NotFound(f"{schema}.{name} is not watched", "listen.py watched shows what is")
    where = f"table_schema = {text(schema)} and table_name = {text(name)}"
    drops = [f"drop trigger if exists {qualified(schema, one)}" for one in found]
    cursor.execute(
        "select 1 from information_schema.tables where table_schema = %s and table_name = %s", (schema, name)
    )
    there = bool(cursor.fetchall())
    lock = (f"{qualified(schema, name)} write, " if there else "") + "relay.watched write"
    return Plan((), f"lock tables {lock}", (*drops, f"delete from relay.watched where {where}"))  # noqa: S608


def carry_out(cursor: Cursor, made: Callable[[], Plan]) -> None:
    """Execute a plan; the application is held up for LOCK_SECONDS at most, now and then, while we wait for the table.

    Args:
        cursor: of an autocommit connection.
        made: makes the plan; it is made again under the lock, so that no column is added in between.

    Raises:
        Unavailable: others use the table for all of PATIENCE.
        RelayError: MariaDB refuses.
    """
    first = translated(made)
    _execute(cursor, "set names utf8mb4", f"set session sql_mode = '{SQL_MODE}', lock_wait_timeout = {LOCK_SECONDS}")
    _execute(cursor, *first.before)
    _lock(cursor, first.lock)
    try:
        _execute(cursor, *translated(made).locked)
    finally:
        cursor.execute("unlock tables")


def translated(made: Callable[[], Plan]) -> Plan:
    """Make a plan; what MariaDB refuses while it is asked is a RelayError."""
    try:
        return made()
    except RelayError:
        raise
    except Exception as error:  # noqa: BLE001 - of whichever driver
        raise _refusal(error, "reading the table") from None


def _lock(cursor: Cursor, statement: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            cursor.execute(statement)
        except Exception as error:  # noqa: BLE001 - of whichever driver
            if number(error) not in _LOCKED:
                raise _refusal(error, statement) from None
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"others have used it for {PATIENCE:.0f} s: {_users(cursor)}", "try again later"
                ) from None
            time.sleep(0.2)
        else:
            return


def _users(cursor: Cursor) -> str:
    """Whose transactions are open, for an error."""
    cursor.execute(
        "select concat('connection ', t.trx_mysql_thread_id, ' of ', coalesce(p.user, '?'), ', since ', t.trx_started) "
        "from information_schema.innodb_trx t "
        "left join information_schema.processlist p on p.id = t.trx_mysql_thread_id "
        "order by t.trx_started limit 5"
    )
    return "; ".join(said for (said,) in cursor.fetchall()) or "show processlist tells who"


def _execute(cursor: Cursor, *statements: str) -> None:
    for statement in statements:
        try:
            cursor.execute(statement)
        except Exception as error:  # noqa: BLE001 - of whichever driver
            raise _refusal(error, statement) from None


def _refusal(error: Exception, statement: str) -> Exception:
    """MariaDB's own words, and what they mean here."""
    code = number(error)
    if not code:
        return error
    remedy = _REMEDIES.get(code, "listen.py watch TABLE --print-sql shows the statements")
    first = " ".join(statement.split()[:6])
    return RelayError(f'MariaDB refuses "{first} ...": {error.args[1]} ({code})', remedy)


_RIGHTS = (
    "as an administrator: it takes TRIGGER, SELECT and LOCK TABLES on the table, SET USER (or SUPER), and the right to "
    "grant; or have one run what --print-sql prints"
)
_REMEDIES = {
    1044: _RIGHTS, 1045: _RIGHTS, 1142: _RIGHTS, 1143: _RIGHTS, 1227: _RIGHTS, 1410: _RIGHTS,
    1419: "with the binlog on it takes SUPER, or: set global log_bin_trust_function_creators = 1",
    1146: "install the relay's tables: sql/mariadb/install.sql, of MySQL sql/mysql/install.sql",
    1049: "install the relay's tables: sql/mariadb/install.sql, of MySQL sql/mysql/install.sql",
}  # fmt: skip


def number(error: BaseException) -> int:
    """MariaDB's number of an error; 0: it is none of MariaDB's."""
    return error.args[0] if len(error.args) > 1 and isinstance(error.args[0], int) else 0
