"""A column's value in SQL, so that JSON_OBJECT writes it exactly and in PostgreSQL's shape.

Measured on 10.11: a BLOB makes the whole object binary; ZEROFILL, BIT and YEAR are no JSON numbers as they are; FLOAT
loses digits; text that is not utf8mb4 can't stand beside text that is; CONVERT_TZ is wrong in the autumn hour.
"""

from collections.abc import Sequence

from relay.listening.polled.capture.mariadb.names import identifier, text
from relay.listening.polled.capture.mariadb.table import Column

_BINARY = {"binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"}
_GEOMETRY = {
    "geometry", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon", "geometrycollection",
}  # fmt: skip
_FLOATS = {"float", "double"}
_EPOCH = "timestamp'1970-01-01 00:00:00'"


def value(column: Column, row: str) -> str:
    """The SQL of a column's value.

    Args:
        column: which.
        row: new, old or a table's alias.
    """
    name = f"{row}.{identifier(column.name)}"
    if column.kind in _BINARY | _GEOMETRY:
        return f"concat(char(92 using utf8mb4), 'x', lower(hex({name})))"  # a backslash, see names.text
    if column.kind == "timestamp":  # in UTC, whatever the session's time zone; 0000-00-00 is no second of any zone
        utc = f"{_EPOCH} + interval unix_timestamp({name}) second"
        return f"coalesce(concat(replace({utc}, ' ', 'T'), '+00:00'), replace({name}, ' ', 'T'))"
    if column.kind == "datetime":
        return f"replace({name}, ' ', 'T')"
    if column.kind == "float" or (column.kind in _FLOATS and "zerofill" in column.definition):
        return f"{name} + 0e0"
    if column.as_text:
        return f"cast({name} as char)"
    if column.kind in {"bit", "year"} or "zerofill" in column.definition:
        return f"{name} + 0"
    return _text(column, name)


def _text(column: Column, name: str) -> str:
    if column.charset not in {None, "utf8mb4"}:
        name = f"convert({name} using utf8mb4)"
    if column.is_json:  # json_compact is there for its type alone: it hands on what it is given, as it is
        return f"json_compact(if(json_valid({name}), {name}, json_quote({name})))"
    return name


def json(columns: Sequence[Column], row: str) -> str:
    """The SQL of a row as a JSON object, in one line."""
    return f"json_object({', '.join(_pairs(columns, row))})"


def image(columns: Sequence[Column], row: str) -> str:
    """The same for as many columns as there are, a line each.

    Once JSON_OBJECT was too large it is null for the rest of the session, whatever it writes (10.11.19); it is so only
    for whoever asks it whether it is null, and CONCAT doesn't.
    """
    return "concat(json_object(\n    " + ",\n    ".join(_pairs(columns, row)) + "\n))"


def _pairs(columns: Sequence[Column], row: str) -> list[str]:
    return [f"{text(column.name)}, {value(column, row)}" for column in columns]
