"""The commands of listen.py: what waits in the outbox, what the broker refused, and existing rows sent once more.

Each runs on a blocking connection of its own, with the rights of DATABASE_URL's user, beside a running listener.
"""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg2
from psycopg2.extensions import connection as Connection

from relay import outbox
from relay.database import first_line
from relay.errors import RelayError

LONG_OUTBOX = 20_000  # events; above it, resend waits for the listener
LOCK_NOT_AVAILABLE = "55P03"


def status(db: Connection) -> dict[str, Any]:
    """Return what waits, by topic, the refused events, and what is watched."""
    pending = _rows(db, "select topic, events, oldest, errors from relay.pending order by topic")
    refused = _rows(
        db, "select id::text, topic, key, at, error from relay.outbox where error is not null order by seq limit 100"
    )
    watched = _rows(db, "select tbl::text, topic, note from relay.watched order by tbl::text")
    return {"version": _rows(db, "select relay.version() as v")[0]["v"], "pending": pending, "refused": refused,
            "watched": watched}  # fmt: skip


def release(db: Connection, event_id: str | None) -> int:
    """Take the mark from a refused event (None = from all): the listener tries it again. Return how many."""
    only = "" if event_id is None else " and id = %(id)s::uuid"
    count = _change(db, f"update relay.outbox set error = null where error is not null{only}", event_id)  # noqa: S608
    _wake(db)
    return count


def drop(db: Connection, event_id: str) -> int:
    """Delete one refused event for good; the later ones of its key go on. Return how many (0 = no such event)."""
    count = _change(db, "delete from relay.outbox where error is not null and id = %(id)s::uuid", event_id)
    _wake(db)
    return count


def resend(
    db: Connection,
    table: str,
    *,
    where: str | None,
    after: str | None,
    chunk: int,
    progress: Callable[[int], None],
    wait: Callable[[float], bool],
) -> Iterator[str | None]:
    """Copy a table's rows into the outbox as events with op `snapshot`, chunk by chunk, each in its own transaction.

    Rows that others have locked are left for the end and then copied one by one, so that the application is never the
    victim of a deadlock (FACTS.md). While the outbox is long, it waits for the listener.

    Args:
        db: autocommit, READ COMMITTED.
        table: as SQL names it.
        where: a further condition, or None.
        after: the key to go on after, as JSON; None = from the beginning.
        chunk: rows a transaction.
        progress: called with the number of rows just copied.
        wait: waits some seconds; True = give up, a stop was asked for.

    Yields:
        The key to resume after, once its chunk is committed; None at the very end.

    Raises:
        RelayError: not watched, not permitted (with the grants that are missing), no such table or column.
    """
    skipped: list[str] = []
    with db.cursor() as cursor:
        cursor.execute("set lock_timeout = '2s'")  # a row that somebody holds is tried again, not waited for
    while True:
        if _wait_for_room(db, wait):
            return
        copied, last, locked = _call(
            db,
            "select copied, last::text, skipped::text[] from relay.resend_chunk(%s::regclass, %s::json, %s, %s)",
            (table, after, chunk, where),
        )
        skipped += locked
        progress(copied)
        if last is None:
            break
        after = last
        yield after
    for key in skipped:
        while (done := _copy_row(db, table, key, where)) is None:
            if wait(0.2):
                return
        progress(done)
    yield None


def _copy_row(db: Connection, table: str, key: str, where: str | None) -> int | None:
    """Copy one row; None if it is still locked."""
    try:
        (count,) = _call(db, "select relay.resend_row(%s::regclass, %s::json, %s)", (table, key, where))
    except psycopg2.errors.LockNotAvailable:
        return None
    return int(count)


def _wait_for_room(db: Connection, wait: Callable[[float], bool]) -> bool:
    """Wait while the outbox is long; return True to give up."""
    bound = "select count(*) from (select from relay.outbox limit %s) o"
    while _call(db, bound, (LONG_OUTBOX + 1,))[0] > LONG_OUTBOX:
        if wait(0.5):
            return True
    return wait(0)


def _call(db: Connection, sql: str, parameters: tuple[object, ...]) -> tuple[Any, ...]:
    try:
        with db.cursor() as cursor:
            cursor.execute(sql, parameters)
            (row,) = cursor.fetchall()
    except psycopg2.errors.LockNotAvailable:
        raise
    except psycopg2.Error as error:
        hint = (error.diag.message_hint or "") if error.diag else ""
        raise RelayError(f"PostgreSQL: {first_line(error)}", " ".join(hint.split())) from None
    return tuple(row)


def _rows(db: Connection, sql: str) -> list[dict[str, Any]]:
    try:
        with db.cursor() as cursor:
            cursor.execute(sql)
            names = [column.name for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    except psycopg2.Error as error:
        raise RelayError(
            f"PostgreSQL: {first_line(error)}", "is schema relay installed, and relay_listener granted?"
        ) from None


def _change(db: Connection, sql: str, event_id: str | None) -> int:
    try:
        with db.cursor() as cursor:
            cursor.execute(sql, {"id": event_id})
            return int(cursor.rowcount)
    except psycopg2.errors.InvalidTextRepresentation:
        raise RelayError(f"{event_id} is no event id", "listen.py status shows the ids of refused events") from None
    except psycopg2.Error as error:
        raise RelayError(f"PostgreSQL: {first_line(error)}", "grant relay_listener to this user") from None


def _wake(db: Connection) -> None:
    with db.cursor() as cursor:
        cursor.execute("select pg_notify(%s, %s)", (outbox.CHANNEL, outbox.SWEEP))


def age(seconds: float) -> str:
    """Seconds for people: 5 s, 3 min, 2 h, 4 d."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def told(found: dict[str, Any]) -> str:
    """`status` for people."""
    lines = [f"schema relay version {found['version']}, {len(found['watched'])} tables watched"]
    lines += [f"  {w['tbl']} -> {w['topic']}" + (f"  ({w['note']})" if w["note"] else "") for w in found["watched"]]
    now = time.time()
    total = sum(p["events"] for p in found["pending"])
    lines.append(f"{total} events wait in the outbox" + (":" if total else ""))
    for p in found["pending"]:
        refused = f", {p['errors']} refused by the broker" if p["errors"] else ""
        lines.append(f"  {p['topic']}: {p['events']}, the oldest for {age(now - p['oldest'].timestamp())}{refused}")
    for r in found["refused"]:
        lines.append(f"refused: {r['id']} key={r['key']!r} {r['error']}")
    if found["refused"]:
        lines.append("  their keys wait: listen.py release ID (or --all) tries again, listen.py drop ID gives one up")
    return "\n".join(lines)


def as_json(found: dict[str, Any]) -> str:
    """`status` for programs."""
    return json.dumps(found, default=str, ensure_ascii=False, indent=2)
