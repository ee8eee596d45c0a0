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
from relay.receiving.harm import Ours, of_policies
from tests.unit.test_transport import receive

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


def test_two_policies_of_one_name_are_two() -> None:
    """RabbitMQ has no such; whoever listens where its management API should may tell of them."""
    of_parked = {"name": "p", "pattern": "parked$", "definition": {"expires": 5000}}
    of_queue = {"name": "p", "pattern": "odoo$", "definition": {"message-ttl": 9}}
    queues = [Ours("odoo", "quorum", {}, 1), Ours("odoo.parked", "quorum", {}, 1)]
    found = of_policies([of_parked, of_queue], [of_queue, of_parked], queues, receive(HTTP_URL="http://localhost/"))
    assert sorted((one.name, one.detail.partition(": ")[0]) for one in found) == [
        ("operator policy p", "pattern odoo$, message-ttl=9 on odoo"),
        ("operator policy p", "pattern parked$, expires=5000 on odoo.parked"),
        ("policy p", "pattern odoo$, message-ttl=9 on odoo"),
        ("policy p", "pattern parked$, expires=5000 on odoo.parked"),
    ]
