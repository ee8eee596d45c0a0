"""The ground of a demo, a chaos run, a benchmark: servers of its own below one directory, and the relay's daemons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from dev import session
from dev.database import Database
from dev.postgres import Flavour, Postgres
from dev.process import Process
from dev.rabbitmq import RabbitMQ
from dev.script import STOP_SECONDS, Script
from dev.vhost import Vhost

READY = {"listen.py": "relaying", "receiver.py": "consuming"}  # what a daemon's log says once it is at work
READY_SECONDS = 60


class Daemon(Script):
    """listen.py or receiver.py in a directory of its own. Whoever removes the site ends it, too."""

    def __init__(
        self, name: str, settings: Mapping[str, object], directory: Path, launcher: Sequence[str] = ()
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        super().__init__(name, settings, directory, launcher=launcher)
        self.directory = directory
        self.starts = 0

    def start(self) -> None:
        super().start()
        self.starts += 1
        if started := Process.of(self.pid):
            started.save(self.directory / session.PROCESS)

    def await_ready(self) -> None:
        """Until its log says that it is at work; AssertionError with the log's tail after READY_SECONDS."""
        self.wait_for_log(READY[self.name], READY_SECONDS, self.starts)

    def stop(self, timeout: float = STOP_SECONDS) -> None:
        """SIGTERM, as systemd does; AssertionError unless it ends in order within `timeout` seconds."""
        self.terminate()
        status = self.wait(timeout)
        assert status == 0, f"{self.name} ended on SIGTERM with status {status}"


class Site:
    """A PostgreSQL with one database, a RabbitMQ with one virtual host. Context manager: nothing of it stays.

    PostgreSQL flushes to disk, as users' servers do.

    Args:
        directory: is deleted at the end.
        name: of the database and of the virtual host.
    """

    def __init__(self, directory: Path, name: str, flavour: Flavour = "embedded") -> None:
        self.directory = directory
        self.name = name
        self.postgres = Postgres(directory / "postgres", flavour)
        self.rabbitmq = RabbitMQ(directory / "rabbitmq")

    def __enter__(self) -> Self:
        try:
            self.up()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def up(self) -> None:
        """Start the servers. ServerError with the log of one that does not come."""
        self.postgres.start()
        self.rabbitmq.start()
        self.database = Database.create(self.postgres, self.name)
        self.vhost = Vhost.create(self.rabbitmq, self.name)

    def halt(self) -> None:
        """End every process at once; files stay."""
        session.halt(self.directory)

    def remove(self) -> None:
        """End every process and delete the directory."""
        session.remove(self.directory)
