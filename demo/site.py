"""The ground on which the demo plays: a directory below .run with servers, endpoint and both daemons, all its own."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from dotenv import dotenv_values

from demo import sources
from demo.failed import Failed
from dev import process, session, stack
from dev.postgres import Flavour
from dev.process import Process
from dev.rabbitmq import RabbitMQ
from dev.script import ROOT
from dev.site import Daemon
from dev.stack import Stack
from dev.vhost import Vhost
from relay import config
from relay.amqp import rights

WORKERS = 8
ANSWER_SECONDS = 30
READY_SECONDS = 60
_PREFIX = "demo-"
_OWNER = "session"  # file that names the process to which a directory belongs; as in dev/session.py
_DATA = ("postgres/data", "mariadb/data", "rabbitmq/mnesia")


class Endpoint:
    """The endpoint's process (demo/endpoint.py), and the questions it answers."""

    def __init__(self, directory: Path, port: int) -> None:
        self.port = port
        self.log_file = directory / "endpoint.log"
        self._pid = directory / "process"

    def start(self) -> None:
        """Returns when it answers."""
        self._pid.parent.mkdir(parents=True, exist_ok=True)
        env = {**os.environ, "PYTHONUNBUFFERED": "1"}
        started = process.start([sys.executable, "-m", "demo.endpoint", str(self.port)], self.log_file, env, ROOT)
        started.save(self._pid)
        process.wait_until(lambda: self._answers() or not started.alive(), READY_SECONDS, "the endpoint to answer")
        if not started.alive():
            raise Failed("the endpoint ended at once")

    def kill(self) -> None:
        if running := Process.load(self._pid):
            running.kill()

    def counts(self) -> tuple[int, int]:
        """How many events arrived, and how many different ones."""
        status = json.loads(self.get("/status"))
        return status["arrived"], status["distinct"]

    def get(self, path: str) -> bytes:
        """The body of its answer; Failed if it has none."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_SECONDS)
        try:
            connection.request("GET", path)
            return connection.getresponse().read()
        except (OSError, http.client.HTTPException) as error:
            raise Failed(f"the endpoint does not answer: {error!r}") from error
        finally:
            connection.close()

    def _answers(self) -> bool:
        try:
            return bool(self.get("/status"))
        except Failed:
            return False


class Site:
    """The directory of one run and everything that runs there."""

    def __init__(self, directory: Path, flavour: Flavour = "embedded", kind: str = sources.KINDS[0]) -> None:
        self.directory = directory
        self.rabbitmq = RabbitMQ(directory / "rabbitmq")
        self.source = sources.of(kind, directory, flavour)
        self.stack = Stack(directory, self.source)
        self._daemons: dict[str, Daemon] = {}

    @classmethod
    def make(cls, flavour: Flavour, kind: str, run: Path = session.RUN) -> Site:
        """A directory that belongs to this process."""
        directory = run / f"{_PREFIX}{os.getpid()}"
        shutil.rmtree(directory, ignore_errors=True)  # the logs of a failed run that had the same number
        directory.mkdir(parents=True)
        if owner := Process.of(os.getpid()):
            owner.save(directory / _OWNER)
        return cls(directory, flavour, kind)

    def up(self) -> None:
        """Start the servers and the endpoint, and write both env files; the daemons stay off."""
        self.stack.up()
        settings = {key: value or "" for key, value in dotenv_values(self.stack.config_file, interpolate=False).items()}
        self.endpoint = Endpoint(
            self.directory / "endpoint", int(settings["HTTP_URL"].rpartition(":")[2].split("/")[0])
        )
        self.endpoint.start()
        self.queue, self.vhost = settings["QUEUE"], Vhost(self.rabbitmq, stack.VHOST)
        # The first event must find its queue: the listener waits until the receiver has declared it.
        listen = self._with_own_user("listen", config.Listen, settings | {"REQUIRED_QUEUES": self.queue})
        receive = self._with_own_user("odoo", config.Receive, settings | {"WORKERS": str(WORKERS)})
        self._settings = settings
        self.listener = self._daemon("listen.py", listen)
        self.receiver = self._daemon("receiver.py", receive)

    def records_receiver(self, settings: dict[str, str]) -> Daemon:
        """The receiver of the second act, not one of `daemons`."""
        without = {key: value for key, value in self._settings.items() if not key.startswith("HTTP_")}
        own = self._with_own_user("records", config.Receive, without | settings)
        return Daemon("receiver.py", own, self.directory / "records")

    def _with_own_user(self, name: str, kind: type[config.Common], settings: dict[str, str]) -> dict[str, str]:
        """The settings with a user of RabbitMQ that may do what README.md gives it, and nothing else."""
        user, password, broker = f"relay_{name}", secrets.token_urlsafe(24), self.rabbitmq
        broker.add_user(user, password)
        own = settings | {"RABBITMQ_URL": broker.url(self.vhost.name, user, password)}
        broker.grant(self.vhost.name, user, *rights.patterns(config.load(kind, None, own)))
        return own

    def _daemon(self, name: str, settings: dict[str, str]) -> Daemon:
        made = self._daemons[name] = Daemon(name, settings, self.directory / name.removesuffix(".py"))
        return made

    @property
    def daemons(self) -> list[Daemon]:
        return list(self._daemons.values())

    def start_daemons(self) -> None:
        """Both; the receiver first, because it declares the queue that the listener wants to see."""
        for daemon in reversed(self.daemons):
            daemon.start()
            daemon.await_ready()

    def clients(self) -> tuple[Path, Path]:
        """Two small scripts that start the client with the right address: as the application, and as a superuser."""
        made = []
        for end, user in (("", stack.APP), ("-admin", "")):
            path = self.directory / f"{self.source.client}{end}"
            path.touch(0o700)
            path.write_text(f"#!/bin/sh\n{self.source.shell(user)}\n")
            made.append(path)
        return made[0], made[1]

    def logs(self) -> list[Path]:
        """The logs that exist, the daemons' first."""
        daemons = [daemon.log_file for daemon in self.daemons] + [self.directory / "records" / "receiver.py.log"]
        servers = [self.directory / "endpoint" / "endpoint.log", self.source.server.log, self.rabbitmq.log]
        return [path for path in (*daemons, *servers) if path.exists()]

    def release(self) -> None:
        """Leave everything running; from now on the directory belongs to nobody."""
        (self.directory / _OWNER).unlink(missing_ok=True)

    def halt(self) -> None:
        """End every process at once; files stay."""
        session.halt(self.directory)

    def remove(self) -> None:
        """End every process and delete the directory."""
        session.remove(self.directory)

    def keep_logs(self) -> None:
        """End every process; delete what is large and tells nothing."""
        self.halt()
        for name in _DATA:
            shutil.rmtree(self.directory / name, ignore_errors=True)
        self.release()


def sites(run: Path = session.RUN) -> Iterator[Site]:
    """The demos of this clone that nobody attends to: kept, failed, or cut off by a SIGKILL."""
    for directory in sorted(run.glob(f"{_PREFIX}*")):
        if Process.load(directory / _OWNER) is None:
            yield Site(directory)


def sweep(run: Path = session.RUN) -> None:
    """Remove the demos that were killed before they could clean up."""
    for left in sites(run):
        if (left.directory / _OWNER).exists():
            with contextlib.suppress(process.ServerError):
                left.remove()
