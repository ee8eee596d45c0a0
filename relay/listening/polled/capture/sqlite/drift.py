"""What is watched on SQLite, and what has changed since."""

import re
import sqlite3
from collections.abc import Iterator, Sequence

from relay.errors import RelayError
from relay.listening.polled.capture.notes import Watched, again
from relay.listening.polled.capture.options import Options
from relay.listening.polled.capture.sqlite.table import Table, describe, of_table, rows
from relay.listening.polled.capture.sqlite.triggers import Trigger, capture, triggers

_NAMED = re.compile(r'\b(?:new|old)\."((?:[^"]|"")*)"')


def watched(cursor: sqlite3.Cursor) -> list[Watched]:
    """Every watched table with what is wrong with it."""
    found = []
    # A column of SQLite's takes any type.
    said = "select coalesce(cast(tbl as text), ''), cast(topic as text), options from relay_watched order by tbl"
    for tbl, topic, text_ in rows(cursor, said):
        told = Options()
        try:
            told = Options.parse(text_)
            note = next(_notes(cursor, tbl, told), None)
        except RelayError as error:
            note = (error.what, error.remedy)
        made = Watched(tbl, topic, told)
        if note:
            made = made._replace(note=note[0], remedy=note[1] or again(tbl, told))
        found.append(made)
    return found


def _notes(cursor: sqlite3.Cursor, tbl: str, told: Options) -> Iterator[tuple[str, str]]:
    moved = rows(
        cursor, "select tbl_name from main.sqlite_schema where type = 'trigger' and name = ?", f"relay_insert_{tbl}"
    )
    if moved and moved[0][0].lower() != tbl.lower():
        now = moved[0][0]
        yield f"it is called {now} now; its events say {tbl} still", f"listen.py unwatch {now}; listen.py watch {now}"
        return
    table = describe(cursor, tbl)
    yield from of_table(table, told)
    made = triggers(capture(table, told))
    installed = dict(rows(cursor, "select name, sql from main.sqlite_schema where type = 'trigger'"))
    yield from _differences(table, made, {one.name: installed.get(one.name) for one in made})


def _differences(table: Table, made: Sequence[Trigger], own: dict[str, str | None]) -> Iterator[tuple[str, str]]:
    if missing := [name for name, sql in own.items() if sql is None]:
        yield f"its trigger {missing[0]} is missing", ""
    named = {name.replace('""', '"') for sql in own.values() if sql for name in _NAMED.findall(sql)}
    wanted = {name.replace('""', '"') for one in made for name in _NAMED.findall(one.sql)}
    if new := sorted(wanted - named):
        yield f"column {new[0]} is not in its events", ""
    if any(own[one.name] and _normal(one.sql) != _normal(own[one.name] or "") for one in made):
        yield "its triggers are not those that watch would make now", ""
    if table.newer:
        yield f"the application's trigger {table.newer[0]} is newer, so that it is fired before the relay's", ""


def _normal(sql: str) -> str:
    return re.sub(r"\s+", " ", sql).replace("CREATE TRIGGER", "create trigger")
