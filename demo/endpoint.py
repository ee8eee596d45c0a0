"""The HTTP endpoint of the demo, a process of its own: it keeps what it is sent, and judges nothing.

    python -m demo.endpoint PORT

POST /events        keep an event: 200
GET  /status        how many arrived, how many distinct
GET  /arrivals      everything that arrived, in order of arrival, with the time
GET  /picture       the last event of each row that is not deleted
GET  /airports/KEY  the same for one row
It prints a line for each arrival. Answering takes it a tenth of what a POST costs the receiver, so it is not what the
demo measures.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from datetime import datetime
from urllib.parse import unquote

_HEAD_END = b"\r\n\r\n"
_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found"}


class Inbox:
    """What has arrived. Bodies are kept as they came: who judges them reads their numbers without floats."""

    def __init__(self) -> None:
        self.arrivals: list[tuple[int, str, bytes]] = []  # monotonic ns (one clock for the whole host), id, body
        self.picture: dict[str, bytes] = {}
        self.ids: set[str] = set()

    def take(self, event_id: str, body: bytes, at: int) -> None:
        """Keep one event. ValueError if it is not an event."""
        event = json.loads(body)
        op, key = event.get("op"), event.get("key")
        if not isinstance(key, dict) or op not in {"insert", "update", "delete"}:
            raise ValueError("not an event of a row")
        row = "|".join(str(value) for value in key.values())
        # Applied as it comes, like an endpoint that knows nothing of order or repetition.
        if op == "delete":
            self.picture.pop(row, None)
        else:
            self.picture[row] = body
        again = " (again)" if event_id in self.ids else ""
        self.arrivals.append((at, event_id, body))
        self.ids.add(event_id)
        now = datetime.now().astimezone().strftime("%H:%M:%S.%f")[:-3]
        print(f"{now} {event.get('table')} {op} {row} {event_id}{again}")

    def answer(self, path: str) -> bytes | None:
        """The body for a GET."""
        if path == "/status":
            return json.dumps({"arrived": len(self.arrivals), "distinct": len(self.ids)}).encode()
        if path == "/arrivals":
            lines = (
                b'{"at": %d, "id": %s, "event": %s}' % (at, json.dumps(event_id).encode(), body)
                for at, event_id, body in self.arrivals
            )
            return b"[" + b",\n".join(lines) + b"]"
        if path == "/picture":
            return b"[" + b",\n".join(self.picture.values()) + b"]"
        if path.startswith("/airports/"):
            return self.picture.get(unquote(path.removeprefix("/airports/")))
        return None


class Connection(asyncio.Protocol):
    """HTTP/1.1, as much of it as the receiver and the demo speak: no chunks, no compression, kept alive."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (request := self._next_request()) is not None:
            status, body = self._handle(*request)
            head = f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: application/json\r\n"
            assert self._transport
            self._transport.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)

    def _next_request(self) -> tuple[str, str, str, bytes] | None:
        """Method, path, event id and body, if a whole request is here."""
        end = self._buffer.find(_HEAD_END)
        if end < 0:
            return None
        first, *rest = self._buffer[:end].decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
        begin = end + len(_HEAD_END)
        size = int(headers.get("content-length", "0"))
        if len(self._buffer) < begin + size:
            return None
        body = bytes(self._buffer[begin : begin + size])
        del self._buffer[: begin + size]
        method, path, _ = first.split(" ", 2)
        return method, path, headers.get("relay-event", ""), body

    def _handle(self, method: str, path: str, event_id: str, body: bytes) -> tuple[int, bytes]:
        at = time.monotonic_ns()
        if method == "GET":
            found = self._inbox.answer(path)
            return (404, b"{}") if found is None else (200, found + b"\n")
        if path != "/events":
            return 404, b"{}"
        try:
            self._inbox.take(event_id, body, at)
        except (ValueError, AttributeError) as error:
            print(f"refused: {error}")
            return 400, json.dumps({"error": str(error)}).encode()
        return 200, b"{}"


async def serve(port: int) -> None:
    """Until the process is ended."""
    inbox = Inbox()
    server = await asyncio.get_running_loop().create_server(lambda: Connection(inbox), "127.0.0.1", port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
