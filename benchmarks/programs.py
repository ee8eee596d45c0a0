"""Clients and endpoints of a measure: processes of their own, whose text stands in the measure's module."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def running(program: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A Python program of its own; killed at the end."""
    command = [sys.executable, "-c", program, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[str]) -> str:
    """What it prints next. AssertionError if it has ended."""
    assert process.stdout is not None
    told = process.stdout.readline()
    assert told, "a client has failed"
    return told
