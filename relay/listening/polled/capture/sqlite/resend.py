"""Rows of a watched table of SQLite, copied into the outbox; who writes has the whole file to itself."""

import json
import sqlite3
from typing import Any

from relay.errors import NotFound
from relay.listening.polled.capture.options import Options
from relay.listening.polled.capture.resend import Chunk, Key
from relay.listening.polled.capture.sqlite import triggers
from relay.listening.polled.capture.sqlite.table import describe, identifier, plain, rows, text


class Copier:
    """See capture.resend.Copier.

    Args:
        connection: autocommit.
        what: the table's capture.
        where: a further condition, or None.
    """

    def __init__(self, connection: sqlite3.Connection, what: triggers.Capture, where: str | None) -> None:
        self._connection, self._what = connection, what
        self._order = what.table.key or what.key
        self._names = ", ".join(f"t.{identifier(column)}" for column in self._order)
        self._marks = "(" + ", ".join("?" * len(self._order)) + ")"
        self._where = triggers.condition(what, "t") + (f" and ({where})" if where else "")
        self._from = f"from {identifier(what.table.name)} t"

    def after(self, said: str) -> Key:
        """See Copier."""
        try:
            found = json.loads(said)
            return tuple(_value(found[column]) for column in self._order)
        except (ValueError, KeyError, TypeError):
            names = ", ".join(self._order)
            raise NotFound(
                f"--after {said} is no key of {self._what.table.name}", f"a JSON object of {names}"
            ) from None

    def chunk(self, after: Key | None, most: int) -> Chunk:
        """See Copier."""
        with plain(self._connection) as cursor:
            low = f" and ({self._names}) > {self._marks}" if after else ""
            cursor.execute("begin immediate")
            try:
                where = f"{self._from} where {self._where}{low} order by {self._names} limit {most}"
                shown = triggers.json(self._order, "t")
                keys = rows(cursor, f"select {self._names}, {shown} {where}", *(after or ()))
                self._copy(cursor, where, after or ())
                cursor.execute("commit")
            except BaseException:
                cursor.execute("rollback")
                raise
        if len(keys) < most:
            return Chunk(len(keys), None, "", [])
        return Chunk(len(keys), tuple(keys[-1][:-1]), str(keys[-1][-1]), [])

    def row(self, key: Key) -> int | None:
        """See Copier: nothing is ever skipped here."""
        raise AssertionError(key)

    def waiting(self, most: int) -> bool:
        """See Copier."""
        with plain(self._connection) as cursor:
            ((count,),) = rows(cursor, f"select count(*) from (select 1 from relay_outbox limit {most + 1})")  # noqa: S608
        return int(count) > most

    def _copy(self, cursor: sqlite3.Cursor, where: str, parameters: Key) -> None:
        what = self._what
        cursor.execute(
            "insert into relay_outbox (topic, tbl, op, key, new_image, too_large) "  # noqa: S608
            f"select {text(what.topic)}, {text(what.table.name)}, 'snapshot', k, n, n is null from "
            f"(select {triggers.json(what.key, 't')} as k, {triggers.image(what, 't')} as n {where})",
            parameters,
        )


def copier(connection: sqlite3.Connection, name: str, where: str | None) -> Copier:
    """Make one. Raises NotFound: the table is not watched."""
    with plain(connection) as cursor:
        found = rows(cursor, "select tbl, options from relay_watched where tbl = ? collate nocase", name)
        if not found:
            raise NotFound(f"{name} is not watched", f"listen.py watch {name}")
        what = triggers.capture(describe(cursor, found[0][0]), Options.parse(found[0][1]))
    return Copier(connection, what, where)


def _value(said: Any) -> Any:
    return bytes.fromhex(said[2:]) if isinstance(said, str) and said.startswith("\\x") else said
