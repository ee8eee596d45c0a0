"""Into the parking lot and out of it: whatever a message brings along."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pika import spec

from relay.amqp.decode import read_properties
from relay.delivery import STRAND_MAX, Event, Tries, key_name, strand_name
from relay.receiving.codec import Reader
from relay.receiving.parking.codec import ParkedReader, new_handle, parked_properties, shown_aside
from relay.receiving.parking.index import Entry, Why
from relay.receiving.strands import Strands
from tests import raw

FRAME_MAX = 131_072
METHOD = spec.Basic.Deliver("ctag", 1, exchange="relay", routing_key="topic")


def entry(event: Event, reason: str = "HTTP 422") -> Entry:
    strand = Strands().strand_key(event)
    tries = Tries(attempts=1, reason=reason)
    return Entry(strand, key_name(event.key), event.table, event.id, new_handle(), Why.DEAD, tries, 1_772_000_000, 0.0)


def through_the_room(event: Event, known: Entry) -> tuple[Event, Entry]:
    encoded = b"".join(parked_properties(event, known, FRAME_MAX).encode())
    assert len(encoded) + 20 <= FRAME_MAX, "it fits into a frame"
    found = read_properties(encoded)
    assert found.headers is not None
    theirs = {name for name in found.headers if not name.startswith("relay-")}
    assert not theirs, "what somebody else has sent would mean something to RabbitMQ"
    return ParkedReader().from_room(found, event.body)


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(raw.PROPERTIES, st.binary(max_size=100), st.text(max_size=2000))
def test_every_message_comes_out_of_the_waiting_room_as_it_went_in(properties: bytes, body: bytes, reason: str) -> None:
    event = Reader().to_event(METHOD, read_properties(properties), body)
    known = entry(event, reason)
    found, found_entry = through_the_room(event, known)
    assert (found.body, found.topic, found.seq, found.op, found.timestamp) == (
        body, "topic", event.seq, event.op, event.timestamp,
    )  # fmt: skip
    assert (found.id, found.key, found.table, found.aside) == (event.id, event.key, event.table, event.aside)
    assert (found.content_type, found.content_encoding) == (event.content_type, event.content_encoding)
    assert (
        (found_entry.strand, found.handle)
        == (known.strand, known.first_handle)
        == (known.strand, found_entry.first_handle)
    )
    assert len(known.strand) <= STRAND_MAX
    json.dumps(shown_aside(found)).encode()
    for text in (found.id, found.key, found.table, found.op, found.content_type, found.handle):
        text.encode()


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(raw.PROPERTIES, st.binary(max_size=100))
def test_whatever_others_put_into_the_waiting_room_is_taken_for_an_event(properties: bytes, body: bytes) -> None:
    read = read_properties(properties)
    event, found = ParkedReader().from_room(read, body)
    assert event.handle == ParkedReader().from_room(read, body)[0].handle, "the same each time"
    assert found.strand[:1] not in ("", "\1", "\2")


def test_how_often_a_message_was_handed_out_does_not_change_what_it_is_called() -> None:
    """One that somebody else has put into the parking lot: RabbitMQ adds a header, and sorts them all."""
    a, b, count = (b"a", b"V"), (b"b", b"V"), (b"x-delivery-count", b"b\1")
    found = [ParkedReader().from_room(read_properties(table(*fields)), b"") for fields in ([b, a], [a, b, count])]
    assert found[0][0].handle == found[1][0].handle == found[0][1].first_handle
    assert found[0][1].strand == found[1][1].strand
    bare = [
        ParkedReader().from_room(read_properties(given), b"")[0].handle for given in (raw.properties(), table(count))
    ]
    assert bare[0] == bare[1]


def table(*fields: tuple[bytes, bytes]) -> bytes:
    return raw.properties(headers=raw.table(fields))


def test_headers_that_can_not_be_read_do_not_change_what_it_is_called_once_rabbitmq_has_sorted_them() -> None:
    """It counts in one of them how often the message was handed out; a replay waited for the old name for ever."""
    bad, count = (b"m", b"?"), (b"x-delivery-count", b"l" + bytes(7) + b"\1")
    own = [
        (b"z", raw.long(b"S", b"1")),
        (b"relay-parked-lane", raw.long(b"S", b"a strand")),
        (b"a", raw.long(b"S", b"2")),
    ]
    as_sent = raw.properties(headers=raw.table([*own, bad]))
    as_sorted = raw.properties(headers=raw.table(sorted([*own, bad, count])))
    found = [ParkedReader().from_room(read_properties(one), b"body") for one in (as_sent, as_sorted)]
    assert found[0][0].problem
    assert len({(entry.strand, entry.first_handle) for _event, entry in found}) == 1
    assert len({event.key for event, _entry in found}) == 1


def test_what_does_not_fit_into_a_frame_is_left_out_and_said() -> None:
    properties = raw.properties(
        content_encoding=raw.short(b"gzip"), message_id=raw.short(b"7"), headers=raw.table([
            (b"relay-key", raw.long(b"S", b"k" * 60_000)), (b"a", raw.long(b"S", b"y" * 70_000)),
        ]),
    )  # fmt: skip
    event = Reader().to_event(METHOD, read_properties(properties), b"body")
    known = entry(event)
    found, found_entry = through_the_room(event, known)
    assert (found.id, found.content_encoding, found.key) == ("7", "gzip", "k" * 1000)
    assert found_entry.strand == known.strand, "its order is kept"
    assert "its headers, 1300" in found_entry.tries.reason


@pytest.mark.parametrize("key", ["t 1", "k" * 1001, "", "\0x"])
def test_a_strand_of_the_waiting_room_has_the_name_that_it_had_before(key: str) -> None:
    """It travels in a header, and must fit into one."""
    made = Strands().strand_key(Event(b"", "t", key=key))
    assert len(made) <= STRAND_MAX
    assert made == strand_name(made)
    if key:
        assert made == strand_name(key)


def test_an_event_of_ours_takes_nothing_aside() -> None:
    own = raw.properties(
        content_type=raw.short(b"application/json"), delivery_mode=b"\2", message_id=raw.short(b"id"),
        type=raw.short(b"update"), timestamp=b"\0\0\0\0\1\1\1\1", headers=raw.table([
            (b"relay-seq", b"I\0\0\0\7"), (b"relay-key", raw.long(b"S", b"t 1")), (b"x-delivery-count", b"b\0"),
        ]),
    )  # fmt: skip
    event = Reader().to_event(METHOD, read_properties(own), b"{}")
    assert (event.aside, event.seq, event.key) == (b"", 7, "t 1")
    assert through_the_room(event, entry(event))[0].aside == b""


def test_text_that_is_not_utf_8_is_shown_escaped() -> None:
    properties = raw.properties(message_id=raw.short(b"caf\xe9"), headers=raw.table([(b"relay-key", b"x\0\0\0\1\xff")]))
    event = Reader().to_event(METHOD, read_properties(properties), b"")
    assert (event.id, event.key) == ("caf\\xe9", "\\xff")


def test_what_is_remembered_of_an_event_is_small_whatever_its_headers_are() -> None:
    """50,000 events may be in the parking lot, each with a key and a table of 50 kB: that was 5 GB of its index."""
    headers = {"relay-key": "k" * 50_000, "relay-table": "t" * 50_000, "relay-seq": 5}
    properties = spec.BasicProperties(message_id="an-id", headers=headers)
    event = Reader().to_event(METHOD, read_properties(b"".join(properties.encode())), b"{}")
    assert (len(event.key), len(event.table)) == (50_000, 1000), "the target gets all of the key"
    _, known = through_the_room(event, entry(event))
    parts = (known.strand, known.key, known.table, known.first_id, known.first_handle, known.name)
    assert sum(map(len, parts)) < 5000
    assert known.key == key_name(event.key) != key_name("k" * 50_001)
    assert key_name("short") == "short"
