"""Events as the bytes of their AMQP frames: what pika's basic_publish would write, in a fraction of the time.

pika builds three objects a message and sends each frame by itself: most of the time of publishing a backlog. It has no
public call for frames packed elsewhere; tests/unit/test_frames.py holds these against its own encoding. (AMQP 0-9-1,
4.2: frames and field values; 1.8: basic. Figures: docs/performance.md.)
"""

import functools
import struct
from collections.abc import Iterable, Iterator
from typing import Any

import pika.data

from relay.amqp.headers import KEY, OWN, SEQ, SLOT, TABLE, TOPIC, slot
from relay.errors import place
from relay.listening.event import OutboxEvent
from relay.signature import HEADER, Signer

WRITE_BYTES = 64 << 10
"""About how much is handed over at once; pika copies what is left of a piece that the socket takes in part."""


KEPT = 1024  # of what comes again and again: topics, tables, names of operations


def _named(name: str) -> bytes:
    return bytes([len(name)]) + name.encode()


_OVERHEAD = 8  # bytes of a frame beside its payload
_END = b"\xce"
_METHOD = struct.Struct(">BHIHHH").pack  # frame type 1, channel, size; class 60, method 40, reserved
_HEADER = struct.Struct(">BHIHHQH").pack  # frame type 2, channel, size; class 60, weight, size of the body, flags
_BODY = struct.Struct(">BHI").pack  # frame type 3, channel, size
_UINT = struct.Struct(">I").pack
_TIMESTAMP = struct.Struct(">Q").pack
_INT = struct.Struct(">ci").pack
_LONG = struct.Struct(">cq").pack
_MANDATORY = b"\x01"
# The properties present: content_type, headers, delivery_mode, message_id, timestamp, type; in this order.
_FLAGS = 1 << 15 | 1 << 13 | 1 << 12 | 1 << 7 | 1 << 6 | 1 << 5

_OURS = OWN | {HEADER}
# The names of our headers, as a table holds them, and the type of those that are text (AMQP 0-9-1, 4.2.5.5).
_SEQ, _KEY, _TABLE, _TOPIC = _named(SEQ), _named(KEY) + b"S", _named(TABLE) + b"S", _named(TOPIC) + b"S"
_SLOT = _named(SLOT) + b"S" + _UINT(2)
_DEFAULT = _named("")  # the default exchange: to the queue that the routing key names
_SIGNATURE = _named(HEADER) + b"S" + _UINT(64)  # and 64 digits
_CONTENT_TYPE, _PERSISTENT = b"\x10application/json", b"\x02"


class Unpublishable(Exception):
    """An event that no frame can hold, or that RabbitMQ would close the channel for. Its text is the reason."""


class Frames:
    """Packs events, persistent and mandatory, for one channel.

    Args:
        channel: its number.
        frame_max: bytes, as negotiated with the broker; a larger body goes in several frames.
        exchange: where to.
        secret: signs each event with it; empty = no signatures.
    """

    def __init__(self, channel: int, frame_max: int, exchange: str, secret: bytes = b"") -> None:
        self._channel = channel
        self._frame_max = frame_max
        self._body_max = frame_max - _OVERHEAD
        self._exchange = _short(exchange)
        self._signer = Signer(secret) if secret else None

    def pack(self, messages: Iterable[tuple[bytes, bytes]]) -> Iterator[bytes]:
        """Return the frames of all messages, each given by its `head` and its body, joined to pieces worth a write."""
        parts: list[bytes] = []
        size = 0
        for head, body in messages:
            parts.append(head)
            for start in range(0, len(body), self._body_max):
                chunk = body[start : start + self._body_max]
                parts += (_BODY(3, self._channel, len(chunk)), chunk, _END)
                size += len(chunk)
                if size >= WRITE_BYTES:
                    yield b"".join(parts)
                    parts.clear()
                    size = 0
        if parts:
            yield b"".join(parts)

    def head(self, event: OutboxEvent) -> bytes:
        """Return the frames before the body: basic.publish, and the content header.

        Raises:
            Unfit: it can't be published.
        """
        if event.flaw:
            raise Unpublishable(event.flaw)
        try:
            return self._head(event)
        except Unpublishable:
            raise
        except Exception as error:  # noqa: BLE001 - whatever an encoder does not take concerns this event alone
            raise Unpublishable(f"can't be encoded: {type(error).__name__} in {place(error)}") from None

    def _head(self, event: OutboxEvent) -> bytes:
        if event.queue is None:
            method = _publish(self._channel, self._exchange, event.topic)
        else:  # one of many: those who have asked
            method = _publish.__wrapped__(self._channel, _DEFAULT, event.queue)
        table = _table(event, self._signer)
        properties = b"".join((
            _CONTENT_TYPE, _UINT(len(table)), table, _PERSISTENT, _short(event.id), _TIMESTAMP(event.at // 1_000_000),
            _word(event.op), _END,
        ))  # fmt: skip
        if len(properties) + 13 + _OVERHEAD > self._frame_max:  # one frame must hold them (AMQP 0-9-1, 4.2.6)
            raise Unpublishable(
                f"key and headers are larger than a frame of RabbitMQ: {len(table)} bytes, frame_max {self._frame_max}"
            )
        return b"".join((
            method,
            _HEADER(2, self._channel, len(properties) + 13, 60, 0, len(event.body), _FLAGS), properties,
        ))  # fmt: skip


def headers(event: OutboxEvent, signer: Signer | None = None) -> dict[str, Any]:
    """The message's headers: the application's own, but for those named like ours, and ours."""
    found: dict[str, Any] = {name: value for name, value in (event.headers or {}).items() if name not in _OURS}
    found[SEQ] = event.seq
    if event.key is not None:
        found[KEY] = event.key
        found[SLOT] = slot(event.key.encode())
    if event.table is not None:
        found[TABLE] = event.table
    if event.queue is not None:
        found[TOPIC] = event.topic
    if signer:
        found[HEADER] = _sign(event, signer)
    return found


def _sign(event: OutboxEvent, signer: Signer) -> str:
    fields = (event.topic, event.id, event.op, event.table or "", event.key or "", str(event.seq))
    return signer.sign(fields, event.body)


def _table(event: OutboxEvent, signer: Signer | None) -> bytes:
    """The headers, encoded; without the length before them."""
    if event.headers:
        pieces: list[bytes] = []
        pika.data.encode_table(pieces, headers(event, signer))
        return b"".join(pieces[1:])
    seq = event.seq
    table = _SEQ + (_INT(b"I", seq) if seq < 1 << 31 else _LONG(b"l", seq))
    if event.key is not None:
        key = event.key.encode()
        table += _KEY + _UINT(len(key)) + key + _SLOT + slot(key).encode()
    if event.table is not None:
        table += _table_header(event.table)
    if event.queue is not None:
        topic = event.topic.encode()
        table += _TOPIC + _UINT(len(topic)) + topic
    if signer:
        table += _SIGNATURE + _sign(event, signer).encode()
    return table


@functools.lru_cache(KEPT)
def _publish(channel: int, exchange: bytes, key: str) -> bytes:
    """The frame of basic.publish. `exchange`: as a short string."""
    method = exchange + _short(key) + _MANDATORY + _END
    return _METHOD(1, channel, len(method) + 5, 60, 40, 0) + method


@functools.lru_cache(KEPT)
def _table_header(name: str) -> bytes:
    data = name.encode()
    return _TABLE + _UINT(len(data)) + data


@functools.lru_cache(KEPT)
def _word(text: str) -> bytes:
    return _short(text)


def _short(text: str) -> bytes:
    """A string of at most 255 bytes."""
    data = text.encode()
    if len(data) > 255:
        raise Unpublishable(f"topic or op is longer than 255 bytes: {text[:60]}...")
    return bytes((len(data),)) + data
