"""Texts on their way from and to PostgreSQL, where one side has what the other lacks: that must end nothing.

A database need not be UTF-8: SQL_ASCII takes any byte, and other encodings have bytes that are no character. And not
every text of Python's is one of PostgreSQL's: NUL, half a surrogate pair, a character that the database's encoding has
not.
"""

from typing import Any

import psycopg2
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

ESCAPED = "backslashreplace"  # as Python writes it: \xff, \u263a
_BYTEA = 17  # PostgreSQL's number for that type


def is_utf8(handle: Connection) -> bool:
    """Is each text in the database a text of UTF-8?"""
    return handle.info.parameter_status("server_encoding") == "UTF8"


def codec(handle: Connection) -> str:
    """Python's name for a database's encoding; "ascii" of one that Python has not, and what is more is escaped."""
    name = handle.info.parameter_status("server_encoding") or ""
    return "utf_8" if name == "SQL_ASCII" else str(psycopg2.extensions.encodings.get(name, "ascii"))


def decoded(raw: bytes, handle: Connection) -> str:
    """A text of its bytes in the database; those that are no character, escaped."""
    return raw.decode(codec(handle), ESCAPED)


def storable(text: str, handle: Connection) -> str:
    """The same as every database takes it, with escapes for what it might not."""
    name = codec(handle)
    return text.replace("\0", "\\0").encode("utf_8" if name == "utf_8" else "ascii", ESCAPED).decode()


def read_bytes_as_text(handle: Connection) -> None:
    """From now on what this connection selects as bytea comes as text (outbox.shown). Nothing else of ours is bytea."""

    def cast(value: str | bytes | None, cursor: Cursor) -> str | None:
        return None if value is None else decoded(bytes(psycopg2.BINARY(value, cursor)), cursor.connection)

    psycopg2.extensions.register_type(psycopg2.extensions.new_type((_BYTEA,), "TEXT_OF_BYTES", cast), handle)


def execute(cursor: Cursor, sql: str, parameters: Any = None) -> None:
    """Execute a statement.

    Raises:
        psycopg2.Error: a DataError, too, of parameters that are none of PostgreSQL's texts.
    """
    try:
        cursor.execute(sql, parameters)
    except ValueError as error:  # a UnicodeEncodeError is one
        what = "half a character" if isinstance(error, UnicodeError) else "a NUL"
        raise psycopg2.DataError(f"a parameter has {what} in it") from None
