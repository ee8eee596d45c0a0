"""Who is asked for the management API may be somebody else: he is not waited for without end."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from relay.amqp import management_api
from relay.errors import Unavailable

DRIPS_FOR = 10.0  # seconds
DRIPS = {
    "a head": (b"HTTP/1.1 200 OK\r\n", b"A"),
    "a body": (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b"["),
    "continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
}


@pytest.fixture
def dripping(request: pytest.FixtureRequest) -> Iterator[int]:
    """Its port. It says the beginning, and then the rest again and again."""
    beginning, rest = DRIPS[request.param]
    listening = socket.create_server(("127.0.0.1", 0))
    end = time.monotonic() + DRIPS_FOR

    def serve() -> None:
        with contextlib.suppress(OSError):
            client, _ = listening.accept()
            client.sendall(beginning)
            while time.monotonic() < end:
                client.sendall(rest)
                time.sleep(0.02)  # how fast it drips

    thread = threading.Thread(target=serve)
    thread.start()
    yield listening.getsockname()[1]
    listening.close()
    thread.join(5)
    assert not thread.is_alive(), "the connection was not closed"


@pytest.mark.parametrize("dripping", DRIPS, indirect=True)
def test_an_answer_that_drips_is_ended(dripping: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(management_api, "ANSWER_SECONDS", 0.3)
    config: Any = SimpleNamespace(
        rabbitmq_url=SimpleNamespace(user="u", password="p", host="127.0.0.1", tls=False),
        rabbitmq_management_url=f"http://127.0.0.1:{dripping}",
        rabbitmq_ca_file=None, rabbitmq_cert_file=None, rabbitmq_key_file=None,
    )  # fmt: skip
    began = time.monotonic()
    with pytest.raises(Unavailable, match="does not answer"):
        management_api.ask(config, "/whoami")
    assert time.monotonic() - began < DRIPS_FOR / 2
