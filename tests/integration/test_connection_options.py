"""With what options connections are opened: the kernel's own word, on the sockets."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

import connection
from dev.database import Database
from dev.vhost import Vhost
from relay import config
from relay.values import Dsn


def option(fd: int, name: int, level: int = socket.IPPROTO_TCP) -> int:
    with socket.socket(fileno=os.dup(fd)) as sock:
        return sock.getsockopt(level, name)


@pytest.mark.parametrize("blocking", [False, True])
def test_a_dead_host_of_postgresql_is_noticed(database: Database, blocking: bool) -> None:
    url = Dsn(database.listener_dsn)
    handle = (
        connection.postgres_now(url, name="test", timeout=10)
        if blocking
        else asyncio.run(connection.open_postgres(url, name="test", timeout=10))
    )
    assert option(handle.fileno(), socket.TCP_USER_TIMEOUT) == 30_000
    assert option(handle.fileno(), socket.SO_KEEPALIVE, socket.SOL_SOCKET) == 1
    idle, every, count = (
        option(handle.fileno(), name) for name in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
    )
    assert idle + every * count <= 30
    handle.close()


def test_a_dead_host_of_rabbitmq_is_noticed(vhost: Vhost) -> None:
    """By the heartbeat, and where we have written by the kernel."""
    environ = {"RABBITMQ_URL": vhost.url, "QUEUE": "q", "HTTP_URL": "http://127.0.0.1:1/"}
    settings = config.load(config.Receive, None, environ)

    async def look() -> None:
        handle = await connection.open_rabbitmq(settings, name="test")
        sock = handle._transport.get_extra_info("socket")
        assert option(sock.fileno(), socket.TCP_USER_TIMEOUT) == 30_000
        assert handle.params.heartbeat == settings.heartbeat
        handle.abort()

    asyncio.run(look())
    with connection.rabbitmq_now(settings, name="test") as blocking:
        sock = blocking._impl._transport._sock
        assert option(sock.fileno(), socket.TCP_USER_TIMEOUT) == 30_000
