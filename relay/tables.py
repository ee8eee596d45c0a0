"""pika's decoding of AMQP tables, made to bear what anybody may put into a header.

pika raises from within its reading of the socket at a date after the year 9999, at a float that is not a number, at a
type it does not know, and at arrays in arrays: the connection, or the process, would end at the same message again and
again. Here such a value becomes None, and the message arrives. (RabbitMQ 3.10 passes on all but the floats.)
"""

import struct
from typing import Any

import pika.data
import pika.exceptions

_WIDTHS = {b"T": 8, b"d": 8, b"f": 4}  # bytes of the values that it may fail at; the others begin with their length
_FAILURES = (ValueError, OverflowError, OSError, RecursionError, struct.error, pika.exceptions.AMQPError)

_decode_value = pika.data.decode_value
Table = dict[str | bytes, Any]


def bear_anything() -> None:
    """Let pika decode with these. To be called before a connection is opened; again does no harm."""
    pika.data.decode_table = decode_table


def decode_table(encoded: bytes, offset: int) -> tuple[Table, int]:
    """As pika.data.decode_table, but that it never fails."""
    (size,) = struct.unpack_from(">I", encoded, offset)
    offset += 4
    end = offset + size
    found: Table = {}
    while offset < end:
        name, offset = pika.data.decode_short_string(encoded, offset)
        try:
            found[name], offset = _decode_value(encoded, offset)
        except _FAILURES:
            found[name], offset = None, min(_after(encoded, offset, end), end)
    return found, end


def _after(encoded: bytes, offset: int, end: int) -> int:
    """Where the next value begins."""
    kind, offset = encoded[offset : offset + 1], offset + 1
    if kind in _WIDTHS:
        return offset + _WIDTHS[kind]
    if kind in (b"A", b"F") and offset + 4 <= end:
        return offset + 4 + int.from_bytes(encoded[offset : offset + 4])
    return end
