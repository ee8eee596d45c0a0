"""An application's own events, from Python, inside its own transaction: published if, and only if, that commits.

    with psycopg2.connect(...) as connection, connection.cursor() as cursor:
        cursor.execute("update orders set paid = true where id = 42")
        publish(cursor, "shop.paid", {"order": 42}, key="order 42")

The cursor is any driver's: psycopg's, PyMySQL's, mysqlclient's, MariaDB's, sqlite3's, oracledb's, or Django's.
The application's role needs role relay_publisher, but for SQLite.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Protocol

_POSTGRES, _MARIADB, _SQLITE, _ORACLE = "postgres", "mariadb", "sqlite", "oracle"
_DRIVERS = {
    "psycopg2": _POSTGRES, "psycopg": _POSTGRES, "pymysql": _MARIADB, "MySQLdb": _MARIADB, "mariadb": _MARIADB,
    "mysql": _MARIADB, "sqlite3": _SQLITE, "oracledb": _ORACLE, "cx_Oracle": _ORACLE,
}  # fmt: skip
_STATEMENTS = {
    _MARIADB: "call relay.publish_event(%s, %s, %s, %s, %s)",
    _SQLITE: "insert into relay_outbox (id, topic, op, body, key, headers) values (?, ?, 'message', ?, ?, ?)",
    _ORACLE: "begin relay.publish_event(:1, :2, :3, :4, :5); end;",
}
TOPIC_BYTES = 255  # of a routing key (AMQP 0-9-1)


class Cursor(Protocol):
    """Of any DB-API driver: an application's own."""

    def execute(self, sql: str, parameters: Any = ..., /) -> Any: ...
    def fetchone(self) -> Any: ...


class Message(NamedTuple):
    """One event for `publish_many`; the fields are those of `publish`."""

    topic: str
    payload: object
    key: str | None = None
    headers: Mapping[str, Any] | None = None


def publish(
    cursor: Cursor, topic: str, payload: object, key: str | None = None, headers: Mapping[str, Any] | None = None
) -> str:
    """Put one event into the outbox.

    Args:
        cursor: of the caller's own connection, of psycopg2, psycopg 3, Django or the driver behind SQLAlchemy; this
            neither begins nor commits a transaction.
        topic: routing key.
        payload: a str is JSON text and becomes the message's body as it is (every digit kept); anything else is
            encoded by json.dumps.
        key: events of one key are delivered in order; None = no order.
        headers: extra message headers; values of any type, as their text where JSON has none (Decimal, datetime, UUID).

    Returns:
        The event's id, its message_id in RabbitMQ.

    Raises:
        TypeError: json.dumps can't encode the payload.
        ValueError: SQLite: the topic is empty or too long, or the text is not JSON.
        the driver's Error: no right to publish; PostgreSQL and MariaDB: the text is not JSON.
    """
    kind = _kind(cursor)
    if kind != _POSTGRES:
        return _publish(cursor, kind, Message(topic, payload, key, headers))
    cursor.execute(
        "select relay.publish(%s::text, %s::text, %s::text, %s::jsonb)::text",
        (topic, _text(payload), key, _headers(headers)),
    )
    return str(_only(cursor.fetchone()))


def publish_many(cursor: Cursor, messages: Iterable[Message]) -> list[str]:
    """Put many events into the outbox, in their order, with one statement. As `publish`; returns their ids in order.

    PostgreSQL takes one statement for all, other databases one for each.
    """
    kind = _kind(cursor)
    if kind != _POSTGRES:
        return [_publish(cursor, kind, message) for message in messages]
    rows = [(m.topic, _text(m.payload), m.key, _headers(m.headers)) for m in messages]
    topics, payloads, keys, headers = (list(column) for column in zip(*rows, strict=True)) if rows else ([], [], [], [])
    cursor.execute(
        "select relay.publish_many(%s::text[], %s::text[], %s::text[], %s::jsonb[])::text[]",
        (topics, payloads, keys, headers),
    )
    return list(_only(cursor.fetchone()))


def _only(row: Any) -> Any:
    """The one value of a row, however the caller's cursor makes rows: tuples, dictionaries, or the value itself."""
    if isinstance(row, dict):
        return next(iter(row.values()))
    is_row = isinstance(row, tuple) or (isinstance(row, list) and type(row) is not list)  # psycopg2's DictRow
    return row[0] if is_row else row


def _kind(cursor: object) -> str:
    """Whose cursor it is; what wraps one, as Django's do, is taken off. One that nobody knows is PostgreSQL's."""
    for _ in range(5):
        for ancestor in type(cursor).__mro__:
            if kind := _DRIVERS.get(ancestor.__module__.partition(".")[0]):
                return kind
        cursor = getattr(cursor, "cursor", None)
    return _POSTGRES


def _publish(cursor: Cursor, kind: str, message: Message) -> str:
    event, text, headers = str(uuid.uuid4()), _text(message.payload), _headers(message.headers)
    if kind == _SQLITE:  # which has no procedure that could look at it
        if not 0 < len(message.topic.encode()) <= TOPIC_BYTES:
            raise ValueError(f"a topic has 1 to {TOPIC_BYTES} bytes: {message.topic[:60]!r}")
        json.loads(text, parse_constant=_refuse)
    cursor.execute(_STATEMENTS[kind], (event, message.topic, text, message.key, headers))
    return event


def _refuse(word: str) -> None:
    raise ValueError(f"the payload is not JSON: {word}")


def _text(payload: object) -> str:
    return payload if isinstance(payload, str) else json.dumps(payload, ensure_ascii=False)


def _headers(headers: Mapping[str, Any] | None) -> str | None:
    return None if headers is None else json.dumps(headers, default=_as_text)


def _as_text(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
