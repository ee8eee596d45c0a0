"""A private MySQL in a directory, from the packages of a Debian suite that has one: 127.0.0.1 only, a port of its own.

Its programs want the suite's own libc, so they are started by the suite's own loader.
"""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dev import debian, mariadb
from dev.mariadb import MariaDB
from dev.process import ServerError, free_port

SUITE = "sid"
PACKAGES = ("mysql-server-core", "mysql-client-core")
INSTALL_SQL = mariadb.INSTALL_SQL.parents[1] / "mysql/install.sql"


@dataclass(frozen=True)
class Release:
    """The files of one MySQL below a directory."""

    root: Path

    def command(self, program: str) -> list[str]:
        """What starts a program of it, usr/sbin/mysqld."""
        (loader,) = self.root.glob("usr/lib64/ld-linux-*.so.*")
        libraries = [*self.root.glob("usr/lib/*-linux-gnu"), self.root / "usr/lib/mysql/private"]
        return [str(loader), "--library-path", ":".join(map(str, libraries)), str(self.root / program)]


def find(suite: str = SUITE, cache: Path = debian.CACHE) -> Release:
    """A fetched one; ServerError if it can't be fetched."""
    home = cache / f"mysql-{suite}"
    cache.mkdir(parents=True, exist_ok=True)
    with debian.locked(cache / "lock"), tempfile.TemporaryDirectory(dir=cache, prefix="fetch-") as work:
        if not home.exists():
            debian.unpack_all(Path(work), *PACKAGES, suite=suite).rename(home)
    return Release(home)


class MySQL(MariaDB):
    """A server; see MariaDB, whose protocol it speaks. Users log in by caching_sha2_password."""

    name = "MySQL"
    install_sql = INSTALL_SQL
    accounts = "select user, host from mysql.user where user <> 'root' and user not like 'mysql.%'"
    default_role = "set default role relay_listener to"
    connecting: Mapping[str, object] = {}  # caching_sha2_password wants TLS

    def url(self, database: str = "", user: str = mariadb.ROOT, password: str | None = None) -> str:
        """See MariaDB. Without TLS a listener does not tell its password."""
        return super().url(database, user, password).replace("mariadb://", "mysql://") + "?ssl=on"

    @functools.cached_property
    def _mysql(self) -> Release:
        return find(os.environ.get("MYSQL_SUITE") or SUITE)

    def _command(self, *more: str) -> list[str]:
        share = self._mysql.root / "usr/share/mysql"
        own: dict[str, object] = {
            "basedir": self._mysql.root / "usr",
            "datadir": self.data,
            "lc_messages_dir": share,
            "character_sets_dir": share / "charsets",
            "plugin_dir": self._mysql.root / "usr/lib/mysql/plugin",
            "tmpdir": self.directory,
            "innodb_buffer_pool_size": "64M",
            "performance_schema": 0,
            "mysqlx": 0,
            "secure_file_priv": "NULL",
        }
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            own["user"] = mariadb.ROOT  # else it refuses to run as root
        options = [f"--{name}={value}" for name, value in {**own, **self._given}.items()]
        return [*self._mysql.command("usr/sbin/mysqld"), "--no-defaults", *options, *(more or self._listening())]

    def _client(self) -> tuple[list[str], dict[str, str] | None]:
        return self._mysql.command("usr/bin/mysql"), None

    def _init(self) -> None:
        shutil.rmtree(self.data, ignore_errors=True)  # of one that was cut off
        self.directory.mkdir(parents=True, exist_ok=True)
        password, script = self.directory / "password", self.directory / "init.sql"
        for path in (password, script):
            path.touch(0o600)
        password.write_text(secrets.token_urlsafe(24) + "\n")
        script.write_text(
            f"create user root@'127.0.0.1' identified by '{self.password}';\n"
            "grant all on *.* to root@'127.0.0.1' with grant option;\ndrop user root@localhost;\n"
        )
        done = subprocess.run(
            self._command("--initialize-insecure", f"--init-file={script}"), capture_output=True, text=True,
            check=False, cwd=self.directory,
        )  # fmt: skip
        with contextlib.suppress(OSError):
            script.unlink()
        if done.returncode != 0:
            raise ServerError(f"mysqld --initialize failed with status {done.returncode}:\n{done.stdout}{done.stderr}")
        (self.directory / "port").write_text(f"{free_port()}\n")  # last: its presence says that the rest is complete
