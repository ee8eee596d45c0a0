"""What is signed is believed, and nothing else, where signatures are asked for."""

from __future__ import annotations

from typing import Any

import pika
import pytest
from pika.spec import Basic

from relay.amqp.decode import Properties, read_properties
from relay.listening.event import OutboxEvent as Row
from relay.listening.frames import headers as listener_headers
from relay.receiving.codec import UNSIGNED, Reader
from relay.receiving.parking.codec import ParkedReader
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
