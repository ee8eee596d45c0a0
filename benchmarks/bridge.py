"""mq-bridge 1.2.0 (Rust, PyPI) as a peer: PostgreSQL's logical replication to the same queue, each batch confirmed.

It lives in a virtual environment of its own below .cache, and runs in a process of its own.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.site import QUEUE, Site
from dev.process import Process, ServerError, start, tail

VERSION = "1.2.0"
VENV = Path(__file__).resolve().parent.parent / ".cache" / f"mq-bridge-{VERSION}"
BATCH = 2048  # 512 is its default; see docs/performance.md
RUN = "import json, sys; from mq_bridge import Route; Route.from_config(json.loads(sys.argv[1])).run()"


def python() -> Path:
    """The interpreter that has it; installed if it is not there yet."""
    found = VENV / "bin" / "python"
    ready = VENV / "ready"
    if not ready.exists():
        for command in (
            [sys.executable, "-m", "venv", str(VENV)],
            [str(found), "-m", "pip", "install", "-qq", "--disable-pip-version-check", f"mq-bridge=={VERSION}"],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise ServerError(f"mq-bridge {VERSION} can't be installed:\n{done.stdout}{done.stderr}")
        ready.touch()
    return found


class Source:
    """A table on the server with logical replication, and the slot that remembers what was read of it."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.name = site.new_name()
        self.database = site.logical
        self._log = site.directory / f"{self.name}.log"

    def make(self, columns: str) -> None:
        with self.database.admin().cursor() as cursor:
            cursor.execute(f"create table {self.name} ({columns})")
            cursor.execute(f"create publication {self.name} for table {self.name}")
            cursor.execute(f"select pg_create_logical_replication_slot('{self.name}', 'pgoutput')")

    def drop(self) -> None:
        with self.database.admin().cursor() as cursor:
            stop = "select pg_terminate_backend(active_pid, 5000) from pg_replication_slots where active"
            stop += " and slot_name = %s"
            cursor.execute(stop, (self.name,))
            cursor.execute(f"select pg_drop_replication_slot('{self.name}')")
            cursor.execute(f"drop publication {self.name}")
            cursor.execute(f"drop table {self.name}")
        self.database.close()

    def active(self) -> bool:
        """Whether somebody reads the slot."""
        with self.database.admin().cursor() as cursor:
            cursor.execute("select active from pg_replication_slots where slot_name = %s", (self.name,))
            row = cursor.fetchone()
            return bool(row and row[0])

    @contextlib.contextmanager
    def running(self, amqp: str, queue: str = QUEUE) -> Iterator[Process]:
        """The bridge between the slot and the queue."""
        config = {
            "input": {
                "postgres_cdc": {
                    "url": self.database.admin_dsn,
                    "publication": self.name,
                    "slot_name": self.name,
                    "create_slot": False,
                }
            },
            # Persistent messages, each confirmed (delayed_ack is off), one batch after another: it keeps the order.
            "output": {"amqp": {"url": amqp, "queue": queue, "no_declare_queue": True}},
            "batch_size": BATCH,
            "concurrency": 1,
            "required_delivery": "at_least_once",
        }
        process = start([str(python()), "-c", RUN, json.dumps(config)], self._log)
        try:
            yield process
        except AssertionError as error:
            raise AssertionError(f"{error}\n{tail(self._log)}") from None
        finally:
            process.kill()


@contextlib.contextmanager
def delivering(site: Site, queue: str, url: str, batch: int) -> Iterator[Process]:
    """The bridge between a classic queue (it declares its queue itself, and knows no other kind) and an endpoint."""
    config = {
        "input": {"amqp": {"url": site.vhost.url, "queue": queue, "prefetch_count": 500}},
        "output": {"http": {"url": url, "batch_concurrency": 4}},
        "batch_size": batch,
        "concurrency": 1,
        "required_delivery": "at_least_once",
    }
    process = start([str(python()), "-c", RUN, json.dumps(config)], site.directory / f"{site.new_name()}.log")
    try:
        yield process
    finally:
        process.kill()
