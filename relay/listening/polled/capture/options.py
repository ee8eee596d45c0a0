"""What `listen.py watch` is told of a table, and which columns that means."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

from relay.errors import NotFound

TOPIC_BYTES = 255  # of a routing key (AMQP 0-9-1)


@dataclasses.dataclass(frozen=True)
class Options:
    """The options of a watch; their defaults are those of relay.watch on PostgreSQL.

    Args:
        columns: those in old and new; () = all, also those added later, once the table is watched again.
        ignore: or those that are not; an update that changes only these writes no event.
        topic: routing key; "" = database.table.
        key: columns that identify a row; () = the primary key.
        when: a condition on the row, as SQL with plain names of columns; "" = every row.
        without_cascades: the table is a child of a foreign key whose cascades are not captured, and that is known.
        lock_tables: MariaDB: the application writes to the table under LOCK TABLES.
    """

    columns: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    topic: str = ""
    key: tuple[str, ...] = ()
    when: str = ""
    without_cascades: bool = False
    lock_tables: bool = False

    def dump(self) -> str:
        """As the database keeps them: JSON, without what is as by default."""
        set_ = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return json.dumps({name: value for name, value in set_.items() if value}, ensure_ascii=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """The opposite of `dump`; what a later release has written beside is left out.

        Raises:
            NotFound: it is not what `dump` has written. Whoever may write to an SQLite file may have.
        """
        try:
            given = dict(json.loads(text).items())
            found: dict[str, Any] = {}
            for field in dataclasses.fields(cls):
                if field.name in given:
                    value = given[field.name]
                    found[field.name] = tuple(map(_text, value)) if isinstance(value, list) else value
                    if type(found[field.name]) is not type(field.default):
                        raise TypeError
        except (AttributeError, ValueError, TypeError, RecursionError):
            raise NotFound("what it was watched with can't be read", "") from None
        return cls(**found)

    def words(self) -> list[str]:
        """As arguments of `listen.py watch`."""
        said = []
        for name in ("columns", "ignore", "key"):
            if chosen := getattr(self, name):
                said += [f"--{name}", ",".join(chosen)]
        for name in ("topic", "when"):
            if text := getattr(self, name):
                said += [f"--{name}", text]
        for name in ("without_cascades", "lock_tables"):
            if getattr(self, name):
                said.append("--" + name.replace("_", "-"))
        return said


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


class Chosen(NamedTuple):
    """What the options mean for a table as it is now."""

    topic: str
    columns: tuple[str, ...]
    """Those in its events, in the table's order."""
    key: tuple[str, ...]


def chosen(options: Options, names: Sequence[str], primary: Sequence[str], table: str) -> Chosen:
    """Join the options of a watch and a table.

    Args:
        options: as they were given.
        names: of the table's columns.
        primary: those of its primary key; none = it has none.
        table: its name.

    Raises:
        NotFound: a column that is not there; none is left; no key; a topic that is too long.
    """
    for option in ("columns", "ignore", "key"):
        check(getattr(options, option), names, table, f"--{option}")
    wanted = options.columns or names
    found = tuple(name for name in names if name in wanted and name not in options.ignore)
    if not found:
        raise NotFound(f"no column of {table} would be in its events", "leave one out of --ignore")
    key = options.key or tuple(primary)
    if not key:
        raise NotFound(f"{table} has no primary key", "add one; or name columns that identify a row: --key a,b")
    return Chosen(topic(options, table), found, key)


def check(given: Sequence[str], names: Sequence[str], table: str, option: str) -> None:
    """Raises NotFound: a column that is not there."""
    for name in given:
        if name not in names:
            raise NotFound(f"{table} has no column {name}, which {option} names", f"its columns: {', '.join(names)}")


def topic(options: Options, table: str) -> str:
    """The routing key. Raises NotFound: it is too long for RabbitMQ."""
    text = options.topic or table
    if len(text.encode()) > TOPIC_BYTES:
        raise NotFound(f"the topic {text[:60]}... is longer than {TOPIC_BYTES} bytes", "give a shorter one by --topic")
    return text
