"""The columns of a watched table, asked from the listener at work over its command queue."""

from typing import Any

from pika.adapters.blocking_connection import BlockingConnection

from relay.amqp import ask, rights
from relay.errors import ConfigError, NotFound, Unavailable


def of_table(handle: BlockingConnection, source: str, key: bytes, table: str) -> str:
    """Return them as CREATE TABLE has them.

    Args:
        source: the listener's SOURCE, by default the name of its database.
        key: `Common.command_key`.
        table: its name, as events have it.

    Raises:
        ConfigError: nobody listens there.
        NotFound: the listener does not know the table, or not yet such questions.
        Unavailable: no answer.
        pika.exceptions.AMQPError: the connection broke, or an alarm lets no question through.
    """
    said = ask.answer(handle, rights.control(source), key, {"command": "columns", "table": table})
    if said is None:
        what = f"no listener of source {source} takes questions ({rights.control(source)})"
        raise ConfigError((what, "is it running, and CONTROL=on? Or write the columns: --columns 'id int, name text'"))
    if said.get("error"):
        raise NotFound(
            f"the listener of {source}: {said['error']}", "or write the columns: --columns 'id int, name text'"
        )
    columns = said.get("columns")
    if not isinstance(columns, list) or not all(map(_is_column, columns)):
        raise Unavailable(f"the listener of {source} does not answer", "see its log; or write the columns")
    return ",\n".join(_written(*column) for column in columns)


def _is_column(column: Any) -> bool:
    kinds = (str, str, bool, bool)
    return isinstance(column, list) and len(column) == len(kinds) and all(map(isinstance, column, kinds))


def _written(name: str, kind: str, is_filled: bool, is_key: bool) -> str:
    quoted = name.replace('"', '""')
    return f'"{quoted}" {kind}{" not null" if is_filled else ""}{" primary key" if is_key else ""}'
