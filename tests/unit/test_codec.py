"""What is signed is believed, and nothing else, where signatures are asked for."""

from __future__ import annotations

from typing import Any

import pika
import pytest
from pika.spec import Basic

from relay.amqp.decode import Properties, read_properties
from relay.delivery import Event, Tries
from relay.listening.event import OutboxEvent as Row
from relay.listening.frames import headers as listener_headers
from relay.receiving.codec import UNSIGNED, Reader
from relay.receiving.parking.codec import ParkedReader, new_handle, parked_properties
from relay.receiving.parking.index import Entry, Why
from relay.signature import Signer

SECRET = b"a secret of the two of them"


def signed(**changes: object) -> tuple[Basic.Deliver, Properties, bytes]:
    """A message as a listener with SECRET makes it, but for what was changed on its way."""
    row = Row(7, "an-id", 1, 1, "public.t", "public.t", "update", 't {"id":1}', b'{"n": 1}')
    made: dict[str, Any] = {"topic": row.topic, "body": row.body, "message_id": row.id, "type": row.op}
    made |= listener_headers(row, Signer(SECRET)) | changes
    method = Basic.Deliver(routing_key=made.pop("topic"), redelivered=False)
    body = made.pop("body")
    own = {name: made.pop(name) for name in ("message_id", "type")}
    properties = pika.BasicProperties(**own, headers={k: v for k, v in made.items() if v is not None})
    return method, read_properties(b"".join(properties.encode())), body


def test_an_event_that_a_listener_has_signed_is_believed() -> None:
    event = Reader(SECRET).to_event(*signed())
    assert (event.claimed_id, event.id, event.key, event.seq) == (None, "an-id", 't {"id":1}', 7)


@pytest.mark.parametrize(
    "changes",
    [
        {"topic": "public.u"},
        {"body": b'{"n": 2}'},
        {"message_id": "another"},
        {"type": "truncate"},
        {"relay-key": 't {"id":2}'},
        {"relay-key": None},
        {"relay-seq": 8},
        {"relay-table": "public.u"},
        {"relay-signature": None},
        {"relay-signature": "0" * 64},
        {"relay-signature": b"\xff"},
        {"message_id": "an-id\0update", "type": ""},
    ],
    ids=str,
)
def test_what_is_not_as_it_was_signed_is_nobodys(changes: dict[str, object]) -> None:
    method, properties, body = signed(**changes)
    event = Reader(SECRET).to_event(method, properties, body)
    assert event.claimed_id == properties.message_id
    assert event.id.startswith("unsigned-")
    assert (event.key, event.table, event.seq, event.is_barrier) == ("", "", 0, False)
    entry = ParkedReader(SECRET).from_room(properties, body)[1]
    assert (entry.why.value, entry.tries.reason) == ("dead", UNSIGNED)
    assert Reader().to_event(method, properties, body).claimed_id is None, "without SIGN_EVENTS nothing is asked"


FORGED = {
    "relay-parked-lane": 't {"id":2}',
    "relay-parked-why": "dead",
    "relay-parked-attempts": 9,
    "relay-parked-since": 1,
    "relay-parked-handle": "2aa3b691b323",
    "relay-parked-reason": "another",
    "relay-parked-properties": b"",
    "relay-parked-signature": None,
}


def parked() -> tuple[Entry, dict[str, Any], bytes]:
    """An event as a receiver with SECRET parks it: what it knows of it, the message's headers and body."""
    event = ParkedReader(SECRET).to_event(*signed())
    tries = Tries(attempts=3, reason="HTTP 422")
    entry = Entry(event.key, event.key, event.table, event.id, new_handle(), Why.BEHIND, tries, 1_772_000_000, 0.0)
    properties = parked_properties(event, entry, 131_072, Signer(SECRET))
    return entry, dict(properties.headers), event.body


def read(headers: dict[str, Any], body: bytes) -> tuple[Event, Entry]:
    given = {name: value for name, value in headers.items() if value is not None}
    properties = pika.BasicProperties(message_id="an-id", type="update", headers=given)
    return ParkedReader(SECRET).from_room(read_properties(b"".join(properties.encode())), body)


def test_what_a_receiver_has_signed_of_a_parked_event_is_believed() -> None:
    entry, headers, body = parked()
    event, found = read(headers, body)
    assert event.claimed_id is None
    assert (found.strand, found.why, found.first_handle) == (entry.strand, Why.BEHIND, entry.first_handle)
    assert (found.tries.attempts, found.tries.reason) == (3, "HTTP 422")


@pytest.mark.parametrize("name", FORGED)
def test_of_what_others_say_of_a_signed_event_in_the_parking_lot_nothing_is_believed(name: str) -> None:
    """It stopped another key's events until a person came, and was discarded in another event's place."""
    entry, headers, body = parked()
    event, found = read(headers | {name: FORGED[name]}, body)
    assert found.first_handle == event.handle not in (entry.first_handle, FORGED[name])
    if event.claimed_id is None:
        assert (found.strand, found.why, found.tries.attempts) == ('t {"id":1}', Why.OVERFLOW, 0)
    else:
        assert found.strand.startswith("\0unsigned-")
