"""What systemd is told: sd_notify(3)."""

import math
import os
import socket


class Systemd:
    """sd_notify(3): a datagram to $NOTIFY_SOCKET. Silent when systemd did not start us."""

    def __init__(self) -> None:
        self._address = os.environ.get("NOTIFY_SOCKET", "")
        watchdog_us = os.environ.get("WATCHDOG_USEC", "") if self._address else ""
        self.watchdog_interval = int(watchdog_us) / 2e6 if watchdog_us.isdigit() else 0.0
        """Seconds between two feeds, half of what systemd allows; 0 = no watchdog."""
        self._is_ready = False
        self._fed_at = -math.inf
        self._detail = ""

    def show(self, status: str) -> None:
        """Show it from now on; the first time the daemon is ready."""
        ready = () if self._is_ready else ("READY=1",)
        self._is_ready, self._detail = True, ""
        self.send(*ready, f"STATUS={status}")

    def show_detail(self, detail: str, otherwise: str) -> None:
        """Show what there is to say beside the status, if that has changed; empty = nothing: `otherwise`."""
        if detail != self._detail:
            self._detail = detail
            self.send(f"STATUS={detail or otherwise}")

    def feed(self, now: float) -> None:
        """The watchdog. As often as one likes: no more is sent than must be. `now` as time.monotonic()."""
        if self.watchdog_interval and now - self._fed_at >= self.watchdog_interval / 2:
            self._fed_at = now
            self.send("WATCHDOG=1")

    def send(self, *assignments: str) -> None:
        """Send e.g. "READY=1", "STATUS=waiting for RabbitMQ". A systemd that does not listen is no failure of ours."""
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.connect(address)
                sock.sendall("\n".join(assignments).encode())
        except OSError:
            return
