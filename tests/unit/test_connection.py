"""connection.py against a server that hangs up at once."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest
from pika.adapters.utils.connection_workflow import AMQPConnector

import connection
from relay import config
from relay.errors import Unavailable


@pytest.fixture
def hangs_up() -> Iterator[int]:
    """The port of a server that resets every connection as soon as it stands, as a broker's proxy may."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                accepted = server.accept()[0]
            except OSError:
                return
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            accepted.close()

    thread = threading.Thread(target=serve)
    thread.start()
    yield server.getsockname()[1]
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()


def test_a_connection_that_is_reset_while_it_is_made_is_an_outage_and_no_crash(
    hangs_up: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    connected = AMQPConnector._on_tcp_connection_done

    def late(*arguments: object) -> None:
        """Between its two looks at the socket pika is held up; then it raises ValueError."""
        time.sleep(0.05)
        connected(*arguments)

    monkeypatch.setattr(AMQPConnector, "_on_tcp_connection_done", late)
    url = f"amqp://user:secret@127.0.0.1:{hangs_up}/v"
    settings = config.load(config.Receive, None, {"RABBITMQ_URL": url, "QUEUE": "q", "HTTP_URL": "http://127.0.0.1/"})
    for _ in range(20):  # most of the time the reset comes before pika's first look
        with pytest.raises(Unavailable, match="not reachable"):
            asyncio.run(connection.open_rabbitmq(settings, name="test"))
        with pytest.raises(Unavailable, match="not reachable"), connection.rabbitmq_now(settings, name="test"):
            pass
