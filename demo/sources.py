"""The database of the demo, PostgreSQL or MariaDB: what its table is made of, and the words in which they differ."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import psycopg2
import pymysql

from demo.failed import Failed
from dev import database, stack
from dev.mariadb import ROOT as ROOT_USER
from dev.mariadb import MariaDB
from dev.postgres import Flavour
from dev.script import ROOT

Connection = Any
"""Of psycopg2 or PyMySQL: both drivers' parameters are %s."""
Cursor = Any
ERRORS = (psycopg2.Error, pymysql.Error)
KINDS = ("postgres", "mariadb")
_CHANGE = """update {table} set {what}, version = version + 1, "change" = %s, changed_at = current_timestamp(6)
    where icao = %s"""


class Source(stack.Source, Protocol):
    """What the acts ask of it."""

    table: str
    """Its name in SQL and in the events."""
    types: Mapping[str, str]
    """The SQL of a column's type: key, text, number (as many digits as there are), moment."""
    client: str
    """What its command line client is called."""
    run: str
    """The client's option that runs a statement."""

    def connect(self, user: str = "", *, autocommit: bool = True) -> Connection:
        """As stack.APP or, by default, as an administrator; READ COMMITTED, in UTC, standard quotes and ||."""

    def change(self, cursor: Cursor, what: str, values: tuple[object, ...], key: str, becomes: str = "") -> int:
        """Change one row, in the transaction that is open.

        Args:
            cursor: of the application.
            what: behind SET; version and changed_at are added.
            values: of `what`, and the number of the change.
            key: which row.
            becomes: its key afterwards, if that is another one.

        Returns:
            The row's version.
        """

    def watch(self, env_file: Path, /) -> tuple[str, str]:
        """Watch the table; how that was said, and the answer."""

    def let_read(self, cursor: Cursor) -> None:
        """Have the application, whose table it is, let the listener send its rows again."""

    def shell(self, user: str = "") -> str:
        """A script that starts the client, as the same."""


class OfPostgres(stack.OfPostgres):
    """PostgreSQL."""

    table, client, run = "public.airports", "psql", "-c"
    types: Mapping[str, str] = {"key": "text", "text": "text", "number": "numeric", "moment": "timestamptz"}

    def up(self, secret: Mapping[str, str]) -> None:
        """See Source."""
        super().up(secret)
        self._app = self.url(stack.APP, secret["app"])

    def connect(self, user: str = "", *, autocommit: bool = True) -> Connection:
        """See Source."""
        opened = database.connect(self._app if user else self.url())
        opened.autocommit = autocommit
        return opened

    def change(self, cursor: Cursor, what: str, values: tuple[object, ...], key: str, becomes: str = "") -> int:
        """See Source."""
        cursor.execute(_CHANGE.format(table=self.table, what=what) + " returning version", (*values, key))
        return _version(cursor, becomes or key)

    def watch(self, _env_file: Path, /) -> tuple[str, str]:
        """See Source."""
        said = f"select relay.watch('{self.table}')"
        with contextlib.closing(self.connect()) as connection, connection.cursor() as cursor:
            cursor.execute(said)
            ((answer,),) = cursor.fetchall()
        return f"{said};", answer

    def let_read(self, cursor: Cursor) -> None:
        """See Source."""
        cursor.execute(f"grant usage on schema public to {stack.LISTENER}")
        cursor.execute(f"grant select, update (icao) on {self.table} to {stack.LISTENER}")

    def shell(self, user: str = "") -> str:
        """See Source."""
        return f'exec {shlex.join([str(self.server.bin / "psql"), self._app if user else self.url()])} "$@"'


class OfMariaDB:
    """MariaDB, by the same outbox."""

    name = "MariaDB"
    table, client, run = f"{stack.DATABASE}.airports", "mariadb-client", "-e"
    # 36 digits behind the point, and two more: a type without a scale it has not.
    types: Mapping[str, str] = {
        "key": "varchar(40) collate utf8mb4_bin", "text": "text collate utf8mb4_bin", "number": "decimal(60, 38)",
        "moment": "timestamp(6)",
    }  # fmt: skip

    def __init__(self, directory: Path) -> None:
        self.server = MariaDB(directory / "mariadb")

    def up(self, secret: Mapping[str, str]) -> None:
        """See Source."""
        self.server.start()
        self.server.renew()
        self._app = secret["app"]
        self.server.add_listener(stack.LISTENER, secret["listener"])
        app = f"{stack.APP}@'%'"
        self.server.execute(
            f"create database {stack.DATABASE} character set utf8mb4",
            f"create user {app} identified by '{secret['app']}'",
            f"grant all on {stack.DATABASE}.* to {app}",
        )

    def url(self, user: str = "", password: str = "") -> str:
        """See Source."""
        return self.server.url(stack.DATABASE, user, password) if user else self.server.url(stack.DATABASE)

    def connect(self, user: str = "", *, autocommit: bool = True) -> Connection:
        """See Source."""
        opened = self.server.connect(stack.DATABASE, *((user, self._app) if user else ()))
        opened.autocommit(autocommit)
        with opened.cursor() as cursor:
            cursor.execute("set session time_zone = '+00:00', sql_mode = 'ANSI,STRICT_ALL_TABLES'")
            cursor.execute("set session transaction isolation level read committed")
        return opened

    def change(self, cursor: Cursor, what: str, values: tuple[object, ...], key: str, becomes: str = "") -> int:
        """See Source."""
        cursor.execute(_CHANGE.format(table=self.table, what=what), (*values, key))
        cursor.execute(f"select version from {self.table} where icao = %s", (becomes or key,))  # noqa: S608 - constants
        return _version(cursor, becomes or key)

    def watch(self, env_file: Path, /) -> tuple[str, str]:
        """See Source."""
        command = [sys.executable, str(ROOT / "listen.py"), "--env-file", str(env_file), "watch", self.table]
        done = subprocess.run(
            command,
            env={**os.environ, "DATABASE_URL": self.url()},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise Failed(f"listen.py watch ended with status {done.returncode}: {done.stderr.strip()}")
        return f"listen.py watch {self.table}", done.stdout.strip()

    def let_read(self, cursor: Cursor) -> None:
        """It may since the table is watched."""

    def shell(self, user: str = "") -> str:
        """See Source."""
        server, libraries = self.server, (self.server.release.environment() or {}).get("LD_LIBRARY_PATH", "")
        name, password = (user, self._app) if user else (ROOT_USER, server.password)
        words = [str(server.release.client), "--no-defaults", "--protocol=tcp", "-h127.0.0.1", f"-P{server.port}"]
        words += [f"-u{name}", "--default-character-set=utf8mb4", stack.DATABASE]
        variables = {"LD_LIBRARY_PATH": libraries, "MYSQL_PWD": password}
        said = " ".join(f"{name}={shlex.quote(text)}" for name, text in variables.items() if text)
        return f'{said} exec {shlex.join(words)} "$@"'


def _version(cursor: Cursor, key: str) -> int:
    found = cursor.fetchone()
    assert found, f"the demo itself is wrong: no row {key}"
    return int(found[0])


def of(kind: str, directory: Path, flavour: Flavour) -> Source:
    """The database of this kind, one of KINDS, below a directory."""
    return OfMariaDB(directory) if kind == "mariadb" else OfPostgres(directory, flavour)
