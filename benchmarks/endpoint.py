"""An HTTP endpoint that answers 200, and its raw client: the limit of what any client gets out of it.

python -m benchmarks.endpoint serve DELAY COUNT    prints its port; then the seconds from the first request to the last
python -m benchmarks.endpoint ask PORT CLIENTS COUNT    requests encoded beforehand, one connection a client
"""

from __future__ import annotations

import asyncio
import selectors
import sys
import time

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class Server:
    """No parsing beyond the length of the body; one process, one thread."""

    def __init__(self, delay: float, count: int) -> None:
        self._delay = delay
        self._left = count
        self._began = 0.0
        self.done = asyncio.Event()
        self.seconds = 0.0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
                await reader.readexactly(int(length.split(b":")[1]))
                self._began = self._began or time.monotonic()
                if self._delay:
                    await asyncio.sleep(self._delay)
                writer.write(ANSWER)
                self._count()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def _count(self) -> None:
        self._left -= 1
        if self._left == 0:
            self.seconds = time.monotonic() - self._began
            self.done.set()


async def serve(delay: float, count: int) -> None:
    """Serve until `count` requests were answered, and on until killed."""
    counter = Server(delay, count)
    server = await asyncio.start_server(counter.serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await counter.done.wait()
    print(counter.seconds, flush=True)
    await server.serve_forever()


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


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=_precise) as runner:
        if sys.argv[1] == "serve":
            runner.run(serve(float(sys.argv[2]), int(sys.argv[3])))
        else:
            runner.run(ask(*(int(word) for word in sys.argv[2:])))
