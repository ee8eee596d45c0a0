"""The commands of listen.py: what waits in the outbox, what the broker refused, and existing rows sent once more.

Each runs on a blocking connection of its own, with the rights of DATABASE_URL's user, beside a running listener.
"""

import contextlib
import dataclasses
import datetime
import functools
import itertools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import psycopg2
from psycopg2.extensions import connection as Connection

from relay.cli import duration
from relay.errors import NotFound, RelayError, Unavailable
from relay.listening import outbox
from relay.listening.database import first_line, refusal

_CHUNK = "select copied, last::text, skipped::text[] from relay.resend_chunk(%s::regclass, %s::json, %s, %s)"
_IS = "seq in (select b.seq from relay.backlog b where b.error is not null and b.id = %(id)s::uuid)"
LONG_OUTBOX = 20_000  # events; above it, resend waits for the listener
LOCK_SECONDS, STATEMENT_SECONDS = 1.0, 20.0  # somebody waits for an answer
PATIENCE = 25.0  # seconds for each answer of a server that does not heed these
LOCKS = """
select l.relation::regclass::text, l.mode, l.granted,
       concat('pid ', l.pid, ' (', concat_ws(', ', a.usename, nullif(a.application_name, '')), ')'), l.pid, a.xact_start
from pg_locks l left join pg_stat_activity a using (pid)
where l.relation in ('relay.outbox'::regclass, 'relay.listener'::regclass) and l.pid <> pg_backend_pid()
  and l.database = (select oid from pg_database where datname = current_database())
  and l.mode in ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
order by l.mode = 'AccessExclusiveLock' desc, l.granted desc, l.pid
"""
"""Locks on the relay's own tables with which nothing can be deleted, as `Lock`."""
_GIVEN_UP = (psycopg2.errors.LockNotAvailable, psycopg2.errors.QueryCanceled)
_NOT_THERE = (psycopg2.errors.UndefinedTable, psycopg2.errors.InvalidName)


class Lock(NamedTuple):
    """One row of LOCKS."""

    table: str
    mode: str
    is_granted: bool
    who: str
    pid: int
    since: datetime.datetime | None
    """When its transaction began; None = this user may not see that."""


def status(db: Connection) -> dict[str, Any]:
    """Return what waits, by topic, the refused events, and what is watched.

    Raises:
        Unavailable: it takes too long, for example because somebody has the outbox locked: who is told.
        RelayError: not permitted, no schema, and so on.
    """
    topic, key = (f"{outbox.shown(column)} as {column}" for column in ("topic", "key"))

    def ask(sql: str) -> list[dict[str, Any]]:
        return _rows(db, f"set local statement_timeout = {STATEMENT_SECONDS * 1000:.0f}; {_impatient(sql)}")

    version = ask("select relay.version() as v")[0]["v"]
    pending = ask(f"select {topic}, events, oldest, errors from relay.pending order by topic")  # noqa: S608
    refused = ask(
        f"select id::text, {topic}, {key}, at, error from relay.backlog "  # noqa: S608
        "where error is not null order by seq limit 100"
    )
    watched = ask("select tbl::text, topic, note, remedy from relay.watched order by tbl::text")
    return {"version": version, "pending": pending, "refused": refused, "watched": watched}


def _impatient(sql: str) -> str:
    """The same, for this transaction alone: behind a pooler others go on with the session."""
    return f"set local lock_timeout = {LOCK_SECONDS * 1000:.0f}; {sql}"


def _given_up(db: Connection, error: psycopg2.Error) -> RelayError:
    """What it means that PostgreSQL has given a statement up: who is in the way, if somebody is."""
    with contextlib.suppress(psycopg2.Error), db.cursor() as cursor:
        cursor.execute(LOCKS)
        for lock in itertools.starmap(Lock, cursor.fetchall()):
            does = "holds" if lock.is_granted else "waits, before us, for"
            what = f"{lock.table} is locked: {lock.who} {does} {lock.mode}{_since(lock)}"
            return Unavailable(what, f"wait for it, or as a superuser: select pg_terminate_backend({lock.pid});")
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


@dataclasses.dataclass
class Resent:
    """How far a resend is, kept true while it goes on: an interrupted one is taken up again from here.

    Args:
        after: the key to go on after, as JSON; None = from the beginning.
        rows: how many were copied.
    """

    after: str | None
    rows: int = 0


def estimate(db: Connection, table: str) -> int | None:
    """Return about how many rows a table has, partitions included; None = PostgreSQL does not know.

    Raises:
        NotFound: no such table.
        RelayError: not permitted, or no name at all.
    """
    sql = (
        "select sum(greatest(reltuples, 0))::bigint from pg_class where oid = %s::regclass and relkind <> 'p' "
        "or oid in (select relid from pg_partition_tree(%s) where isleaf)"
    )
    remedy = "write it as in SQL, with its schema; listen.py status shows what is watched"
    return _call(db, sql, (table, table), remedy)[0] or None


def resend(
    db: Connection,
    table: str,
    resent: Resent,
    *,
    where: str | None,
    chunk: int,
    progress: Callable[[int], object],
    waits: Callable[[str], None],
) -> None:
    """Copy a table's rows into the outbox as events with op `snapshot`, chunk by chunk, each in its own transaction.

    Rows that others have locked are left for the end and then copied one by one, so that the application is never the
    victim of a deadlock. While the outbox is long, it waits for the listener.

    Args:
        db: autocommit, READ COMMITTED.
        table: as SQL names it.
        resent: where to begin; brought up to date after each chunk.
        where: a further condition, or None.
        chunk: rows a transaction.
        progress: called with the number of rows just copied.
        waits: called with what it waits for, and with "" when it goes on.

    Raises:
        NotFound: no such table.
        RelayError: not watched, not permitted (with the grants that are missing), no such column.
    """
    skipped: list[str] = []
    after = resent.after
    remedy = "" if where is None else "--where is what follows WHERE in SQL"

    def copied(rows: int) -> None:
        resent.rows += rows
        progress(rows)

    with db.cursor() as cursor:
        cursor.execute("set lock_timeout = '2s'")  # a row that somebody holds is tried again, not waited for
    while True:
        _wait_for_room(db, waits)
        call = functools.partial(_call, db, _CHUNK, (table, after, chunk, where), remedy)
        busy = f"{table} is locked by another session: VACUUM, CREATE INDEX, ALTER TABLE"
        rows, last, locked = _unlocked(call, busy, waits)
        skipped += locked
        after = last
        if not skipped:  # else whoever goes on must begin before the first row that is still to be copied
            resent.after = after
        copied(rows)
        if after is None:
            break
    for key in skipped:
        row = (table, key, where)
        call = functools.partial(_call, db, "select relay.resend_row(%s::regclass, %s::json, %s)", row)
        copied(int(_unlocked(call, f"row {key} is locked by another session", waits)[0]))


def _unlocked(call: Callable[[], tuple[Any, ...]], why: str, waits: Callable[[str], None]) -> tuple[Any, ...]:
    """Make a call that waits for a lock of others for a moment only, until it gets it."""
    told = False
    while True:
        try:
            found = call()
        except psycopg2.errors.LockNotAvailable:
            if not told:
                waits(why)
            told = True
            time.sleep(0.2)
        else:
            if told:
                waits("")
            return found


def _wait_for_room(db: Connection, waits: Callable[[str], None]) -> None:
    """Wait while the outbox is long."""

    def is_long() -> bool:
        (found,) = _rows(db, outbox.LENGTH, (LONG_OUTBOX + 1,))
        return int(found["count"]) > LONG_OUTBOX

    if is_long():
        waits(f"more than {LONG_OUTBOX} events in the outbox, waiting for the listener")
        while is_long():
            time.sleep(0.5)
        waits("")


def _call(db: Connection, sql: str, parameters: tuple[object, ...], remedy: str = "") -> tuple[Any, ...]:
    """Return the one row of a statement about a user's table. PostgreSQL's own hint goes before `remedy`."""
    try:
        with db.cursor() as cursor:
            cursor.execute(sql, parameters)
            (row,) = cursor.fetchall()
    except psycopg2.errors.LockNotAvailable:
        raise
    except psycopg2.Error as error:
        hint = error.diag.message_hint if error.pgcode else ""
        if isinstance(error, psycopg2.errors.InsufficientPrivilege):
            remedy = f'grant usage on it to "{db.info.user}"; or execute, for a function'
        kind = NotFound if isinstance(error, _NOT_THERE) else RelayError
        raise kind(f"PostgreSQL: {first_line(error)}", " ".join((hint or remedy).split())) from None
    return tuple(row)


def _rows(db: Connection, sql: str, parameters: tuple[object, ...] | None = None) -> list[dict[str, Any]]:
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
            cursor.execute(sql, {"id": event_id})
            return int(cursor.rowcount)
    except psycopg2.errors.InvalidTextRepresentation:
        raise NotFound(f"{event_id} is no event id", "listen.py status shows the ids of refused events") from None
    except _GIVEN_UP as error:
        raise _given_up(db, error) from None
    except psycopg2.Error as error:
        raise refusal(error, db) from None


def _wake(db: Connection) -> None:
    with db.cursor() as cursor:
        cursor.execute(outbox.WAKE, (outbox.SWEEP,))
