"""An application's own events, from Python, inside its own transaction: published if, and only if, that commits.

    with psycopg2.connect(...) as connection, connection.cursor() as cursor:
        cursor.execute("update orders set paid = true where id = 42")
        publish(cursor, "shop.paid", {"order": 42}, key="order 42")

The application's role needs: grant relay_publisher to app.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:  # the wheel needs no driver: the cursor is the application's
    from psycopg2.extensions import cursor as Cursor


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
        cursor: of the caller's own connection; this neither begins nor commits a transaction.
        topic: routing key.
        payload: a str is JSON text and becomes the message's body as it is (every digit kept); anything else is
            encoded by json.dumps.
        key: events of one key are delivered in order; None = no order.
        headers: extra message headers.

    Returns:
        The event's id, its message_id in RabbitMQ.

    Raises:
        TypeError: json.dumps can't encode the payload.
        psycopg2.Error: no right to publish, or the text is not JSON.
    """
    cursor.execute(
        "select relay.publish(%s::text, %s::text, %s::text, %s::jsonb)::text",
        (topic, _text(payload), key, _headers(headers)),
    )
    ((event_id,),) = cursor.fetchall()
    return str(event_id)


def publish_many(cursor: Cursor, messages: Iterable[Message]) -> list[str]:
    """Put many events into the outbox, in their order, with one statement. As `publish`; returns their ids in order."""
    rows = [(m.topic, _text(m.payload), m.key, _headers(m.headers)) for m in messages]
    topics, payloads, keys, headers = (list(column) for column in zip(*rows, strict=True)) if rows else ([], [], [], [])
    cursor.execute(
        "select relay.publish_many(%s::text[], %s::text[], %s::text[], %s::jsonb[])::text[]",
        (topics, payloads, keys, headers),
    )
    ((ids,),) = cursor.fetchall()
    return list(ids)


def _text(payload: object) -> str:
    return payload if isinstance(payload, str) else json.dumps(payload, ensure_ascii=False)


def _headers(headers: Mapping[str, Any] | None) -> str | None:
    return None if headers is None else json.dumps(headers)
