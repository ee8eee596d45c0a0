"""What comes with a message, out of its bytes: as pika would read it, in a fraction of the time, and without raising.

Whoever may publish decides what is in a message's properties. pika's decoder raises for a time in milliseconds or a
table that is nested deep; that ends the connection, the message stays first in its queue, and ends the next one, too.
Here what can't be read is carried as bytes, or told in `Properties.problem`. tests/unit/test_decode.py holds it against
pika's. (AMQP 0-9-1, 4.2.5: field values; RabbitMQ's own types: rabbit_binary_parser.)
"""

import datetime
import decimal
import functools
import struct
from typing import Any

from pika.spec import Basic, BasicProperties

DEPTH = 20  # tables and arrays within each other; what is deeper is carried as bytes
_DELIVERED = struct.Struct(">QB").unpack_from
_LONG = struct.Struct(">I").unpack_from
_FLAGS = struct.Struct(">H").unpack_from
_UINT64 = struct.Struct(">Q").unpack_from
_NUMBERS = {
    ord(kind): struct.Struct(f">{code}")
    for kind, code in (
        ("b", "b"), ("B", "B"), ("s", "h"), ("U", "h"), ("u", "H"), ("I", "i"), ("i", "I"), ("l", "q"), ("L", "q"),
        ("f", "f"), ("d", "d"), ("t", "?"),
    )
}  # fmt: skip
_TEXT, _BYTES, _TABLE, _ARRAY, _TIME, _DECIMAL, _VOID = b"SxFATDV"
_SIZED = frozenset((_TEXT, _BYTES, _TABLE, _ARRAY))
# In the order in which they come, from the highest bit on.
_PROPERTIES = (
    ("content_type", _TEXT), ("content_encoding", _TEXT), ("headers", _TABLE), ("delivery_mode", _BYTES),
    ("priority", _BYTES), ("correlation_id", _TEXT), ("reply_to", _TEXT), ("expiration", _TEXT),
    ("message_id", _TEXT), ("timestamp", _TIME), ("type", _TEXT), ("user_id", _TEXT), ("app_id", _TEXT),
    ("cluster_id", _TEXT),
)  # fmt: skip


class Properties(BasicProperties):
    """A message's properties. What is text may be bytes where it is not UTF-8.

    Args:
        raw: as they came, with their flags.
        problem: why not all of them could be read; empty = all were.
    """

    raw = b""
    problem = ""


PROPERTIES = tuple(name for name, _ in _PROPERTIES)
for _name in PROPERTIES:
    setattr(Properties, _name, None)  # pika's __init__ sets each of them: half of the time of reading them


class _Unreadable(Exception):
    """The text says what, and at which byte."""


def read_deliver(data: bytes, at: int) -> Basic.Deliver:
    """A basic.deliver, whose arguments begin at `at`."""
    start = at + 1
    at = start + data[at]
    consumer = data[start:at].decode()  # ours
    number, redelivered = _DELIVERED(data, at)
    exchange, at = _short(data, at + 9)
    routing_key, _ = _short(data, at)
    return Basic.Deliver(consumer, number, bool(redelivered & 1), exchange, routing_key)


def read_properties(raw: bytes) -> Properties:
    """The properties of a content header, from their flags on. Never raises."""
    made = Properties.__new__(Properties)
    found: dict[str, Any] = made.__dict__
    found["raw"] = raw
    try:
        _read_all(raw, found)
    except (_Unreadable, struct.error, IndexError) as error:
        found["problem"] = f"its properties can't be read: {error if isinstance(error, _Unreadable) else 'cut short'}"
    return made


@functools.cache  # at most 16,384
def _present(flags: int) -> tuple[tuple[str, int], ...]:
    return tuple(one for bit, one in enumerate(_PROPERTIES) if flags & 1 << (15 - bit))


def _read_all(data: bytes, found: dict[str, Any]) -> None:
    (flags,) = _FLAGS(data)
    if flags & 1:
        raise _Unreadable("more flags than AMQP 0-9-1 has properties")
    at, end = 2, len(data)
    for name, kind in _present(flags & 0xFFFC):
        if kind == _TEXT:
            start = at + 1
            at = start + data[at]
            try:
                found[name] = data[start:at].decode()
            except UnicodeDecodeError:
                found[name] = data[start:at]
        elif kind == _TABLE:
            (size,) = _LONG(data, at)
            at += 4
            table: dict[str | bytes, Any] = {}
            found[name] = table
            try:
                _read_table(data, at, min(end, at + size), table, 0)
            except (_Unreadable, struct.error, IndexError, ValueError) as error:
                detail = error if isinstance(error, _Unreadable) else "cut short"
                found["problem"] = f"its headers can't be read: {detail}"
            at += size
        elif kind == _TIME:
            (found[name],) = _UINT64(data, at)
            at += 8
        else:
            found[name] = data[at]
            at += 1
    if at > end:
        raise _Unreadable("cut short")


def _short(data: bytes, at: int) -> tuple[Any, int]:
    start = at + 1
    end = start + data[at]
    value = data[start:end]
    try:
        return value.decode(), end
    except UnicodeDecodeError:
        return value, end


def _read_table(data: bytes, at: int, end: int, found: dict[str | bytes, Any], depth: int) -> None:
    while at < end:
        start = at + 1
        at = start + data[at]
        try:
            name: str | bytes = data[start:at].decode()
        except UnicodeDecodeError:
            name = data[start:at]
        value, at = _value(data, at, end, depth)
        found.setdefault(name, value)  # of a name that comes twice the first counts, as in RabbitMQ


def _value(data: bytes, at: int, end: int, depth: int) -> tuple[Any, int]:
    """A field's value, and where it ends. Raises _Unreadable, struct.error or IndexError."""
    kind = data[at]
    at += 1
    number = _NUMBERS.get(kind)
    if number is not None:
        return number.unpack_from(data, at)[0], _within(at + number.size, end)
    if kind in _SIZED:
        start = at + 4
        at = _within(start + _LONG(data, at)[0], end)
        return _of_length(kind, data, start, at, depth), at
    if kind == _VOID:
        return None, at
    if kind == _TIME:
        return _time(_UINT64(data, at)[0]), _within(at + 8, end)
    if kind == _DECIMAL:
        places, (digits,) = data[at], struct.unpack_from(">i", data, at + 1)
        return decimal.Decimal(digits).scaleb(-places), _within(at + 5, end)
    raise _Unreadable(f"type {kind:#04x} at byte {at - 1}")


def _within(at: int, end: int) -> int:
    if at > end:
        raise _Unreadable("cut short")
    return at


def _of_length(kind: int, data: bytes, at: int, end: int, depth: int) -> Any:
    whole = data[at:end]
    try:
        if kind == _TEXT:
            return whole.decode()
        if kind == _BYTES or depth >= DEPTH:
            return whole
        if kind == _TABLE:
            table: dict[str | bytes, Any] = {}
            _read_table(data, at, end, table, depth + 1)
            return table
        values = []
        while at < end:
            value, at = _value(data, at, end, depth + 1)
            values.append(value)
        return values
    except (UnicodeDecodeError, _Unreadable, struct.error, IndexError):
        return whole


def _time(seconds: int) -> datetime.datetime | int:
    try:
        return datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    except (ValueError, OverflowError, OSError):  # a time in milliseconds, say
        return seconds
