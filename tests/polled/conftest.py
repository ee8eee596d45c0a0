"""Small handles on a MariaDB and a SQLite file, for tests that read like SQL."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pymysql
import pytest

from dev.mariadb import MariaDB
from relay.listening.polled.capture.mariadb import drift, watch
from relay.listening.polled.capture.options import Options

READ = "select topic, tbl, op, `key`, old_image, new_image, too_large from relay.outbox order by seq"


class Session:
    """One connection to a MariaDB."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.cursor = connection.cursor()

    def sql(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        self.cursor.execute(statement, parameters or None)
        return list(self.cursor.fetchall()) if self.cursor.description else []

    def value(self, statement: str, *parameters: Any) -> Any:
        return self.sql(statement, *parameters)[0][0]

    def error(self, statement: str, *parameters: Any) -> int:
        """The number of the error that a statement must raise."""
        with pytest.raises(pymysql.err.MySQLError) as raised:
            self.sql(statement, *parameters)
        return int(raised.value.args[0])

    def watch(self, table: str, **options: Any) -> None:
        schema, _, name = table.rpartition(".")
        watch.carry_out(self.cursor, lambda: watch.plan(self.cursor, schema or "shop", name, Options(**options)))

    def unwatch(self, table: str) -> None:
        schema, _, name = table.rpartition(".")
        watch.carry_out(self.cursor, lambda: watch.unplan(self.cursor, schema or "shop", name))

    def notes(self) -> list[str | None]:
        return [one.note for one in drift.watched(self.cursor)]

    def events(self) -> list[dict[str, Any]]:
        """The events since the last call, in order; numbers as Decimal."""
        found = []
        for topic, tbl, op, key, old, new, too_large in self.sql(READ):
            one = {"topic": topic, "table": tbl, "op": op, "too_large": bool(too_large)}
            one |= {name: _parsed(text) for name, text in (("key", key), ("old", old), ("new", new))}
            found.append(one)
        self.sql("delete from relay.outbox")
        return found

    def story(self) -> list[tuple[str, Any]]:
        """(op, key) of the events since the last call, a key of one column as its value."""
        return [(e["op"], next(iter(e["key"].values())) if len(e["key"]) == 1 else e["key"]) for e in self.events()]


def _parsed(text: str | None) -> Any:
    return None if text is None else json.loads(text, parse_float=Decimal)


def sessions(server: MariaDB) -> Iterator[Callable[..., Session]]:
    """For a fixture: further sessions of root's in database shop."""
    made: list[Session] = []

    def one(user: str = "root", password: str | None = None, database: str | None = "shop") -> Session:
        made[:] = [session for session in made if session.connection.open]  # a closed one would keep its last rows
        made.append(Session(server.connect(database, user, password)))
        return made[-1]

    yield one
    for session in made:
        if session.connection.open:
            session.connection.close()


@pytest.fixture
def connect(mariadb: MariaDB) -> Iterator[Callable[..., Session]]:
    """Further sessions of root's in database shop."""
    yield from sessions(mariadb)


@pytest.fixture
def admin(mariadb: MariaDB, connect: Callable[..., Session]) -> Session:
    """Root, in a new database shop."""
    mariadb.execute("create database shop character set utf8mb4")
    return connect()


@pytest.fixture
def small_packets(admin: Session) -> Iterator[None]:
    """Images above 1 MiB are too large."""
    before = admin.value("select @@global.max_allowed_packet")
    admin.sql("set global max_allowed_packet = 1048576")
    yield
    admin.sql(f"set global max_allowed_packet = {before}")


@pytest.fixture
def app(mariadb: MariaDB, admin: Session, connect: Callable[..., Session]) -> Session:
    """An application: all rights in database shop, none elsewhere."""
    mariadb.execute("create user app@'%' identified by 'app'", "grant all on shop.* to app@'%'")
    return connect("app", "app")


@pytest.fixture
def listener(mariadb: MariaDB, admin: Session, connect: Callable[..., Session]) -> Session:
    """A login with role relay_listener."""
    mariadb.add_listener("listen", "listen")
    return connect("listen", "listen", None)
