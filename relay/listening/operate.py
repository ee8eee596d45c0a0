"""The commands of listen.py: what waits in the outbox, and what the broker refused.

Each runs on a blocking connection of its own, with the rights of DATABASE_URL's user, beside a running listener.
"""

import contextlib
import datetime
import itertools
import time
from typing import Any, NamedTuple

import psycopg2
from psycopg2.extensions import connection as Connection

from relay.cli import duration
from relay.errors import NotFound, RelayError, Unavailable
from relay.listening import locks, outbox, schema
from relay.listening.postgres_errors import refusal
from relay.listening.texts import execute

_IS = "seq in (select b.seq from relay.backlog b where b.error is not null and b.id = %(id)s::uuid)"
LOCK_SECONDS, STATEMENT_SECONDS = 1.0, 20.0  # somebody waits for an answer
PATIENCE = 25.0  # seconds for each answer of a server that does not heed these
LOCKS = f"""
select l.relation::regclass::text, l.mode, l.granted, {outbox.shown(locks.WHO)}, {outbox.shown(locks.ENDS)},
       coalesce(a.xact_start, p.prepared)
from {locks.FROM}
where l.relation in ('relay.outbox'::regclass, 'relay.listener'::regclass) and {locks.OTHERS}
  and l.mode in ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
order by l.mode = 'AccessExclusiveLock' desc, l.granted desc, l.pid
"""  # noqa: S608
"""Locks on the relay's own tables with which nothing can be deleted, as `Lock`."""
_GIVEN_UP = (psycopg2.errors.LockNotAvailable, psycopg2.errors.QueryCanceled)


class Lock(NamedTuple):
    """One row of LOCKS."""

    table: str
    mode: str
    is_granted: bool
    who: str
    ends: str
    """What ends it."""
    since: datetime.datetime | None
    """When its transaction began; None = this user may not see that."""


def status(db: Connection) -> dict[str, Any]:
    """Return what waits, by topic, the refused events, and what is watched.

    Raises:
        Unavailable: it takes too long, for example because somebody has the outbox locked: who is told.
        RelayError: not permitted, no schema, and so on.
    """
    topic, key, error, tbl, note, remedy = (
        f"{outbox.shown(column)} as {column}" for column in ("topic", "key", "error", "tbl", "note", "remedy")
    )

    def ask(sql: str) -> list[dict[str, Any]]:
        return rows(db, f"set local statement_timeout = {STATEMENT_SECONDS * 1000:.0f}; {_impatient(sql)}")

    version = ask("select relay.version() as v")[0]["v"]
    pending = ask(f"select {topic}, events, oldest, errors, queue from relay.pending order by topic, queue")  # noqa: S608
    refused = ask(
        f"select id::text, {topic}, {key}, at, {error} from relay.backlog "  # noqa: S608
        "where error is not null order by seq limit 100"
    )
    watched = ask(f"select {tbl}, {topic}, {note}, {remedy} from relay.watched order by relay.watched.tbl::text")  # noqa: S608
    return {"version": version, "pending": pending, "refused": refused, "watched": watched}


def whose(pending: dict[str, Any]) -> str:
    """What waits of one topic, as people see it."""
    return f"{pending['topic']}, for queue {pending['queue']}" if pending.get("queue") else str(pending["topic"])


def _impatient(sql: str) -> str:
    """The same, for this transaction alone: behind a pooler others go on with the session."""
    return ours(f"set local lock_timeout = {LOCK_SECONDS * 1000:.0f}; {sql}")


def ours(sql: str) -> str:
    """The same, with names that mean what they do in PostgreSQL (schema.PATH), for this transaction alone."""
    return f"{schema.PATH.replace('set', 'set local', 1)}; {sql}"


def _given_up(db: Connection, error: psycopg2.Error) -> RelayError:
    """What it means that PostgreSQL has given a statement up: who is in the way, if somebody is."""
    with contextlib.suppress(psycopg2.Error), db.cursor() as cursor:
        cursor.execute(ours(LOCKS))
        for lock in itertools.starmap(Lock, cursor.fetchall()):
            does = "holds" if lock.is_granted else "waits, before us, for"
            what = f"{lock.table} is locked: {lock.who} {does} {lock.mode}{_since(lock)}"
            return Unavailable(what, f"wait for it, or as a superuser: {lock.ends}")
    return refusal(error, db)


def _since(lock: "Lock") -> str:
    if lock.since is None:
        return ", since when PostgreSQL tells only members of pg_read_all_stats"
    return f" since {lock.since:%Y-%m-%d %H:%M:%S%z}, for {duration(time.time() - lock.since.timestamp())}"


def release(db: Connection, event_id: str | None) -> int:
    """Take the mark from a refused event (None = from all): the listener tries it again. Return how many."""
    only = "" if event_id is None else " and " + _IS
    sql = f"update relay.outbox set error = null where error is not null{only}"  # noqa: S608
    count = _change(db, _impatient(sql), event_id)
    _wake(db)
    return count


def drop(db: Connection, event_id: str) -> int:
    """Delete one refused event for good; the later ones of its key go on. Return how many (0 = no such event)."""
    count = _change(db, _impatient(f"delete from relay.outbox where error is not null and {_IS}"), event_id)  # noqa: S608
    _wake(db)
    return count


def rows(db: Connection, sql: str, parameters: tuple[object, ...] | None = None) -> list[dict[str, Any]]:
    """Return what a statement about our own schema finds.

    Raises:
        ConfigError: not permitted, no schema, and so on: with what to do.
        Unavailable: it takes too long; who is in the way is told.
    """
    try:
        with db.cursor() as cursor:
            cursor.execute(sql, parameters)
            names = [column.name for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    except _GIVEN_UP as error:
        raise _given_up(db, error) from None
    except psycopg2.Error as error:
        raise refusal(error, db) from None


def _change(db: Connection, sql: str, event_id: str | None) -> int:
    try:
        with db.cursor() as cursor:
            execute(cursor, sql, {"id": event_id})
            return int(cursor.rowcount)
    except psycopg2.DataError:
        raise NotFound(f"{event_id} is no event id", "listen.py status shows the ids of refused events") from None
    except _GIVEN_UP as error:
        raise _given_up(db, error) from None
    except psycopg2.Error as error:
        raise refusal(error, db) from None


def _wake(db: Connection) -> None:
    with db.cursor() as cursor:
        cursor.execute(ours(outbox.WAKE), (outbox.SWEEP,))
