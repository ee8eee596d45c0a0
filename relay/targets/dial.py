"""From a host's name to a connected socket: names, several addresses of one name, a proxy's tunnel."""

import asyncio
import contextlib
import itertools
import re
import socket
from collections.abc import Sequence
from typing import Any

from relay.daemon import in_thread

ATTEMPT_DELAY = 0.25  # seconds for one address before the next one is tried beside it (RFC 8305, 5)
TUNNEL_HEAD_LIMIT = 65_536  # bytes of a proxy's answer to CONNECT

# What socket.getaddrinfo returns: family, type, protocol, canonical name, address.
Address = tuple[int, int, int, str, Any]

_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})\b")


async def connect(host: str, port: int) -> socket.socket:
    """A connected socket that does not block; the address that answers first wins (happy eyeballs, RFC 8305).

    Raises:
        OSError: the name is not known (socket.gaierror), or the error of the first address that was tried.
    """
    addresses = _by_turns(await resolve(host, port))
    if len(addresses) == 1:
        return await _attempt(addresses[0])  # without a race, and two turns of a busy loop sooner
    attempts: set[asyncio.Task[socket.socket]] = set()
    problem: BaseException | None = None
    try:
        while addresses or attempts:
            if addresses:
                attempts.add(asyncio.create_task(_attempt(addresses.pop(0))))
            done, attempts = await asyncio.wait(
                attempts, timeout=ATTEMPT_DELAY if addresses else None, return_when=asyncio.FIRST_COMPLETED
            )
            connected = [task.result() for task in done if task.exception() is None]
            for spare in connected[1:]:
                spare.close()
            if connected:
                return connected[0]
            problem = problem or next((task.exception() for task in done), None)
    finally:
        for task in attempts:
            task.cancel()
            task.add_done_callback(_close_connected)  # it may have connected in this very moment
    raise problem or OSError("the name has no address")


async def resolve(host: str, port: int) -> Sequence[Address]:
    """The addresses of a name, best first. Raises socket.gaierror."""
    if literal := _literal(host, port):
        return literal
    return await in_thread(lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))


def _literal(host: str, port: int) -> Sequence[Address]:
    """Of an address that is written as such; it needs no name server."""
    with contextlib.suppress(socket.gaierror):
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    return ()


async def tunnel(sock: socket.socket, host: str, port: int) -> None:
    """Have the proxy at the other end of `sock` connect it to host and port. Raises OSError: it does not."""
    loop = asyncio.get_running_loop()
    name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    await loop.sock_sendall(sock, f"CONNECT {name} HTTP/1.0\r\nHost: {name}\r\n\r\n".encode("latin-1"))
    head = b""
    while b"\n\r\n" not in head and b"\n\n" not in head:  # TLS: the other end says nothing before we do
        piece = await loop.sock_recv(sock, 4096)
        head += piece
        if not piece or len(head) > TUNNEL_HEAD_LIMIT:
            raise ConnectionError("no answer of a proxy")
    status = _STATUS.match(head)
    if status is None or not status[1].startswith(b"2"):
        raise OSError(f"Tunnel connection failed: {status[1].decode() if status else '???'}")


def _by_turns(addresses: Sequence[Address]) -> list[Address]:
    """IPv6 and IPv4 by turns, beginning with the system's own choice (RFC 8305, 4)."""
    families = list(dict.fromkeys(address[0] for address in addresses))
    apart = [[address for address in addresses if address[0] == family] for family in families]
    return [address for turn in itertools.zip_longest(*apart) for address in turn if address is not None]


async def _attempt(address: Address) -> socket.socket:
    family, kind, protocol, _, where = address
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)  # noqa: FBT003
        await asyncio.get_running_loop().sock_connect(sock, where)
    except BaseException:
        sock.close()
        raise
    return sock


def _close_connected(task: "asyncio.Task[socket.socket]") -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().close()
