"""listen.py or receiver.py as a test runs them: a subprocess with an env file of its own and a captured log."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from dev.process import Process, start, tail, wait_until

ROOT = Path(__file__).resolve().parent.parent
STOP_SECONDS = 30
_PASSED_ON = ("PATH", "HOME", "LANG", "TMPDIR", "COVERAGE_FILE", "PYTHONDONTWRITEBYTECODE")  # of our environment


class Script:
    """One of the project's scripts. `settings` become its env file, `environment` is added to its process's own.

    Started again, it appends to the same log. `launcher`: what Python runs instead, with the script as its argument.
    `prefix`: what stands before Python (namespaces.py).
    """

    def __init__(
        self,
        name: str,
        settings: Mapping[str, object],
        directory: Path,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        launcher: Sequence[str] = (),
        prefix: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.env_file = directory / f"{name}.env"
        self.log_file = directory / f"{name}.log"
        self._arguments = list(arguments)
        self._environment = dict(environment or {})
        self._launcher = list(launcher)
        self._prefix = list(prefix)
        self._process: Process | None = None
        self.configured: list[Mapping[str, object]] = []  # one after another
        self.configure(settings)

    def configure(self, settings: Mapping[str, object]) -> None:
        """Write the env file anew, for the next start."""
        self.configured.append(dict(settings))
        self.env_file.touch(0o600)
        self.env_file.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} was never started"
        return self._process.pid

    def start(self) -> None:
        script = [*self._launcher, str(ROOT / self.name)]
        command = [*self._prefix, sys.executable, *script, "--env-file", str(self.env_file), *self._arguments]
        env = {key: os.environ[key] for key in _PASSED_ON if key in os.environ}
        env |= {"PYTHONUNBUFFERED": "1", **self._environment}
        self._process = start(command, self.log_file, env, ROOT)

    def alive(self) -> bool:
        return self._process is not None and self._process.alive()

    def terminate(self) -> None:
        """Send SIGTERM; `wait` awaits the end."""
        self.signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self._process:
            self._process.kill()

    def pause(self) -> None:
        if self._process:
            self._process.pause()

    def resume(self) -> None:
        if self._process:
            self._process.resume()

    def signal(self, number: signal.Signals) -> None:
        if self._process:
            self._process.signal(number)

    def wait(self, timeout: float = STOP_SECONDS) -> int:
        """Await the end; the exit status, negative for a signal. AssertionError with the log if it does not end."""
        assert self._process is not None, f"{self.name} was never started"
        status = self._process.wait_status(timeout)
        assert status is not None, f"{self.name} still runs after {timeout:g} s\n{tail(self.log_file)}"
        return status

    def log(self) -> str:
        """All it has written to stdout and stderr, over all its starts."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def wait_for_log(self, text: str, timeout: float = 20, count: int = 1) -> None:
        """Await `count` occurrences of `text` in the log; AssertionError with its tail, also when the script ends."""
        try:
            wait_until(lambda: self.log().count(text) >= count or not self.alive(), timeout, f"{self.name}: {text!r}")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{tail(self.log_file)}") from None
        assert self.log().count(text) >= count, f"{self.name} ended without {text!r}\n{tail(self.log_file)}"
