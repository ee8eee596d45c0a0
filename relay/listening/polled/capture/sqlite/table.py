"""A table as SQLite describes it, and what can't be watched."""

import contextlib
import re
import sqlite3
from collections.abc import Iterator
from typing import Any, NamedTuple

from relay.errors import NotFound
from relay.listening.polled.capture.options import Options

_ROWIDS = ("rowid", "_rowid_", "oid")


class Unique(NamedTuple):
    """An index, or the primary key, that no two rows may share."""

    columns: tuple[tuple[str, str], ...]
    """Each with its collation."""
    is_partial: bool
    has_expression: bool


class Table(NamedTuple):
    """A table as it is now."""

    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    """The primary key's columns, in its order; () = it has none."""
    uniques: tuple[Unique, ...]
    rowid: str
    """By which of SQLite's names its rows are found; "" = it is WITHOUT ROWID, or has columns of all three names."""
    without_rowid: bool
    newer: tuple[str, ...]
    """Triggers of the application's that are newer than ours, or all where we have none."""


def identifier(name: str) -> str:
    """`name`, quoted."""
    return '"' + name.replace('"', '""') + '"'


def text(value: str) -> str:
    """A text literal."""
    return "'" + value.replace("'", "''") + "'"


@contextlib.contextmanager
def plain(connection: sqlite3.Connection) -> Iterator[sqlite3.Cursor]:
    """A cursor that gives texts as str, whatever the connection was told."""
    before = connection.text_factory
    connection.text_factory = lambda said: said.decode(errors="replace")
    try:
        yield connection.cursor()
    finally:
        connection.text_factory = before


def describe(cursor: sqlite3.Cursor, name: str) -> Table:
    """Read what a table is like. Raises NotFound: there is none."""
    found = rows(cursor, "select name, type, sql from main.sqlite_schema where name = ? collate nocase", name)
    if not found or found[0][1] != "table":
        what = "is no table: triggers of a view are none" if found else "is not there"
        raise NotFound(f"{name} {what}", "write the table's name as in SQL")
    name, _kind, sql = found[0]
    if re.match(r"create\s+virtual\s", sql, re.IGNORECASE) or name.lower().startswith(("sqlite_", "relay_")):
        raise NotFound(
            f"{name} is a virtual table, or SQLite's or the relay's own", "watch a table of the application's"
        )
    info = rows(cursor, "select name, pk, hidden from pragma_table_xinfo(?) order by cid", name)
    columns = tuple(column for column, _pk, hidden in info if hidden != 1)
    key = tuple(column for column, pk, _hidden in sorted(info, key=lambda row: row[1]) if pk)
    without = _without_rowid(cursor, name)
    free = [one for one in _ROWIDS if one not in {column.lower() for column in columns}]
    rowid = "" if without or not free else free[0]
    return Table(name, columns, key, _uniques(cursor, name, key), rowid, without, _newer(cursor, name))


def of_table(table: Table, options: Options) -> Iterator[tuple[str, str]]:
    """What speaks against a table as it is, and the way out."""
    if not table.key and not options.key:
        yield f"{table.name} has no primary key", "add one; or name columns that identify a row: --key a,b"
    if any(one.has_expression for one in table.uniques):
        what = f"{table.name} has a unique index on an expression: what REPLACE deletes for its sake can't be told"
        yield what, "make a generated column of the expression, and the index on that"
    if table.without_rowid and any(one.is_partial for one in table.uniques):
        what = f"{table.name} is WITHOUT ROWID and has a partial unique index: what REPLACE deletes can't be told"
        yield what, "make the index whole, or the table one with rowids"
    if not table.rowid and not table.without_rowid:
        yield f"{table.name} has columns named {', '.join(_ROWIDS)}", "rename one of them"


def rows(cursor: sqlite3.Cursor, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    cursor.execute(sql, parameters)
    return list(cursor.fetchall())


def _without_rowid(cursor: sqlite3.Cursor, name: str) -> bool:
    found = rows(cursor, "select wr from pragma_table_list(?) where schema = 'main'", name)
    return bool(found and found[0][0])


def _uniques(cursor: sqlite3.Cursor, name: str, key: tuple[str, ...]) -> tuple[Unique, ...]:
    found = []
    for index, partial in rows(cursor, 'select name, partial from pragma_index_list(?) where "unique"', name):
        columns = rows(cursor, "select name, coll from pragma_index_xinfo(?) where key order by seqno", index)
        has_expression = any(column is None for column, _collation in columns)
        found.append(
            Unique(tuple((column or "", collation) for column, collation in columns), bool(partial), has_expression)
        )
    if key and not any({column for column, _ in one.columns} == set(key) for one in found):  # INTEGER PRIMARY KEY
        found.append(Unique(tuple((column, "binary") for column in key), is_partial=False, has_expression=False))
    return tuple(found)


def _newer(cursor: sqlite3.Cursor, name: str) -> tuple[str, ...]:
    """SQLite fires the newest trigger first: one of the application's that changes the row must not be before ours."""
    sql = (
        "select name from main.sqlite_schema where type = 'trigger' and tbl_name = ? collate nocase order by rowid desc"
    )
    newer: list[str] = []
    for (trigger,) in rows(cursor, sql, name):
        if trigger.startswith("relay_"):
            break
        newer.append(trigger)
    return tuple(newer)
