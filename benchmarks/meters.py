"""What the kernel and the broker say: processor time and memory of processes, and when a queue filled."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pika

from dev.process import Process, wait_until

_TICKS = os.sysconf("SC_CLK_TCK")
POLL_SECONDS = 0.02


def cpu_seconds(root: Process) -> float:
    """Processor time of a process, of all below it, and of its children that have ended."""
    total = 0
    for process in root.tree():
        fields = _stat(process.pid)
        total += sum(int(field) for field in fields[11:13]) if fields else 0
    own = _stat(root.pid)
    return (total + sum(int(field) for field in own[13:15] if own)) / _TICKS


@contextlib.contextmanager
def spending(processes: Mapping[str, Process]) -> Iterator[dict[str, float]]:
    """Seconds of processor time that each of them takes meanwhile: filled in at the end."""
    before = {name: cpu_seconds(process) for name, process in processes.items()}
    spent: dict[str, float] = {}
    yield spent
    spent |= {name: cpu_seconds(process) - before[name] for name, process in processes.items()}


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return []


def peak_mb(pid: int) -> float:
    """The most memory that a process ever had resident, MiB."""
    return status_mb(pid, "VmHWM")


def status_mb(pid: int, name: str) -> float:
    """A size that the kernel tells of a process in /proc/PID/status, MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise LookupError(f"no {name} of process {pid}")


class Filled(NamedTuple):
    """How a queue filled."""

    seconds: float
    """From the first messages seen in it to the last."""
    messages: int
    """How many came in that time."""

    @property
    def rate(self) -> float:
        return self.messages / self.seconds


def await_filled(url: str, queue: str, count: int, timeout: float, alive: Callable[[], bool]) -> Filled:
    """Watch a queue, empty now, until it holds `count` messages: the same clock for whoever fills it.

    The time it takes a process to start is not part of it. AssertionError if it stays below `count`.
    """
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    first: tuple[float, int] | None = None
    end = time.monotonic() + timeout
    try:
        while True:
            depth = int(channel.queue_declare(queue, passive=True).method.message_count)
            now = time.monotonic()
            if depth and first is None:
                first = (now, depth)
            if first is not None and depth >= count:
                return Filled(max(now - first[0], POLL_SECONDS), depth - first[1])
            still = now < end and alive()
            assert still, f"{depth} of {count} messages in {queue}, and no more"
            connection.sleep(POLL_SECONDS)
    finally:
        connection.close()


def settle(processes: Callable[[], list[Process]], most: float = 15) -> None:
    """Wait until servers have done what they still had to do: below 5 % of a core, or `most` seconds."""
    end = time.monotonic() + most

    def quiet() -> bool:
        before = sum(cpu_seconds(process) for process in processes())
        time.sleep(0.4)
        return sum(cpu_seconds(process) for process in processes()) - before < 0.02 or time.monotonic() > end

    wait_until(quiet, most + 5, "the servers to be quiet")
