"""A private MariaDB in a directory: 127.0.0.1 only, a port of its own; from Debian's packages, as RabbitMQ is.

It runs as root as well as under any other user. An installed MariaDB is used where there is one.
"""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from dev import debian
from dev.process import ServerError, free_port
from dev.server import Server

if TYPE_CHECKING:
    from pymysql.connections import Connection

PACKAGES = ("mariadb-server-core", "mariadb-client-core")
INSTALL_SQL = Path(__file__).resolve().parent.parent / "sql/mariadb/install.sql"
ROOT = "root"
_HOME = "mariadb-system"
_SERVER = "usr/sbin/mariadbd"
_SCRIPTS = ("mysql_system_tables.sql", "mysql_performance_tables.sql", "mysql_system_tables_data.sql")
_SOCKET_PATH_MAX = 107
# A test's host is not switched off: what is committed is in the file system's cache and survives kill -9.
_RELAXED = {"innodb_flush_log_at_trx_commit": 2, "innodb_doublewrite": 0, "sync_binlog": 0}

_STRANGERS = """
select id from information_schema.processlist where id <> connection_id()
    and user not in ('system user', 'event_scheduler')
"""
_DATABASES = """
select schema_name from information_schema.schemata
where schema_name not in ('mysql', 'information_schema', 'performance_schema', 'sys')
"""


def quoted(name: str) -> str:
    """A name as SQL's identifier."""
    return "`" + name.replace("`", "``") + "`"


@dataclass(frozen=True)
class Release:
    """The files of one MariaDB below a directory; "/" is the installed one."""

    root: Path

    @property
    def server(self) -> Path:
        return self.root / _SERVER

    @property
    def client(self) -> Path:
        """The command line client."""
        return self.root / "usr/bin/mariadb"

    @property
    def share(self) -> Path:
        """Messages, character sets and the SQL of the system's tables."""
        return self.root / "usr/share/mysql"

    def environment(self) -> dict[str, str] | None:
        """Where the libraries are that Debian would have installed with it; the system's own come first."""
        if self.root == Path("/"):
            return None
        paths = [str(path) for where in ("usr/lib", "lib") for path in (self.root / where).glob("*-linux-gnu")]
        return {**os.environ, "LD_LIBRARY_PATH": ":".join(paths)}


def find(cache: Path = debian.CACHE) -> Release:
    """The system's MariaDB if it is installed, else a fetched one; ServerError if it can't be fetched."""
    installed = Release(Path("/"))
    if installed.server.exists() and installed.client.exists():
        return installed
    home = cache / _HOME
    if not (home / _SERVER).exists():
        cache.mkdir(parents=True, exist_ok=True)
        with debian.locked(cache / "lock"), tempfile.TemporaryDirectory(dir=cache, prefix="fetch-") as work:
            if not (home / _SERVER).exists():
                debian.unpack_all(Path(work), *PACKAGES).rename(home)
    return Release(home)


class MariaDB(Server):
    """A server.

    Args:
        directory: of its own.
        durable: it flushes to disk at each commit, as a user's does.
        settings: of the server, beside ours: {"max_allowed_packet": "1M"}, {"log_bin": "binlog"}.
    """

    name = "MariaDB"
    install_sql = INSTALL_SQL
    accounts = "select user, host from mysql.global_priv where user not in ('root', 'mariadb.sys')"
    default_role = "set default role relay_listener for"
    connecting: Mapping[str, object] = {"ssl_disabled": True}  # to load the system's authorities takes longest of all

    def __init__(self, directory: Path, *, durable: bool = True, settings: Mapping[str, object] | None = None) -> None:
        super().__init__(directory, self.name, f"{self.name.lower()}.log")
        self._given = {**({} if durable else _RELAXED), **(settings or {})}

    @functools.cached_property
    def release(self) -> Release:
        return find()

    def url(self, database: str = "", user: str = ROOT, password: str | None = None) -> str:
        """A DATABASE_URL; root's password is filled in."""
        secret = self.password if password is None and user == ROOT else password or ""
        return f"mariadb://{quote(user)}:{quote(secret, safe='')}@127.0.0.1:{self.port}/{quote(database, safe='')}"

    def connect(self, database: str | None = None, user: str = ROOT, password: str | None = None) -> Connection[Any]:
        """An autocommit connection."""
        import pymysql

        secret = self.password if password is None and user == ROOT else password or ""
        return pymysql.connect(
            host="127.0.0.1", port=self.port, user=user, password=secret, database=database, autocommit=True,
            charset="utf8mb4", connect_timeout=10, **self.connecting,
        )  # fmt: skip

    def execute(self, *statements: str) -> None:
        """As root, on a connection of its own."""
        with contextlib.closing(self.connect()) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def add_listener(self, user: str, password: str) -> None:
        """A login that may do what the listener must."""
        self.execute(
            f"create user {user}@'%' identified by '{password}'", f"grant relay_listener to {user}@'%'",
            f"{self.default_role} {user}@'%'",
        )  # fmt: skip

    def client(self, script: Path, *arguments: str, user: str = ROOT, password: str | None = None) -> str:
        """Run a script with the command line client, as a DBA does; its output. ServerError with its own words."""
        secret = self.password if password is None and user == ROOT else password or ""
        command, environment = self._client()
        command += ["--no-defaults", "--protocol=tcp", "-h127.0.0.1", f"-P{self.port}", f"-u{user}"]
        done = subprocess.run(
            [*command, "--default-character-set=utf8mb4", *arguments],
            env={**(environment or os.environ), "MYSQL_PWD": secret},
            stdin=script.open("rb"), capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise ServerError(
                f"{self.name}: {script} failed with status {done.returncode}:\n{done.stdout}{done.stderr}"
            )
        return done.stdout

    def start(self) -> None:
        """Returns when the server accepts connections; ServerError with the log's tail if it does not."""
        if self.process:
            return
        if not self.is_made:
            self._init()
        self._started(self._command(), self._answers, self._client()[1])

    def stop(self) -> None:
        """Stop in order; a server that does not end in time is killed."""
        self._stopped(signal.SIGTERM)

    def restart(self) -> None:
        self.stop()
        self.start()

    def renew(self) -> None:
        """Without the databases and accounts that were made here, and with a new relay's database."""
        with contextlib.closing(self.connect()) as connection, connection.cursor() as cursor:
            cursor.execute(_STRANGERS)
            for (thread,) in cursor.fetchall():
                with contextlib.suppress(Exception):  # it has ended meanwhile
                    cursor.execute(f"kill {thread}")
            cursor.execute("set foreign_key_checks = 0, lock_wait_timeout = 30")
            cursor.execute(_DATABASES)
            for (name,) in cursor.fetchall():
                cursor.execute(f"drop database {quoted(name)}")
            cursor.execute(self.accounts)
            for user, host in cursor.fetchall():  # a role has no host
                cursor.execute(f"drop user {quoted(user)}@{quoted(host)}" if host else f"drop role {quoted(user)}")
        if self.install_sql.exists():
            self.client(self.install_sql)

    def remove(self) -> None:
        """Kill it and delete its directory."""
        self.kill()
        self._gone()

    def _client(self) -> tuple[list[str], dict[str, str] | None]:
        """The command line client, and the environment of its programs."""
        return [str(self.release.client)], self.release.environment()

    def _command(self, *more: str) -> list[str]:
        own: dict[str, object] = {
            "datadir": self.data,
            "lc_messages_dir": self.release.share,
            "character_sets_dir": self.release.share / "charsets",
            "tmpdir": self.directory,
            "innodb_buffer_pool_size": "64M",
            "innodb_log_file_size": "32M",
            "key_buffer_size": "1M",
            "aria_pagecache_buffer_size": "2M",
            "performance_schema": 0,
        }
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            own["user"] = ROOT  # else it refuses to run as root
        options = [f"--{name}={value}" for name, value in {**own, **self._given}.items()]
        return [str(self.release.server), "--no-defaults", *options, *(more or self._listening())]

    def _listening(self) -> list[str]:
        path = self.directory / "mariadb.sock"
        if len(str(path)) > _SOCKET_PATH_MAX:  # it must have one; a relative path is below its data
            path = Path("mariadb.sock")
        return ["--bind-address=127.0.0.1", f"--port={self.port}", f"--socket={path}", "--skip-name-resolve"]

    def _init(self) -> None:
        """The system's tables and one account, as mariadb-install-db makes them; without its sys schema and help."""
        shutil.rmtree(self.data, ignore_errors=True)  # of one that was cut off
        (self.data / "mysql").mkdir(parents=True)
        password = self.directory / "password"
        password.touch(0o600)
        password.write_text(secrets.token_urlsafe(24) + "\n")
        script = ["create database if not exists mysql;", "use mysql;", "set @auth_root_socket = null;"]
        script += [(self.release.share / name).read_text() for name in _SCRIPTS]
        script += [
            "delete from mysql.global_priv where user = '' or user = 'root';", "flush privileges;",
            f"grant all on *.* to root@'127.0.0.1' identified by '{self.password}' with grant option;\n",
        ]  # fmt: skip
        done = subprocess.run(
            self._command("--bootstrap", "--log-warnings=0"), input="\n".join(script),
            env=self.release.environment(), capture_output=True, text=True, check=False, cwd=self.directory,
        )  # fmt: skip
        if done.returncode != 0:
            raise ServerError(f"mariadbd --bootstrap failed with status {done.returncode}:\n{done.stdout}{done.stderr}")
        (self.directory / "port").write_text(f"{free_port()}\n")  # last: its presence says that the rest is complete

    def _answers(self) -> bool:
        import pymysql

        with contextlib.suppress(pymysql.err.OperationalError):
            self.connect().close()
            return True
        return False
