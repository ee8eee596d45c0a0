"""Processes of the private servers: started detached, found again by pid, ended with all their children.

A server outlives the process that started it (`make up`), so a handle is a pid and a start time, not a Popen.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from dev import forkserver

POLL_SECONDS = 0.02
LOG_TAIL_LINES = 30
STATUS_SECONDS = 10.0  # for what takes no time on a machine that is not busy
# Below the kernel's ephemeral range (32768 and up): a port taken from there could be lent to an outgoing connection
# while the server is down for a restart, and then it could not come back on the same port.
PORTS = range(20000, 32000)
_STANDARD_PORTS = frozenset({25672})
_handed_out: set[int] = set()
_children: dict[int, subprocess.Popen[bytes]] = {}
_statuses: dict[Process, int] = {}


class ServerError(Exception):
    """A private server could not be had, started or stopped; the text says what to do."""


@dataclass(frozen=True)
class Process:
    """One process; `started` (clock ticks since boot) tells it from a later one with the same pid."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """The living process with this pid, or None."""
        stat = _stat(pid)
        return cls(pid, int(stat[19])) if stat and stat[0] not in "ZX" else None

    @classmethod
    def load(cls, path: Path) -> Process | None:
        """The process written down by `save`, if it still lives."""
        try:
            pid, started = (int(word) for word in path.read_text().split())
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None
        process = cls(pid, started)
        return process if process.alive() else None

    def save(self, path: Path) -> None:
        path.write_text(f"{self.pid} {self.started}\n")

    def alive(self) -> bool:
        child = _children.get(self.pid)
        if child is not None and child.poll() is None:
            # Not ended, although it may show as a zombie while its last threads end: it has no status yet.
            stat = _stat(self.pid)
            if stat is not None and int(stat[19]) == self.started:
                return True
            child.wait(STATUS_SECONDS)  # in between it has ended, and the fork server has told and reaped it
        if child is not None:  # reaped now
            _statuses[self] = child.returncode
            _children.pop(self.pid, None)
        return Process.of(self.pid) == self

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; a process that is gone is no error."""
        if self.alive():
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return

    def tree(self) -> list[Process]:
        """This process and all its descendants; alone, if it has ended: its pid may be another's now."""
        if not self.alive():
            return [self]
        parents: dict[int, list[int]] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and (stat := _stat(int(entry.name))):
                parents.setdefault(int(stat[1]), []).append(int(entry.name))
        found, todo = [self], [self.pid]
        while todo:
            for pid in parents.get(todo.pop(), []):
                if child := Process.of(pid):
                    found.append(child)
                    todo.append(pid)
        return found

    def pause(self) -> None:
        """SIGSTOP the whole tree, root first so that it starts no more children meanwhile."""
        self.signal(signal.SIGSTOP)
        for process in self.tree()[1:]:
            process.signal(signal.SIGSTOP)

    def resume(self) -> None:
        for process in reversed(self.tree()):
            process.signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL the whole tree at once, as a crash does, and wait until it is gone."""
        self.signal(signal.SIGSTOP)
        victims = self.tree()
        for process in victims:
            process.signal(signal.SIGKILL)
        wait_until(lambda: not any(process.alive() for process in victims), 30, f"the end of process {self.pid}")

    def wait_status(self, timeout: float) -> int | None:
        """The exit status of a process that we started (negative: a signal), None if it still runs after `timeout`."""
        if not self.wait(timeout):
            return None
        return _statuses.get(self)

    def wait(self, timeout: float) -> bool:
        """True as soon as the process has ended, False after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while self.alive():
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_SECONDS)
        return True


def start(command: Sequence[str], log: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Process:
    """Start a command in a session of its own, so that Ctrl-C reaches us and not it; its output goes to `log`."""
    with log.open("ab") as output:
        child = forkserver.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=env,
            cwd=cwd,
            start_new_session=True,
        )
    _children[child.pid] = child
    stat = _stat(child.pid)
    return Process(child.pid, int(stat[19]) if stat else 0)


def wait_until(condition: Callable[[], object], timeout: float, message: str) -> None:
    """Poll `condition` every 20 ms until it is true; AssertionError naming `message` after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout:g} s in vain for {message}")
        time.sleep(POLL_SECONDS)


def free_port() -> int:
    """A loopback TCP port that nobody listens on, never given out twice by this process.

    Test processes that run beside each other have ports of their own: what is free now is listened on seconds later.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    ports = PORTS[int(worker) % 16 :: 16] if worker.isdecimal() else PORTS
    for _ in range(1000):
        port = random.choice(ports)
        if port in _handed_out or port in _STANDARD_PORTS:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _handed_out.add(port)
        return port
    raise ServerError(f"no free port found on 127.0.0.1 between {PORTS.start} and {PORTS.stop}")


def give_back(port: int) -> None:
    """A port of `free_port` that nobody listens on, and nobody is to find closed, any more."""
    _handed_out.discard(port)


def processes_below(directory: Path) -> list[Process]:
    """The living processes whose working directory lies in (or lay in, if it is deleted) a directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (process := Process.of(int(entry.name))):
            try:
                where = (entry / "cwd").readlink()
            except OSError:  # it has ended, or is not ours
                continue
            if where.is_relative_to(directory):
                found.append(process)
    return found


def answers(port: int, address: str = "127.0.0.1") -> bool:
    """Whether somebody takes connections on a port, of loopback unless said otherwise."""
    try:
        socket.create_connection((address, port), timeout=1).close()
    except OSError:
        return False
    return True


def tail(log: Path, lines: int = LOG_TAIL_LINES) -> str:
    """The last lines of a log file, for an error's text."""
    try:
        text = log.read_text(errors="replace")
    except FileNotFoundError:
        return f"{log}: no such file"
    return f"--- last lines of {log} ---\n" + "\n".join(text.splitlines()[-lines:])


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/<pid>/stat after the command's name, which may itself hold spaces and brackets."""
    try:
        with FileIO(f"/proc/{pid}/stat") as file:  # Path takes five times as long; kill looks at all
            text = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.decode(errors="replace").rpartition(") ")[2].split()
