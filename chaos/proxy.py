"""A TCP link that can be broken in every way: stalled, dropped, delayed, throttled, half closed, reset, late."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from dev.process import free_port

PIECE = 65536
_START_SECONDS = 10.0


@dataclass(eq=False)
class _Connection:
    """Two sockets, and what is done to the bytes between them."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    upward: float | None = None  # seconds of delay from client to server, for this connection alone
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def reset(self) -> None:
        for task in self.tasks:
            task.cancel()
        for writer in (self.client, self.server):
            _reset(writer)


class Link:
    """Listens on a port of loopback and passes everything on to another one. Its loop runs in a thread of its own.

    The methods that break it may be called from any thread, and take effect at once; `mend` undoes them all.
    """

    def __init__(self, name: str, target: int) -> None:
        self.port = free_port()
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=f"link {name}", daemon=True)
        self._ready = threading.Event()
        self._connections: set[_Connection] = set()
        self._flows = asyncio.Event()
        self._refuses = False
        self._delay = 0.0
        self._rate = 0.0  # bytes a second; 0 = no limit

    def start(self) -> None:
        self._thread.start()
        if not self._ready.wait(_START_SECONDS):
            raise RuntimeError(f"{self._thread.name} does not start")

    def stop(self) -> None:
        self._call(self._reset_all)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_START_SECONDS)

    def mend(self) -> None:
        self._call(self._mend)

    def stall(self) -> None:
        """Nothing passes; what is held goes on after `mend`."""
        self._call(self._flows.clear)

    def reset(self) -> None:
        """Reset every connection, and refuse new ones."""

        def act() -> None:
            self._refuses = True
            self._reset_all()

        self._call(act)

    def reset_connections(self) -> None:
        """Reset every connection; new ones are welcome."""
        self._call(self._reset_all)

    def half_close(self, *, upward: bool) -> None:
        """End one direction of every connection: the other side still sends, and hears nothing more."""

        def act() -> None:
            for connection in self._connections:
                _half_close(connection.server if upward else connection.client)

        self._call(act)

    def delay(self, seconds: float) -> None:
        self._call(lambda: setattr(self, "_delay", seconds))

    def throttle(self, rate: float) -> None:
        self._call(lambda: setattr(self, "_rate", rate))

    def deliver_late(self, seconds: float) -> None:
        """What the present clients send arrives so much later, also what they have sent when they die."""

        def act() -> None:
            for connection in self._connections:
                connection.upward = seconds

        self._call(act)

    def _call(self, action: Callable[[], object]) -> None:
        done = threading.Event()

        def act() -> None:
            action()
            done.set()

        self._loop.call_soon_threadsafe(act)
        if not done.wait(_START_SECONDS):
            raise RuntimeError(f"{self._thread.name} does not answer")

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._flows.set()
        self._server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", self.port))
        self._ready.set()
        self._loop.run_forever()
        self._server.close()
        self._loop.set_exception_handler(lambda *_: None)  # what is cut off now has nothing to say any more
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0.05))
        self._loop.close()

    def _mend(self) -> None:
        self._refuses, self._delay, self._rate = False, 0.0, 0.0
        for connection in self._connections:
            connection.upward = None  # of a standby that was there by chance, and lives; what is on its way stays late
        self._flows.set()

    def _reset_all(self) -> None:
        for connection in list(self._connections):
            connection.reset()
        self._connections.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refuses:
            _reset(writer)
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            _reset(writer)
            return
        connection = _Connection(writer, far_writer)
        self._connections.add(connection)
        connection.tasks = [
            asyncio.create_task(self._pump(connection, reader, far_writer, upward=True)),
            asyncio.create_task(self._pump(connection, far_reader, writer, upward=False)),
        ]
        await asyncio.wait(connection.tasks)
        self._connections.discard(connection)
        for end in (writer, far_writer):
            with contextlib.suppress(OSError):
                end.close()

    async def _pump(
        self, connection: _Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, upward: bool
    ) -> None:
        """Read one side and write the other; in between, pieces wait until they are due."""
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=1024)
        sender = asyncio.create_task(self._send(waiting, writer))
        try:
            piece = b"-"
            while piece:
                try:
                    piece = await reader.read(PIECE)
                except OSError:
                    piece = b""  # reset by its client: what it had sent before goes on
                own = connection.upward if upward and connection.upward is not None else self._delay
                await waiting.put((self._loop.time() + own, piece))
            await sender
        finally:
            sender.cancel()

    async def _send(self, waiting: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        due, piece = await waiting.get()
        while piece:
            await asyncio.sleep(max(0.0, due - self._loop.time()))
            await self._flows.wait()
            if not writer.is_closing():  # else this end is dead; what the other one sends is read all the same
                with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: half closed by us
                    writer.write(piece)
                    await writer.drain()
            if self._rate:
                await asyncio.sleep(len(piece) / self._rate)
            due, piece = await waiting.get()
        await asyncio.sleep(max(0.0, due - self._loop.time()))
        await self._flows.wait()
        _half_close(writer)


def _half_close(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, RuntimeError):
        writer.write_eof()


def _reset(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
