"""What a row of a polled outbox holds, and which rows are meant, as SQLAlchemy's expressions for each database."""

import functools
from typing import Any, NamedTuple

import sqlalchemy as sa

from relay.database_url import MYSQL, ORACLE, SQLITE
from relay.listening.outbox_read import BESIDE, LARGEST, NAME
from relay.listening.polled.outbox_table import OWN, OutboxTable

WRITTEN = -1  # size of lists that are written into the text of a statement

Element = sa.ColumnElement[Any]


def value(name: str) -> sa.BindParameter[Any]:
    """A value that a statement takes with it."""
    return sa.bindparam(name, required=False)


class Sizes(NamedTuple):
    """How long the lists of a read are: ranges, keys, tables and topics that wait.

    Args:
        seqs: of numbers; where there are any, these rows are meant, and no others.
        has_heavy: are there rows too large to be read with their bodies?
    """

    ranges: int = 0
    keys: int = 0
    tables: int = 0
    topics: int = 0
    seqs: int = 0
    has_heavy: bool = False


class Expressions:
    """Of one table.

    Args:
        kind: of PolledUrl.
        table: whose rows.
    """

    def __init__(self, kind: str, table: OutboxTable) -> None:
        self._kind, self._mapping = kind, table
        names = dict.fromkeys(table.columns.values())
        self._table: Any = sa.table(table.name, *map(sa.column, names), schema=table.schema or None).alias("o")
        of = {key: self._table.c[name] for key, name in table.columns.items()}
        constants = {key: sa.literal(text) for key, text in table.constants.items()}
        self._of: dict[str, Element] = {name: of.get(name, constants.get(name, sa.null())) for name in OWN}
        self._seq = self._table.c[table.columns["seq"]]

    def _wanted(self, sizes: Sizes) -> Element:
        """What is above the highest row seen, or in a range of those not seen, and waits; or these rows."""
        above: Element = self._seq > value("high")
        found = sa.or_(self._between(sizes.ranges), above) if sizes.ranges else above
        return self._waiting(self._in(self._seq, "seq", sizes.seqs) if sizes.seqs else found)

    def _between(self, ranges: int) -> Element:
        return sa.or_(*[self._seq.between(value(f"first{n}"), value(f"last{n}")) for n in range(ranges)])

    def _waiting(self, found: Element) -> Element:
        pending = self._mapping.pending
        return sa.and_(found, sa.literal_column(f"({pending})")) if pending else found

    def _held(self, sizes: Sizes) -> Element | None:
        tables = self._in(self._of["tbl"], "table", sizes.tables)
        topics = self._in(self._of["topic"], "topic", sizes.topics)
        keys = self._in(self._key, "key", sizes.keys)
        found = [one for one in (tables, keys) if one is not None]
        if topics is not None:
            found.append(sa.and_(self._of["tbl"].is_(None), topics))
        return sa.func.coalesce(sa.case((sa.or_(*found), 1), else_=0), 0) == 1 if found else None

    @staticmethod
    def _in(column: Element, name: str, size: int) -> Any:
        if size == WRITTEN:
            return column.in_([sa.literal_column(f"@{name}s")])
        return column.in_([value(f"{name}{n}") for n in range(size)]) if size else None

    @property
    def _key(self) -> Element:
        """As the message has it: a row event's begins with its table's name."""
        if not self._mapping.is_own:
            return self._of["key"]
        named = self._of["tbl"].concat(sa.literal(" ")).concat(self._of["key"])
        return sa.case((self._of["tbl"].is_(None), self._of["key"]), else_=named)

    @property
    def _size(self) -> Element:
        """About how many bytes of memory a row will take."""
        parts = [sa.func.coalesce(self._octets(self._of[name]), 0) for name in ("old_image", "new_image", "body", "key")
                 if name in self._mapping.columns]  # fmt: skip
        return functools.reduce(lambda one, other: one + other, parts, sa.literal_column("200"))

    @property
    def _heavy(self) -> Element:
        sizes: list[Element] = [self._size > LARGEST]
        limits = {"key": BESIDE, "headers": BESIDE, "topic": BESIDE, "op": BESIDE, "tbl": NAME}
        for name, limit in limits.items():
            if name in self._mapping.columns:
                sizes.append(sa.func.coalesce(self._octets(self._of[name]), 0) > limit)
        return sa.or_(*sizes)

    def _octets(self, column: Element) -> Element:
        if self._kind == SQLITE:
            return sa.func.length(sa.cast(column, sa.LargeBinary))
        return sa.func.octet_length(column) if self._kind == MYSQL else sa.func.length(column)

    def _as_text(self, column: Element) -> Element:
        if self._kind == ORACLE:
            return sa.func.to_char(column, 'YYYY-MM-DD"T"HH24:MI:SS.FF6')
        return sa.cast(column, sa.CHAR) if self._kind == MYSQL else column

    def _hinted(self, made: sa.Select[Any]) -> sa.Select[Any]:
        index = self._mapping.index or "PRIMARY"
        return made.with_hint(self._table, f"FORCE INDEX ({index})", "mysql")
