"""Both servers of a developer below .run, and the env files with which the scripts start as they are."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from dev import database, session
from dev.postgres import Flavour, Postgres
from dev.process import Process, free_port
from dev.rabbitmq import RabbitMQ

DATABASE = "relay_demo"
LISTENER = "relay_listener_dev"
APP = "app_dev"
VHOST = "relay"
RELAY_USER = "relay"


class Server(Protocol):
    """Of a database."""

    directory: Path
    log: Path

    @property
    def port(self) -> int: ...
    @property
    def process(self) -> Process | None: ...
    def stop(self) -> None: ...


class Source(Protocol):
    """The database of a stack: its server, in which three meet: an administrator, the listener and an application."""

    name: str

    @property
    def server(self) -> Server: ...

    def up(self, secret: Mapping[str, str]) -> None:
        """Start it, with DATABASE and the relay's tables, LISTENER and APP with these passwords; may be repeated."""

    def url(self, user: str = "", password: str = "") -> str:
        """Its DATABASE_URL; "" = the administrator's."""


class OfPostgres:
    """PostgreSQL as the database of a stack."""

    name = "PostgreSQL"

    def __init__(self, directory: Path, flavour: Flavour) -> None:
        self._flavour_file = directory / "flavour"
        known = self._flavour_file.read_text().strip() if self._flavour_file.exists() else ""
        self.server = Postgres(directory / "postgres", known or flavour)

    def up(self, secret: Mapping[str, str]) -> None:
        """See Source."""
        server = self.server
        self._flavour_file.write_text(server.flavour + "\n")
        server.start()
        database.ensure_login(server, LISTENER, secret["listener"])
        database.ensure_login(server, APP, secret["app"])
        if not database.exists(server, "SELECT FROM pg_database WHERE datname = %s", DATABASE):
            database.create(server, DATABASE)
        database.install(server, DATABASE, APP)
        database.join_listener_group(server, LISTENER)

    def url(self, user: str = "", password: str = "") -> str:
        """See Source."""
        return self.server.dsn(DATABASE, user, password) if user else self.server.dsn(DATABASE)


class Stack:
    """A database and RabbitMQ below one directory; `up` and `down` may be repeated.

    Args:
        directory: theirs.
        source: the database; by default a PostgreSQL of the wheel.
    """

    def __init__(self, directory: Path = session.RUN, source: Source | None = None) -> None:
        self.directory = directory
        self.source = source or OfPostgres(directory, "embedded")
        self.rabbitmq = RabbitMQ(directory / "rabbitmq")
        self.config_file = directory / "config.env"
        self.admin_file = directory / "admin.env"

    def running(self) -> bool:
        return (
            self.source.server.process is not None and self.rabbitmq.process is not None and self.config_file.exists()
        )

    def up(self) -> None:
        """Start what does not run and write the env files anew; ports and passwords stay what they were."""
        self.directory.mkdir(parents=True, exist_ok=True)
        secret = self._secrets()
        self.source.up(secret)
        self.rabbitmq.start()
        self.rabbitmq.add_vhost(VHOST)
        self.rabbitmq.add_user(RELAY_USER, secret["rabbitmq"], VHOST)
        self._write_env_files(secret)

    def down(self) -> None:
        """Stop everything and remove it, with what killed test sessions have left; running ones keep theirs."""
        self.source.server.stop()
        self.rabbitmq.stop()
        session.sweep(self.directory)
        for path in self.directory.glob("*"):
            if not session.is_session(path):
                session.remove(path)
        session.remove_if_empty(self.directory)

    def _secrets(self) -> dict[str, str]:
        found = {}
        for name in ("listener", "app", "rabbitmq", "http_port"):
            path = self.directory / f"{name}.secret"
            if not path.exists():
                path.touch(0o600)
                path.write_text(str(free_port()) if name == "http_port" else secrets.token_urlsafe(24))
            found[name] = path.read_text()
        return found

    def _write_env_files(self, secret: dict[str, str]) -> None:
        config = {
            "DATABASE_URL": self.source.url(LISTENER, secret["listener"]),
            "RABBITMQ_URL": self.rabbitmq.url(VHOST, RELAY_USER, secret["rabbitmq"]),
            "EXCHANGE": "relay",
            "QUEUE": "odoo",
            "BINDING_KEYS": "#",
            "TARGET": "http",
            "HTTP_URL": f"http://127.0.0.1:{secret['http_port']}/events",
        }
        admin = {
            "ADMIN_DATABASE_URL": self.source.url(),
            "APP_DATABASE_URL": self.source.url(APP, secret["app"]),
            "ADMIN_RABBITMQ_URL": self.rabbitmq.url(VHOST),
            "MANAGEMENT_URL": f"http://127.0.0.1:{self.rabbitmq.management_port}/",
        }
        for path, settings in ((self.config_file, config), (self.admin_file, admin)):
            path.touch(0o600)
            path.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))

    def describe(self) -> list[str]:
        """One line a server: whether it runs, and where. No passwords."""
        lines = []
        for name, server in ((self.source.name, self.source.server), ("RabbitMQ", self.rabbitmq)):
            process = server.process
            lines.append(f"{name:<10} " + (f"127.0.0.1:{server.port} pid {process.pid}" if process else "not running"))
        if self.config_file.exists():
            lines.append(f"{'scripts':<10} --env-file {self.config_file}")
        if self.config_file.exists() and isinstance(self.source, OfPostgres):
            psql = self.source.server.bin / "psql"
            lines.append(f"{'psql':<10} {psql}, with ADMIN_DATABASE_URL of {self.admin_file}")
        return lines
