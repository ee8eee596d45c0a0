"""The limit: frames encoded beforehand, written straight to the broker's socket. python -m benchmarks.limit URL FILE

Nothing that publishes over AMQP from one connection is faster than a client that does nothing else. The file holds
whole messages (method, header and body frames), each preceded by its length. Writes "ready", waits for a line,
publishes with confirms on, and ends when everything is confirmed.
"""

from __future__ import annotations

import collections
import selectors
import socket
import struct
import sys
from pathlib import Path

import pika
from pika import frame, spec

from relay.listening.event import OutboxEvent
from relay.listening.frames import Frames

FRAME_MAX = 131072
WINDOW = 4000  # unconfirmed messages; without a limit it is no faster
CHUNK = 100  # messages a write
_ACK, _NACK = 0x003C0050, 0x003C0078


def encode(events: list[OutboxEvent], exchange: str) -> bytes:
    """The file: every event as the listener would publish it, packed."""
    frames = Frames(1, FRAME_MAX, exchange)
    messages = [b"".join(frames.pack([(frames.head(event), event.body)])) for event in events]
    return b"".join(struct.pack(">I", len(message)) + message for message in messages)


def _decode(data: bytes) -> collections.deque[bytes]:
    messages: collections.deque[bytes] = collections.deque()
    at = 0
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        messages.append(data[at + 4 : at + 4 + length])
        at += 4 + length
    return messages


def _channel(url: str) -> socket.socket:
    """A connection with channel 1 open and in confirm mode."""
    where = pika.URLParameters(url)
    opened = socket.create_connection((where.host, where.port))
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    assert isinstance(where.credentials, pika.PlainCredentials)
    login = f"\0{where.credentials.username}\0{where.credentials.password}"
    opened.sendall(frame.ProtocolHeader().marshal())
    opened.recv(65536)
    for channel, method in (
        (0, spec.Connection.StartOk({}, "PLAIN", login, "en_US")),
        (0, spec.Connection.TuneOk(2047, FRAME_MAX, 0)),
        (0, spec.Connection.Open(where.virtual_host)),
        (1, spec.Channel.Open()),
        (1, spec.Confirm.Select()),
    ):
        opened.sendall(frame.Method(channel, method).marshal())
        if not isinstance(method, spec.Connection.TuneOk):
            opened.recv(65536)
    return opened


class _Answers:
    """Reads basic.ack; a nack, a return or an end is an error."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._rest = b""
        self._single: set[int] = set()
        self.confirmed = 0

    def read(self) -> None:
        data = self._rest + self._sock.recv(1 << 18)
        at = 0
        while len(data) - at >= 8:
            _kind, _channel, size = struct.unpack_from(">BHI", data, at)
            if len(data) - at < size + 8:
                break
            (method,) = struct.unpack_from(">I", data, at + 7)
            if method != _ACK:
                raise RuntimeError(f"the broker answered {data[at : at + size + 8]!r}")
            tag, multiple = struct.unpack_from(">QB", data, at + 11)
            self._take(tag, multiple=bool(multiple))
            at += size + 8
        self._rest = data[at:]

    def _take(self, tag: int, *, multiple: bool) -> None:
        if multiple:
            self._single = {single for single in self._single if single > tag}
            self.confirmed = max(self.confirmed, tag)
        else:
            self._single.add(tag)
        while self.confirmed + 1 in self._single:
            self.confirmed += 1
            self._single.discard(self.confirmed)


def main(url: str, file: str) -> None:
    """Publish the file."""
    messages = _decode(Path(file).read_bytes())
    sock = _channel(url)
    print("ready", flush=True)
    sys.stdin.readline()
    sock.setblocking(False)  # noqa: FBT003
    answers, total, sent, pending = _Answers(sock), len(messages), 0, memoryview(b"")
    with selectors.DefaultSelector() as selector:
        selector.register(sock, selectors.EVENT_READ | selectors.EVENT_WRITE)
        while answers.confirmed < total:
            if not pending and messages and sent - answers.confirmed < WINDOW:
                batch = [messages.popleft() for _ in range(min(CHUNK, len(messages)))]
                sent += len(batch)
                pending = memoryview(b"".join(batch))
            selector.modify(sock, selectors.EVENT_READ | (selectors.EVENT_WRITE if pending else 0))
            for _key, events in selector.select():
                if events & selectors.EVENT_READ:
                    answers.read()
                if events & selectors.EVENT_WRITE and pending:
                    pending = pending[sock.send(pending) :]
    sock.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
