"""A private pgbouncer in front of a database; from Debian's packages, as RabbitMQ is (dev/debian.py)."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from dev import debian, unprivileged
from dev.database import Database
from dev.process import ServerError, free_port, start, wait_until

_PACKAGES = ("pgbouncer", "libc-ares2")  # the second is not everywhere; all else it needs is
_PROGRAM = "usr/sbin/pgbouncer"


def find(cache: Path = debian.CACHE) -> Path:
    """The root directory of pgbouncer's files: the system's if it is installed, else a fetched one."""
    if (Path("/") / _PROGRAM).exists():
        return Path("/")
    home = cache / "pgbouncer-system"
    cache.mkdir(parents=True, exist_ok=True)
    with debian.locked(cache / "lock"):
        if not (home / _PROGRAM).exists():
            with tempfile.TemporaryDirectory(dir=cache, prefix="fetch-") as work:
                debian.unpack(Path(work), *_PACKAGES).rename(home)
    return home


@contextlib.contextmanager
def running(database: Database, directory: Path, mode: str) -> Iterator[str]:
    """Run one before a database, for whoever connects as its listener; yield the DSN of that.

    Args:
        database: its server must be reachable.
        directory: for its files; made.
        mode: session or transaction.
    """
    root, port = find(), free_port()
    directory.mkdir()
    settings = directory / "pgbouncer.ini"
    settings.write_text(
        f"[databases]\n{database.name} = host=127.0.0.1 port={database.server.port} user={database.LISTENER} "
        f"password={database.PASSWORD}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nauth_type = any\n"
        f"pool_mode = {mode}\nunix_socket_dir =\n"
    )
    unprivileged.hand_over(settings)
    libraries = ":".join(str(path) for path in (root / "usr/lib").glob("*-linux-gnu"))
    environment = {**os.environ, "LD_LIBRARY_PATH": libraries} if root != Path("/") else None
    log, program = directory / "log", root / _PROGRAM
    process = start([*unprivileged.prefix(directory, program), str(program), str(settings)], log, environment)
    try:
        wait_until(lambda: "process up" in log.read_text() or not process.alive(), 20, "pgbouncer to be up")
        if not process.alive():
            raise ServerError(f"pgbouncer ended: {log.read_text()}")
        yield f"postgresql://{database.LISTENER}@127.0.0.1:{port}/{database.name}?sslmode=disable"
    finally:
        process.kill()
