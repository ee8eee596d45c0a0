"""Between RabbitMQ's messages and our events: the one place that knows the headers.

Whoever may write to a queue, the waiting room included, may have written any of them: whatever is missing, of another
type or out of range becomes empty.
"""

import hashlib
import struct
from collections.abc import Mapping
from typing import Any

import pika.data
import pika.exceptions
from pika.spec import Basic, BasicProperties

from relay.delivery import Event, Tries, lane_name
from relay.room import Entry, Why
from relay.signature import HEADER, Signer

_LANE, _WHY, _REASON = "relay-parked-lane", "relay-parked-why", "relay-parked-reason"
_ATTEMPTS, _SINCE, _TOPIC = "relay-parked-attempts", "relay-parked-since", "relay-parked-topic"
_PARKED = (_LANE, _WHY, _REASON, _ATTEMPTS, _SINCE, _TOPIC)

REASON_MAX = 1000  # characters
ATTEMPTS_MAX = 1_000_000
SINCE_MAX = 253_402_300_799  # the end of the year 9999
SEQ_MAX = (1 << 63) - 1  # PostgreSQL's bigint
TAKEN_MAX = 110_000  # bytes of a message's own headers that go into the waiting room: with ours they must fit one frame
UNSIGNED = "it is not signed with the secret of SIGN_EVENTS"


class Reader:
    """Makes events of messages.

    Args:
        secret: what does not bear a listener's signature with it is marked (`claimed_id`), and nothing of what it says
            about itself is believed; empty = no signatures are asked for.
    """

    def __init__(self, secret: bytes = b"") -> None:
        self._signer = Signer(secret) if secret else None

    def to_event(self, method: Basic.Deliver, properties: BasicProperties, body: bytes) -> Event:
        """A message of the main queue."""
        headers = properties.headers or {}
        return self._event(_text(method.routing_key), properties, body, headers, redelivered=bool(method.redelivered))

    def from_room(self, properties: BasicProperties, body: bytes) -> tuple[Event, Entry]:
        """A message of the waiting room, as it was before it went in, and what brought it there."""
        headers: Mapping[str, Any] = properties.headers or {}
        own = {name: value for name, value in headers.items() if name not in _PARKED}
        # "redelivered": this process may have delivered it already, from the main queue, while it was on its way here.
        event = self._event(_text(headers.get(_TOPIC)), properties, body, own, redelivered=True)
        why = _text(headers.get(_WHY))
        entry = Entry(
            lane=lane_name(_text(headers.get(_LANE))),
            key=event.key,
            table=event.table,
            first_id=event.id,
            why=Why(why) if why in {one.value for one in Why} else Why.DEAD,
            tries=Tries(
                failures=_number(headers.get(_ATTEMPTS), ATTEMPTS_MAX),
                reason=_text(headers.get(_REASON))[:REASON_MAX],
            ),
            since=_number(headers.get(_SINCE), SINCE_MAX),
            due=0.0,
        )
        if event.claimed_id is not None:
            entry.lane, entry.why, entry.tries = f"\0{event.id}", Why.DEAD, Tries(reason=UNSIGNED)
        return event, entry

    def event_of_room(self, _method: Basic.Deliver, properties: BasicProperties, body: bytes) -> Event:
        """As `to_event`, of the waiting room."""
        return self.from_room(properties, body)[0]

    def _event(
        self, topic: str, properties: BasicProperties, body: bytes, headers: Mapping[str, Any], *, redelivered: bool
    ) -> Event:
        event_id, op, seq = _text(properties.message_id), _text(properties.type), headers.get("relay-seq")
        key, table = _text(headers.get("relay-key")), _text(headers.get("relay-table"))
        claimed_id = None
        if self._signer:
            fields = (topic, event_id, op, table, key, str(seq) if isinstance(seq, int) else "")
            given = _text(headers.get(HEADER))
            if not self._signer.is_signed(fields, body, given):
                # Its id, key and table may be another event's, which must neither count as a copy nor wait for this.
                claimed_id = event_id
                digest = hashlib.sha256(f"{fields}{given}".encode() + body).hexdigest()
                event_id, key, table, seq = f"unsigned-{digest[:32]}", "", "", 0
        return Event(
            body=body,
            topic=topic,
            id=event_id,
            op=op,
            key=key,
            table=table,
            seq=_number(seq, SEQ_MAX),
            content_type=_text(properties.content_type),
            content_encoding=_text(properties.content_encoding),
            timestamp=_number(properties.timestamp, SINCE_MAX),
            headers=headers,
            redelivered=redelivered,
            claimed_id=claimed_id,
        )


def parked_properties(event: Event, entry: Entry) -> BasicProperties:
    """What an event takes along into the waiting room."""
    return BasicProperties(
        message_id=(event.id if event.claimed_id is None else event.claimed_id) or None,
        type=event.op or None,
        content_type=event.content_type or None,
        content_encoding=event.content_encoding or None,
        timestamp=event.timestamp or None,
        delivery_mode=2,
        headers={
            **_taken(event.headers),
            _LANE: entry.lane,
            _WHY: entry.why.value,
            _REASON: entry.tries.reason[:REASON_MAX],
            _ATTEMPTS: entry.tries.failures,
            _SINCE: entry.since,
            _TOPIC: event.topic,
        },
    )


def _taken(headers: Mapping[str, Any]) -> dict[str, Any]:
    """A message's own headers, without those that pika can't write, or that would fill a frame; ours go first."""
    taken, size = dict[str, Any](), 0
    for name in sorted(headers, key=lambda name: not _text(name).startswith("relay-")):
        pieces: list[bytes] = []
        try:
            pika.data.encode_table(pieces, {name: headers[name]})
        except (ValueError, TypeError, OverflowError, RecursionError, struct.error, pika.exceptions.AMQPError):
            continue
        size += sum(map(len, pieces))
        if size > TAKEN_MAX:
            break
        taken[name] = headers[name]
    return taken


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _number(value: object, most: int) -> int:
    """A count or a time; anything else, or out of its range, is 0."""
    return int(value) if isinstance(value, int) and 0 <= value <= most else 0
