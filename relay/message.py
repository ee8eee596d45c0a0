"""Between RabbitMQ's messages and our events: the one place that knows the headers."""

from collections.abc import Mapping
from typing import Any

from pika.spec import Basic, BasicProperties

from relay.delivery import Event, Tries
from relay.room import Entry, Why

_LANE, _WHY, _REASON = "relay-parked-lane", "relay-parked-why", "relay-parked-reason"
_ATTEMPTS, _SINCE, _TOPIC = "relay-parked-attempts", "relay-parked-since", "relay-parked-topic"
_PARKED = (_LANE, _WHY, _REASON, _ATTEMPTS, _SINCE, _TOPIC)


def to_event(method: Basic.Deliver, properties: BasicProperties, body: bytes) -> Event:
    """A message of the main queue. Whatever another publisher left out or got wrong becomes empty."""
    return _event(method.routing_key or "", properties, body, properties.headers or {}, bool(method.redelivered))


def from_room(properties: BasicProperties, body: bytes) -> tuple[Event, Entry]:
    """A message of the waiting room, as it was before it went in, and what brought it there."""
    headers: Mapping[str, Any] = properties.headers or {}
    own = {name: value for name, value in headers.items() if name not in _PARKED}
    # "redelivered": this process may have delivered it already, from the main queue, while it was on its way here.
    event = _event(_text(headers.get(_TOPIC)), properties, body, own, redelivered=True)
    why = _text(headers.get(_WHY))
    entry = Entry(
        lane=_text(headers.get(_LANE)),
        key=event.key,
        table=event.table,
        first_id=event.id,
        why=Why(why) if why in {one.value for one in Why} else Why.DEAD,
        tries=Tries(failures=_number(headers.get(_ATTEMPTS)), reason=_text(headers.get(_REASON))),
        since=_number(headers.get(_SINCE)),
        due=0.0,
    )
    return event, entry


def parked_properties(event: Event, entry: Entry) -> BasicProperties:
    """What an event takes along into the waiting room."""
    taken: dict[str, Any] = dict(event.headers)
    return BasicProperties(
        message_id=event.id or None,
        type=event.op or None,
        content_type=event.content_type or None,
        timestamp=event.timestamp or None,
        delivery_mode=2,
        headers={
            **taken,
            _LANE: entry.lane,
            _WHY: entry.why.value,
            _REASON: entry.tries.reason,
            _ATTEMPTS: entry.tries.failures,
            _SINCE: entry.since,
            _TOPIC: event.topic,
        },
    )


def _event(
    topic: str, properties: BasicProperties, body: bytes, headers: Mapping[str, Any], redelivered: bool
) -> Event:
    seq = headers.get("relay-seq")
    return Event(
        body=body,
        topic=topic,
        id=properties.message_id or "",
        op=properties.type or "",
        key=_text(headers.get("relay-key")),
        table=_text(headers.get("relay-table")),
        seq=seq if isinstance(seq, int) else 0,
        content_type=properties.content_type or "",
        timestamp=properties.timestamp if isinstance(properties.timestamp, int) else 0,
        headers=headers,
        redelivered=redelivered,
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
