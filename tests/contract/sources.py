"""The databases that the contract is tried on: how a test writes to their outbox, and what it sees there."""

from __future__ import annotations

import contextlib
import sqlite3
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dev.database import Database
from dev.mariadb import MariaDB
from dev.script import Script
from dev.vhost import Vhost
from relay.database_url import PolledUrl, source_url
from tests.listening import Listening

COLUMNS = ("topic", "tbl", "op", "key", "new_image", "body", "headers")


class Source:
    """A database with an empty outbox."""

    name: str
    url: str
    outbox = "relay.outbox"
    mark = "%s"
    quote = '"'

    def connect(self) -> Any:
        """A DB-API connection with transactions, as an application's."""
        raise NotImplementedError

    def put(self, cursor: Any, topic: str, number: int = 0, key: object = None, **more: Any) -> None:
        """Write an application's event, with body {"n": number}; or with tbl=... a row's, with key {"id": key}."""
        row: dict[str, Any] = {"topic": topic, "op": "message"}
        if "tbl" in more:
            row |= {"op": "insert", "key": self.row_key(more["tbl"], key), "new_image": f'{{"id":{key},"n":{number}}}'}
        else:
            row |= {"key": key, "body": f'{{"n": {number}}}'}
        row |= more
        names = ", ".join(f"{self.quote}{name}{self.quote}" for name in row)
        marks = ", ".join(self.mark for _ in row)
        cursor.execute(f"insert into {self.outbox} ({names}) values ({marks})", tuple(row.values()))

    def row_key(self, _table: str, key: object) -> str:
        """As the outbox holds it."""
        return f'{{"id":{key}}}'

    def commit(self, *events: tuple[Any, ...], **more: Any) -> None:
        """Write events in one transaction: (topic, number, key)."""
        with contextlib.closing(self.connect()) as connection:
            cursor = connection.cursor()
            for event in events:
                self.put(cursor, *event, **more)
            connection.commit()

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        """Run one statement by itself."""
        with contextlib.closing(self.connect()) as connection:
            cursor = connection.cursor()
            cursor.execute(sql)
            found = list(cursor.fetchall()) if cursor.description else []
            connection.commit()
            return found

    def pending(self) -> int:
        """Rows in the outbox."""
        return int(self.ask(f"select count(*) from {self.outbox}")[0][0])


class OfPostgres(Source):
    """PostgreSQL: the test writes as the owner of the outbox."""

    name = "postgres"

    def __init__(self, database: Database) -> None:
        self._database = database
        self.url = database.listener_dsn

    def connect(self) -> Any:
        opened = self._database.admin()
        opened.autocommit = False
        return opened

    def row_key(self, table: str, key: object) -> str:
        return f'{table} {{"id":{key}}}'


class OfMariaDB(Source):
    """MariaDB: the listener has a login of its own."""

    name = "mariadb"
    quote = "`"

    def __init__(self, server: MariaDB) -> None:
        self.server = server
        server.add_listener("relay_listen", "listens")
        self.url = server.url("shop", "relay_listen", "listens")

    def admin_url(self, database: str) -> str:
        """Of who watches tables."""
        return self.server.url(database)

    def connect(self) -> Any:
        opened = self.server.connect()
        opened.autocommit(value=False)
        with opened.cursor() as cursor:
            cursor.execute("set session transaction isolation level read committed")
        return opened


class OfMySQL(OfMariaDB):
    """MySQL."""

    name = "mysql"


class OfSQLite(Source):
    """SQLite: a file."""

    name = "sqlite"
    outbox = "relay_outbox"
    mark = "?"

    def __init__(self, directory: Path) -> None:
        self.path = directory / "shop.db"
        self.url = f"sqlite:///{self.path}"
        with contextlib.closing(self.connect()) as connection:
            connection.executescript((Path(__file__).parents[2] / "sql/sqlite/install.sql").read_text())

    def connect(self) -> Any:
        return sqlite3.connect(self.path, timeout=10)


class OfUrl(Source):
    """The reader's own server (make test-source DATABASE_URL=...), whose relay's tables are there, and empty."""

    name = "yours"

    def __init__(self, url: str) -> None:
        self.url = url
        parsed = source_url(url)
        assert isinstance(parsed, PolledUrl), "PostgreSQL is tried anyway"
        self._parsed = parsed
        if parsed.kind == "oracle":
            self.outbox, self.mark = "relay.outbox", ":v"
        elif parsed.kind == "mysql":
            self.quote = "`"
        self.ask(f"delete from {self.outbox}")

    def connect(self) -> Any:
        import connection

        opened = connection.open_polled(self._parsed, name="test", timeout=10)
        self._kept = opened
        return opened.connection.dbapi_connection


class Relayed(Listening):
    """listen.py between a source and a vhost; the queue `out` is bound to everything."""

    def __init__(self, make: Callable[..., Script], source: Source, vhost: Vhost, **settings: object) -> None:
        given = {"SOURCE": f"s{uuid.uuid4().hex[:8]}", "POLL_INTERVAL": 0.2, **settings}
        super().__init__(make, _Shim(source.url), vhost, **given)  # type: ignore[arg-type]
        self.source = source

    def pending(self) -> int:
        return self.source.pending()


class _Shim:
    def __init__(self, url: str) -> None:
        self.listener_dsn = url
