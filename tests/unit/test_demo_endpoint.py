"""The endpoint of the demo keeps what it is sent, in whatever pieces it comes."""

from __future__ import annotations

import asyncio
import json

from demo.endpoint import Connection, Inbox


class Transport(asyncio.Transport):
    """Collects the answers."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent += bytes(data)


def post(key: str, op: str = "insert", event_id: str = "1") -> bytes:
    body = f'{{"id": "{event_id}", "op": "{op}", "key": {{"icao": "{key}"}}, "new": {{"lat": 1.10}}}}'.encode()
    return b"POST /events HTTP/1.1\r\nRelay-Event: %s\r\nContent-Length: %d\r\n\r\n%s" % (
        event_id.encode(),
        len(body),
        body,
    )


def connected() -> tuple[Inbox, Connection, Transport]:
    inbox, transport = Inbox(), Transport()
    connection = Connection(inbox)
    connection.connection_made(transport)
    return inbox, connection, transport


def test_a_request_may_come_in_pieces_and_several_in_one() -> None:
    inbox, connection, transport = connected()
    for byte in post("A"):
        connection.data_received(bytes([byte]))
    connection.data_received(post("B", event_id="2") + post("A", "delete", "3"))
    assert transport.sent.count(b"HTTP/1.1 200 OK") == 3
    assert [event_id for _, event_id, _ in inbox.arrivals] == ["1", "2", "3"]
    assert list(inbox.picture) == ["B"]


def test_what_is_no_event_is_refused_and_not_kept() -> None:
    inbox, connection, transport = connected()
    for body in (b"nonsense", b"[]", b'{"op": "insert"}', b'{"op": "truncate", "key": {}}'):
        connection.data_received(b"POST /events HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    assert transport.sent.count(b"HTTP/1.1 400 Bad Request") == 4
    assert inbox.arrivals == []


def test_it_gives_back_bodies_as_they_came() -> None:
    inbox, connection, _ = connected()
    connection.data_received(post("A") + post("A"))
    assert json.loads(inbox.answer("/status") or b"") == {"arrived": 2, "distinct": 1}
    assert b"1.10" in (inbox.answer("/arrivals") or b"")
    assert inbox.answer("/airports/A") == inbox.picture["A"]
    assert inbox.answer("/airports/B") is None
