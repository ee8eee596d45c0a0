"""Messages as bytes, as any program may publish them: properties and header tables that pika would not write."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from hypothesis import strategies as st
from pika.adapters.blocking_connection import BlockingChannel

FLAGS = {
    "content_type": 15, "content_encoding": 14, "headers": 13, "delivery_mode": 12, "priority": 11,
    "correlation_id": 10, "reply_to": 9, "expiration": 8, "message_id": 7, "timestamp": 6, "type": 5, "user_id": 4,
    "app_id": 3, "cluster_id": 2,
}  # fmt: skip
Fields = Sequence[tuple[bytes, bytes]]  # names and values, the values with their type before them


def short(text: bytes) -> bytes:
    return bytes([len(text)]) + text


def long(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack(">I", len(content)) + content


def table(fields: Fields) -> bytes:
    content = b"".join(short(name) + value for name, value in fields)
    return struct.pack(">I", len(content)) + content


def properties(**given: bytes) -> bytes:
    """A content header's flags and properties. Each is given as its bytes: text by `short`, headers by `table`."""
    flags = sum(1 << FLAGS[name] for name in given)
    return struct.pack(">H", flags) + b"".join(given[name] for name in FLAGS if name in given)


def frame(kind: int, channel: int, payload: bytes) -> bytes:
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + b"\xce"


def content(channel: int, flags_and_properties: bytes, body: bytes, piece: int = 131_064) -> bytes:
    """The frames after the method's."""
    pieces = [body[at : at + piece] for at in range(0, len(body), piece)]
    head = struct.pack(">HHQ", 60, 0, len(body)) + flags_and_properties
    return frame(2, channel, head) + b"".join(frame(3, channel, one) for one in pieces)


def publish(
    channel: BlockingChannel,
    routing_key: bytes,
    flags_and_properties: bytes,
    body: bytes,
    piece: int = 131_064,
    exchange: bytes = b"relay",
) -> None:
    """Publish past pika's encoder."""
    number = int(channel.channel_number)
    method = frame(1, number, struct.pack(">HHH", 60, 40, 0) + short(exchange) + short(routing_key) + b"\0")
    channel.connection._impl._output_marshaled_frames([method + content(number, flags_and_properties, body, piece)])


SHORT = st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "replace")[:255])
LARGE = st.binary(min_size=1000, max_size=40_000)


def packed(code: str, values: st.SearchStrategy[int] | st.SearchStrategy[float]) -> st.SearchStrategy[bytes]:
    return values.map(lambda value: struct.pack(">" + code, value))


def numbers(bits: int, kind: bytes, code: str, *, signed: bool) -> st.SearchStrategy[bytes]:
    least, most = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    return packed(code, st.integers(least, most)).map(lambda value: kind + value)


# What RabbitMQ takes: it refuses NaN, infinity, and types that it does not know.
SIMPLE = st.one_of(
    numbers(8, b"b", "b", signed=True), numbers(8, b"B", "B", signed=False), numbers(16, b"s", "h", signed=True),
    numbers(16, b"u", "H", signed=False), numbers(32, b"I", "i", signed=True), numbers(32, b"i", "I", signed=False),
    numbers(64, b"l", "q", signed=True), numbers(64, b"L", "q", signed=True), numbers(64, b"T", "Q", signed=False),
    packed("d", st.floats(allow_nan=False, allow_infinity=False)).map(lambda value: b"d" + value),
    packed("f", st.floats(allow_nan=False, allow_infinity=False, width=32)).map(lambda value: b"f" + value),
    st.sampled_from([b"V", b"t\0", b"t\1", b"t\2"]), st.binary(min_size=5, max_size=5).map(lambda value: b"D" + value),
    SHORT.map(lambda value: long(b"S", value)), SHORT.map(lambda value: long(b"x", value)),
    LARGE.map(lambda value: long(b"S", value)),
)  # fmt: skip
NAMES = SHORT | st.sampled_from([b"CC", b"x-death", b"x-delivery-count", b"relay-seq", b"relay-key", b"relay-table"])


def by_name(field: tuple[bytes, bytes]) -> bytes:
    """Of a name that comes twice pika takes the last, and RabbitMQ, as we do, the first."""
    return field[0]


def _within(values: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    tables = st.lists(st.tuples(NAMES, values), max_size=3, unique_by=by_name).map(lambda one: b"F" + table(one))
    return tables | st.lists(values, max_size=3).map(lambda one: long(b"A", b"".join(one)))


def deep(value: bytes, depth: int) -> bytes:
    for _ in range(depth):
        value = b"F" + table([(b"n", value)])
    return value


VALUES = st.recursive(SIMPLE, _within, max_leaves=6) | st.builds(deep, SIMPLE, st.integers(0, 900))
TABLES = st.lists(st.tuples(NAMES, VALUES), max_size=4, unique_by=by_name).map(table)
TEXTS = SHORT.map(short)
PROPERTIES = st.fixed_dictionaries(
    {},
    optional={
        "content_type": TEXTS, "content_encoding": TEXTS, "headers": TABLES,
        "delivery_mode": st.binary(min_size=1, max_size=1), "priority": st.binary(min_size=1, max_size=1),
        "correlation_id": TEXTS, "reply_to": TEXTS,
        "expiration": TEXTS, "message_id": TEXTS, "timestamp": st.binary(min_size=8, max_size=8), "type": TEXTS,
        "user_id": TEXTS, "app_id": TEXTS, "cluster_id": TEXTS,
    },
).map(lambda given: properties(**given))  # fmt: skip
