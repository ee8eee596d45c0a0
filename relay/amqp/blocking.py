"""A connection to RabbitMQ that blocks its thread: pika's protocol machine over a plain socket, for an application.

pika's own BlockingConnection sends each frame by itself, through a loop of its own: a question and its answer take it
six times the processor time, and RabbitMQ more as well, which wakes up for each frame (docs/performance.md).
"""

import contextlib
import socket
import time
from collections.abc import Callable

import pika
import pika.connection
import pika.exceptions
import pika.tcp_socket_opts
from pika.channel import Channel

from relay.amqp.inbound import Inbound

READ_BYTES = 1 << 16
SHORT = 0.001  # seconds: 0 would mean that the socket does not block
OPEN_SECONDS = 15.0  # for AMQP's handshake, unless the URL has a stack_timeout
SEND_SECONDS = 5.0  # after which a RabbitMQ that reads nothing is as good as away: half a frame can't be taken back
CLOSE_SECONDS = 1.0  # that RabbitMQ has for the answer to our goodbye


class _Timer:
    """Of pika's: heartbeats, and how long RabbitMQ may block us."""

    def __init__(self, delay: float, callback: Callable[[], None]) -> None:
        self.at = time.monotonic() + delay
        self.callback = callback


class Connection(Inbound, pika.connection.Connection):
    """Made by `connect`. For one thread. What ends its channel ends the connection."""

    def __init__(self, parameters: pika.connection.Parameters, opened: socket.socket) -> None:
        self._socket = opened
        self._unsent: list[bytes] = []
        self._timers: set[_Timer] = set()
        self._is_over = False  # for pika
        self._reason: BaseException | None = None  # why it, or its channel, has ended
        super().__init__(
            parameters,
            on_open_error_callback=self._has_ended,
            on_close_callback=self._has_ended,
            internal_connection_workflow=False,
        )

    def opened(self, seconds: float) -> None:
        """Await the end of AMQP's handshake. Raises as `wait_for`."""
        self._on_stream_connected()  # type: ignore[attr-defined]
        self.wait_for(lambda: self.is_open, seconds)

    def open_channel(self, seconds: float) -> Channel:
        """Open the channel. Raises as `wait_for`."""
        channel: Channel = self.channel(on_open_callback=lambda _channel: None)
        channel.add_on_close_callback(self._has_ended)
        self.wait_for(lambda: channel.is_open, seconds)
        return channel

    def wait_for(self, done: Callable[[], bool], seconds: float) -> None:
        """Wait until something is so.

        Raises:
            pika.exceptions.AMQPError: the connection, or its channel, has ended.
            TimeoutError: the time is over.
        """
        end = time.monotonic() + seconds
        while not done():
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"no answer within {seconds:g} s")
            self.wait(left)

    def wait(self, seconds: float) -> None:
        """Send what is to be sent, in one piece; then take in what comes first, within so many seconds.

        Raises:
            pika.exceptions.AMQPError: the connection, or its channel, has ended.
        """
        if self._reason is None:
            try:
                self._send()
                self._receive(seconds)
                self._send()
            except OSError as error:
                self._end(pika.exceptions.StreamLostError(f"Stream connection lost: {error!r}"))
            except BaseException:  # Ctrl-C, too: a frame may be half sent, or half read
                self._socket.close()
                raise
            if self._is_over:
                self._end(None)
        if self._reason is not None:
            raise self._reason

    def goodbye(self) -> None:
        """Close the connection, with a word to RabbitMQ. Never raises."""
        with contextlib.suppress(pika.exceptions.AMQPError, OSError):
            if self.is_open:
                self.close()
                self.wait_for(lambda: self.is_closed, CLOSE_SECONDS)
        self._socket.close()

    def _send(self) -> None:
        if self._unsent:
            data = b"".join(self._unsent)
            self._unsent.clear()
            self._socket.settimeout(SEND_SECONDS)
            self._socket.sendall(data)

    def _receive(self, seconds: float) -> None:
        now = time.monotonic()
        first = min((timer.at for timer in self._timers), default=now + seconds)
        self._socket.settimeout(max(SHORT, min(seconds, first - now)))
        try:
            data = self._socket.recv(READ_BYTES)
        except TimeoutError:
            self._ring()
            return
        if not data:
            raise ConnectionResetError("RabbitMQ has closed it")
        self._on_data_available(data)

    def _ring(self) -> None:
        now = time.monotonic()
        for timer in [timer for timer in self._timers if timer.at <= now]:
            self._timers.discard(timer)
            timer.callback()

    def _end(self, error: Exception | None) -> None:
        self._socket.close()
        self._on_stream_terminated(error)  # type: ignore[attr-defined]

    def _has_ended(self, _what: object, reason: BaseException) -> None:
        self._reason = self._reason or reason

    # -- what pika asks for ------------------------------------------------------------------------------------

    def _adapter_call_later(self, delay: float, callback: Callable[[], None]) -> _Timer:
        timer = _Timer(delay, callback)
        self._timers.add(timer)
        return timer

    def _adapter_remove_timeout(self, timeout_id: _Timer) -> None:
        self._timers.discard(timeout_id)

    def _adapter_add_callback_threadsafe(self, callback: Callable[[], None]) -> None:
        raise NotImplementedError("it is for one thread")

    def _adapter_connect_stream(self) -> None:
        raise NotImplementedError("connect does it")

    def _adapter_disconnect_stream(self) -> None:
        self._is_over = True

    def _adapter_emit_data(self, data: bytes) -> None:
        self._unsent.append(data)


def connect(parameters: pika.connection.Parameters) -> tuple[Connection, Channel]:
    """Open a connection, by the first of the host's addresses that takes us, and its channel.

    Raises:
        OSError: no address takes us; TLS, or the name, is not right; no answer in time.
        pika.exceptions.AMQPError: AMQP's handshake has failed.
    """
    stream = socket.create_connection((parameters.host, parameters.port), parameters.socket_timeout)
    try:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pika.tcp_socket_opts.set_sock_opts(parameters.tcp_options, stream)
        tls = parameters.ssl_options
        if tls:
            stream = tls.context.wrap_socket(stream, server_hostname=tls.server_hostname)
        connection = Connection(parameters, stream)
        seconds = parameters.stack_timeout or OPEN_SECONDS
        connection.opened(seconds)
        return connection, connection.open_channel(seconds)
    except BaseException:
        stream.close()
        raise
