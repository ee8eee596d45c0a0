"""A message of the main queue as an event. Whatever comes, nothing raises."""

import hashlib
from collections.abc import Mapping
from typing import Any

from pika.spec import Basic

from relay.amqp.decode import Properties
from relay.amqp.headers import KEY, OWN, SEQ, SLOT, SLOTS, TABLE, TOPIC
from relay.delivery import Event, cut, memory
from relay.signature import HEADER, Signer

_OWN_FLAGS = b"\xb0\xe0"  # content_type, headers, delivery_mode, message_id, timestamp, type
TEXT_MAX = 1000  # bytes that a header's text takes; a longer one is kept whole aside
VALUES_FROM = 4096  # bytes of a body from which its values are counted: a target that reads it makes objects of them
SINCE_MAX = 253_402_300_799  # the end of the year 9999
SEQ_MAX = (1 << 63) - 1  # PostgreSQL's bigint
UNSIGNED_STRAND = "\0unsigned-"  # begins the strand of one in the parking lot
UNSIGNED = "it is not signed with the secret of SIGN_EVENTS"


class Reader:
    """Makes events of messages.

    Args:
        secret: what does not bear a listener's signature with it is marked (`claimed_id`), and nothing of what it says
            about itself is believed; empty = no signatures are asked for.
    """

    def __init__(self, secret: bytes = b"") -> None:
        self.signer = Signer(secret) if secret else None

    def to_event(self, method: Basic.Deliver, properties: Properties, body: bytes) -> Event:
        """A message of the main queue. Whatever another publisher left out or got wrong becomes empty."""
        headers = believed(properties)
        topic = text(method.routing_key)
        if method.exchange == "" and isinstance(headers.get(TOPIC), str):  # for this queue alone: frames.py
            topic = headers[TOPIC][:TEXT_MAX]
        return self.event(topic, properties, headers, body, redelivered=bool(method.redelivered))

    def event(
        self, topic: str, properties: Properties, headers: Mapping[Any, Any], body: bytes, *, redelivered: bool
    ) -> Event:
        """The event that was published with these properties and headers."""
        key, table, raw = text(headers.get(KEY)), text(headers.get(TABLE)), properties.raw
        event_id, op, seq = text(properties.message_id), text(properties.type), headers.get(SEQ)
        is_plain = raw[:2] == _OWN_FLAGS and headers.keys() <= OWN and max(memory(key), memory(table)) <= TEXT_MAX
        claimed_id = None
        if self.signer:
            fields = (topic, event_id, op, table, key, str(seq) if isinstance(seq, int) else "")
            given = text(headers.get(HEADER))
            if not self.signer.is_signed(fields, body, given):
                # Its id, key and table may be another event's, which must neither count as a copy nor wait for this.
                claimed_id = event_id
                digest = hashlib.sha256(f"{fields}{given}".encode() + body).hexdigest()
                event_id, key, table, seq = f"{UNSIGNED_STRAND[1:]}{digest[:32]}", "", "", 0
        return Event(
            body=body,
            topic=topic,
            id=event_id,
            op=op,
            key=key,
            table=cut(table, TEXT_MAX),  # it is remembered beyond the event
            seq=number(seq, SEQ_MAX),
            content_type=text(properties.content_type),
            content_encoding=text(properties.content_encoding),
            timestamp=number(properties.timestamp, SINCE_MAX),
            aside=b"" if is_plain else raw,
            problem=properties.problem,
            redelivered=redelivered,
            slot=slot_of(headers),
            claimed_id=claimed_id,
            values=sum(map(body.count, b"{[,")) if len(body) > VALUES_FROM else 0,
        )


def believed(properties: Properties) -> Mapping[Any, Any]:
    """The headers; nothing of those that can't all be read.

    RabbitMQ sorts them when it first counts in one of them how often the message was handed out: what stands before the
    bad one is something else then, and so would be the key, the strand, and what the message is called.
    """
    return {} if properties.problem else properties.headers or {}


def slot_of(headers: Mapping[Any, Any]) -> str:
    """The slot of a message; empty = none that is one."""
    found = headers.get(SLOT)
    return found if isinstance(found, str) and found in SLOTS else ""


def text(value: object) -> str:
    """A string; bytes that are none are shown escaped, anything else is empty."""
    if isinstance(value, str):
        return value
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else ""


def number(value: object, maximum: int) -> int:
    """A count or a time; anything else, or out of its range, is 0."""
    return int(value) if isinstance(value, int) and 0 <= value <= maximum else 0
