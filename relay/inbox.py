"""The ids of events that were applied, remembered in the caller's own transaction: what comes twice is applied once.

For functions of TARGET=python (relay.handlers.inbox), and for anybody else who has the event's id. It imports no
driver: the connection is the caller's.
"""

import datetime
import inspect
from typing import Any

ID_MAX = 255  # bytes of an id: AMQP's message_id has no more

TABLES = {
    "postgresql": "create table if not exists relay_inbox (consumer text not null, id text not null,"
    " at timestamptz not null default current_timestamp, primary key (consumer, id))",
    "mariadb": "create table if not exists relay_inbox (consumer varbinary(255) not null, id varbinary(255) not null,"
    " at timestamp not null default current_timestamp, primary key (consumer, id)) engine = InnoDB",
    "sqlite": "create table if not exists relay_inbox (consumer text not null, id text not null,"
    " at text not null default current_timestamp, primary key (consumer, id)) without rowid",
}
"""The table, by database: to be made once (`Inbox.create`, or by hand). MySQL's is MariaDB's."""

# What a second transaction with the same id waits for is the first one's end, in all three: then it is there, or not.
_REMEMBER = {
    "postgresql": "insert into relay_inbox (consumer, id) values (%s, %s) on conflict do nothing",
    "mariadb": "insert ignore into relay_inbox (consumer, id) values (%s, %s)",
    "sqlite": "insert into relay_inbox (consumer, id) values (?, ?) on conflict do nothing",
}
_FORGET = {
    "postgresql": "delete from relay_inbox where consumer = %s and at < current_timestamp - make_interval(secs => %s)",
    "mariadb": "delete from relay_inbox where consumer = %s and at < current_timestamp - interval %s second",
    "sqlite": "delete from relay_inbox where consumer = ? and at < datetime('now', -? || ' seconds')",
}
_DRIVERS = {
    "psycopg": "postgresql", "psycopg2": "postgresql", "pg8000": "postgresql", "sqlite3": "sqlite",
    "MySQLdb": "mariadb", "pymysql": "mariadb", "mariadb": "mariadb", "mysql": "mariadb",
}  # fmt: skip
_IN_TRANSACTION = 1  # MariaDB's SERVER_STATUS_IN_TRANS


class Misuse(TypeError):
    """The caller's mistake; the text says what to do instead, and holds nothing of an event."""


class Inbox:
    """Remembers ids.

    Args:
        connection: an open DB-API connection of psycopg2, psycopg, sqlite3, mysqlclient, PyMySQL, mariadb or
            mysql.connector; or Django's; or a Connection or Session of SQLAlchemy.
        consumer: whose ids: another consumer's are others.

    Raises:
        Misuse: a driver that is not known.
    """

    def __init__(self, connection: Any, consumer: str) -> None:
        self._connection = connection = _of_sqlalchemy(connection)
        self._consumer = consumer
        self._kind = _kind(connection)

    def first(self, event_id: str) -> bool:
        """Note an id, in the transaction that is open or begins here. True: it was not there, so apply the event.

        Raises:
            Misuse: the id would be remembered although the effect is not; or there is no id.
        """
        if not event_id or len(event_id.encode()) > ID_MAX:
            raise Misuse("inbox: an event without an id, or with one above 255 bytes, can't be told from another")
        if _commits_by_itself(self._connection):
            raise Misuse("inbox: the connection commits each statement by itself (autocommit): begin a transaction")
        return self._execute(_REMEMBER[self._kind], (self._consumer, event_id)) == 1

    def create(self) -> None:
        """Make the table, if it is not there. MariaDB commits what was open; elsewhere the commit is the caller's."""
        self._execute(TABLES[self._kind], ())

    def forget(self, older_than: datetime.timedelta = datetime.timedelta(days=30)) -> int:
        """Delete this consumer's ids of that age. Return how many. The commit is the caller's."""
        return self._execute(_FORGET[self._kind], (self._consumer, round(older_than.total_seconds())))

    def _execute(self, statement: str, parameters: tuple[Any, ...]) -> int:
        cursor = self._connection.cursor()
        if inspect.iscoroutinefunction(cursor.execute):
            raise Misuse("inbox: this connection is an asynchronous one: take a synchronous one, in a plain def")
        try:
            if _is_django(self._connection):
                statement = statement.replace("?", "%s")
            cursor.execute(statement, parameters)
            return int(cursor.rowcount)
        finally:
            cursor.close()


def _of_sqlalchemy(connection: Any) -> Any:
    """The driver's, or its pool's, behind a Session or a Connection of SQLAlchemy."""
    while type(connection).__module__.startswith("sqlalchemy.") and not hasattr(connection, "driver_connection"):
        inner = connection.connection
        connection = inner() if callable(inner) else inner
    return connection


def _kind(connection: Any) -> str:
    if _is_django(connection):
        vendor = str(connection.vendor)
        found = {"mysql": "mariadb"}.get(vendor, vendor)
        if found in TABLES:
            return found
    for one in (connection, getattr(connection, "driver_connection", None)):  # the latter: behind SQLAlchemy's pool
        for base in type(one).__mro__:
            if base.__module__.partition(".")[0] in _DRIVERS:
                return _DRIVERS[base.__module__.partition(".")[0]]
    raise Misuse(f"inbox: {type(connection).__name__} is no connection of {', '.join(_DRIVERS)}, Django or SQLAlchemy")


def _is_django(connection: Any) -> bool:
    return any(base.__module__.startswith("django.") for base in type(connection).__mro__)


def _commits_by_itself(connection: Any) -> bool:
    """Is no transaction open, and will none begin with the next statement?"""
    if _is_django(connection):
        return bool(connection.get_autocommit()) and not connection.in_atomic_block
    raw = getattr(connection, "driver_connection", None) or connection
    kind = _kind(raw)
    if kind == "sqlite":
        return not raw.in_transaction and (raw.isolation_level is None or getattr(raw, "autocommit", False) is True)
    if kind == "postgresql":
        status = getattr(getattr(raw, "info", None), "transaction_status", 0)
        return not status and bool(raw.autocommit)
    if getattr(raw, "in_transaction", False) is True:  # mysql.connector's
        return False
    asked = getattr(raw, "get_autocommit", None)
    automatic = asked() if callable(asked) else getattr(raw, "autocommit", False)
    return bool(automatic) and not getattr(raw, "server_status", 0) & _IN_TRANSACTION
