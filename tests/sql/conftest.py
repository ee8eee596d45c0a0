"""A small handle on a connection, for tests that read like SQL."""

from __future__ import annotations

import itertools
import json
import os
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection

from dev import database as databases
from dev.database import Database, ensure_login
from dev.postgres import Postgres

SQL = Path(__file__).resolve().parents[2] / "sql"

TENANT, VICTIM, STRANGER = "tenant_test", "victim_test", "stranger_test"

_counter = itertools.count(1)


class Session:
    """One connection. sql() gives the rows, or () where there are none."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.notices = connection.notices
        self.pid = connection.info.backend_pid
        # A statement that waits for ever is a failure, and no signal gets through to it.
        self.sql("set statement_timeout = '90s'")

    def sql(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        with self.connection.cursor() as cursor:
            cursor.execute(statement, parameters or None)
            return cursor.fetchall() if cursor.description else []

    def value(self, statement: str, *parameters: Any) -> Any:
        return self.sql(statement, *parameters)[0][0]

    def error(self, statement: str, *parameters: Any) -> psycopg2.Error:
        """The error that a statement must raise."""
        with pytest.raises(psycopg2.Error) as raised:
            self.sql(statement, *parameters)
        return raised.value

    def events(self, clear: bool = False) -> list[dict[str, Any]]:
        """The bodies of the row events in the outbox, in order; numbers as Decimal."""
        bodies = [row[0] for row in self.sql("select body from relay.backlog order by seq")]
        if clear:
            self.sql("delete from relay.outbox")
        return [json.loads(body, parse_float=Decimal) for body in bodies]

    def story(self) -> list[tuple[str, Any]]:
        """(op, key) of the events since the last call, a key of one column as its value."""
        told = []
        for event in self.events(clear=True):
            key = event["key"]
            told.append((event["op"], next(iter(key.values())) if key and len(key) == 1 else key))
        return told


@pytest.fixture
def admin(database: Database) -> Session:
    return Session(database.admin())


@pytest.fixture
def app(database: Database) -> Session:
    """Owns schema public, has no right on schema relay."""
    return Session(database.app())


@pytest.fixture
def connect(database: Database) -> Callable[[], Session]:
    """Further superuser sessions."""
    return lambda: Session(database.admin())


@pytest.fixture(scope="module")
def lone_postgres(run_directory: Path) -> Iterator[Postgres]:
    """A server of the module's own, for tests that change roles, which belong to the whole server."""
    server = Postgres(
        run_directory / f"postgres-sql-{next(_counter)}",
        os.environ.get("PG") or "embedded",
        fsync=False,
    )
    server.start()
    yield server
    server.remove()


def login(database: Database, role: str) -> Session:
    return Session(databases.connect(database.server.dsn(database.name, role, database.PASSWORD)))


@pytest.fixture
def roles(admin: Session, database: Database) -> Iterator[None]:
    """tenant and victim own a schema each and may watch; stranger may only connect."""
    for role in (TENANT, VICTIM, STRANGER):
        ensure_login(database.server, role, database.PASSWORD)
    admin.sql(f"""
        grant relay_watcher to {TENANT}, {VICTIM}; revoke relay_watcher from {STRANGER};
        create schema tenant authorization {TENANT}; create schema victim authorization {VICTIM};
        set role {VICTIM}; create table victim.secret (id int primary key, s text);
        select relay.watch('victim.secret'); insert into victim.secret values (1, 'TOPSECRET'); reset role;
    """)
    yield
    admin.sql(f"revoke relay_watcher from {TENANT}, {VICTIM}")


@pytest.fixture
def tenant(roles: None, database: Database) -> Iterator[Session]:
    """A session of TENANT's, whose schema is open to everybody."""
    session = login(database, TENANT)
    session.sql("""
        create table tenant.loot (x text); grant all on tenant.loot to public; create sequence tenant.counter;
        grant all on sequence tenant.counter to public; grant all on schema tenant to public;
    """)
    yield session
    session.connection.close()


def evil(tenant: Session, parameter: str, result: str = "bool", value: str = "true") -> None:
    """A function that says as whom it runs."""
    tenant.sql(f"""
        create function tenant.evil({parameter}) returns {result} language plpgsql immutable as
            $$begin raise notice 'reached as %', current_user; return {value}; end$$
    """)


def reached(session: Session) -> set[str]:
    """As whom code of the tenant's ran."""
    return {notice.split(" as ")[1].split()[0] for notice in session.notices if "reached" in notice}


def note(admin: Session, table: str) -> str:
    """What relay.watched says of a table."""
    return admin.value("select note from relay.watched where tbl = %s::regclass", table) or ""


@pytest.fixture
def shared(admin: Session, tenant: Session) -> Session:
    """A superuser's schema, which everybody may use; a tenant's function that says as whom it runs."""
    evil(tenant, "anyelement")
    admin.sql("""
        create schema shared; grant usage on schema shared to public;
        alter default privileges in schema shared grant select, insert, update, delete on tables to public;
    """)
    return tenant


def own_read_by(admin: Session, body: str) -> None:
    """Have a watched table public.own, of two rows, and its reader do this; what was told so far is taken."""
    admin.sql("create table public.own (id int primary key deferrable); select relay.watch('public.own')")
    admin.sql("insert into own values (1), (2)")
    admin.story()
    reader = admin.value("select reader from relay.wanted where tbl = 'own'::regclass")
    admin.sql(f"""
        create or replace function relay_readers.{reader}(question relay_readers.{reader}) returns record
        language plpgsql security definer as $$begin {body.format(reader=reader)}; end$$
    """)


@pytest.fixture
def beside(database: Database, tenant: Session) -> Iterator[Callable[[str], None]]:
    """Has another session of the tenant's run something again and again."""
    stop, threads, other = threading.Event(), [], login(database, TENANT)

    def begin(statements: str) -> None:
        def run() -> None:
            while not stop.is_set():
                try:
                    other.sql(statements)
                except psycopg2.errors.InternalError_:  # a tuple concurrently updated
                    other.sql("rollback")

        threads.append(threading.Thread(target=run))
        threads[0].start()

    yield begin
    stop.set()
    for thread in threads:
        thread.join()
    other.connection.close()
