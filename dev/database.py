"""A database for one test or one developer, with the relay's schema and the three roles that meet there."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from dev.postgres import Postgres

INSTALL_SQL = Path(__file__).resolve().parent.parent / "sql" / "install.sql"
LISTENER_GROUP = "relay_listener"  # made by install.sql
TEMPLATE = "relay_template"
FIRST_WITH_STRATEGY = 15
_kept: dict[str, Connection] = {}  # by DSN of the server's own database


def connect(dsn: str) -> Connection:
    """An autocommit connection."""
    opened = psycopg2.connect(dsn, connect_timeout=10)
    opened.autocommit = True
    return opened


def execute(dsn: str, *statements: str | sql.Composed, parameters: Sequence[object] = ()) -> None:
    with contextlib.closing(connect(dsn)) as opened, opened.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement, parameters or None)


def ask(server: Postgres, statement: str | sql.Composed, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
    """Execute a statement on the server's own database; what it returns.

    Over a connection that stays, for each server one: a new one costs more than a new database.
    """
    kept = _kept.pop(server.dsn(), None)
    if kept is not None:
        with contextlib.suppress(psycopg2.OperationalError, psycopg2.InterfaceError):  # the server was stopped
            return _asked(server, kept, statement, parameters)
    return _asked(server, connect(server.dsn()), statement, parameters)


def _asked(
    server: Postgres, opened: Connection, statement: str | sql.Composed, parameters: Sequence[object]
) -> list[tuple[Any, ...]]:
    with opened.cursor() as cursor:
        cursor.execute(statement, parameters or None)
        _kept[server.dsn()] = opened
        return cursor.fetchall() if cursor.description else []


def exists(server: Postgres, query: str, *parameters: object) -> bool:
    """Whether a query on the server's own database returns a row."""
    return bool(ask(server, f"SELECT EXISTS ({query})", parameters)[0][0])


def ensure_login(server: Postgres, role: str, password: str) -> None:
    """Have a login role with this password and no rights of its own."""
    verb = "ALTER" if exists(server, "SELECT FROM pg_roles WHERE rolname = %s", role) else "CREATE"
    statement = sql.SQL(verb + " ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD {}")
    execute(server.dsn(), statement.format(sql.Identifier(role), sql.Literal(password)))


def join_listener_group(server: Postgres, role: str) -> None:
    """Make a login role a listener; nothing to do while install.sql has not made the group."""
    if exists(server, "SELECT FROM pg_roles WHERE rolname = %s", LISTENER_GROUP):
        grant = sql.SQL("GRANT {} TO {}").format(sql.Identifier(LISTENER_GROUP), sql.Identifier(role))
        execute(server.dsn(), grant)


def create(server: Postgres, name: str, template: str = "template1") -> None:
    """Copy the template's files: half of the processor time of copying its pages through the log, the default from 15.

    Among them is what a first session would else find out in all catalogs (pg_internal.init).
    """
    statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
    ((version,),) = ask(server, "SELECT current_setting('server_version_num')::int / 10000")
    ask(server, statement + sql.SQL(" STRATEGY file_copy" if version >= FIRST_WITH_STRATEGY else ""))


def drop(server: Postgres, name: str) -> None:
    """Drop a database and whoever is connected to it."""
    ask(server, sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def install(server: Postgres, name: str, app_role: str) -> None:
    """Apply sql/install.sql with psql, as a DBA would, and let the application's role own schema public."""
    if INSTALL_SQL.exists():
        server.psql(INSTALL_SQL, server.dsn(name))
    owner = sql.SQL("ALTER SCHEMA public OWNER TO {}").format(sql.Identifier(app_role))
    execute(server.dsn(name), owner)


class Database:
    """A database made for one test. Connections it hands out are autocommit and end with it.

    admin: superuser. listener: a member of relay_listener. app: owns schema public, has no right on schema relay.
    """

    LISTENER = "relay_listener_test"
    APP = "app_test"
    PASSWORD = "s3cret-of-tests"  # noqa: S105 - of a server that only this test knows

    def __init__(self, server: Postgres, name: str) -> None:
        self.server = server
        self.name = name
        self._open: list[Connection] = []

    @classmethod
    def create(cls, server: Postgres, name: str) -> Database:
        """Copy the template, which is made with the relay's schema when the server has none yet."""
        if not exists(server, "SELECT FROM pg_database WHERE datname = %s AND datistemplate", TEMPLATE):
            cls._make_template(server)
        create(server, name, TEMPLATE)
        return cls(server, name)

    @classmethod
    def _make_template(cls, server: Postgres) -> None:
        for role in (cls.LISTENER, cls.APP):
            ensure_login(server, role, cls.PASSWORD)
        drop(server, TEMPLATE)
        create(server, TEMPLATE)
        install(server, TEMPLATE, cls.APP)
        join_listener_group(server, cls.LISTENER)
        execute(server.dsn(), f"ALTER DATABASE {TEMPLATE} IS_TEMPLATE true")

    @property
    def admin_dsn(self) -> str:
        return self.server.dsn(self.name)

    @property
    def listener_dsn(self) -> str:
        return self.server.dsn(self.name, self.LISTENER, self.PASSWORD)

    @property
    def app_dsn(self) -> str:
        return self.server.dsn(self.name, self.APP, self.PASSWORD)

    def admin(self) -> Connection:
        return self._connect(self.admin_dsn)

    def listener(self) -> Connection:
        return self._connect(self.listener_dsn)

    def app(self) -> Connection:
        return self._connect(self.app_dsn)

    def close(self) -> None:
        """Close every connection that was handed out."""
        while self._open:
            self._open.pop().close()

    def drop(self) -> None:
        self.close()
        drop(self.server, self.name)

    def _connect(self, dsn: str) -> Connection:
        opened = connect(dsn)
        self._open.append(opened)
        return opened
