"""Our reading of a message is pika's, and where pika raises, ours does not."""

from __future__ import annotations

import datetime
import struct
from typing import Any

import pika
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pika import frame, spec

from relay.amqp.decode import DEPTH, Properties, read_properties
from relay.amqp.inbound import Inbound
from tests import raw

NAMES = list(raw.FLAGS)
# pika 1.2.0, Debian 12's, takes b and l for unsigned and B for signed: what RabbitMQ does not.
SIGNS = {0, 2**8, -(2**8), 2**64, -(2**64)} if pika.__version__ == "1.2.0" else {0}
# What both read: pika stumbles over some times and over deep tables, and cuts the fraction off a number.
MS = b"T" + struct.pack(">Q", 1_772_000_000_000)


def alike(ours: Any, theirs: Any) -> bool:
    """pika cuts what is behind the point of a float; deep values are bytes with us; its `long` is an int."""
    if isinstance(ours, float):
        return int(ours) == theirs
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(alike(value, theirs[name]) for name, value in ours.items())
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(alike, ours, theirs))
    if isinstance(ours, bytes) and isinstance(theirs, dict | list):
        return True  # too deep, as the test below says
    if type(ours) is int and isinstance(theirs, int):
        return ours - theirs in SIGNS
    if isinstance(theirs, datetime.datetime) and theirs.tzinfo is None:
        theirs = theirs.replace(tzinfo=datetime.UTC)  # as Debian 12's pika 1.2.0 has it
    return bool(ours == theirs)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(raw.PROPERTIES)
def test_properties_are_those_that_pika_reads(given_raw: bytes) -> None:
    ours = read_properties(given_raw)
    assert (ours.problem, ours.raw) == ("", given_raw)
    try:
        theirs = pika.BasicProperties().decode(given_raw)
    except (ValueError, OverflowError, OSError, RecursionError):
        return
    for name in NAMES:
        assert alike(getattr(ours, name), getattr(theirs, name)), name


@given(st.binary(max_size=300) | st.builds(lambda head, tail: head + tail, raw.PROPERTIES, st.binary(max_size=50)))
def test_whatever_bytes_come_are_read_or_told(given_raw: bytes) -> None:
    ours = read_properties(given_raw)
    assert ours.problem.isprintable()
    try:
        pika.BasicProperties().decode(given_raw)
    except Exception:  # noqa: BLE001  # of any kind: pika's raises nine
        return
    assert ours.raw == given_raw


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(raw.PROPERTIES, st.integers(0, 400))
def test_a_part_is_never_taken_for_the_whole(given_raw: bytes, cut: int) -> None:
    part = given_raw[: max(0, len(given_raw) - 1 - cut)]
    assert read_properties(part).problem


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (MS, 1_772_000_000_000),
        (b"T" + b"\xff" * 8, (1 << 64) - 1),
        (b"T" + struct.pack(">Q", 0), datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)),
        (raw.long(b"S", b"caf\xe9"), b"caf\xe9"),
        (b"d" + struct.pack(">d", 1.5), 1.5),
        (b"F" + raw.table([(b"n", b"V")]), {"n": None}),
        (raw.long(b"A", b"q"), b"q"),  # a type that nobody knows, within what tells its length
    ],
)
def test_what_pika_cannot_read_is_carried(field: bytes, value: object) -> None:
    found = read_properties(raw.properties(headers=raw.table([(b"a", field), (b"b", b"V")])))
    assert found.headers == {"a": value, "b": None}
    assert not found.problem


def test_of_a_name_that_comes_twice_the_first_counts() -> None:
    """As in RabbitMQ: 3.10 routes by it, and all look for it in that way."""
    twice = [(b"relay-slot", raw.long(b"S", b"00")), (b"a", b"V"), (b"relay-slot", raw.long(b"S", b"01"))]
    found = read_properties(raw.properties(headers=raw.table([*twice, (b"t", b"F" + raw.table(twice))])))
    assert found.headers == {"relay-slot": "00", "a": None, "t": {"relay-slot": "00", "a": None}}
    assert not found.problem


def test_what_is_deeper_than_the_limit_is_carried_as_bytes() -> None:
    found: Any = read_properties(raw.properties(headers=raw.table([(b"n", raw.deep(b"V", 5000))]))).headers
    depth = 0
    while isinstance(found, dict):
        found, depth = found["n"], depth + 1
    assert isinstance(found, bytes)
    assert depth == DEPTH + 1


def test_a_type_that_nobody_knows_is_told_and_the_rest_is_read() -> None:
    headers = raw.table([(b"relay-key", raw.long(b"S", b"t 1")), (b"a", b"q123"), (b"b", b"V")])
    found = read_properties(raw.properties(headers=headers, message_id=raw.short(b"7")))
    assert found.problem == "its headers can't be read: type 0x71 at byte 26"
    assert (found.headers, found.message_id) == ({"relay-key": "t 1"}, "7")


class Channel:
    """Stands where pika's stands: the connection asks it for nothing but its consumers."""

    def __init__(self, found: list[tuple[Any, ...]]) -> None:
        self._consumers = {"ctag1.a": lambda _channel, *message: found.append(message)}


class Unconnected(Inbound):
    """Its bytes come from the test."""

    def __init__(self) -> None:
        self.found: list[tuple[Any, ...]] = []
        self.others: list[Any] = []
        self._deliveries = {}
        self._frame_buffer, self.bytes_received = b"", 0
        self._channels = {number: Channel(self.found) for number in (1, 2)}

    def _process_frame(self, value: object) -> None:
        self.others.append(value)


DELIVERIES = st.tuples(
    st.integers(1, 2), st.integers(0, 2**64 - 1), st.booleans(), raw.TEXTS, raw.TEXTS, raw.PROPERTIES,
    st.binary(max_size=300), st.integers(1, 100),
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@example([(1, 1, False, b"\0", b"\0", b"\0\0", b"", 1)], [3], [])
@given(st.lists(DELIVERIES, max_size=4), st.lists(st.integers(1, 200)), st.lists(st.integers(0, 3)))
def test_deliveries_come_out_of_the_stream_however_it_is_cut(
    given_messages: list[tuple[Any, ...]], cuts: list[int], between: list[int]
) -> None:
    stream, expected, others = b"", [], 0
    for at, (number, tag, redelivered, exchange, key, properties, body, piece) in enumerate(given_messages):
        arguments = raw.short(b"ctag1.a") + struct.pack(">QB", tag, redelivered) + exchange + key
        method = struct.pack(">HH", 60, 60) + arguments
        if at in between:
            others += 2
            stream += frame.Heartbeat().marshal() + frame.Method(number, spec.Basic.QosOk()).marshal()
        stream += raw.frame(1, number, method) + raw.content(number, properties, body, piece)
        expected.append((spec.Basic.Deliver().decode(arguments), properties, body))
    connection = Unconnected()
    at = 0
    for size in [*cuts, len(stream)]:
        connection._on_data_available(stream[at : at + size])
        at += size
    assert len(connection.found) == len(expected)
    for (method, properties, body), (theirs, *message) in zip(connection.found, expected, strict=True):
        assert vars(method) == vars(theirs)
        assert isinstance(properties, Properties)
        assert [properties.raw, body] == message
    assert len(connection.others) == others
    assert connection.bytes_received == len(stream)


def test_what_is_no_frame_is_left_to_pika() -> None:
    with pytest.raises(pika.exceptions.InvalidFrameError):
        Unconnected()._on_data_available(b"\x09\0\0\0\0\0\0\0")
    with pytest.raises(pika.exceptions.InvalidFrameError):
        Unconnected()._on_data_available(raw.frame(3, 1, b"x")[:-1] + b"\xcf")


@pytest.mark.parametrize("kind", [1, 2, 3, 8, 9, ord("A")])
def test_a_frame_that_is_larger_than_agreed_is_not_waited_for(kind: int) -> None:
    with pytest.raises(pika.exceptions.InvalidFrameError):
        Unconnected()._on_data_available(struct.pack(">BHI", kind, 1, spec.FRAME_MAX_SIZE + 1) + b"x")


@pytest.mark.parametrize("method", [b"", struct.pack(">HH", 60, 60) + raw.short(b"ctag1.a") + bytes(9) + b"\0\0"])
def test_a_body_that_is_larger_than_rabbitmq_s_largest_is_not_kept(method: bytes) -> None:
    stream = raw.frame(1, 1, method) if method else b""
    header = struct.pack(">HHQ", 60, 0, (512 << 20) + 1) + raw.properties()
    with pytest.raises(pika.exceptions.InvalidFrameError):
        Unconnected()._on_data_available(stream + raw.frame(2, 1, header))


def test_a_body_that_is_longer_than_its_header_says_is_no_message() -> None:
    method = struct.pack(">HH", 60, 60) + raw.short(b"ctag1.a") + bytes(9) + b"\0\0"
    header = struct.pack(">HHQ", 60, 0, 3) + raw.properties()
    connection = Unconnected()
    with pytest.raises(pika.exceptions.InvalidFrameError):
        connection._on_data_available(raw.frame(1, 1, method) + raw.frame(2, 1, header) + raw.frame(3, 1, b"four"))
    assert connection.found == []


def test_a_broker_of_another_version_is_left_to_pika() -> None:
    connection = Unconnected()
    connection._on_data_available(b"AMQP\0\0\x09\x00")
    (said,) = connection.others
    assert isinstance(said, frame.ProtocolHeader)
