"""What the private database servers have in common: a directory, a process, and what can be done to it."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from dev.process import Process, ServerError, start, tail, wait_until

START_SECONDS = 60
STOP_SECONDS = 60


class Running:
    """Something whose process stands in a file."""

    _pid: Path

    @property
    def process(self) -> Process | None:
        """Its process, if it runs."""
        return Process.load(self._pid)

    def pause(self) -> None:
        """SIGSTOP everything: connections stay open and nothing answers."""
        if process := self.process:
            process.pause()

    def resume(self) -> None:
        if process := self.process:
            process.resume()


class Server(Running):
    """A server; made by the first `start`, kept by `stop` and `kill`, removed by `remove`.

    Port and password are written in the directory: a second object on the same directory is the same server.

    Args:
        directory: of its own.
        name: what people call it.
        log: the name of its log.
    """

    def __init__(self, directory: Path, name: str, log: str) -> None:
        self.directory = directory.resolve()
        self.data = self.directory / "data"
        self.log = self.directory / log
        self._name = name
        self._pid = self.directory / "process"

    @property
    def port(self) -> int:
        return int((self.directory / "port").read_text())

    @property
    def password(self) -> str:
        """The superuser's."""
        return (self.directory / "password").read_text().strip()

    @property
    def is_made(self) -> bool:
        """Was it made as a whole?"""
        return (self.directory / "port").exists()

    def kill(self) -> None:
        """SIGKILL it and all its children, as a crash of the host does."""
        if process := self.process:
            process.kill()

    def _started(
        self, command: Sequence[str], answers: Callable[[], bool], environment: Mapping[str, str] | None = None
    ) -> None:
        """Start it, and await that it answers; ServerError with the log's tail if it does not."""
        process = start(command, self.log, environment, cwd=self.directory)
        process.save(self._pid)
        try:
            wait_until(lambda: answers() or not process.alive(), START_SECONDS, f"{self._name} to answer")
        except AssertionError as error:
            process.kill()
            raise ServerError(f"{error}\n{tail(self.log)}") from error
        if not process.alive():
            raise ServerError(f"{self._name} ended while starting\n{tail(self.log)}")

    def _stopped(self, by: signal.Signals) -> None:
        """End it in order; a server that does not end in time is killed."""
        if process := self.process:
            process.resume()
            process.signal(by)
            if not process.wait(STOP_SECONDS):
                process.kill()
        self._pid.unlink(missing_ok=True)

    def _gone(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)
