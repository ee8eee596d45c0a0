"""The directories below .run: what belongs to a test session, and what one that was killed has left behind.

A session may have its files in memory: what lies below .run is a link then, and goes with them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

from dev.postgres import remove_shared_memory
from dev.process import Process

RUN = Path(__file__).resolve().parent.parent / ".run"
MEMORY = Path("/dev/shm")  # noqa: S108 - a directory of our own in it
PLENTY = 4 << 30  # bytes; a session takes a few hundred MB
PROCESS = "process"  # file that names a process which is to end with the directory
_PREFIX = "test-"
_OWNER = "session"


def make(run: Path = RUN, *, in_memory: bool = False) -> Path:
    """A directory for this process's servers, known as its own by its pid and start time.

    Args:
        in_memory: its files in memory, if there is plenty: to make and drop a database takes half the processor time
            then. What is killed there finds its files as on a disk; only a power cut would tell them apart.
    """
    owner = Process.of(os.getpid())
    assert owner is not None
    # It gets its name when it says whose it is: a sweep of another session takes one without an owner for a dead one's.
    making = run / f"making-{os.getpid()}"
    if in_memory and _room_in_memory() >= PLENTY:
        run.mkdir(parents=True, exist_ok=True)
        files = Path(tempfile.mkdtemp(prefix="relay-", dir=MEMORY))
        files.chmod(0o755)  # PostgreSQL may run as another user
        making.symlink_to(files)
    else:
        making.mkdir(parents=True, exist_ok=True)
    owner.save(making / _OWNER)
    return making.rename(run / f"{_PREFIX}{os.getpid()}")


def _room_in_memory() -> int:
    """Bytes that files in memory may take."""
    if not MEMORY.is_dir():
        return 0
    lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    return min(int(lines["MemAvailable"].split()[0]) << 10, shutil.disk_usage(MEMORY).free)


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
    if path.is_symlink():
        files = path.resolve()
        path.unlink()
        shutil.rmtree(files, ignore_errors=True)
    elif path.is_dir():
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
