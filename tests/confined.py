"""What the units' SystemCallFilter= and MemoryDenyWriteExecute= leave, for a process that a test starts."""

from __future__ import annotations

import ctypes.util
import functools
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

needed = pytest.mark.skipif(
    not (shutil.which("systemd-analyze") and ctypes.util.find_library("seccomp")),
    reason="no systemd or libseccomp here",
)


def environment() -> Mapping[str, str]:
    """With it Python, and what it starts, is confined as by all units: they have the same filter."""
    return {"PYTHONPATH": str(ROOT / "tests" / "confining"), "CONFINE": " ".join(sorted(_allowed()))}


@functools.cache
def _allowed() -> frozenset[str]:
    units = sorted((ROOT / "systemd").glob("*.service"))
    [(allowed, denied)] = {
        tuple(re.findall(r"^SystemCallFilter=(.+)", unit.read_text(), re.MULTILINE)) for unit in units
    }
    return _calls(allowed).difference(*(_calls(group) for group in denied.removeprefix("~").split()))


def _calls(group: str) -> frozenset[str]:
    """The system calls of one of systemd's groups."""
    done = subprocess.run(["systemd-analyze", "syscall-filter", group], capture_output=True, text=True, check=True)
    names = [line.strip() for line in done.stdout.splitlines()[1:] if line.strip() and "#" not in line]
    return frozenset(call for name in names for call in (_calls(name) if name.startswith("@") else {name}))
