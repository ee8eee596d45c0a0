"""One kept connection to an HTTP server: a request is written, its answer awaited. Nothing is retried here."""

import asyncio
import contextlib
import http.client
import select
import socket
import ssl
import time
from typing import cast

from relay.targets import dial
from relay.targets.answer import Answer
from relay.targets.answer_reader import AnswerReader

SENDING_INTERVAL = 0.05  # seconds between two looks whether a large request has left


class HttpConnection(asyncio.Protocol):
    """Made by `open_connection`.

    Args:
        sock: connected; owned by this object.

    Attributes:
        sent: when the last byte of the last request had left us, as far as is known; monotonic seconds.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self._tcp: asyncio.Transport
        self._transport: asyncio.Transport  # over TLS, if there is any
        self._is_open = False
        self._reader = AnswerReader()
        self._waiter: asyncio.Future[Answer] | None = None
        # One timer for all requests: it is armed anew when it fires, since nearly every answer comes before.
        self._timer: asyncio.TimerHandle | None = None
        self._seconds = 0.0
        self._deadline = 0.0  # of the open request, monotonic
        self._is_sending = False  # a part of the request has not left yet
        self.sent = 0.0

    async def secure(self, context: ssl.SSLContext, host: str, seconds: float) -> None:
        """Speak TLS from here on. Raises OSError, ssl.SSLError among them."""
        tls = await self._loop.start_tls(self._tcp, self, context, server_hostname=host, ssl_handshake_timeout=seconds)
        if tls is None:  # it was closed in this very moment
            raise ConnectionResetError
        self._transport = tls

    def is_usable(self) -> bool:
        """Can a request be sent? Asks the kernel: the loop may not know yet that the server has closed it, or has said
        something that nobody asked for.
        """
        return self._is_open and self._waiter is None and not self._poll.poll(0)

    def is_closed(self) -> bool:
        """Has the server closed it already? Asks the kernel, and leaves to the loop what the server may have said."""
        if not self._is_open:
            return True
        try:
            return not self._sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True

    async def exchange(self, method: str, request: bytes, *, seconds: float, limit: int) -> Answer:
        """Send a request and read its answer; where it fails, the connection is closed.

        Args:
            seconds: for sending; and then for the whole answer.
            limit: bytes of the answer's body that are read.

        Raises:
            OSError, http.client.HTTPException: there is no whole answer. TimeoutError: it took too long.
        """
        if not self._is_open:
            raise http.client.RemoteDisconnected("")
        self._reader.begin(method, limit)
        waiter: asyncio.Future[Answer] = self._loop.create_future()
        self._waiter = waiter
        # In one piece: the server wakes up once. A view: asyncio makes one copy less of what does not leave at once.
        self._transport.write(memoryview(request))
        self.sent = time.monotonic()
        self._seconds, self._deadline = seconds, self.sent + seconds
        self._is_sending = self._tcp.get_write_buffer_size() > 0
        if self._is_sending or self._timer is None:
            self._arm(SENDING_INTERVAL if self._is_sending else seconds)
        try:
            return await waiter
        finally:
            if self._is_sending:
                self.sent = time.monotonic()
            if self._waiter is waiter:  # we have been cancelled
                self.close()

    def close(self) -> None:
        """Close it; an open request fails."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._is_open:
            self._is_open = False
            self._transport.abort()
        self._fail(ConnectionAbortedError())

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._tcp = self._transport = cast(asyncio.Transport, transport)
        self._is_open = True

    def data_received(self, data: bytes) -> None:
        if self._waiter is None:
            self.close()  # nobody has asked for anything
            return
        try:
            self._reader.feed(data)
        except Exception as error:  # noqa: BLE001 - a defect, too, is the request's: raised here it would end the process
            self._fail(error)
        self._answered()

    def eof_received(self) -> None:
        self._ended(None)

    def connection_lost(self, error: Exception | None) -> None:
        if isinstance(error, ConnectionError) and self._transport is self._tcp:
            # Who refuses a large body may answer before having read it, and close: writing fails, and the answer is
            # there all the same.
            with contextlib.suppress(OSError):
                while self._waiter is not None and (data := self._sock.recv(1 << 16)):
                    self.data_received(data)
        self._ended(error)

    def _ended(self, error: Exception | None) -> None:
        if self._waiter is not None:
            try:
                self._reader.end(error)
            except Exception as problem:  # noqa: BLE001 - the same
                self._fail(problem)
            self._answered()
        self.close()

    def _answered(self) -> None:
        answer, waiter = self._reader.answer, self._waiter
        if answer is None or waiter is None:
            return
        self._waiter = None
        if not waiter.done():
            waiter.set_result(answer)
        self._is_sending = self._is_sending and self._tcp.get_write_buffer_size() > 0
        if not self._reader.reusable or self._is_sending:
            self.close()

    def _fail(self, error: Exception) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            if not waiter.done():
                waiter.set_exception(error)
            self.close()

    def _arm(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        if self._waiter is None:
            return  # the next request arms it
        now = time.monotonic()
        if self._is_sending and not self._tcp.get_write_buffer_size():
            self._is_sending = False
            self.sent, self._deadline = now, now + self._seconds
        if now >= self._deadline:
            self._ended(TimeoutError())
        else:
            left = self._deadline - now
            self._arm(min(left, SENDING_INTERVAL) if self._is_sending else left)


async def open_connection(
    host: str,
    port: int,
    *,
    context: ssl.SSLContext | None,
    via: tuple[str, int] | None,
    seconds: float,
) -> HttpConnection:
    """Open a connection to host and port.

    Args:
        context: for TLS; None = without.
        via: a proxy's host and port: it makes a tunnel, if it is TLS, and is spoken to as if it were the server else.
        seconds: for all of it: name, connection, tunnel, TLS.

    Raises:
        OSError: it was not possible; TimeoutError: not in time.
    """
    async with asyncio.timeout(seconds):
        sock = await dial.connect(*(via or (host, port)))
        try:
            if via and context:
                await dial.tunnel(sock, host, port)
            connection = HttpConnection(sock)
            await asyncio.get_running_loop().create_connection(lambda: connection, sock=sock)
        except BaseException:
            sock.close()
            raise
        if context:
            await connection.secure(context, host, seconds + 1)  # our own limit acts first
        return connection
