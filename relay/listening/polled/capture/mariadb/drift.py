"""What is watched on MariaDB, and what has changed since: no DDL tells the triggers."""

import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from relay.errors import RelayError
from relay.listening.polled.capture.mariadb import refusals
from relay.listening.polled.capture.mariadb.names import OPERATIONS, SQL_MODE, qualified, trigger
from relay.listening.polled.capture.mariadb.table import Cursor, Table, describe
from relay.listening.polled.capture.mariadb.triggers import capture, normal, triggers
from relay.listening.polled.capture.notes import Watched, again
from relay.listening.polled.capture.options import Options

_WATCHED = "select table_schema, table_name, tbl, topic, options from relay.watched order by tbl"
_NAMED = re.compile(r"\b(?:new|old)\.`((?:[^`]|``)*)`")


class Installed(NamedTuple):
    """A trigger as the server has it."""

    table: str
    body: str
    mode: str


Triggers = Mapping[tuple[str, str], Installed]
"""By database and name."""


def watched(cursor: Cursor) -> list[Watched]:
    """Every watched table with what is wrong with it. It needs rights of role relay_listener, or an administrator's."""
    cursor.execute(_WATCHED)
    rows = cursor.fetchall()
    found = _installed(cursor) if rows else {}
    return [_one(cursor, found, *row) for row in rows]


def loose_keys(cursor: Cursor) -> list[str]:
    """Columns that are in a watched table's key and whose collation finds different texts equal: case, accents."""
    cursor.execute("select table_schema, table_name, tbl, options from relay.watched order by tbl")
    found = []
    for schema, name, tbl, options in cursor.fetchall():
        with contextlib.suppress(RelayError):  # `watched` tells
            key = capture(describe(cursor, schema, name), Options.parse(options)).key
            found += [f"{tbl}.{one.name}" for one in key if one.collation and not one.collation.endswith("_bin")]
    return found


def _installed(cursor: Cursor) -> Triggers:
    cursor.execute("call relay.table_triggers()")
    rows = cursor.fetchall()
    return {(schema, name): Installed(table, body, mode) for schema, table, name, _event, body, mode in rows}


def _one(cursor: Cursor, found: Triggers, schema: str, name: str, tbl: str, topic: str, options: str) -> Watched:
    called = qualified(schema, name) if "." in schema + name else tbl
    made = Watched(tbl, topic, Options())
    try:
        told = Options.parse(options)
        made = made._replace(options=told)
        note = next(_notes(cursor, found, schema, name, told), None)
    except RelayError as error:
        return made._replace(note=error.what, remedy=error.remedy or again(called, made.options))
    if note is None:
        return made
    what, remedy = note
    return made._replace(note=what, remedy=remedy or again(called, told))


def _notes(cursor: Cursor, found: Triggers, schema: str, name: str, told: Options) -> Iterator[tuple[str, str]]:
    """What is wrong, the worst first, each with its remedy; "" = watch it again."""
    own = {operation: found.get((schema, trigger(operation, name))) for operation in OPERATIONS}
    if moved := next((one.table for one in own.values() if one and one.table != name), None):
        remedy = f"listen.py unwatch {schema}.{name}; listen.py watch {schema}.{moved}"
        yield f"it is called {schema}.{moved} now; its events say {schema}.{name} still", remedy
        return
    table = describe(cursor, schema, name)
    missing = [operation for operation, one in own.items() if one is None]
    if missing:
        yield f"its trigger on {missing[0].upper()} is missing, or {_OWNER_CANT}", ""
    bodies = {operation: one.body for operation, one in own.items() if one}
    if gone := sorted(_names(bodies) - {column.lower() for column in _all_names(cursor, table)}):
        yield f"its triggers name column {gone[0]}, which is gone: every write to it fails", ""
    yield from refusals.of_table(table, told)
    made = triggers(capture(table, told))
    if new := sorted(_names({one.operation: one.body for one in made}) - _names(bodies)) if bodies else []:
        yield f"column {new[0]} is not in its events", ""
    for one in made:
        installed = own[one.operation]
        if installed and (normal(one.body) != normal(installed.body) or installed.mode != SQL_MODE):
            yield f"its trigger on {one.operation.upper()} is not the one that watch would make now", ""


_OWNER_CANT = "relay_owner@localhost has lost TRIGGER on its database (then every write fails)"


def _all_names(cursor: Cursor, table: Table) -> list[str]:
    """Also those that no event can have."""
    cursor.execute(
        "select column_name from information_schema.columns where table_schema = %s and table_name = %s",
        (table.schema, table.name),
    )
    return [name for (name,) in cursor.fetchall()]


def _names(bodies: Mapping[str, str]) -> set[str]:
    return {name.replace("``", "`").lower() for body in bodies.values() for name in _NAMED.findall(body)}
