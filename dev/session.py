"""The directories below .run: what belongs to a test session, and what one that was killed has left behind."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from dev.postgres import remove_shared_memory
from dev.process import Process

RUN = Path(__file__).resolve().parent.parent / ".run"
PROCESS = "process"  # file that names a process which is to end with the directory
_PREFIX = "test-"
_OWNER = "session"


def make(run: Path = RUN) -> Path:
    """A directory for this process's servers, known as its own by its pid and start time."""
    owner = Process.of(os.getpid())
    assert owner is not None
    # It gets its name when it says whose it is: a sweep of another session takes one without an owner for a dead one's.
    making = run / f"making-{os.getpid()}"
    making.mkdir(parents=True, exist_ok=True)
    owner.save(making / _OWNER)
    return making.rename(run / f"{_PREFIX}{os.getpid()}")


def is_session(path: Path) -> bool:
    """Whether it is a test session's, or belongs to a process that still runs (a demo's does, until it is kept)."""
    return path.name.startswith(_PREFIX) or Process.load(path / _OWNER) is not None


def halt(path: Path) -> None:
    """Kill every process that was written down below a path."""
    for file in (*path.rglob(PROCESS), *path.rglob(f"epmd.{PROCESS}")):
        if process := Process.load(file):
            process.kill()
    for pidfile in path.rglob("postmaster.pid"):
        remove_shared_memory(pidfile.parent)


def remove(path: Path) -> None:
    """Kill every process that was written down below a path, and delete it; also where it lies, if empty then."""
    halt(path)
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
    remove_if_empty(path.parent)


def remove_if_empty(directory: Path) -> None:
    with contextlib.suppress(OSError):
        directory.rmdir()


def sweep(run: Path = RUN) -> None:
    """Remove what sessions have left that were killed before they could clean up; those that run are left alone."""
    for directory in run.glob(f"{_PREFIX}*"):
        if Process.load(directory / _OWNER) is None:
            remove(directory)
