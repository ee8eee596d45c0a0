"""Both servers of a developer below .run, and the env files with which the scripts start as they are."""

from __future__ import annotations

import secrets
from pathlib import Path

from dev import database, session
from dev.postgres import Flavour, Postgres
from dev.process import free_port
from dev.rabbitmq import RabbitMQ

DATABASE = "relay_demo"
LISTENER = "relay_listener_dev"
APP = "app_dev"
VHOST = "relay"
RELAY_USER = "relay"


class Stack:
    """PostgreSQL and RabbitMQ below one directory; `up` and `down` may be repeated."""

    def __init__(self, directory: Path = session.RUN, flavour: Flavour | None = None) -> None:
        self.directory = directory
        self._flavour_file = directory / "flavour"
        self.flavour = self._known_flavour() or flavour or "embedded"
        self.postgres = Postgres(directory / "postgres", self.flavour)
        self.rabbitmq = RabbitMQ(directory / "rabbitmq")
        self.config_file = directory / "config.env"
        self.admin_file = directory / "admin.env"

    def running(self) -> bool:
        return self.postgres.process is not None and self.rabbitmq.process is not None and self.config_file.exists()

    def up(self) -> None:
        """Start what does not run and write the env files anew; ports and passwords stay what they were."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self._flavour_file.write_text(self.flavour + "\n")
        self.postgres.start()
        self.rabbitmq.start()
        secret = self._secrets()
        self._prepare_database(secret)
        self.rabbitmq.add_vhost(VHOST)
        self.rabbitmq.add_user(RELAY_USER, secret["rabbitmq"], VHOST)
        self._write_env_files(secret)

    def down(self) -> None:
        """Stop everything and remove it, with what killed test sessions have left; running ones keep theirs."""
        self.postgres.stop()
        self.rabbitmq.stop()
        session.sweep(self.directory)
        for path in self.directory.glob("*"):
            if not session.is_session(path):
                session.remove(path)
        session.remove_if_empty(self.directory)

    def _known_flavour(self) -> Flavour | None:
        text = self._flavour_file.read_text().strip() if self._flavour_file.exists() else ""
        return text or None

    def _secrets(self) -> dict[str, str]:
        found = {}
        for name in ("listener", "app", "rabbitmq", "http_port"):
            path = self.directory / f"{name}.secret"
            if not path.exists():
                path.touch(0o600)
                path.write_text(str(free_port()) if name == "http_port" else secrets.token_urlsafe(24))
            found[name] = path.read_text()
        return found

    def _prepare_database(self, secret: dict[str, str]) -> None:
        server = self.postgres
        database.ensure_login(server, LISTENER, secret["listener"])
        database.ensure_login(server, APP, secret["app"])
        if not database.exists(server, "SELECT FROM pg_database WHERE datname = %s", DATABASE):
            database.create(server, DATABASE)
        database.install(server, DATABASE, APP)
        database.join_listener_group(server, LISTENER)

    def _write_env_files(self, secret: dict[str, str]) -> None:
        config = {
            "DATABASE_URL": self.postgres.dsn(DATABASE, LISTENER, secret["listener"]),
            "RABBITMQ_URL": self.rabbitmq.url(VHOST, RELAY_USER, secret["rabbitmq"]),
            "EXCHANGE": "relay",
            "QUEUE": "odoo",
            "BINDING_KEYS": "#",
            "TARGET": "http",
            "HTTP_URL": f"http://127.0.0.1:{secret['http_port']}/events",
        }
        admin = {
            "ADMIN_DATABASE_URL": self.postgres.dsn(DATABASE),
            "APP_DATABASE_URL": self.postgres.dsn(DATABASE, APP, secret["app"]),
            "ADMIN_RABBITMQ_URL": self.rabbitmq.url(VHOST),
            "MANAGEMENT_URL": f"http://127.0.0.1:{self.rabbitmq.management_port}/",
        }
        for path, settings in ((self.config_file, config), (self.admin_file, admin)):
            path.touch(0o600)
            path.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))

    def describe(self) -> list[str]:
        """One line a server: whether it runs, and where. No passwords."""
        lines = []
        for name, server in (("PostgreSQL", self.postgres), ("RabbitMQ", self.rabbitmq)):
            process = server.process
            lines.append(f"{name:<10} " + (f"127.0.0.1:{server.port} pid {process.pid}" if process else "not running"))
        if self.config_file.exists():
            lines.append(f"{'scripts':<10} --env-file {self.config_file}")
            lines.append(f"{'psql':<10} {self.postgres.bin / 'psql'}, with ADMIN_DATABASE_URL of {self.admin_file}")
        return lines
