"""A real HTTP endpoint for tests: it records every request, and answers by a rule that the test may change."""

from __future__ import annotations

import dataclasses
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from dev.process import free_port, give_back


@dataclasses.dataclass
class Request:
    """What arrived. `done` is set when the endpoint has done its work (its commit), answered or not."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    started: float
    done: float | None = None
    status: int = 0

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def event_id(self) -> str:
        return self.headers.get("Relay-Event", "")


@dataclasses.dataclass(frozen=True)
class Answer:
    """How to answer. `work`: seconds before the commit; `hang`: seconds between the commit and the answer."""

    status: int = 200
    body: bytes = b"{}"
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    work: float = 0.0
    hang: float = 0.0
    commit: bool | None = None  # None: if the status is 200
    reset: bool = False  # no answer, the connection is reset
    half: bool = False  # half of the announced body, then the connection ends
    trickle: float = 0.0  # no whole answer: seconds between two bytes of a header
    endless: int = 0  # send so many bytes more, as fast as they are taken

    @property
    def commits(self) -> bool:
        return self.status == 200 and not self.trickle if self.commit is None else self.commit


OK = Answer()
Rule = Callable[[Request], Answer]


class Endpoint:
    """Listens on a port of loopback from `start` (or `with`) to `stop`; the port stays the same after a restart."""

    def __init__(self, rule: Rule = lambda _request: OK) -> None:
        self.rule = rule
        self.options = OK  # how OPTIONS is answered, which is what `check` asks; it is not kept
        self.requests: list[Request] = []
        self.completed: list[Request] = []  # in the order in which their work was done
        self.sent = 0  # bytes of endless answers
        self._earlier = 0  # connections that were taken before the last start
        self._lock = threading.Lock()
        self._port = 0
        self._server: Server | None = None

    def __enter__(self) -> Endpoint:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        give_back(self._port)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/events"

    @property
    def connections(self) -> int:
        """Taken, all in all."""
        return self._earlier + (self._server.taken if self._server else 0)

    @property
    def port(self) -> int:
        return self._port

    def bodies(self) -> list[Any]:
        """The completed requests' bodies, in order of completion."""
        with self._lock:
            return [request.json for request in self.completed]

    def start(self) -> None:
        self._server = self.serve()
        self._port = self._server.server_address[1]

    def serve(self) -> Server:
        """Listen, on loopback of the network namespace that we are in. Whoever asks for another one ends it."""
        endpoint = self

        class Handler(_Handler):
            owner = endpoint

        return Server.begin(self._port, Handler)

    def stop(self) -> None:
        """Refuse connections from now on; open ones are reset."""
        if self._server:
            self._server.end()
            self._earlier += self._server.taken
            self._server = None

    def arrived(self, request: Request) -> Answer:
        with self._lock:
            self.requests.append(request)
        return self.rule(request)

    def commit(self, request: Request) -> None:
        with self._lock:
            request.done = time.monotonic()
            self.completed.append(request)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._connections: set[socket.socket] = set()
        self.taken = 0  # connections

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self.taken += 1
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connections.add(connection)
        return connection, address

    def close_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().close_request(request)

    @classmethod
    def begin(cls, port: int, handler: type[BaseHTTPRequestHandler]) -> Self:
        """Take connections from now on, in threads; 0 = on any port.

        Not one of the kernel's choice: while this one is stopped, that could be given to another test's server, which
        would answer in its place.
        """
        server = cls(("127.0.0.1", port or free_port()), handler)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return server

    def end(self) -> None:
        """Refuse connections from now on; open ones are reset."""
        self.shutdown()
        self.server_close()
        self.drop_all()

    def drop_all(self) -> None:
        for connection in list(self._connections):
            reset(connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone is no news here."""


def reset(connection: socket.socket) -> None:
    """End a connection with RST."""
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RD)
        connection.close()
    except OSError:
        return


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: Endpoint

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if len(body) < length:  # the client was killed in the middle of its request
            self.close_connection = True
            return
        request = Request(self.command, self.path, dict(self.headers.items()), body, time.monotonic())
        answer = self.owner.arrived(request)
        request.status = answer.status
        time.sleep(answer.work)
        if answer.commits:
            self.owner.commit(request)
        time.sleep(answer.hang)
        if answer.reset:
            self.close_connection = True
            reset(self.connection)
            return
        if answer.trickle:
            self._trickle(answer.trickle)
        self._send(answer)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _serve

    def do_OPTIONS(self) -> None:
        time.sleep(self.owner.options.hang)
        self._send(self.owner.options)

    def _send(self, answer: Answer) -> None:
        head = [f"HTTP/1.1 {answer.status} X", f"Content-Length: {len(answer.body) + answer.endless}"]
        head += [f"{name}: {value}" for name, value in answer.headers.items()]
        whole = "\r\n".join([*head, "", ""]).encode() + answer.body
        if answer.half:
            whole = whole[: -max(1, len(answer.body) // 2)]
            self.close_connection = True
        self.wfile.write(whole)
        left = answer.endless
        while left > 0:
            piece = min(left, 65536)
            self.wfile.write(b" " * piece)
            self.owner.sent += piece
            left -= piece

    def _trickle(self, seconds: float) -> None:
        self.close_connection = True
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        while True:  # until the client has gone
            self.wfile.write(b"x")
            time.sleep(seconds)

    def log_message(self, *_: Any) -> None:
        """Quiet."""
