"""AMQP's handshake ends before its time: RabbitMQ is shut down, or the network lost. Once is no refusal."""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping

import pytest

from dev.database import Database
from dev.doubles.endpoint import Endpoint
from dev.script import Script
from dev.vhost import Vhost
from tests import raw, receiving

TUNE, OPEN_OK = b"\0\x0a\0\x1e", b"\0\x0a\0\x29"  # what the broker sends: class connection, method
SHUTDOWN = (
    struct.pack(">HHH", 10, 50, 320) + raw.short(b"CONNECTION_FORCED - broker forced connection closure") + b"\0" * 4
)


class Between:
    """Stands before a broker. Of the first connection it passes on all but this method's frame, and says `last`."""

    def __init__(self, port: int, method: bytes, last: bytes) -> None:
        self._broker, self._method, self._last = port, method, last
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.cut = False

    def serve(self) -> None:
        with contextlib.suppress(OSError):  # closed by the test
            while True:
                client, _ = self._listening.accept()
                broker = socket.create_connection(("127.0.0.1", self._broker))
                threading.Thread(target=self._pass, args=(client, broker, b""), daemon=True).start()
                method = b"" if self.cut else self._method
                threading.Thread(target=self._pass, args=(broker, client, method), daemon=True).start()

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _pass(self, here: socket.socket, there: socket.socket, method: bytes) -> None:
        with contextlib.suppress(OSError):
            while data := here.recv(1 << 16):
                if method and (at := data.find(method)) > 0:  # after type, channel and size
                    self.cut = True
                    there.sendall(data[: at - 7] + self._last)
                    break
                there.sendall(data)
        for one in (here, there):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def between() -> Iterator[Callable[[int, bytes, bytes], Between]]:
    made: list[Between] = []

    def make(port: int, method: bytes, last: bytes) -> Between:
        made.append(Between(port, method, last))
        threading.Thread(target=made[-1].serve, daemon=True).start()
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.mark.parametrize("last", [b"", raw.frame(1, 0, SHUTDOWN)], ids=["lost", "shut down"])
@pytest.mark.parametrize("method", [TUNE, OPEN_OK], ids=["at the login", "at the virtual host"])
@pytest.mark.parametrize("name", ["listen.py", "receiver.py"])
def test_a_connection_that_ends_in_the_handshake_is_tried_again(
    script: Callable[..., Script], database: Database, vhost: Vhost, endpoint: Endpoint,
    between: Callable[[int, bytes, bytes], Between], name: str, method: bytes, last: bytes,
) -> None:  # fmt: skip
    proxy = between(vhost.broker.port, method, last)
    settings: Mapping[str, object] = receiving.settings(vhost, endpoint)
    if name == "listen.py":
        settings = {"DATABASE_URL": database.listener_dsn, "RECONNECT_MIN": "0.05", "RECONNECT_MAX": "0.2"}
    url = re.sub(rf":{vhost.broker.port}/", f":{proxy.port}/", vhost.url)
    daemon = script(name, {**settings, "RABBITMQ_URL": url})
    daemon.start()
    daemon.wait_for_log("relaying" if name == "listen.py" else "consuming")
    assert proxy.cut
    assert "is not reachable" in daemon.log()
    assert "refuses" not in daemon.log()
    assert "add_vhost" not in daemon.log()
