"""Commands as a person runs them: in a terminal, or with Ctrl-C in the middle."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path

from dev.process import wait_until

ROOT = Path(__file__).resolve().parents[1]


class Terminal:
    """A command in a pseudo-terminal of 100 columns; `shown` is all that has appeared on it so far."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._master, slave = pty.openpty()
        os.set_blocking(self._master, False)
        termios.tcsetwinsize(slave, (24, 100))
        # A test run in the background of a shell ignores Ctrl-C, and what it starts would, too.
        command = ["env", "--default-signal=INT", *command]
        self.process = subprocess.Popen(command, env=environment, stdin=slave, stdout=slave, stderr=slave, cwd=ROOT)
        os.close(slave)
        self.shown = ""

    def wait_for(self, text: str, timeout: float = 20) -> None:
        """Await `text` on the screen."""
        wait_until(lambda: text in self._read(), timeout, f"{text!r} on the screen")

    def type(self, text: str) -> None:
        """Type `text`; "\\x04" is Ctrl-D."""
        os.write(self._master, text.encode())

    def end(self, timeout: float = 20) -> int:
        """Await the end; return the exit status."""
        try:
            wait_until(self._has_ended, timeout, f"the command to end; shown: {self.shown}")
        finally:
            self.process.kill()
            self.process.wait()
            self._read()
            os.close(self._master)
        return self.process.returncode

    def _has_ended(self) -> bool:
        self._read()  # a full terminal would hold it up
        return self.process.poll() is not None

    def _read(self) -> str:
        with contextlib.suppress(OSError):  # nothing there now; or nobody has the other side open any more
            while piece := os.read(self._master, 65536):
                self.shown += piece.decode(errors="replace")
        return self.shown
