"""relay.publish from applications as docs/applications.md has it: real drivers, real Django, real SQLAlchemy."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

import psycopg
import psycopg2
import psycopg2.extras
import pytest
import sqlalchemy
from psycopg import rows
from sqlalchemy.orm import Session

from dev.database import Database
from dev.script import ROOT
from relay.publish import Message, publish, publish_many


def outbox(database: Database) -> list[tuple[Any, ...]]:
    with contextlib.closing(psycopg2.connect(database.admin_dsn)) as connection, connection.cursor() as cursor:
        cursor.execute("select id::text, topic, key from relay.outbox order by seq")
        return list(cursor.fetchall())


def publish_three(cursor: Any) -> list[str]:
    first = publish(cursor, "shop.paid", {"order": 42, "who": "Zoë %s {}"}, key="order 42", headers={"a": 1, "b": None})
    assert publish_many(cursor, []) == []
    return [
        first,
        *publish_many(cursor, [Message("shop.sent", {"n": 1}, "k", {"x": "y"}), Message("shop.sent", "[1]")]),
    ]


@contextlib.contextmanager
def cursor_of(kind: str, dsn: str) -> Iterator[Any]:
    """A cursor in a transaction that commits at the end."""
    name, _, factory = kind.partition(" ")
    if name == "psycopg":
        own = {"row_factory": getattr(rows, factory)} if factory else {}
        with psycopg.connect(dsn, **own) as connection, connection.cursor() as cursor:
            yield cursor
    elif name == "client":
        with psycopg.connect(dsn) as connection, psycopg.ClientCursor(connection) as cursor:
            yield cursor
    elif name == "psycopg2":
        own = {"cursor_factory": getattr(psycopg2.extras, factory)} if factory else {}
        with contextlib.closing(psycopg2.connect(dsn, **own)) as connection, connection, connection.cursor() as cursor:
            yield cursor
    else:
        engine = sqlalchemy.create_engine(dsn.replace("postgresql://", f"postgresql+{factory}://"))
        with Session(engine) as session, session.begin():
            yield session.connection().connection.cursor()
        engine.dispose()


KINDS = ["psycopg", "psycopg dict_row", "psycopg namedtuple_row", "psycopg scalar_row", "client", "psycopg2"]
KINDS += ["psycopg2 DictCursor", "psycopg2 RealDictCursor", "psycopg2 NamedTupleCursor"]
KINDS += ["sqlalchemy psycopg", "sqlalchemy psycopg2"]


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_there_if_the_transaction_commits_and_only_then(database: Database, kind: str) -> None:
    with cursor_of(kind, database.admin_dsn) as cursor:
        ids = publish_three(cursor)
        assert outbox(database) == [], "not before the commit"
    found = outbox(database)
    assert [(topic, key) for _id, topic, key in found] == [
        ("shop.paid", "order 42"),
        ("shop.sent", "k"),
        ("shop.sent", None),
    ]
    assert len(set(ids)) == 3
    assert all(len(one) == 36 for one in ids)
    with contextlib.suppress(KeyError), cursor_of(kind, database.admin_dsn) as cursor:
        publish_three(cursor)
        raise KeyError
    assert outbox(database) == found, "rolled back"


DJANGO = """
    import sys
    import django
    from django.conf import settings
    from psycopg2.extensions import parse_dsn

    dsn = parse_dsn(sys.argv[1])
    settings.configure(DATABASES={"default": {
        "ENGINE": "django.db.backends.postgresql", "NAME": dsn["dbname"], "USER": dsn["user"],
        "PASSWORD": dsn.get("password", ""), "HOST": dsn["host"], "PORT": dsn["port"],
    }})
    django.setup()
    from django.db import connection, transaction
    from relay.handlers import Misuse, inbox
    from relay.publish import publish

    inbox(connection, "shop").create()
    for fails in (True, False):
        try:
            with transaction.atomic():
                with connection.cursor() as cursor:
                    print(publish(cursor, "shop.paid", {"order": 42}, key="order 42"))
                assert inbox(connection, "shop").first("event"), "and an inbox in it"
                with transaction.atomic():
                    assert not inbox(connection, "shop").first("event")
                if fails:
                    raise KeyError
        except KeyError:
            pass
    try:
        inbox(connection, "shop").first("another")
    except Misuse as error:
        print(error)
"""


def test_django(database: Database) -> None:
    """In a process of its own: its settings are the process's."""
    command = [sys.executable, "-c", textwrap.dedent(DJANGO), database.admin_dsn]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(outbox(database)) == 1
    assert "autocommit" in done.stdout.splitlines()[-1]
