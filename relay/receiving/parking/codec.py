"""A message of the parked queue: the event that it was, and what brought it there. Whatever comes, nothing raises.

What a message brings along that listen.py never sends (headers of an application, CC, reply_to, a priority ...) goes
into the parked queue aside, as the bytes it came in: sent as headers, some of it would mean something to RabbitMQ
there (a CC copies the event into other queues).
"""

import dataclasses
import datetime
import decimal
import hashlib
import json
import re
import sys
import uuid
from collections.abc import Mapping
from typing import Any

from pika.spec import BasicProperties

from relay.amqp.decode import PROPERTIES, Properties, read_properties
from relay.amqp.headers import DELIVERY_COUNT, KEY, OWN, SEQ, SLOT, TABLE
from relay.delivery import Event, Tries, cut, key_name, strand_name
from relay.receiving.codec import SINCE_MAX, TEXT_MAX, UNSIGNED, Reader, believed, number, text
from relay.receiving.parking.index import Entry, Why
from relay.signature import Fields, Signer

_STRAND, _WHY, _REASON = "relay-parked-lane", "relay-parked-why", "relay-parked-reason"
_ATTEMPTS, _SINCE, _TOPIC = "relay-parked-attempts", "relay-parked-since", "relay-parked-topic"
_HANDLE, _ASIDE = "relay-parked-handle", "relay-parked-properties"
_SIGNATURE = "relay-parked-signature"
_PARKED = {_STRAND, _WHY, _REASON, _ATTEMPTS, _SINCE, _TOPIC, _HANDLE, _ASIDE, _SIGNATURE}
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
ATTEMPTS_MAX = 1_000_000
FIXED_BYTES = 24 << 10  # that all of a parked message's properties take at most, beside what is kept aside


class ParkedReader(Reader):
    """Makes events of parked messages."""

    def from_room(self, properties: Properties, body: bytes) -> tuple[Event, Entry]:
        """A message of the parking lot, as it was before it went in, and what brought it there."""
        headers = believed(properties)
        aside = headers.get(_ASIDE)
        before = read_properties(aside) if isinstance(aside, bytes) else properties
        theirs = believed(before)
        own = {name: value for name, value in theirs.items() if name not in _PARKED}
        # "redelivered": this process may have delivered it already, from the main queue, while it was on its way here.
        event = self.event(text(headers.get(_TOPIC)), before, own, body, redelivered=True)
        handle = text(headers.get(_HANDLE))
        # Without a right signature: of an earlier release, or put here by somebody else.
        known = not self.signer or self.signer.is_signed(*_signed(headers, body), text(headers.get(_SIGNATURE)))
        is_ours = known and _OURS.fullmatch(handle)
        event = dataclasses.replace(event, handle=handle if is_ours else _made_up(event, properties))
        strand, why = text(headers.get(_STRAND)), text(headers.get(_WHY))
        entry = Entry(
            strand=strand_name(strand or event.key or f"\0{event.handle}"),
            key=key_name(event.key),
            table=sys.intern(event.table),  # of a great many
            first_id=event.id,
            first_handle=event.handle,
            why=Why(why) if why in {one.value for one in Why} else Why.DEAD,
            tries=Tries(
                attempts=number(headers.get(_ATTEMPTS), ATTEMPTS_MAX), reason=cut(text(headers.get(_REASON)), TEXT_MAX)
            ),
            since=number(headers.get(_SINCE), SINCE_MAX),
            due=0.0,
        )
        if event.claimed_id is not None:
            entry = dataclasses.replace(entry, strand=f"\0{event.id}", why=Why.DEAD, tries=Tries(reason=UNSIGNED))
        elif not known:  # only what the event says itself is believed
            strand = strand_name(event.key or f"\0{event.handle}")
            entry = dataclasses.replace(entry, strand=strand, why=Why.OVERFLOW, tries=Tries())
        return event, entry


_OURS = re.compile("[0-9a-f]{12}")  # a handle: people type it
_PLAIN = (str, int, float, decimal.Decimal, datetime.datetime, type(None))


def _made_up(event: Event, properties: Properties) -> str:
    """The handle of a message that has none: an older version's, or put there by somebody else."""
    if event.id and event.seq:
        return event.id
    # Not of its bytes: RabbitMQ counts in a header how often it was handed out, sorts them as it adds that, and writes
    # what is within tables with other types.
    theirs = sorted(
        (repr(name), repr(value) if isinstance(value, _PLAIN) else type(value).__name__)
        for name, value in believed(properties).items()
        if name != DELIVERY_COUNT
    )
    stable = [*theirs, *((name, getattr(properties, name)) for name in PROPERTIES if name != "headers")]
    return hashlib.sha256(repr(stable).encode() + event.body).hexdigest()[:12]


def new_handle() -> str:
    """What a person calls one parked message by: other publishers' ids need not be unique, or there at all."""
    return uuid.uuid4().hex[:12]


def _signed(headers: Mapping[Any, Any], body: bytes) -> tuple[Fields, bytes]:
    """What the signature of a parked message is of. (An event's own has an id in the second place.)"""
    texts = [text(headers.get(name)) for name in (_STRAND, _WHY, _REASON, _TOPIC, _HANDLE)]
    numbers = [number(headers.get(name), SINCE_MAX) for name in (_ATTEMPTS, _SINCE)]
    aside = headers.get(_ASIDE)
    digest = hashlib.sha256(aside if isinstance(aside, bytes) else b"").hexdigest()
    return (json.dumps([*texts, *numbers, digest]), "", "", "", "", ""), body


def parked_properties(event: Event, entry: Entry, frame_max: int, signer: Signer | None = None) -> BasicProperties:
    """What an event takes along into the parking lot; it fits into a frame of `frame_max` bytes.

    Args:
        signer: signs what we say of it; None = there is no SIGN_EVENTS.
    """
    reason, aside = cut(entry.tries.reason.encode(errors="backslashreplace").decode(), TEXT_MAX), event.aside
    if len(aside) > frame_max - FIXED_BYTES:
        reason, aside = f"{reason} (its headers, {len(aside)} bytes, were too large to be kept)".lstrip(), b""
    headers: dict[str, Any] = {
        _STRAND: entry.strand,
        _WHY: entry.why.value,
        _REASON: reason,
        _ATTEMPTS: entry.tries.attempts,
        _SINCE: entry.since,
        _TOPIC: event.topic,
        _HANDLE: entry.first_handle,
    }
    if aside:
        headers[_ASIDE] = aside
    if event.seq:
        headers[SEQ] = event.seq
    if event.slot:
        headers[SLOT] = event.slot
    for name, value in ((KEY, event.key), (TABLE, event.table)):
        if value:
            headers[name] = cut(value, TEXT_MAX)
    if signer:
        headers[_SIGNATURE] = signer.sign(*_signed(headers, event.body))
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
    headers = {name: value for name, value in theirs.items() if name not in OWN | _PARKED}
    return found | ({"headers": _shown(headers)} if headers else {})


def _shown(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {text(name): _shown(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_shown(one) for one in value]
    if isinstance(value, str | bytes):
        return text(value)
    return value if value is None or isinstance(value, bool | int) else str(value)


def _short(text: str) -> str | None:
    return text.encode()[:SHORT_MAX].decode(errors="ignore") or None
