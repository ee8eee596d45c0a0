"""The ground on which the demo plays: a directory below .run with servers, endpoint and both daemons, all its own."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import secrets
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from dotenv import dotenv_values

from demo.failed import Failed
from dev import process, session, stack
from dev.postgres import Flavour
from dev.process import Process
from dev.script import Script
from dev.stack import Stack
from relay import config
from relay.amqp import rights

ROOT = Path(__file__).resolve().parent.parent
WORKERS = 8
ANSWER_SECONDS = 30
READY_SECONDS = 60
_PREFIX = "demo-"
_OWNER = "session"  # file that names the process to which a directory belongs; as in dev/session.py
_DATA = ("postgres/data", "rabbitmq/mnesia")


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


class Daemon:
    """listen.py or receiver.py, with the env file of its own that it is started with each time."""

    def __init__(self, name: str, settings: dict[str, str], directory: Path, ready: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.script = Script(name, settings, directory)
        self._pid = directory / "process"
        self._ready = ready
        self._starts = 0

    def start(self) -> None:
        self.script.start()
        self._starts += 1
        if started := Process.of(self.script.pid):
            started.save(self._pid)

    def await_ready(self) -> None:
        """Until its log says that it is at work."""
        try:
            self.script.wait_for_log(self._ready, READY_SECONDS, self._starts)
        except AssertionError as error:
            raise Failed(f"{self.name} did not get to work: {str(error).splitlines()[0]}") from error

    def stop(self) -> None:
        """SIGTERM; Failed unless it ends in order."""
        self.script.terminate()
        try:
            status = self.script.wait()
        except AssertionError as error:
            raise Failed(f"{self.name} does not end on SIGTERM") from error
        if status != 0:
            raise Failed(f"{self.name} ended on SIGTERM with status {status} instead of 0")


class Site:
    """The directory of one run and everything that runs there."""

    def __init__(self, directory: Path, flavour: Flavour = "embedded") -> None:
        self.directory = directory
        self.stack = Stack(directory, flavour)
        self._daemons: dict[str, Daemon] = {}

    @classmethod
    def make(cls, flavour: Flavour, run: Path = session.RUN) -> Site:
        """A directory that belongs to this process."""
        directory = run / f"{_PREFIX}{os.getpid()}"
        shutil.rmtree(directory, ignore_errors=True)  # the logs of a failed run that had the same number
        directory.mkdir(parents=True)
        if owner := Process.of(os.getpid()):
            owner.save(directory / _OWNER)
        return cls(directory, flavour)

    def up(self) -> None:
        """Start the servers and the endpoint, and write both env files; the daemons stay off."""
        self.stack.up()
        settings = {key: value or "" for key, value in dotenv_values(self.stack.config_file, interpolate=False).items()}
        self.endpoint = Endpoint(
            self.directory / "endpoint", int(settings["HTTP_URL"].rpartition(":")[2].split("/")[0])
        )
        self.endpoint.start()
        self.app_dsn = dotenv_values(self.stack.admin_file, interpolate=False)["APP_DATABASE_URL"] or ""
        self.queue, self.vhost = settings["QUEUE"], settings["RABBITMQ_URL"].rpartition("/")[2]
        # The first event must find its queue: the listener waits until the receiver has declared it.
        listen = self._with_own_user("listen", config.Listen, settings | {"REQUIRED_QUEUES": self.queue})
        receive = self._with_own_user("odoo", config.Receive, settings | {"WORKERS": str(WORKERS)})
        self._settings = settings
        self.listener = self._daemon("listen.py", listen, "relaying")
        self.receiver = self._daemon("receiver.py", receive, "connected")

    def records_receiver(self, settings: dict[str, str]) -> Daemon:
        """The receiver of the second act, not one of `daemons`."""
        without = {key: value for key, value in self._settings.items() if not key.startswith("HTTP_")}
        own = self._with_own_user("records", config.Receive, without | settings)
        return Daemon("receiver.py", own, self.directory / "records", "connected")

    def _with_own_user(self, name: str, kind: type[config.Common], settings: dict[str, str]) -> dict[str, str]:
        """The settings with a user of RabbitMQ that may do what README.md gives it, and nothing else."""
        user, password, broker = f"relay_{name}", secrets.token_urlsafe(24), self.stack.rabbitmq
        broker.add_user(user, password)
        own = settings | {"RABBITMQ_URL": broker.url(self.vhost, user, password)}
        broker.grant(self.vhost, user, *rights.patterns(config.load(kind, None, own)))
        return own

    def _daemon(self, name: str, settings: dict[str, str], ready: str) -> Daemon:
        made = self._daemons[name] = Daemon(name, settings, self.directory / name.removesuffix(".py"), ready)
        return made

    @property
    def daemons(self) -> list[Daemon]:
        return list(self._daemons.values())

    def start_daemons(self) -> None:
        """Both; the receiver first, because it declares the queue that the listener wants to see."""
        for daemon in reversed(self.daemons):
            daemon.start()
            daemon.await_ready()

    def queue_depth(self) -> int:
        """Messages ready in the receiver's queue."""
        return self.stack.rabbitmq.queue_depth(self.vhost, self.queue)

    def psql_commands(self) -> tuple[Path, Path]:
        """Two small scripts that call psql with the right address: as the application, and as a superuser."""
        made = []
        for name, dsn in (("psql", self.app_dsn), ("psql-admin", self.stack.postgres.dsn(stack.DATABASE))):
            path = self.directory / name
            path.touch(0o700)
            path.write_text(
                f'#!/bin/sh\nexec {shlex.quote(str(self.stack.postgres.bin / "psql"))} {shlex.quote(dsn)} "$@"\n'
            )
            made.append(path)
        return made[0], made[1]

    def logs(self) -> list[Path]:
        """The logs that exist, the daemons' first."""
        daemons = [daemon.script.log_file for daemon in self.daemons] + [self.directory / "records" / "receiver.py.log"]
        servers = [self.directory / "endpoint" / "endpoint.log", self.stack.postgres.log, self.stack.rabbitmq.log]
        return [path for path in (*daemons, *servers) if path.exists()]

    def release(self) -> None:
        """Leave everything running; from now on the directory belongs to nobody."""
        (self.directory / _OWNER).unlink(missing_ok=True)

    def halt(self) -> None:
        """End every process at once."""
        for pid in self.directory.glob("*/process"):
            if pid.parent.name not in {"postgres", "rabbitmq"} and (running := Process.load(pid)):
                running.kill()
        self.stack.rabbitmq.kill()
        self.stack.postgres.stop("immediate")

    def remove(self) -> None:
        """End every process and delete the directory; also .run, if nothing else is there."""
        self.halt()
        shutil.rmtree(self.directory, ignore_errors=True)
        session.remove_if_empty(self.directory.parent)

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
    for site in sites(run):
        if (site.directory / _OWNER).exists():
            with contextlib.suppress(process.ServerError):
                site.remove()
