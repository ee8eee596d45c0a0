"""Whatever somebody has put into a queue becomes an event; what of it makes no sense becomes empty."""

from __future__ import annotations

import dataclasses
import datetime
import json
import struct
from typing import Any

import pika
import pika.data
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika.spec import Basic

from relay.control import _event, _shown
from relay.delivery import LANE_PREFIX, Event
from relay.dispatch import Dispatch
from relay.event import Event as Row
from relay.frames import headers as listener_headers
from relay.message import SEQ_MAX, SINCE_MAX, UNSIGNED, Reader, parked_properties
from relay.signature import Signer
from relay.tables import decode_table

SECRET = b"a secret of the two of them"
FRAME = 131_072 - 1_000  # RabbitMQ's largest frame, and what else stands in it

INTEGERS = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([2**62, -1, SINCE_MAX, SINCE_MAX + 1, 0, 1, -(2**63)])
DATES = st.datetimes(timezones=st.just(datetime.UTC)) | st.just(datetime.datetime.max.replace(tzinfo=datetime.UTC))
TEXTS = st.text(max_size=30) | st.sampled_from(["\1t 0", "\0", "dead", "overflow", "behind", "x" * 70_000, "\x1b[2J\n"])
VALUES = st.recursive(
    st.none() | st.booleans() | INTEGERS | TEXTS | st.binary(max_size=30) | DATES | st.decimals(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
OURS = ["relay-key", "relay-table", "relay-seq", "relay-signature"]
PARKED = [f"relay-parked-{name}" for name in ("lane", "why", "reason", "attempts", "since", "topic")]
HEADERS = st.dictionaries(st.sampled_from([*OURS, *PARKED]) | st.text(max_size=20), VALUES, max_size=12)
SHORT = st.none() | st.text(max_size=30) | st.binary(max_size=30)
PROPERTIES = st.builds(
    pika.BasicProperties,
    headers=HEADERS,
    message_id=SHORT,
    type=SHORT | st.just("truncate"),
    content_type=SHORT,
    timestamp=st.none() | st.integers(0, 2**64 - 1),
)
READERS = st.sampled_from([Reader(), Reader(SECRET)])


def assert_usable(event: Event) -> None:
    texts = (event.topic, event.id, event.op, event.key, event.table, event.content_type)
    assert all(isinstance(text, str) for text in texts)
    assert type(event.seq) is int
    assert 0 <= event.seq <= SEQ_MAX
    assert 0 <= event.timestamp <= SINCE_MAX
    assert not Dispatch().lane_key(event).startswith(LANE_PREFIX)
    json.dumps(_event(event))


@given(READERS, PROPERTIES, st.binary(max_size=20) | st.text(max_size=9), st.binary(max_size=50))
def test_any_message_becomes_an_event_and_can_be_parked_and_read_again(
    reader: Reader, properties: pika.BasicProperties, topic: Any, body: bytes
) -> None:
    event = reader.to_event(Basic.Deliver(routing_key=topic, redelivered=False), properties, body)
    assert_usable(event)
    stored = reader.from_room(properties, body)[1]
    stored.lane = Dispatch().lane_key(event)
    parked = parked_properties(event, stored)
    assert len(b"".join(parked.encode())) < FRAME
    again, entry = reader.from_room(parked, body)
    assert entry.lane == stored.lane
    kept = ("id", "op", "key", "table", "seq", "topic", "claimed_id")
    if parked.headers.keys() >= {name for name in OURS if name in event.headers}:
        assert [getattr(again, name) for name in kept] == [getattr(event, name) for name in kept]


@given(READERS, PROPERTIES, st.binary(max_size=50))
def test_whatever_is_in_the_waiting_room_can_be_shown_and_told_the_same_twice(
    reader: Reader, properties: pika.BasicProperties, body: bytes
) -> None:
    event, entry = reader.from_room(properties, body)
    assert_usable(event)
    shown = json.loads(json.dumps(_shown(entry)))
    assert isinstance(shown["reason"], str)
    assert 0 <= shown["since"] <= SINCE_MAX
    assert 0 <= shown["attempts"] <= 1_000_000
    assert not entry.lane.startswith(LANE_PREFIX)
    assert dataclasses.astuple(reader.from_room(properties, body)[1]) == dataclasses.astuple(entry)


def field(kind: bytes, value: bytes) -> bytes:
    return b"\x01a" + kind + value


NESTED = b"A" + struct.pack(">I", 0)
for _ in range(20_000):
    NESTED = b"A" + struct.pack(">I", len(NESTED)) + NESTED if len(NESTED) < 100_000 else NESTED


@pytest.mark.parametrize(
    "odd",
    [
        field(b"T", struct.pack(">Q", 2**62)),
        field(b"T", struct.pack(">Q", SINCE_MAX + 1)),
        field(b"d", struct.pack(">d", float("nan"))),
        field(b"d", struct.pack(">d", float("inf"))),
        field(b"f", struct.pack(">f", float("nan"))),
        b"\x01a" + NESTED,
        b"\x01t" + b"F" + struct.pack(">I", 11) + field(b"T", struct.pack(">Q", 2**63)),
    ],
    ids=["date", "year 10000", "nan", "infinity", "float nan", "nested", "date in a table"],
)
def test_a_value_that_pika_can_not_decode_costs_only_itself(odd: bytes) -> None:
    table = odd + b"\x01zI" + struct.pack(">i", 7)
    encoded = b"before" + struct.pack(">I", len(table)) + table
    found, end = decode_table(encoded, 6)
    assert end == len(encoded)
    assert found["z"] == 7
    parked_properties(Event(b"", "t", headers=found), Reader().from_room(pika.BasicProperties(), b"")[1]).encode()


@given(st.binary(max_size=200))
def test_no_bytes_make_the_decoding_of_a_table_fail(table: bytes) -> None:
    encoded = struct.pack(">I", len(table)) + table
    with_rest = encoded + bytes(300)
    assert decode_table(with_rest, 0)[1] == len(encoded)


def signed(**changes: object) -> tuple[Basic.Deliver, pika.BasicProperties, bytes]:
    """A message as a listener with SECRET makes it, but for what was changed on its way."""
    row = Row(7, "an-id", 1, "public.t", "public.t", "update", 't {"id":1}', b'{"n": 1}')
    made: dict[str, Any] = {"topic": row.topic, "body": row.body, "message_id": row.id, "type": row.op}
    made |= listener_headers(row, Signer(SECRET)) | changes
    method = Basic.Deliver(routing_key=made.pop("topic"), redelivered=False)
    body = made.pop("body")
    own = {name: made.pop(name) for name in ("message_id", "type")}
    return method, pika.BasicProperties(**own, headers={k: v for k, v in made.items() if v is not None}), body


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
    entry = Reader(SECRET).from_room(properties, body)[1]
    assert (entry.why.value, entry.tries.reason) == ("dead", UNSIGNED)
    assert Reader().to_event(method, properties, body).claimed_id is None, "without SIGN_EVENTS nothing is asked"
