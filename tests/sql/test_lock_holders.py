"""Who is in the way of a lock is told: a prepared transaction too, which has no session, and nobody of a copy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import psycopg2
import pytest

from dev.postgres import Postgres
from relay.errors import Unavailable
from relay.listening import operate, outbox, texts
from tests.sql.conftest import SQL, Session

WHO, END = "the prepared transaction 'it''s mine' of postgres", "rollback prepared 'it''s mine';"


@pytest.fixture
def session(lone_postgres: Postgres) -> Iterator[Session]:
    lone_postgres.psql(SQL / "install.sql", lone_postgres.dsn())
    with closing(psycopg2.connect(lone_postgres.dsn())) as connection:
        connection.autocommit = True
        texts.read_bytes_as_text(connection)
        yield Session(connection)


@pytest.fixture
def holder(lone_postgres: Postgres, session: Session) -> Iterator[Session]:
    with closing(psycopg2.connect(lone_postgres.dsn())) as connection:
        connection.autocommit = True
        yield Session(connection)
    session.sql("rollback prepared 'it''s mine'")


def prepare(holder: Session, statement: str) -> None:
    holder.sql(f"begin; {statement}; prepare transaction 'it''s mine'")


def test_of_the_relays_own_tables(session: Session, holder: Session) -> None:
    prepare(holder, "lock table relay.outbox in access exclusive mode")
    with pytest.raises(Unavailable) as raised:
        operate.status(session.connection)
    assert f"relay.outbox is locked: {WHO} holds AccessExclusiveLock since " in raised.value.what
    assert raised.value.remedy == f"wait for it, or as a superuser: {END}"


def test_of_the_listeners_turn(session: Session, holder: Session) -> None:
    prepare(holder, "update relay.listener set wakes = wakes")
    ((name, end, ended),) = session.sql(outbox.END_HOLDERS)
    assert (name, end, ended) == (WHO, END, None)


def test_of_a_watched_table(session: Session, holder: Session) -> None:
    session.sql("create table if not exists t (id int primary key)")
    ((made,),) = session.sql("select pg_get_functiondef('relay.lock_table(regclass, text)'::regprocedure)")
    session.sql(made.replace("interval '10 s'", "interval '0.1 s'"))
    prepare(holder, "insert into t values (1)")
    error = session.error("select relay.watch('t')")
    assert str(error).startswith(f"relay: could not lock public.t in 10 s, others are using it: {WHO}\n")
    assert error.diag.message_hint == f"Call it again when their transactions have ended; {END}"
    holder.sql("begin; insert into t values (2)")
    error = session.error("select relay.watch('t')")
    assert f"others are using it: pid {holder.pid}, {WHO}\n" in str(error)
    assert error.diag.message_hint.endswith(f"from pg_stat_activity where pid in ({holder.pid}); {END}")


def test_nobody_of_a_copy_of_the_database(lone_postgres: Postgres, session: Session) -> None:
    """Its tables have the same numbers: the listener of one ended the session of the other."""
    session.connection.close()
    with closing(psycopg2.connect(lone_postgres.dsn("template1"))) as other:
        other.autocommit = True
        Session(other).sql("create database copy template postgres")
    with (
        closing(psycopg2.connect(lone_postgres.dsn("copy"))) as copy,
        closing(psycopg2.connect(lone_postgres.dsn())) as ours,
    ):
        Session(copy).sql("select 1 from relay.listener for share")
        assert Session(ours).sql(outbox.END_HOLDERS) == []
        assert Session(copy).value("select 1") == 1
