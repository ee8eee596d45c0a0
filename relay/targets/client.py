"""HTTP/1.1 over one connection that is kept: how targets send their requests. No cookies, redirects, environment.

requests prepares URLs, but does not send: that costs 580 us of processor time a request, and where an event is a
request, that is most of what a receiver does (docs/performance.md).
"""

import dataclasses
import functools
import http.client
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from requests.utils import DEFAULT_CA_BUNDLE_PATH

from relay.checks import of_certificate
from relay.delivery import always
from relay.errors import ConfigError, one_line
from relay.findings import Finding
from relay.targets.answer import TIMED_OUT, Answer, NoConnection
from relay.targets.http_connection import HttpConnection, open_connection
from relay.targets.settings import OverHttp
from relay.targets.watching import watcher


def check_tls_files(config: OverHttp) -> None:
    """A target does when it is made: a file that can't be used is a mistake in the settings, and is found there.

    The system's authorities are none of ours, and take longer to read than all else that a receiver does at its start:
    they are read by the first connection that needs them.

    Raises:
        ConfigError: a file can't be used.
    """
    if config.http_ca_file or config.http_cert_file or config.http_key_file:
        tls(config)


def tls(config: OverHttp) -> ssl.SSLContext:
    """What all connections share: HTTP_CA_FILE or the system's authorities, and our certificate. Made once.

    Raises:
        ConfigError: a file can't be used.
    """
    return _context(config.http_ca_file, config.http_cert_file, config.http_key_file)


def certificate(config: OverHttp, url: str) -> Iterator[Finding]:
    """When the endpoint's runs out. By a proxy it is not asked."""
    parts = urlsplit(url)
    if parts.scheme == "https" and not config.http_proxy_url:
        address = (parts.hostname or "", parts.port or 443)
        yield from of_certificate(address[0], address, tls(config), config.http_connect_timeout)


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


# How often a connection is opened for one request where the server closes it before it was asked anything. A worker of
# Odoo gives a client two seconds for its request: no reason to call the request lost, for none of it has been sent.
OPENINGS = 3


class NotBegun(Exception):
    """Nothing was sent: what was to be sent may not be ours any more."""


class Client:
    """One worker's connection; opened by the first request, and again whenever it was closed.

    Args:
        config: timeouts, TLS and proxy.
        url: scheme, host and port count.
        may_begin: asked right before a request is written: is it still ours to send?
    """

    def __init__(self, config: OverHttp, url: str, may_begin: Callable[[], bool] = always) -> None:
        self._config = config
        self._url = urlsplit(url)
        self._may_begin = may_begin
        self._connection: HttpConnection | None = None
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

    async def send(self, method: str, request: bytes, limit: int, *, reads: bool = False) -> Answer:
        """Send a request and read its answer, at most `limit` bytes of the body.

        Args:
            reads: it changes nothing there.

        Raises:
            NO_ANSWER: no whole answer; `answer.judge_error` says what it means.
            NotBegun: nothing was sent.
        """
        watched = watcher.get()
        if watched is not None and not watched.begins(request, reads=reads):
            raise NotBegun
        connection = self._connection
        if connection is None or not connection.is_usable():
            connection = await self._open()
        if not self._may_begin():
            raise NotBegun
        try:
            answer = await connection.exchange(method, request, seconds=self._config.http_read_timeout, limit=limit)
        finally:
            self._sent = connection.sent
        if watched is not None:
            watched.answered(answer)
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

    async def _open(self) -> HttpConnection:
        for _ in range(OPENINGS):
            self.close()
            self._connection = await self._dial()
            if not self._connection.is_closed():
                return self._connection
        raise NoConnection(tls=False) from http.client.RemoteDisconnected("")

    async def _dial(self) -> HttpConnection:
        config, url = self._config, self._url
        secure, proxy = url.scheme == "https", urlsplit(config.http_proxy_url)
        try:
            return await open_connection(
                url.hostname or "",
                url.port or (443 if secure else 80),
                context=tls(config) if secure else None,
                via=(proxy.hostname or "", proxy.port or 80) if config.http_proxy_url else None,
                seconds=config.http_connect_timeout,
            )
        except OSError as error:
            raise NoConnection(tls=isinstance(error, ssl.SSLError)) from error
