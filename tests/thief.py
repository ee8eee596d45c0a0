"""Who takes a database server's place, asks for the password itself, and keeps what it gets."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from abc import ABC, abstractmethod


class Thief(ABC):
    """On a port of its own, one client after another.

    Args:
        context: it speaks TLS.
    """

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self._context = context
        self.visits = 0
        self.taken: list[bytes] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                client = self._server.accept()[0]
            except OSError:
                return
            with contextlib.suppress(OSError, struct.error), client:
                client.settimeout(5)
                self.visits += 1
                self._rob(client)

    @abstractmethod
    def _rob(self, client: socket.socket) -> None:
        """Speak with it as that server would, and keep in `taken` what it answers."""
