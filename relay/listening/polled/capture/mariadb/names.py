"""Names and texts as MariaDB's SQL writes them, and the names of our triggers."""

import hashlib
import re

OWNER = "relay_owner@localhost"
"""Whose triggers and procedures they are (sql/mariadb/install.sql); nobody logs in as it."""
SQL_MODE = "STRICT_ALL_TABLES"
"""What our triggers are created with, whatever the writer's session has: a value that doesn't fit is an error, which
they handle, and a backslash in a text is an escape."""
OPERATIONS = ("insert", "update", "delete")


def identifier(name: str) -> str:
    """`name`, quoted."""
    return "`" + name.replace("`", "``") + "`"


def text(value: str) -> str:
    """A text that is the same whatever sql_mode is, and that information_schema gives back as it was written."""
    if "\\" in value or not value.isprintable():
        return f"convert(x'{value.encode().hex()}' using utf8mb4)"
    return "'" + value.replace("'", "''") + "'"


def qualified(schema: str, table: str) -> str:
    """A table's name for SQL."""
    return f"{identifier(schema)}.{identifier(table)}"


def trigger(operation: str, table: str) -> str:
    """The name of a table's trigger, which is unique in its database; the table's, as far as it is plain and short."""
    plain = re.sub(r"[^a-z0-9_]", "_", table)[:40]
    if plain != table:
        plain += "_" + hashlib.sha256(table.encode()).hexdigest()[:8]
    return f"relay_{operation}_{plain}"
