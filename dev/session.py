"""The directories below .run: what belongs to a test session, and what one that was killed has left behind."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from dev.process import Process

RUN = Path(__file__).resolve().parent.parent / ".run"
_OWNER = "session"


def make() -> Path:
    """A directory for this process's servers, known as its own by its pid and start time."""
    directory = RUN / f"test-{os.getpid()}"
    directory.mkdir(parents=True)
    if owner := Process.of(os.getpid()):
        owner.save(directory / _OWNER)
    return directory


def remove(directory: Path) -> None:
    """End every server that was started below a directory, and delete it; also .run, if that is empty then."""
    for path in (*directory.rglob("process"), *directory.rglob("epmd.process")):
        if process := Process.load(path):
            process.kill()
    shutil.rmtree(directory, ignore_errors=True)
    if RUN.is_dir() and not any(RUN.iterdir()):
        RUN.rmdir()


def sweep() -> None:
    """Remove what sessions have left that were killed before they could clean up."""
    for directory in RUN.glob("test-*"):
        if Process.load(directory / _OWNER) is None:
            remove(directory)
