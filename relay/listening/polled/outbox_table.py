"""The table whose rows are relayed: our own outbox, or a queue that a firm has already, by its columns. Pure."""

import dataclasses
import re
from collections.abc import Mapping

from relay.database_url import SQLITE

OWN = (
    "seq", "id", "at", "topic", "tbl", "op", "key", "old_image", "new_image", "body", "headers", "too_large", "error",
)  # fmt: skip
"""What a row holds; those of a firm's queue are mapped to them, as far as there are any."""
MAPPED = ("seq", "id", "at", "topic", "op", "key", "body", "headers", "error")  # of a firm's queue
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_$#]*")


class Unfit(ValueError):
    """A mapping that will not do: what is wrong, and what to write instead."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.what, self.remedy = what, remedy


@dataclasses.dataclass(frozen=True)
class OutboxTable:
    """A table, and how it is read.

    Args:
        schema: MariaDB's database, Oracle's user; empty = none.
        name: without it.
        columns: of each of OWN that there is, its name in the table.
        constants: the same for those that are one text for all rows.
        pending: SQL that says which rows wait; empty = all.
        done: SQL behind SET that marks a row as published; empty = it is deleted.
        is_own: is it the relay's own? Its numbers come once, and the relay's other tables are there.
    """

    schema: str
    name: str
    columns: Mapping[str, str]
    constants: Mapping[str, str] = dataclasses.field(default_factory=dict)
    pending: str = ""
    done: str = ""
    is_own: bool = True
    index: str = ""
    """Of a firm's queue: that by which waiting rows are found, among those that were published."""

    @property
    def shown(self) -> str:
        """Its name, as a person writes it."""
        return f"{self.schema}.{self.name}" if self.schema else self.name

    @property
    def has_images(self) -> bool:
        """Does a row hold its message, or what it is made of? Else its columns are the message."""
        return self.is_own or "body" in self.columns


def own(kind: str) -> OutboxTable:
    """The relay's own outbox, of this kind of database."""
    same = {name: name for name in OWN}
    return OutboxTable("", "relay_outbox", same) if kind == SQLITE else OutboxTable("relay", "outbox", same)


def mapped(table: str, columns: str, pending: str, done: str) -> OutboxTable:
    """A firm's queue.

    Args:
        table: OUTBOX_TABLE.
        columns: OUTBOX_COLUMNS: seq=ID key=PHONE topic='sms', separated by blanks.
        pending: OUTBOX_PENDING.
        done: OUTBOX_DONE.

    Raises:
        Unfit: it can't be read so.
    """
    found = _pairs(columns)
    names = {key: text for key, text in found.items() if not text.startswith("'")}
    constants = {key: text[1:-1].replace("''", "'") for key, text in found.items() if text.startswith("'")}
    if "seq" not in names:
        raise Unfit("OUTBOX_COLUMNS names no column for seq", "write seq=ID, the column whose numbers are the order")
    for key, name in names.items():
        if not _NAME.fullmatch(name):
            raise Unfit(f"OUTBOX_COLUMNS: {key}={name[:60]} is no column's name", "write a name, or 'a text' in quotes")
    schema, _, name = table.rpartition(".")
    if not _NAME.fullmatch(name) or (schema and not _NAME.fullmatch(schema)):
        raise Unfit(f"OUTBOX_TABLE={table[:120]} is no table's name", "write database.table, or only table for SQLite")
    marks = "" if done == "delete" else done
    if marks and not pending:
        what = "OUTBOX_DONE marks rows, and OUTBOX_PENDING does not say which ones wait"
        raise Unfit(what, "write OUTBOX_PENDING=\"STATUS = 'NEW'\", the condition that OUTBOX_DONE makes false")
    for key, text in {"topic": table, "op": "insert"}.items():
        if key not in names:
            constants.setdefault(key, text)
    constants["tbl"] = table
    return OutboxTable(schema, name, names, constants, pending, marks, is_own=False)


def _pairs(columns: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, text in re.findall(r"\s*([^=\s]+)=('(?:[^']|'')*'|\S*)", columns):
        if key not in MAPPED or not text:
            raise Unfit(f"OUTBOX_COLUMNS has {key[:60]}={text[:60]}", f"write some of {', '.join(MAPPED)}, as seq=ID")
        found[key] = text
    if re.sub(r"\s*([^=\s]+)=('(?:[^']|'')*'|\S*)", "", columns).strip():
        raise Unfit("OUTBOX_COLUMNS can't be read", "write seq=ID key=PHONE topic='sms', separated by blanks")
    return found
