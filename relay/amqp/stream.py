"""A connection to RabbitMQ on the event loop: pika's protocol machine over one of the loop's own transports.

pika.connection.Connection knows AMQP and asks six things of whoever moves the bytes (`_adapter_...`). The
loop's transports do that, and TLS, at the price of pika's own loop; pika's adapter for asyncio is dearer.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pika
import pika.connection
import pika.exceptions
import pika.tcp_socket_opts

from relay.amqp.inbound import Inbound
from relay.daemon import in_thread

TCP_ESTABLISHED = 1  # the first byte of TCP_INFO: linux/tcp.h, net/tcp_states.h
TCP_DEAD_AFTER = 30  # seconds without an answer from a host until the kernel gives a connection up

Address = tuple[int, int, int, Any]
"""Family, type and protocol of a socket, and where to, as socket.getaddrinfo has it."""


class Connection(Inbound, pika.connection.Connection, asyncio.Protocol):
    """Made by `connect`. A raise in one of pika's or our data callbacks loses the connection, and nothing else."""

    def __init__(self, parameters: pika.ConnectionParameters) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._cause: Exception | None = None  # why we ended the stream
        self._eof = False
        self._corked: list[bytes] | None = None  # what is held back, to be written in one piece
        self._handshake: asyncio.Future[None] = self._loop.create_future()
        # Whoever awaited it may be gone: then nobody need know how it ended.
        self._handshake.add_done_callback(lambda handshake: handshake.cancelled() or handshake.exception())
        super().__init__(
            parameters,
            on_open_callback=lambda _connection: self._has_opened(None),
            on_open_error_callback=lambda _connection, error: self._has_opened(error),
            internal_connection_workflow=False,
        )

    async def opened(self) -> None:
        """Await the end of AMQP's handshake. Raises what pika makes of its failure."""
        await self._handshake

    @property
    def unsent(self) -> int:
        """Bytes that wait to be sent."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def is_up(self) -> bool:
        """Does the kernel take the stream for open? It may know of its end before the loop. From any thread."""
        transport = self._transport
        handle = None if transport is None else transport.get_extra_info("socket")
        try:
            return (
                handle is not None and handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == TCP_ESTABLISHED
            )
        except OSError:  # closed by us
            return False

    def abort(self) -> None:
        """End the stream without another word."""
        if self._transport is not None:
            self._transport.abort()

    @contextlib.contextmanager
    def corked(self) -> Iterator[None]:
        """Frames of what is sent inside are written in one piece, at its end: pika writes each by itself."""
        if self._corked is not None:  # within another
            yield
            return
        self._corked = []
        try:
            yield
        finally:
            held, self._corked = b"".join(self._corked), None
            if held:
                self._adapter_emit_data(held)

    def _has_opened(self, error: BaseException | None) -> None:
        if self._handshake.done():
            return
        if error is None:
            self._handshake.set_result(None)
        else:
            self._handshake.set_exception(error)

    # -- what the transport tells ------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = transport  # type: ignore[assignment]
        self._on_stream_connected()  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        try:
            self._on_data_available(data)
        except Exception as error:  # noqa: BLE001 - else the loop would report it as a defect of the whole process
            self._cause = error
            self.abort()

    def eof_received(self) -> None:
        """See asyncio.Protocol: the transport closes itself."""
        self._eof = True

    def connection_lost(self, error: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._transport = None
        error = self._cause or error
        lost: Exception | None = None
        if error is not None:
            lost = pika.exceptions.StreamLostError(f"Stream connection lost: {error!r}")
        elif self._eof or getattr(self, "_error", None) is None:  # else pika has ended it, and knows why
            lost = pika.exceptions.StreamLostError("Transport indicated EOF")
        self._on_stream_terminated(lost)  # type: ignore[attr-defined]

    # -- what pika asks for ------------------------------------------------------------------------------------

    def _adapter_call_later(self, delay: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        return self._loop.call_later(delay, callback)

    def _adapter_remove_timeout(self, timeout_id: asyncio.TimerHandle) -> None:
        timeout_id.cancel()

    def _adapter_add_callback_threadsafe(self, callback: Callable[[], None]) -> None:
        self._loop.call_soon_threadsafe(callback)

    def _adapter_connect_stream(self) -> None:
        raise NotImplementedError("connect does it")

    def _adapter_disconnect_stream(self) -> None:
        self.abort()

    def _adapter_emit_data(self, data: bytes) -> None:
        if self._corked is not None:
            self._corked.append(data)
        elif self._transport is not None:
            self._transport.write(data)


async def connect(parameters: pika.ConnectionParameters, timeout: float) -> Connection:
    """Open a connection, by the first of the host's addresses that takes us.

    Args:
        parameters: host, port, TLS, login and all.
        timeout: seconds for each address: TCP, TLS and AMQP together.

    Raises:
        OSError: no address takes us (the last one's error); gaierror: the name can't be resolved.
        pika.exceptions.AMQPError: AMQP's handshake has failed.
        TimeoutError: without an errno, the time is over.
    """
    addresses = await resolve(parameters.host, parameters.port, timeout)
    for address in addresses[:-1]:
        with contextlib.suppress(OSError):
            return await _connect(address, parameters, timeout)
    return await _connect(addresses[-1], parameters, timeout)


async def resolve(host: str, port: int | str | None, timeout: float) -> list[Address]:
    """The addresses of a host.

    Raises:
        socket.gaierror: there is none, or no answer within `timeout` seconds.
    """

    def ask() -> list[Address]:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except UnicodeError:  # a label of more than 63 bytes
            raise socket.gaierror(socket.EAI_NONAME, "no such name") from None
        return [(family, kind, protocol, where) for family, kind, protocol, _name, where in found]

    try:
        async with asyncio.timeout(timeout):
            return await in_thread(ask)
    except TimeoutError:
        raise socket.gaierror(socket.EAI_AGAIN, "no answer") from None


async def _connect(address: Address, parameters: pika.ConnectionParameters, timeout: float) -> Connection:
    family, kind, protocol, where = address
    loop, connection = asyncio.get_running_loop(), Connection(parameters)
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)  # noqa: FBT003
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pika.tcp_socket_opts.set_sock_opts(parameters.tcp_options, sock)
        tls = parameters.ssl_options
        async with asyncio.timeout(timeout):
            await loop.sock_connect(sock, where)
            await loop.create_connection(
                lambda: connection,
                sock=sock,
                ssl=tls.context if tls else None,
                server_hostname=tls.server_hostname if tls else None,
            )
            await connection.opened()
    except BaseException:  # a stop, too
        connection.abort()
        sock.close()
        raise
    return connection
