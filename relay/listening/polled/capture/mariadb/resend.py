"""Rows of a watched table of MariaDB, copied into the outbox while they are locked."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from relay.errors import NotFound, RelayError
from relay.listening.polled.capture.condition import qualify
from relay.listening.polled.capture.mariadb import values
from relay.listening.polled.capture.mariadb.names import identifier, qualified
from relay.listening.polled.capture.mariadb.table import Column, describe
from relay.listening.polled.capture.mariadb.triggers import Capture, capture
from relay.listening.polled.capture.mariadb.watch import number
from relay.listening.polled.capture.options import Options
from relay.listening.polled.capture.resend import Chunk, Key

_LOCKED = 1205
_OF_WHERE = {1054, 1064, 1305, 1370, 1582, 1630}  # a column, a syntax, a function that is not there
_MARK = "\0"  # where a parameter goes
_INSERT = (
    "insert into relay.outbox (topic, tbl, op, `key`, new_image, too_large) "
    "values (%s, %s, 'snapshot', %s, %s, %s)"
)  # fmt: skip


class Copier:
    """See capture.resend.Copier.

    Args:
        connection: autocommit, READ COMMITTED, in UTC.
        what: the table's capture.
        where: a further condition, or None.
    """

    def __init__(self, connection: Any, what: Capture, where: str | None) -> None:
        self._connection, self._what, self._where = connection, what, where
        self._cursor = connection.cursor()
        by_name = {column.name: column for column in what.table.columns}
        self._order = [by_name[name] for name in what.table.key] or list(what.key)
        self._only = "".join(f" and ({one})" for one in (_told(what), where) if one)
        self._names = ", ".join(f"t.{identifier(column.name)}" for column in self._order)
        self._marks = "(" + ", ".join([_MARK] * len(self._order)) + ")"

    def after(self, text: str) -> Key:
        """See Copier."""
        try:
            found = json.loads(text)
            return tuple(_value(column, found[column.name]) for column in self._order)
        except (ValueError, KeyError, TypeError):
            names = ", ".join(column.name for column in self._order)
            raise NotFound(
                f"--after {text} is no key of {self._what.table.label}", f"a JSON object of {names}"
            ) from None

    def chunk(self, after: Key | None, most: int) -> Chunk:
        """See Copier."""
        table = qualified(self._what.table.schema, self._what.table.name)
        low = f" and ({self._names}) > {self._marks}" if after else ""
        sql = f"select {self._names} from {table} t where true{low}{self._only} order by {self._names} limit {most}"  # noqa: S608
        try:
            keys = [tuple(row) for row in self._all(sql, after or ())]
        except Exception as error:
            if self._where is None or number(error) not in _OF_WHERE:
                raise
            raise RelayError(f"MariaDB: {error.args[1]}", "--where is what follows WHERE in SQL") from None
        if not keys:
            return Chunk(0, None, "", [])
        last = keys[-1]
        found = self._copy(f"{low} and ({self._names}) <= {self._marks}", (*(after or ()), *last), "skip locked")
        skipped = [key for key in keys if key not in found]
        whole = len(keys) < most
        return Chunk(len(found), None if whole else last, "" if whole else self._shown(last), skipped)

    def row(self, key: Key) -> int | None:
        """See Copier."""
        try:
            return len(self._copy(f" and ({self._names}) = {self._marks}", key, ""))
        except Exception as error:
            self._connection.rollback()
            if number(error) == _LOCKED:
                return None
            raise

    def waiting(self, most: int) -> bool:
        """See Copier."""
        ((count,),) = self._all(f"select count(*) from (select 1 from relay.outbox limit {most + 1}) o", ())  # noqa: S608
        return int(count) > most

    def _copy(self, which: str, parameters: Key, locked: str) -> list[Key]:
        """Lock rows, read them and write their events, in one transaction; the keys of those that were."""
        table, what = qualified(self._what.table.schema, self._what.table.name), self._what
        share = "for share" if what.table.is_mysql else "lock in share mode"
        sql = (
            f"select {self._names}, {values.json(what.key, 't')}, {values.image(what.columns, 't')} from {table} t "  # noqa: S608
            f"where true{which}{self._only} order by {self._names} {share} {locked}"
        )
        self._cursor.execute("begin")
        found = self._all(sql, parameters)
        events = [(what.topic, what.table.label, row[-2], row[-1], row[-1] is None) for row in found]
        if events:
            self._cursor.executemany(_INSERT, events)
        self._connection.commit()
        return [tuple(row[:-2]) for row in found]

    def _shown(self, key: Key) -> str:
        table = qualified(self._what.table.schema, self._what.table.name)
        sql = f"select {values.json(self._order, 't')} from {table} t where ({self._names}) = {self._marks}"  # noqa: S608
        found = self._all(sql, key)
        return str(found[0][0]) if found else ""

    def _all(self, sql: str, parameters: Sequence[Any]) -> Sequence[Any]:
        # Without parameters a driver leaves % alone, with them it must be doubled: names and conditions may have one.
        ready = sql.replace("%", "%%").replace(_MARK, "%s") if parameters else sql
        self._cursor.execute(ready, tuple(parameters) or None)
        found: Sequence[Any] = self._cursor.fetchall()
        return found


def copier(connection: Any, schema: str, name: str, where: str | None) -> Copier:
    """Make one. Raises NotFound: the table is not watched."""
    cursor = connection.cursor()
    cursor.execute("select options from relay.watched where table_schema = %s and table_name = %s", (schema, name))
    found = cursor.fetchall()
    if not found:
        raise NotFound(f"{schema}.{name} is not watched", f"listen.py watch {schema}.{name}")
    what = capture(describe(cursor, schema, name), Options.parse(found[0][0]))
    return Copier(connection, what, where)


def _told(what: Capture) -> str:
    if not what.options.when:
        return ""
    return qualify(
        what.options.when, what.table.names, lambda name: f"t.{identifier(name)}", text_in_double_quotes=True
    )


def _value(column: Column, said: Any) -> Any:
    """A value of a key as JSON has it, for a parameter."""
    readers: dict[str, Callable[[Any], Any]] = {
        "datetime": lambda text: text.replace("T", " "),
        "timestamp": lambda text: text.replace("T", " ").removesuffix("+00:00"),
    }
    if isinstance(said, str) and column.charset is None and said.startswith("\\x"):
        return bytes.fromhex(said[2:])
    return readers.get(column.kind, lambda same: same)(said)
