"""What the mapping file says: which table becomes which model, and how. mapping.example.toml explains every line."""

import dataclasses
from collections.abc import Mapping
from typing import Any
from zoneinfo import ZoneInfo

from relay.targets.odoo.expression import Expression, column_of, same


@dataclasses.dataclass(frozen=True, slots=True)
class FieldMapping:
    """A field of the model and what it gets.

    Args:
        path: as `load` wants it: `name`, `partner_id/id`.
        expression: its value before `values`.
        values: replacements of whole values.
        default: for what `values` does not name; None = the value as it is.
        line: in the file.
    """

    path: str
    expression: Expression
    values: Mapping[str, str]
    default: str | None
    line: int

    @property
    def name(self) -> str:
        """The field's own name."""
        return self.path.partition("/")[0]

    @property
    def is_link(self) -> bool:
        """Does it name a record by its external id?"""
        return self.path.endswith("/id")


@dataclasses.dataclass(frozen=True, slots=True)
class Removal:
    """What becomes of a record whose row is gone.

    Args:
        when: of which records; empty = all.
        do: archive, ignore, write, or a method, `unlink` among them.
        values: for write.
        context: of Odoo, beside the table's.
    """

    when: Mapping[str, Any]
    do: str
    values: Mapping[str, Any]
    context: Mapping[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class TableMapping:
    """A table's mapping.

    Args:
        match: the names of the fields by which a record that has no external id yet is found.
        delete: the first that is for a record counts.
        truncate: does it delete?
    """

    name: str
    line: int
    model: str
    id: Expression
    fields: tuple[FieldMapping, ...]
    create: tuple[FieldMapping, ...]
    match: tuple[str, ...]
    when: Mapping[str, Any]
    unless: Mapping[str, Any]
    delete: tuple[Removal, ...]
    truncate: bool
    context: Mapping[str, Any]
    zone: ZoneInfo

    @property
    def all_fields(self) -> tuple[FieldMapping, ...]:
        """Those of every load, then those of the creation only."""
        return (*self.fields, *self.create)

    def deletes_by(self, do: str) -> bool:
        """Is this one of the things that may become of a record?"""
        return any(one.do == do for one in self.delete)

    @property
    def ignores_deletes(self) -> bool:
        """Does nothing become of any record?"""
        return all(one.do == "ignore" for one in self.delete)

    def wants(self, row: Mapping[str, Any]) -> bool:
        """Does the row meet the condition? Raises Missing."""
        return all(same(column_of(row, name), wanted) for name, wanted in self.when.items()) and not any(
            same(column_of(row, name), unwanted) for name, unwanted in self.unless.items()
        )


@dataclasses.dataclass(frozen=True, slots=True)
class MappingFile:
    """The whole file. `unmapped`: refuse or ignore events of tables that it does not name."""

    path: str
    tables: Mapping[str, TableMapping]
    unmapped: str
