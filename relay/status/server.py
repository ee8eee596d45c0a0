"""STATUS_ADDR: a small HTTP server on the daemon's own loop, for a page, metrics and a health check. It only shows.

One request a connection, GET and HEAD alone, and everything is bounded: what a stranger can do is to be answered.
"""

import asyncio
import base64
import binascii
import hmac
import ipaddress
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

import httptools

from relay.errors import one_line
from relay.log import Log

HEAD_MAX = 16_384  # bytes of a request's head
SECONDS = 10.0  # for a request and its answer
CONNECTIONS_MAX = 32
SHARE = 0.1  # of the loop's time that making answers takes at most: meanwhile the last one of a path is given again
RETRY_SECONDS = 60.0  # between two tries to listen, when the address is taken


@dataclass(frozen=True, slots=True)
class Answer:
    """What a path is answered with."""

    body: str
    kind: str = "text/plain; charset=utf-8"
    status: HTTPStatus = HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=dict)


Routes = Mapping[str, Callable[[], Answer]]

_HEADERS = {
    "Cache-Control": "no-store", "Connection": "close", "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY",
}  # fmt: skip


class Server:
    """Listens, if it can; an address that is taken is a line in the log, and is tried again.

    Args:
        host, port: where.
        token: what a request must bring, as Bearer or as the password of Basic; empty = nothing.
        routes: by path.
    """

    def __init__(self, host: str, port: int, token: str, routes: Routes, log: Log) -> None:
        self._host, self._port = host, port
        self._token = token.encode()
        self._routes = routes
        self._made: dict[str, tuple[float, Answer]] = {}  # by path: until when, monotonic, and what
        self._log = log
        self._server: asyncio.Server | None = None
        self._task: asyncio.Task[None] | None = None
        self._open: dict[_Connection, None] = {}  # the oldest first

    def start(self) -> None:
        """Begin to listen. From the loop."""
        self._task = asyncio.get_running_loop().create_task(self._listen())

    @property
    def port(self) -> int:
        """Where it listens; 0 = not yet."""
        return int(self._server.sockets[0].getsockname()[1]) if self._server else 0

    async def close(self) -> None:
        """Listen no more."""
        if self._task is not None:
            self._task.cancel()
        if self._server is not None:
            self._server.close()
        for one in list(self._open):
            one.abort()

    async def _listen(self) -> None:
        loop, told = asyncio.get_running_loop(), False
        where = f"[{self._host}]:{self._port}" if ":" in self._host else f"{self._host}:{self._port}"
        while self._server is None:
            try:
                self._server = await loop.create_server(lambda: _Connection(self), self._host, self._port)
            except OSError as error:
                if not told:
                    remedy = "another STATUS_ADDR; ss -ltnp shows who has it. Events flow all the same"
                    self._log.warning("STATUS_ADDR can't be used", address=where, reason=one_line(error), remedy=remedy)
                told = True
                await asyncio.sleep(RETRY_SECONDS)
        self._log.info("status is shown", url=f"http://{where}/")

    def take(self, connection: "_Connection") -> None:
        """A connection has come in. Of too many the oldest goes: who opens them and says nothing keeps nobody out."""
        if len(self._open) >= CONNECTIONS_MAX:
            oldest = next(iter(self._open))
            self.gave(oldest)
            oldest.abort()
        self._open[connection] = None

    def gave(self, connection: "_Connection") -> None:
        """It is gone."""
        self._open.pop(connection, None)

    def answer(self, method: bytes, target: bytes, headers: Mapping[bytes, bytes]) -> Answer:
        """Judge a request."""
        if not _is_ours(headers.get(b"host", b"").decode("latin-1"), self._host):
            return Answer("This Host is none of ours.\n", status=HTTPStatus.MISDIRECTED_REQUEST)
        if self._token and not _brings(self._token, headers.get(b"authorization", b"")):
            asks = {"WWW-Authenticate": 'Basic realm="relay", charset="UTF-8"'}
            return Answer("The password is STATUS_TOKEN.\n", status=HTTPStatus.UNAUTHORIZED, headers=asks)
        if method not in (b"GET", b"HEAD"):
            return Answer("Only GET.\n", status=HTTPStatus.METHOD_NOT_ALLOWED, headers={"Allow": "GET, HEAD"})
        path = target.partition(b"?")[0].decode("latin-1")
        if path not in self._routes:
            return Answer(f"Not here: {' '.join(self._routes)}\n", status=HTTPStatus.NOT_FOUND)
        until, made = self._made.get(path, (0.0, None))
        if made is None or time.monotonic() >= until:
            began = time.thread_time()
            made = self._routes[path]()
            self._made[path] = time.monotonic() + (time.thread_time() - began) / SHARE, made
        return made


class _Connection(asyncio.Protocol):
    """One request."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._bytes = 0
        self._is_answered = False
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101
        self._transport = transport
        self._server.take(self)
        self._timer = asyncio.get_running_loop().call_later(SECONDS, transport.abort)

    def connection_lost(self, _error: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._server.gave(self)
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()

    def abort(self) -> None:
        """Close it at once."""
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self._bytes += len(data)
        try:
            if self._bytes > HEAD_MAX:
                raise ValueError("too long")
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade, ValueError):
            self._send(Answer("No request.\n", status=HTTPStatus.BAD_REQUEST), with_body=True)

    def on_url(self, url: bytes) -> None:
        """See httptools."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """See httptools."""
        if name.lower() == b"host" and b"host" in self._headers:
            raise ValueError("two hosts")
        self._headers[name.lower()] = value

    def on_message_complete(self) -> None:
        """See httptools. It goes on with what follows in the same piece: that is not answered."""
        if self._is_answered:
            return
        self._is_answered = True
        method = self._parser.get_method()
        self._send(self._server.answer(method, self._target, self._headers), with_body=method != b"HEAD")

    def _send(self, answer: Answer, *, with_body: bool) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        body = answer.body.encode()
        headers = {**_HEADERS, "Content-Type": answer.kind, "Content-Length": str(len(body)), **answer.headers}
        lines = [
            f"HTTP/1.1 {answer.status.value} {answer.status.phrase}",
            *(f"{name}: {headers[name]}" for name in headers),
        ]
        transport.write("\r\n".join([*lines, "", ""]).encode("latin-1") + (body if with_body else b""))
        transport.close()


def _is_ours(host: str, listening: str) -> bool:
    """Is a Host header a name for this server? A page of elsewhere, whose name was made to lead here, is not."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() and not host.endswith("]") else host
    name = name.strip("[]").lower().rstrip(".")
    try:
        ipaddress.ip_address(name)
    except ValueError:
        own = socket.gethostname().lower()
        return name in ("localhost", listening.lower(), own, own.partition(".")[0])
    return True


def _brings(token: bytes, authorization: bytes) -> bool:
    kind, _, given = authorization.partition(b" ")
    given = given.strip()
    if kind.lower() == b"basic":
        try:
            given = base64.b64decode(given, validate=True).partition(b":")[2]
        except binascii.Error:
            return False
    elif kind.lower() != b"bearer":
        return False
    return hmac.compare_digest(given, token)
