"""HTTP/1.1 over one connection that is kept: how targets send their requests. No cookies, redirects, environment.

On http.client, which connects (TLS, proxy) and reads answers. requests prepares URLs, but does not send: its adapter
takes three times the processor time of a request (580 us against 180), and where an event is a request, that is most
of what a receiver does (docs/performance.md).
"""

import contextlib
import dataclasses
import functools
import http.client
import io
import select
import socket
import ssl
import time
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from requests.utils import DEFAULT_CA_BUNDLE_PATH

from relay.errors import ConfigError, one_line
from relay.targets.answer import TIMED_OUT, Answer, NoConnection, read
from relay.targets.settings import OverHttp


def tls(config: OverHttp) -> ssl.SSLContext:
    """What all connections share: HTTP_CA_FILE or the system's authorities, and our certificate. Made once.

    A target asks for it when it is made: a file that can't be used is a mistake in the settings, and is found there.

    Raises:
        ConfigError: a file can't be used.
    """
    return _context(config.http_ca_file, config.http_cert_file, config.http_key_file)


@functools.cache
def _context(ca_file: str, cert_file: str, key_file: str) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca_file or _without_system())
        if cert_file:
            context.load_cert_chain(cert_file, key_file or None)
    except (OSError, ssl.SSLError) as error:
        problem = f"HTTP_CA_FILE, HTTP_CERT_FILE or HTTP_KEY_FILE can't be used: {one_line(error)}"
        raise ConfigError((problem, "PEM files that this user may read; the key without a passphrase")) from None
    return context


def _without_system() -> str | None:
    """Mozilla's authorities, where the system has none (Debian without ca-certificates)."""
    system = ssl.get_default_verify_paths()
    has_some = system.cafile or (system.capath and any(Path(system.capath).iterdir()))
    return None if has_some else DEFAULT_CA_BUNDLE_PATH


class Client:
    """One thread's connection; opened by the first request, and again whenever it was closed.

    Args:
        config: timeouts, TLS and proxy.
        url: scheme, host and port count.
    """

    def __init__(self, config: OverHttp, url: str) -> None:
        self._config = config
        self._url = urlsplit(url)
        self._context = tls(config)
        self._connection: http.client.HTTPConnection | None = None
        self._poll = select.poll()
        self._sent = 0.0  # when the last request had been sent, monotonic

    def request(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> bytes:
        """Return the bytes of a request.

        Args:
            path: path and query, quoted.
            headers: wins over Host and the other ones that every request has.

        Raises:
            ValueError: something would end a line, or can't be written in Latin-1 (RFC 9110, 5.5).
        """
        if self._config.http_proxy_url and self._url.scheme == "http":
            path = f"http://{self._url.netloc}{path}"  # to a proxy, the whole URL (RFC 9112, 3.2.2)
        own = {
            "Host": self._url.netloc, "User-Agent": "relay", "Accept-Encoding": "identity",
            "Content-Length": str(len(body)),
        }  # fmt: skip
        lines = {name.lower(): f"{name}: {value}" for name, value in (*own.items(), *headers.items())}
        whole = [f"{method} {path} HTTP/1.1", *lines.values()]
        if not all(map(str.isprintable, whole)):
            raise ValueError("a control character")
        return "\r\n".join([*whole, "", ""]).encode("latin-1") + body

    def send(self, method: str, request: bytes, limit: int) -> Answer:
        """Send a request and read its answer, at most `limit` bytes of the body.

        Raises:
            NO_ANSWER: no whole answer; `answer.judge_error` says what it means.
        """
        sock, seconds = self._open().sock, self._config.http_read_timeout
        try:
            try:
                _send(sock, request, seconds)
            finally:
                self._sent = time.monotonic()
            answer, reusable = _answer(sock, method, self._sent + seconds, limit)
        except BaseException:
            self.close()
            raise
        if not reusable:
            self.close()
        return dataclasses.replace(answer, running=self.running()) if answer.status in TIMED_OUT else answer

    def running(self) -> float:
        """Seconds for which the server may still be at work on the last request: HTTP_TIME_LIMIT is the server's, and
        it can't have begun to count before it was sent everything.
        """
        return max(0.0, self._sent + self._config.http_time_limit - time.monotonic())

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self) -> http.client.HTTPConnection:
        if self._connection is not None and self._poll.poll(0):
            self.close()  # the server has closed it meanwhile, or said something that nobody asked for
        if self._connection is None:
            self._connection = self._connect()
            self._poll = select.poll()
            self._poll.register(self._connection.sock, select.POLLIN)
        return self._connection

    def _connect(self) -> http.client.HTTPConnection:
        config, url, timeout = self._config, self._url, self._config.http_connect_timeout
        secure, proxied = url.scheme == "https", bool(config.http_proxy_url)
        via = urlsplit(config.http_proxy_url) if proxied else url
        host, port = via.hostname or "", via.port or (443 if secure and not proxied else 80)
        connection = (
            http.client.HTTPSConnection(host, port, timeout=timeout, context=self._context)
            if secure
            else http.client.HTTPConnection(host, port, timeout=timeout)
        )
        if secure and proxied:
            connection.set_tunnel(url.hostname or "", url.port or 443)
            until = time.monotonic() + timeout
            connection.response_class = lambda sock, **more: _response(sock, until, **more)  # type: ignore[assignment]
        try:
            connection.connect()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise NoConnection(tls=isinstance(error, ssl.SSLError)) from error
        return connection


class _Until(io.RawIOBase):
    """A socket's bytes, all of them until `deadline`: its own timeout begins anew with each byte."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        super().__init__()
        self._sock = sock
        self._deadline = deadline

    def readable(self) -> bool:
        """See RawIOBase."""
        return True

    def readinto(self, buffer: Any) -> int:
        """See RawIOBase. Raises TimeoutError."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer came too slowly")
        self._sock.settimeout(left)
        return self._sock.recv_into(buffer)


class _Source:
    """What HTTPResponse wants of a socket."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._raw = _Until(sock, deadline)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self._raw)


def _response(sock: socket.socket, deadline: float, method: str | None = None) -> http.client.HTTPResponse:
    return http.client.HTTPResponse(cast(socket.socket, _Source(sock, deadline)), method=method)


def _send(sock: socket.socket, request: bytes, seconds: float) -> None:
    sock.settimeout(seconds)
    # Who refuses a large body may answer before having read it, and close: the answer is there all the same.
    with contextlib.suppress(ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError):
        # In one piece: http.client's own request() sends head and body apart, and the server wakes up twice.
        sock.sendall(request)


def _answer(sock: socket.socket, method: str, deadline: float, limit: int) -> tuple[Answer, bool]:
    """Return the answer, and whether the connection can be used again."""
    with _response(sock, deadline, method) as response:
        response.begin()
        while response.status < HTTPStatus.OK and response.status != HTTPStatus.SWITCHING_PROTOCOLS:
            response.headers = None  # type: ignore[assignment]  # informational: the final one follows (RFC 9110, 15.2)
            response.begin()
        answer, whole = read(response, limit)
        return answer, whole and not response.will_close and response.status != HTTPStatus.SWITCHING_PROTOCOLS
