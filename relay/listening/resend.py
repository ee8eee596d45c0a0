"""Existing rows sent once more, as events with op `snapshot`: `listen.py resend`, beside a running listener."""

import collections
import dataclasses
import functools
import re
import time
from collections.abc import Callable
from typing import Any

import psycopg2
from psycopg2.extensions import connection as Connection

from relay.errors import ConfigError, NotFound, RelayError
from relay.listening import outbox, schema
from relay.listening.operate import ours, rows
from relay.listening.postgres_errors import first_line
from relay.listening.texts import execute

_CHUNK = "select copied, last::text, skipped::text[] from relay.resend_chunk(%s::regclass, %s::json, %s, %s, %s)"
_ROW = "select relay.resend_row(%s::regclass, %s::json, %s, %s)"
_TABLE = "select %s::pg_catalog.regclass::pg_catalog.oid"  # by the path that its user has set
_NAME = ours("select %s::regclass::text")
_COMMA = re.compile(r',(?=(?:[^"]*"[^"]*")*[^"]*$)')  # not one inside of double quotes: that belongs to the name
# Classes of SQLSTATE, and one of them, of what may be over when it is tried again: the connection, read-only, a
# serialization failure, resources, a lock, an administrator, the system.
_MAY_END = ("08", "25", "40", "53", "55P03", "57", "58")
_HOW = "write it as in SQL, with its schema; listen.py status shows what is watched"


SKIPPED_MAX, SKIPPED_CHARACTERS = 100_000, 16 << 20  # keys of rows that others have locked: above that these come first


@dataclasses.dataclass
class Resent:
    """How far a resend is, kept true while it goes on: an interrupted one is taken up again from here.

    Args:
        after: the key to go on after, as JSON; None = from the beginning.
        rows: how many were copied.
    """

    after: str | None
    rows: int = 0


def resolve(db: Connection, table: str) -> str:
    """Return a table's name with its schema.

    Raises:
        NotFound: no such table.
        RelayError: not permitted, or no name at all.
    """
    (number,) = _call(db, _TABLE, (table,), _HOW)
    return str(_call(db, _NAME, (str(number),))[0])


def estimate(db: Connection, table: str) -> int | None:
    """Return about how many rows a table (of `resolve`) has, partitions included; None = PostgreSQL does not know."""
    sql = (
        "select sum(greatest(reltuples, 0))::bigint from pg_class where oid = %s::regclass and relkind <> 'p' "
        "or oid in (select relid from pg_partition_tree(%s) where isleaf)"
    )
    return _call(db, ours(sql), (table, table))[0] or None


def resend(
    db: Connection,
    table: str,
    resent: Resent,
    *,
    where: str | None,
    queue: str | None,
    chunk: int,
    progress: Callable[[int], object],
    waits: Callable[[str], None],
) -> None:
    """Copy a table's rows into the outbox as events with op `snapshot`, chunk by chunk, each in its own transaction.

    Rows that others have locked are left for the end, as many as it may remember, and then copied one by one, so that
    the application is never the victim of a deadlock. While the outbox is long, it waits for the listener.

    Args:
        db: autocommit, READ COMMITTED.
        table: of `resolve`.
        resent: where to begin; brought up to date after each chunk.
        where: a further condition, or None.
        queue: the one that they are for; None = all that are bound.
        chunk: rows a transaction.
        progress: called with the number of rows just copied.
        waits: called with what it waits for, and with "" when it goes on.

    Raises:
        NotFound: no such table.
        RelayError: not watched, not permitted (with the grants that are missing), no such column.
    """
    skipped = collections.deque[str]()
    after = resent.after
    remedy = "" if where is None else "--where is what follows WHERE in SQL, on columns that are in events"

    def copied(count: int) -> None:
        resent.rows += count
        progress(count)

    with db.cursor() as cursor:
        cursor.execute(schema.PATH)
        cursor.execute("set lock_timeout = '2s'")  # a row that somebody holds is tried again, not waited for
    while True:
        _wait_for_room(db, waits)
        call = functools.partial(_call, db, _CHUNK, (table, after, chunk, where, queue), remedy)
        busy = f"{table} is locked by another session: VACUUM, CREATE INDEX, ALTER TABLE"
        count, last, locked = _unlocked(call, busy, waits)
        skipped.extend(locked)
        after = last
        if not skipped:  # else whoever goes on must begin before the first row that is still to be copied
            resent.after = after
        copied(count)
        while skipped and (after is None or len(skipped) > SKIPPED_MAX or sum(map(len, skipped)) > SKIPPED_CHARACTERS):
            row = (table, key := skipped.popleft(), where, queue)
            call = functools.partial(_call, db, _ROW, row)
            copied(int(_unlocked(call, f"row {key} is locked by another session", waits)[0]))
        if after is None:
            break


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
        (found,) = rows(db, outbox.LENGTH, (outbox.LONG_OUTBOX + 1,))
        return int(found["count"]) > outbox.LONG_OUTBOX

    if is_long():
        waits(f"more than {outbox.LONG_OUTBOX} events in the outbox, waiting for the listener")
        while is_long():
            time.sleep(0.5)
        waits("")


def in_order(db: Connection, tables: str) -> list[str]:
    """The tables of `--order`, as SQL names them.

    Args:
        tables: their names, with commas between them.

    Raises:
        NotFound: of all that is wrong with them: an unknown one, one that is not watched, one that comes twice.
        RelayError: not permitted, no schema.
    """
    if tables.count('"') % 2:
        raise NotFound("--order: a double quote is not closed", _HOW)
    names = [name.strip() for name in _COMMA.split(tables)]
    watched = {row["oid"] for row in rows(db, ours("select tbl::oid as oid from relay.watched"))}
    wrong: list[NotFound] = []
    seen: dict[int, str] = {}
    for name in names:
        if not name:
            wrong.append(NotFound("a name is missing beside a comma", "--order categories,products,orders"))
            continue
        try:
            (number,) = _call(db, _TABLE, (name,), _HOW)
            (shown,) = _call(db, _NAME, (str(number),))
        except NotFound as error:
            wrong.append(error)
            continue
        if number not in watched:
            quoted = shown.replace("'", "''")
            wrong.append(NotFound(f"{shown} is not watched", f"as its owner: select relay.watch('{quoted}');"))
        elif number in seen:
            wrong.append(NotFound(f"{seen[number]} and {name} are one table", "name each table once"))
        seen.setdefault(number, name)
    if wrong:
        remedies = dict.fromkeys(one.remedy for one in wrong)
        raise NotFound("--order: " + "; ".join(one.what for one in wrong), "; ".join(remedies))
    return names


def _call(db: Connection, sql: str, parameters: tuple[object, ...], remedy: str = "") -> tuple[Any, ...]:
    """Return the one row of a statement about a user's table. PostgreSQL's own hint goes before `remedy`."""
    try:
        with db.cursor() as cursor:
            execute(cursor, sql, parameters)
            (row,) = cursor.fetchall()
    except psycopg2.errors.LockNotAvailable:
        raise
    except psycopg2.Error as error:
        hint = error.diag.message_hint if error.pgcode else ""
        is_right = isinstance(error, psycopg2.errors.InsufficientPrivilege)
        if is_right:
            remedy = f'grant usage on it to "{db.info.user}"; or execute, for a function'
        what, remedy = f"PostgreSQL: {first_line(error)}", " ".join((hint or remedy).split())
        if is_right:
            raise ConfigError((what, remedy)) from None
        kind = RelayError if not error.pgcode or error.pgcode.startswith(_MAY_END) else NotFound
        raise kind(what, remedy) from None
    return tuple(row)
