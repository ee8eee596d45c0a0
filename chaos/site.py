"""The ground: private servers, a breakable link before each, two listeners, two receivers and the endpoint."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from chaos import functions
from chaos.proxy import Link
from dev import session, site
from dev.database import Database, execute
from dev.doubles.endpoint import Endpoint
from dev.postgres import Flavour
from dev.process import wait_until
from relay.inbox import TABLES as INBOX

QUEUE = "odoo"
READ_TIMEOUT = 1.0  # seconds until the receiver gives up a request
TIME_LIMIT = 3.0  # seconds after which the endpoint surely has ended its work on one
DAEMON_STOP_SECONDS = 60
SCHEMA = Path(__file__).with_name("schema.sql")
_LOG_TAIL = 1 << 16
_STATES = ("starting", "state=", "consuming queue", "relaying source")


class Daemon(site.Daemon):
    """One of two listeners or receivers; at most one of the two is active, the other stands by."""

    def __init__(self, script: str, letter: str, settings: dict[str, object], directory: Path, launcher: Sequence[str]):
        super().__init__(script, settings, directory, launcher)
        self.label = f"{script.removesuffix('.py')}-{letter}"
        self._settings = settings
        self.functions: dict[str, str] = {}  # what chaos/functions.py reads

    def change(self, **settings: object) -> None:
        """For the next start."""
        self._settings |= settings

    def start(self) -> None:
        if self.alive():
            return
        own = dict(self._settings)
        sender = f"{self.label}.{self.starts + 1}"
        if "HTTP_URL" in own:
            own["HTTP_HEADERS"] = json.dumps({"Chaos-Sender": sender})
        if self.functions:
            (self.directory / functions.SETTINGS).write_text(json.dumps(self.functions | {"sender": sender}))
        self.configure(own)
        super().start()

    def is_active(self) -> bool:
        """At work, by the last change of state in its log?"""
        if not self.alive():
            return False
        with self.log_file.open("rb") as log:
            log.seek(max(0, self.log_file.stat().st_size - _LOG_TAIL))
            text = log.read().decode(errors="replace")
        last = max(_STATES, key=text.rfind)
        return last in _STATES[2:] and last in text

    def stop(self, timeout: float = DAEMON_STOP_SECONDS) -> None:
        """As the other daemons, but for one that was killed, or had only just been started and has no handler yet."""
        if self.alive():
            self.terminate()
            status = self.wait(timeout)
            assert status in (0, -signal.SIGTERM), f"{self.label} ended on SIGTERM with status {status}"

    def defects(self) -> list[str]:
        """Lines of its log that no fault excuses."""
        words = ("Traceback", "defect")
        return [line for line in self.log().splitlines() if any(word in line for word in words)]


class Pair:
    """Two daemons of a kind."""

    def __init__(self, first: Daemon, second: Daemon) -> None:
        self.both = (first, second)
        self.lock = threading.Lock()  # who strikes one of them holds it

    def active(self) -> Daemon:
        """The one at work; the first one if none is."""
        return next((daemon for daemon in self.both if daemon.is_active()), self.both[0])


class Site(site.Site):
    """Everything that runs; a context manager."""

    def __init__(
        self, flavour: Flavour = "embedded", launcher: Sequence[str] = (), *, by_functions: bool = False
    ) -> None:
        session.sweep()
        super().__init__(session.make(), "chaos", flavour)
        self.endpoint = Endpoint()
        self._launcher = launcher
        self.by_functions = by_functions

    def remove(self) -> None:
        with contextlib.suppress(Exception):
            self.endpoint.stop()
        super().remove()

    def up(self) -> None:
        super().up()
        self.endpoint.start()
        execute(
            self.database.admin_dsn,
            f"grant create on database {self.name} to {Database.APP}",
            f"alter database {self.name} set deadlock_timeout = '200ms'",
        )
        execute(self.database.app_dsn, SCHEMA.read_text())
        execute(
            self.database.admin_dsn,
            f"grant relay_publisher to {Database.APP}",
            *(f"select relay.watch('public.{name}')" for name in ("accounts", "totals", "scratch")),
            "select relay.watch('public.loads', bulk => true)",
            "truncate relay.outbox, audit.log",
        )
        if self.by_functions:
            execute(self.database.admin_dsn, *functions.TABLES, INBOX["postgresql"])
        self._make_links()
        self._make_daemons()
        for daemon in (*self.receivers.both, *self.listeners.both):
            daemon.start()
        wait_until(lambda: any(d.is_active() for d in self.listeners.both), site.READY_SECONDS, "a listener at work")
        # A quorum queue's registration is not on disk for some seconds (dev/rabbitmq.py).
        self.rabbitmq.sync()

    def _make_links(self) -> None:
        targets = {
            "listener-rabbitmq": self.rabbitmq.port,
            "receiver-rabbitmq": self.rabbitmq.port,
            "listener-postgres": self.postgres.port,
        }
        self.links = {name: Link(name, port) for name, port in targets.items()}
        for link in self.links.values():
            link.start()

    def _make_daemons(self) -> None:
        quick = {"RECONNECT_MIN": 0.05, "RECONNECT_MAX": 0.5, "CONNECT_TIMEOUT": 3, "HEARTBEAT": 5}
        listen = quick | {
            "DATABASE_URL": _through(self.database.listener_dsn, self.links["listener-postgres"]),
            "RABBITMQ_URL": _through(self.vhost.url, self.links["listener-rabbitmq"]),
            "REQUIRED_QUEUES": QUEUE,
            "POLL_INTERVAL": 1,
        }
        receive = quick | {
            "RABBITMQ_URL": _through(self.vhost.url, self.links["receiver-rabbitmq"]),
            "QUEUE": QUEUE,
            "HTTP_URL": self.endpoint.url,
            "HTTP_CONNECT_TIMEOUT": 1,
            "HTTP_READ_TIMEOUT": READ_TIMEOUT,
            "HTTP_TIME_LIMIT": TIME_LIMIT,
            "RETRY_MIN": 0.05,
            "RETRY_MAX": 0.3,
            "MAX_ATTEMPTS": 2,
            "PREFETCH": 100,
            "SHUTDOWN_GRACE": 5,
        }
        if self.by_functions:
            receive = {name: value for name, value in receive.items() if not name.startswith("HTTP_")}
            receive |= {"TARGET": "python", "PYTHON_HANDLERS": "chaos.functions", "HANDLER_TIME_LIMIT": 10}
        self.listeners = self._pair("listen.py", listen)
        self.receivers = self._pair("receiver.py", receive)
        if self.by_functions:
            for daemon in self.receivers.both:
                daemon.functions = {"dsn": self.database.admin_dsn, "url": self.endpoint.url}

    def _pair(self, script: str, settings: dict[str, object]) -> Pair:
        made = [
            Daemon(script, letter, dict(settings), self.directory / f"{script}-{letter}", self._launcher)
            for letter in "ab"
        ]
        return Pair(*made)

    def keep_logs(self, where: Path) -> None:
        """Copy the logs out of the directory, which is about to go."""
        shutil.rmtree(where, ignore_errors=True)
        where.mkdir(parents=True)
        for daemon in (*self.listeners.both, *self.receivers.both):
            shutil.copy(daemon.log_file, where / f"{daemon.label}.log")
        for log in (self.postgres.log, self.rabbitmq.log):
            shutil.copy(log, where)


def _through(url: str, link: Link) -> str:
    """The same URL by way of a link."""
    parts = urlsplit(url)
    user = parts.netloc.rpartition("@")[0]
    return urlunsplit(parts._replace(netloc=f"{user}@127.0.0.1:{link.port}"))


def now() -> float:
    """Seconds since the epoch, as PostgreSQL's clock says them, too."""
    return time.time()
