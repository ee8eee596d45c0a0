"""One row of relay.outbox on its way to the exchange."""

import json
from typing import Any, NamedTuple

TRUNCATE = "truncate"

_COPIES = {"CC", "BCC"}  # RabbitMQ: Sender-selected Distribution; of another type than a list they close the channel


def group(table: str | None, topic: str) -> str:
    """What waits together when the broker can't route it: the table, or the topic of an application's event."""
    return f"table {table}" if table else f"topic {topic}"


class Row(NamedTuple):
    """Whose row it is that has a seq, which PostgreSQL can give out twice after a crash or a restore.

    By `xid` and `at`, which stand in the row; `id`, which is made of them where it does not, for people.
    """

    id: str
    xid: int
    at: int


class OutboxEvent(NamedTuple):
    """A committed event, as the outbox holds it. Field order is the order of the columns read (outbox.py)."""

    seq: int
    """Order of the events of one key. Not an identity: PostgreSQL can give it out twice after a crash."""
    id: str
    """Identity (uuid): the same in every repetition of this event, never that of another."""
    at: int
    """When the row was written, microseconds since 1970."""
    xid: int
    """The transaction that wrote it."""
    topic: str
    """Routing key."""
    table: str | None
    """Watched table as `schema.table`; None for an application's own event or a plain NOTIFY."""
    op: str
    key: str | None
    """What keeps order: events of one key go out one after another. None = no order."""
    body: bytes
    headers: dict[str, Any] | None = None
    flaw: str = ""
    """Why it can't be published, as far as its row tells."""
    queue: str | None = None
    """The one queue that it is for; None = all that are bound."""

    @property
    def row(self) -> Row:
        """How its row is found again."""
        return Row(self.id, self.xid, self.at)

    @property
    def group(self) -> str:
        """What waits together with it."""
        return group(self.table, self.topic)

    @property
    def size(self) -> int:
        """About how many bytes of memory it takes: a publisher's keys and headers can be larger than its bodies."""
        size = len(self.body) + len(self.topic) + len(self.key or "") + len(self.table or "")
        if self.headers:
            size += sum(len(name) + len(str(value)) for name, value in self.headers.items())
        return size

    @property
    def is_barrier(self) -> bool:
        """A TRUNCATE: all earlier events of its table go before it, all later ones after."""
        return self.op == TRUNCATE and self.table is not None


def plain(headers: str | None) -> tuple[dict[str, Any] | None, str]:
    """Make headers of relay.publish fit for AMQP: an application's odd header must not stop everybody's events.

    Text, true, false, null and whole numbers of 64 bits stay; any other value goes as its JSON text; a name is cut
    at 255 bytes (AMQP 0-9-1, 4.2.5.3: short string).

    Args:
        headers: JSON.

    Returns:
        The headers, and why an event with them can't be published; "" if it can.
    """
    if headers in (None, "null"):
        return None, ""
    try:
        given = json.loads(headers)
    except (ValueError, RecursionError):  # a number of thousands of digits, or very deep
        return None, "its headers can't be read"
    if not isinstance(given, dict):
        return None, "its headers are no JSON object"
    if means := _COPIES & given.keys():
        return None, f"header {min(means)} would have RabbitMQ send copies elsewhere; use another name for it"
    try:
        "".join(given).encode()
    except UnicodeEncodeError:  # no jsonb has that, but a text of JSON
        return None, "the name of a header holds half of a character"
    fit = {
        name.encode()[:255].decode(errors="ignore"): value if _fits(value) else json.dumps(value, ensure_ascii=False)
        for name, value in given.items()
    }
    return fit or None, ""


def _fits(value: object) -> bool:
    whole = isinstance(value, int) and -(1 << 63) <= value < 1 << 63
    return whole or value is None or isinstance(value, str)
