"""The link that make chaos breaks: what it does to a connection ends with `mend`."""

import socket
import time

from chaos.proxy import Link
from dev.process import free_port

LATE = 30.0  # seconds; a test that waits for them fails


def test_a_haunted_connection_that_lives_is_mended() -> None:
    with socket.create_server(("127.0.0.1", free_port())) as server:
        link = Link("test", server.getsockname()[1])
        link.start()
        try:
            with socket.create_connection(("127.0.0.1", link.port)) as client, server.accept()[0] as arrived:
                arrived.settimeout(LATE / 2)
                client.sendall(b"a")
                assert arrived.recv(1) == b"a"
                link.deliver_late(LATE)
                link.mend()
                began = time.monotonic()
                client.sendall(b"b")
                assert arrived.recv(1) == b"b"
                assert time.monotonic() - began < LATE / 2
        finally:
            link.stop()
