"""systemd's watchdog is fed by the receiver's loop: while the loop turns, and only then."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

from dev.doubles.endpoint import Answer, Endpoint
from dev.process import wait_until
from dev.script import ROOT, Script
from dev.vhost import Vhost
from tests.messages import Publisher
from tests.receiving import settings


def test_the_watchdog_is_fed_only_while_the_loop_turns(
    vhost: Vhost, script: Callable[..., Script], tmp_path: Path
) -> None:
    """The workers go on meanwhile: a request comes to its end while nothing is said to systemd."""
    with (
        Endpoint(lambda _request: Answer(work=0.5)) as endpoint,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server,
    ):
        server.bind(str(tmp_path / "notify"))
        server.settimeout(20)
        environment = {
            "NOTIFY_SOCKET": str(tmp_path / "notify"),
            "WATCHDOG_USEC": "600000",
            "PYTHONPATH": str(ROOT / "tests" / "freezing"),
        }
        receiver = script("receiver.py", settings(vhost, endpoint), environment=environment)
        receiver.start()
        assert server.recv(4096).decode().startswith("READY=1\n")
        assert [server.recv(4096) for _ in range(3)] == [b"WATCHDOG=1"] * 3
        Publisher(vhost).event("t 1")
        wait_until(lambda: endpoint.requests, 10, "the request")
        receiver.signal(signal.SIGUSR1)
        time.sleep(0.4)  # the loop stands still from here on; what was said before is taken away
        server.settimeout(0)
        while True:
            try:
                server.recv(4096)
            except BlockingIOError:
                break
        wait_until(lambda: endpoint.completed, 10, "the end of the request")
        server.settimeout(0.3)
        try:
            heard = server.recv(4096)
        except TimeoutError:
            heard = b""
        assert heard == b"", "fed although the loop stood still"
        server.settimeout(20)
        assert server.recv(4096) == b"WATCHDOG=1", "the loop turns again"
