"""Between RabbitMQ's messages and our events: the one place that knows the headers. Whatever comes, nothing raises.

What a message brings along that listen.py never sends (headers of an application, CC, reply_to, a priority ...) goes
into the waiting room aside, as the bytes it came in: sent as headers, some of it would mean something to RabbitMQ
there (a CC copies the event into other queues).
"""

import dataclasses
import hashlib
import uuid
from collections.abc import Mapping
from typing import Any

from pika.spec import Basic, BasicProperties

from relay.amqp.decode import PROPERTIES, Properties, read_properties
from relay.delivery import Event, Tries, lane_name
from relay.receiving.parking.index import Entry, Why
from relay.signature import HEADER, Signer

_LANE, _WHY, _REASON = "relay-parked-lane", "relay-parked-why", "relay-parked-reason"
_ATTEMPTS, _SINCE, _TOPIC = "relay-parked-attempts", "relay-parked-since", "relay-parked-topic"
_HANDLE, _ASIDE = "relay-parked-handle", "relay-parked-properties"
_PARKED = {_LANE, _WHY, _REASON, _ATTEMPTS, _SINCE, _TOPIC, _HANDLE, _ASIDE}
# What listen.py sends (relay/listening/frames.py), and what RabbitMQ adds: this much need not be kept aside.
_DELIVERY_COUNT = "x-delivery-count"
_OWN_HEADERS = {"relay-seq", "relay-key", "relay-table", _DELIVERY_COUNT}
_OWN_FLAGS = b"\xb0\xe0"  # content_type, headers, delivery_mode, message_id, timestamp, type
_OTHERS = (
    "content_encoding",
    "priority",
    "correlation_id",
    "reply_to",
    "expiration",
    "user_id",
    "app_id",
    "cluster_id",
)
SHORT_MAX = 255  # bytes of a short string (AMQP 0-9-1, 4.2.5.3)
TEXT_MAX = 1000  # characters of a header; a longer one is kept whole aside
ATTEMPTS_MAX = 1_000_000
SINCE_MAX = 253_402_300_799  # the end of the year 9999
SEQ_MAX = (1 << 63) - 1  # PostgreSQL's bigint
UNSIGNED = "it is not signed with the secret of SIGN_EVENTS"
FIXED_BYTES = 24 << 10  # that all of a parked message's properties take at most, beside what is kept aside


class Reader:
    """Makes events of messages.

    Args:
        secret: what does not bear a listener's signature with it is marked (`claimed_id`), and nothing of what it says
            about itself is believed; empty = no signatures are asked for.
    """

    def __init__(self, secret: bytes = b"") -> None:
        self._signer = Signer(secret) if secret else None

    def to_event(self, method: Basic.Deliver, properties: Properties, body: bytes) -> Event:
        """A message of the main queue. Whatever another publisher left out or got wrong becomes empty."""
        headers = properties.headers or {}
        return self._event(_text(method.routing_key), properties, headers, body, redelivered=bool(method.redelivered))

    def from_room(self, properties: Properties, body: bytes) -> tuple[Event, Entry]:
        """A message of the waiting room, as it was before it went in, and what brought it there."""
        headers: Mapping[Any, Any] = properties.headers or {}
        aside = headers.get(_ASIDE)
        before = read_properties(aside) if isinstance(aside, bytes) else properties
        theirs: Mapping[Any, Any] = before.headers or {}
        own = {name: value for name, value in theirs.items() if name not in _PARKED}
        # "redelivered": this process may have delivered it already, from the main queue, while it was on its way here.
        event = self._event(_text(headers.get(_TOPIC)), before, own, body, redelivered=True)
        event = dataclasses.replace(event, handle=_text(headers.get(_HANDLE)) or _made_up(event, properties))
        lane, why = _text(headers.get(_LANE)), _text(headers.get(_WHY))
        entry = Entry(
            lane=lane_name(lane or event.key or f"\0{event.handle}"),
            key=event.key,
            table=event.table,
            first_id=event.id,
            first_handle=event.handle,
            why=Why(why) if why in {one.value for one in Why} else Why.DEAD,
            tries=Tries(
                failures=_number(headers.get(_ATTEMPTS), ATTEMPTS_MAX), reason=_text(headers.get(_REASON))[:TEXT_MAX]
            ),
            since=_number(headers.get(_SINCE), SINCE_MAX),
            due=0.0,
        )
        if event.claimed_id is not None:
            entry.lane, entry.why, entry.tries = f"\0{event.id}", Why.DEAD, Tries(reason=UNSIGNED)
        return event, entry

    def event_of_room(self, _method: Basic.Deliver, properties: Properties, body: bytes) -> Event:
        """As `to_event`, of the waiting room."""
        return self.from_room(properties, body)[0]

    def _event(
        self, topic: str, properties: Properties, headers: Mapping[Any, Any], body: bytes, *, redelivered: bool
    ) -> Event:
        key, table, raw = _text(headers.get("relay-key")), _text(headers.get("relay-table")), properties.raw
        event_id, op, seq = _text(properties.message_id), _text(properties.type), headers.get("relay-seq")
        is_plain = raw[:2] == _OWN_FLAGS and headers.keys() <= _OWN_HEADERS and max(len(key), len(table)) <= TEXT_MAX
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
            aside=b"" if is_plain else raw,
            problem=properties.problem,
            redelivered=redelivered,
            claimed_id=claimed_id,
        )


def _made_up(event: Event, properties: Properties) -> str:
    """The handle of a message that has none: an older version's, or put there by somebody else."""
    if event.id and event.seq:
        return event.id
    # Not of its bytes: RabbitMQ counts in a header how often it was handed out, and sorts them as it adds that.
    headers: Mapping[Any, Any] = properties.headers or {}
    theirs = sorted((repr(name), repr(value)) for name, value in headers.items() if name != _DELIVERY_COUNT)
    stable = [*theirs, *((name, getattr(properties, name)) for name in PROPERTIES if name != "headers")]
    return hashlib.sha256(repr(stable).encode() + event.body).hexdigest()[:12]


def new_handle() -> str:
    """What a person calls one parked message by: other publishers' ids need not be unique, or there at all."""
    return uuid.uuid4().hex[:12]


def parked_properties(event: Event, entry: Entry, frame_max: int) -> BasicProperties:
    """What an event takes along into the waiting room; it fits into a frame of `frame_max` bytes."""
    reason, aside = entry.tries.reason.encode(errors="backslashreplace").decode()[:TEXT_MAX], event.aside
    if len(aside) > frame_max - FIXED_BYTES:
        reason, aside = f"{reason} (its headers, {len(aside)} bytes, were too large to be kept)".lstrip(), b""
    headers: dict[str, Any] = {
        _LANE: entry.lane,
        _WHY: entry.why.value,
        _REASON: reason,
        _ATTEMPTS: entry.tries.failures,
        _SINCE: entry.since,
        _TOPIC: event.topic,
        _HANDLE: entry.first_handle,
    }
    if aside:
        headers[_ASIDE] = aside
    if event.seq:
        headers["relay-seq"] = event.seq
    for name, text in (("relay-key", event.key), ("relay-table", event.table)):
        if text:
            headers[name] = text[:TEXT_MAX]
    return BasicProperties(
        message_id=_short(event.id if event.claimed_id is None else event.claimed_id),
        type=_short(event.op),
        content_type=_short(event.content_type),
        content_encoding=_short(event.content_encoding),
        timestamp=event.timestamp or None,
        delivery_mode=2,
        headers=headers,
    )


def shown_aside(event: Event) -> dict[str, Any]:
    """What an event brings along that listen.py never sends, for JSON."""
    kept = read_properties(event.aside) if event.aside else Properties()
    found = {name: _shown(getattr(kept, name)) for name in _OTHERS if getattr(kept, name) is not None}
    theirs: Mapping[Any, Any] = kept.headers or {}
    headers = {name: value for name, value in theirs.items() if name not in _OWN_HEADERS | _PARKED}
    return found | ({"headers": _shown(headers)} if headers else {})


def _shown(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {_text(name): _shown(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_shown(one) for one in value]
    if isinstance(value, str | bytes):
        return _text(value)
    return value if value is None or isinstance(value, bool | int) else str(value)


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else ""


def _number(value: object, most: int) -> int:
    """A count or a time; anything else, or out of its range, is 0."""
    return int(value) if isinstance(value, int) and 0 <= value <= most else 0


def _short(text: str) -> str | None:
    return text.encode()[:SHORT_MAX].decode(errors="ignore") or None
