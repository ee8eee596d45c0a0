"""relay.handlers.inbox: what comes twice is applied once, whatever is killed in between."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from dev.database import Database
from dev.process import wait_until
from dev.vhost import Vhost
from relay.handlers import Misuse, inbox
from tests.handling import Make, handlers
from tests.messages import Publisher

Connect = Callable[[], Any]


@pytest.fixture(params=["postgresql", "sqlite"])
def connect(request: pytest.FixtureRequest, tmp_path: Path) -> Connect:
    """Opens connections to a database with the inbox's table."""
    if request.param == "sqlite":

        def connect() -> Any:
            return sqlite3.connect(tmp_path / "shop.db", timeout=20)

    else:
        database: Database = request.getfixturevalue("database")

        def connect() -> Any:
            return psycopg2.connect(database.admin_dsn)

    with closing(connect()) as one:
        inbox(one).create()
        inbox(one).create()
        one.commit()
    return connect


def test_an_id_is_there_once_its_transaction_is(connect: Connect) -> None:
    with closing(connect()) as one:
        assert inbox(one).first("a")
        assert not inbox(one).first("a")
        assert inbox(one).first("A")
        assert inbox(one).first("a ")
        assert inbox(one, "another").first("a")
        one.rollback()
        assert inbox(one).first("a")
        one.commit()
    with closing(connect()) as one:
        assert not inbox(one).first("a")
        assert inbox(one).first("é" * 127)


def test_two_at_once_apply_it_once(connect: Connect) -> None:
    """The second waits for the first one's end; if that is a rollback, it is the one."""
    for commits in (True, False):
        with closing(connect()) as one:
            name = f"id {commits}"
            assert inbox(one).first(name)
            found: list[bool] = []

            def other(name: str, found: list[bool]) -> None:
                with closing(connect()) as mine:
                    found.append(inbox(mine).first(name))
                    mine.commit()

            thread = threading.Thread(target=other, args=(name, found))
            thread.start()
            time.sleep(0.3)
            assert found == []
            one.commit() if commits else one.rollback()
            thread.join(20)
            assert found == [not commits]


def test_old_ids_are_deleted_and_others_stay(connect: Connect) -> None:
    with closing(connect()) as one:
        for name in ("a", "b"):
            assert inbox(one).first(name)
        assert inbox(one, "another").first("a")
        assert inbox(one).forget() == 0
        one.cursor().execute("update relay_inbox set at = '2020-01-01 00:00:00' where id = 'a'")
        assert inbox(one).forget(timedelta(days=30)) == 1
        one.commit()
        assert inbox(one).first("a")
        assert not inbox(one).first("b")
        assert not inbox(one, "another").first("a")


def test_without_a_transaction_it_refuses(connect: Connect) -> None:
    """The id would be there, and its effect not."""
    with closing(connect()) as one:
        if isinstance(one, sqlite3.Connection):
            one.isolation_level = None
        else:
            one.autocommit = True
        with pytest.raises(Misuse, match="autocommit"):
            inbox(one).first("a")
        one.cursor().execute("begin")
        assert inbox(one).first("a")


def test_what_it_cannot_take_is_told(connect: Connect) -> None:
    with closing(connect()) as one:
        for name in ("", "x" * 256):
            with pytest.raises(Misuse, match="without an id"):
                inbox(one).first(name)
    with pytest.raises(Misuse, match="object is no connection of psycopg"):
        inbox(object())


WRITES = """
    import sqlite3, psycopg2
    DSN = {dsn!r}

    def _connect():
        return psycopg2.connect(DSN) if DSN else sqlite3.connect(HERE / "shop.db", timeout=20)

    def public_orders(id, new):
        connection = _connect()
        try:
            cursor, mark = connection.cursor(), "%s" if DSN else "?"
            cursor.execute(f"insert into calls values ({{mark}})", (new["n"],))
            connection.commit()
            if {uses_inbox} and not inbox(connection).first(id):
                return
            cursor.execute(f"insert into applied values ({{mark}})", (new["n"],))
            connection.commit()
        finally:
            connection.close()
        while (HERE / "hold").exists(): time.sleep(0.02)
"""


@pytest.mark.parametrize("uses_inbox", [True, False])
def test_killed_between_the_function_and_the_ack(
    vhost: Vhost, script: Make, tmp_path: Path, connect: Connect, uses_inbox: bool, request: pytest.FixtureRequest
) -> None:
    with closing(connect()) as one:
        dsn = "" if isinstance(one, sqlite3.Connection) else request.getfixturevalue("database").admin_dsn
        for table in ("calls", "applied"):
            one.cursor().execute(f"create table {table} (n integer)")
        one.commit()

    def numbers(table: str) -> list[int]:
        with closing(connect()) as one:
            cursor = one.cursor()
            cursor.execute(f"select n from {table}")
            return [n for (n,) in cursor.fetchall()]

    text = WRITES.format(dsn=dsn, uses_inbox=uses_inbox)
    receiver = script("receiver.py", handlers(vhost, tmp_path, text, WORKERS=1))
    receiver.start()
    receiver.wait_for_log("consuming")
    (tmp_path / "hold").touch()
    publisher = Publisher(vhost)
    for n in range(3):
        publisher.event("k", table="public.orders", body={"new": {"n": n}})
    wait_until(lambda: numbers("applied") == [0], 20, "the first")
    receiver.kill()
    (tmp_path / "hold").unlink()
    receiver.start()
    wait_until(lambda: numbers("applied")[-1] == 2, 20, "all")
    receiver.terminate()
    assert receiver.wait() == 0
    assert sorted(numbers("calls")) == [0, 0, 1, 2], "one repetition"
    assert sorted(numbers("applied")) == ([0, 1, 2] if uses_inbox else [0, 0, 1, 2])
    if uses_inbox:
        with closing(connect()) as one:
            assert inbox(one, "shop").first("another id"), "its ids are its queue's"
