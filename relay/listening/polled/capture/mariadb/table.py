"""A table as MariaDB or MySQL describes it: what a trigger's text is made of, and what speaks against one."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from relay.errors import NotFound
from relay.listening.polled.capture.mariadb.names import identifier, qualified


class Cursor(Protocol):
    """Of any DB-API driver whose parameters are %s."""

    def execute(self, sql: str, parameters: Any = None, /) -> Any: ...
    def fetchall(self) -> Sequence[Any]: ...


class Column(NamedTuple):
    """A column that events can hold."""

    name: str
    kind: str
    """Its DATA_TYPE: int, varchar, ..."""
    definition: str
    """Its COLUMN_TYPE: int(6) unsigned zerofill."""
    charset: str | None
    collation: str | None
    is_json: bool
    as_text: bool = False
    """JSON would write it in another way than SQL does: MySQL's TIME, with six digits behind the point."""


class Table(NamedTuple):
    """A table as it is now."""

    schema: str
    name: str
    engine: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    """Of the primary key, in its order; () = it has none."""
    indexed: tuple[str, ...]
    """The columns of its unique indexes and foreign keys that are not in its primary key."""
    cascades: tuple[str, ...]
    """Its foreign keys that change its rows without a trigger."""
    is_mysql: bool = False
    """MySQL has words of its own for what MariaDB calls CREATE OR REPLACE TRIGGER and LOCK IN SHARE MODE."""

    @property
    def label(self) -> str:
        """As its events name it."""
        return f"{self.schema}.{self.name}"

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]


_TABLE = """
select table_schema, table_name, engine, table_type from information_schema.tables
where table_schema = %s and table_name = %s
"""
_COLUMNS = """
select column_name, data_type, column_type, character_set_name, collation_name, generation_expression
from information_schema.columns where table_schema = %s and table_name = %s order by ordinal_position
"""
_INDEXES = """
select column_name, index_name = 'PRIMARY' from information_schema.statistics
where table_schema = %s and table_name = %s and non_unique = 0 order by index_name, seq_in_index
"""
_LITERAL = re.compile(r"'(?:[^'\\]|\\.|'')*'", re.DOTALL)
_CASCADE = re.compile(
    r"\n  CONSTRAINT `((?:[^`]|``)*)` FOREIGN KEY [^\n]*? ON (?:DELETE|UPDATE) (?:CASCADE|SET NULL)", re.DOTALL
)
_SYSTEM = {"ROW START", "ROW END"}  # of a system-versioned table: the server's own


def parts(name: str, default: str) -> tuple[str, str]:
    """Split a table's name as SQL writes it: orders, shop.orders, `shop`.`or.ders`.

    Args:
        name: as it was given.
        default: the database, where the name says none.

    Raises:
        NotFound: it is no name.
    """
    found = re.fullmatch(r"(?:(`(?:[^`]|``)+`|[^`.]+)\.)?(`(?:[^`]|``)+`|[^`.]+)", name.strip(), re.DOTALL)
    if not found:
        raise NotFound(f"{name} is no table's name", "write DATABASE.TABLE, as in SQL: shop.orders or shop.`or.ders`")
    schema, table = (
        part[1:-1].replace("``", "`") if part and part.startswith("`") else part for part in found.groups()
    )
    return schema or default, table or ""


def describe(cursor: Cursor, schema: str, name: str) -> Table:
    """Read what a table is like. Raises NotFound: there is none, or it is a view."""
    rows = _all(cursor, _TABLE, schema, name)
    if not rows or ("TABLE" not in str(rows[0][3]) and rows[0][3] != "SYSTEM VERSIONED"):
        what = "is no table" if rows else "is not there, or this user may not see it"
        raise NotFound(f"{schema}.{name} {what}", "write DATABASE.TABLE; the user needs SELECT on it")
    schema, name, engine = rows[0][:3]
    created = _created(cursor, schema, name)
    is_mysql = "mariadb" not in str(_all(cursor, "select version()")[0][0]).lower()
    columns = [
        Column(
            name, kind.lower(), definition.lower(), charset, collation, _is_json(created, name),
            as_text=is_mysql and kind.lower() == "time",
        )
        for name, kind, definition, charset, collation, generated in _all(cursor, _COLUMNS, schema, name)
        if generated not in _SYSTEM
    ]  # fmt: skip
    indexes = _all(cursor, _INDEXES, schema, name)
    key = tuple(column for column, is_primary in indexes if is_primary)
    bound = {column for column, _ in indexes} | _foreign(created)
    indexed = tuple(one.name for one in columns if one.name in bound and one.name not in key)
    cascades = tuple(_CASCADE.findall(created))
    return Table(schema, name, engine or "", tuple(columns), key, indexed, cascades, is_mysql)


def _foreign(created: str) -> set[str]:
    """The columns of foreign keys."""
    lists = re.findall(r"\n  CONSTRAINT [^\n]*? FOREIGN KEY \(([^\n]*?)\) REFERENCES ", created)
    return {name.replace("``", "`") for one in lists for name in re.findall(r"`((?:[^`]|``)*)`", one)}


def _created(cursor: Cursor, schema: str, name: str) -> str:
    """The table's CREATE TABLE, without the texts in it."""
    return _LITERAL.sub("''", str(_all(cursor, f"show create table {qualified(schema, name)}")[0][1]))


def _is_json(created: str, name: str) -> bool:
    """Whether MariaDB writes a column's text into JSON as it is: it asks the column's CHECK."""
    column = re.escape(identifier(name))
    return re.search(rf"\n  {column} [^\n]* CHECK \(json_valid\({column}\)\)", created) is not None


def _all(cursor: Cursor, sql: str, *parameters: str) -> Sequence[Any]:
    cursor.execute(sql, parameters or None)
    return cursor.fetchall()
