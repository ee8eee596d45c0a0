"""An HTTP endpoint that answers 200, and its raw client: the limit of what any client gets out of it.

python -m benchmarks.endpoint serve DELAY COUNT    prints its port; then the seconds from the first request to the last
python -m benchmarks.endpoint light COUNT          the same for answers at once, with a third of the processor time
python -m benchmarks.endpoint ask PORT CLIENTS COUNT    requests encoded beforehand, one connection a client
"""

from __future__ import annotations

import asyncio
import re
import select
import selectors
import socket
import sys
import time

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
_LENGTH = re.compile(rb"(?i)content-length: *([0-9]+)")
_EVENTS = re.compile(rb"(?i)relay-event: *([^\r\n]*)")


class Server:
    """Counts the events, and tells the time that they took: one a request, or as many as Relay-Event names."""

    def __init__(self, delay: float, count: int) -> None:
        self.delay = delay
        self._left = count
        self._began = 0.0
        self.done = asyncio.Event()
        self.seconds = 0.0

    def arrived(self) -> None:
        self._began = self._began or time.monotonic()

    def answered(self, events: int) -> None:
        before, self._left = self._left, self._left - events
        if self._left <= 0 < before:
            self.seconds = time.monotonic() - self._began
            self.done.set()


class _Connection(asyncio.Protocol):
    """No parsing beyond the length of the body. It shares two cores with what it measures: no streams, no tasks."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, end, body = self._data.partition(b"\r\n\r\n")
        if not end or len(body) < int(_LENGTH.search(head)[1]):  # type: ignore[index]
            return
        self._data = b""
        self._server.arrived()
        named = _EVENTS.search(head)
        events = named[1].count(b",") + 1 if named else 1
        if self._server.delay:
            asyncio.get_running_loop().call_later(self._server.delay, self._answer, events)
        else:
            self._answer(events)

    def _answer(self, events: int) -> None:
        self._transport.write(ANSWER)
        self._server.answered(events)


async def serve(delay: float, count: int) -> None:
    """Serve until `count` requests were answered, and on until killed."""
    counter = Server(delay, count)
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(counter), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await counter.done.wait()
    print(counter.seconds, flush=True)
    await server.serve_forever()


def light(count: int) -> None:
    """Serve in next to no processor time: for what is to have the cores for itself, one event a request."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=128)
    print(listening.getsockname()[1], flush=True)
    began, left, partly = 0.0, count, dict[int, bytes]()
    by_fd = {listening.fileno(): listening}
    poll = select.epoll()
    poll.register(listening, select.EPOLLIN)
    while True:
        for fd, _event in poll.poll():
            connection = by_fd[fd]
            if connection is listening:
                connection, _ = listening.accept()
                by_fd[connection.fileno()] = connection
                poll.register(connection, select.EPOLLIN)
                continue
            if not (data := connection.recv(65_536)):
                by_fd.pop(fd).close()
                continue
            data = partly.pop(fd, b"") + data
            end = data.find(b"\r\n\r\n") + 4
            length = data.find(b"Content-Length: ") + 16
            if end < 4 or len(data) - end < int(data[length : data.find(b"\r", length)]):
                partly[fd] = data
                continue
            began = began or time.monotonic()
            connection.send(ANSWER)
            left -= 1
            if left == 0:
                print(time.monotonic() - began, flush=True)


async def ask(port: int, clients: int, count: int) -> None:
    """Send `count` requests over `clients` connections, each one after the answer to the one before."""
    body = b"x" * 300
    request = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    left = count

    async def client() -> None:
        nonlocal left
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while left > 0:
            left -= 1
            writer.write(request)
            await reader.readexactly(len(ANSWER))
        writer.close()

    await asyncio.gather(*(client() for _ in range(clients)))


def _precise() -> asyncio.AbstractEventLoop:
    """A loop whose timers are exact: epoll's, the usual one, counts in milliseconds, and makes 21.5 ms of 20."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


if __name__ == "__main__" and sys.argv[1] == "light":
    light(int(sys.argv[2]))
elif __name__ == "__main__":
    with asyncio.Runner(loop_factory=_precise) as runner:
        if sys.argv[1] == "serve":
            runner.run(serve(float(sys.argv[2]), int(sys.argv[3])))
        else:
            runner.run(ask(*(int(word) for word in sys.argv[2:])))
