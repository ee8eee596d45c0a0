"""promtool, which checks metrics and alert rules; from Debian's packages, as RabbitMQ is (dev/debian.py)."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from dev import debian

_PROGRAM = "usr/bin/promtool"


def find(cache: Path = debian.CACHE) -> Path:
    """The program: the system's if it is installed, else a fetched one, for which the cache keeps 50 MB."""
    if installed := shutil.which("promtool"):
        return Path(installed)
    program = cache / "promtool-system" / "promtool"
    cache.mkdir(parents=True, exist_ok=True)
    if not program.exists():  # what is there waits for no fetch of something else
        with debian.locked(cache / "lock"), tempfile.TemporaryDirectory(dir=cache, prefix="fetch-") as work:
            if not program.exists():
                found = debian.unpack(Path(work), "prometheus") / _PROGRAM
                program.parent.mkdir(exist_ok=True)
                found.rename(program)
    return program
