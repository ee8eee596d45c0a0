"""What the mapping file says: which table becomes which model, and how. mapping.example.toml explains every line."""

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from zoneinfo import ZoneInfo

from relay.targets.odoo.expression import Expression, column_of, same
from relay.targets.template import Missing

MODEL = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)*")
LANGUAGE = re.compile(r"[a-z]{2,3}(_([A-Z]{2}|[0-9]{3}))?(@[A-Za-z]+)?")  # de_DE, es_419, sr@latin


def _meets(
    row: Mapping[str, Any], condition: Mapping[str, Any], what: str, of_them: Callable[[Iterable[bool]], bool]
) -> bool:
    """Has the row the values of a condition, called `what`? Raises Missing."""
    try:
        return of_them(same(column_of(row, name), wanted) for name, wanted in condition.items())
    except Missing as error:
        raise Missing(f"{what}: {error}") from None


@dataclasses.dataclass(frozen=True, slots=True)
class FieldMapping:
    """A field of the model and what it gets.

    Args:
        path: as `load` wants it: `name`, `partner_id/id`.
        expression: its value before `values`.
        values: replacements of whole values; that of "" is for NULL, too.
        default: for NULL, or, where there are `values`, for what they do not name; None = the value as it is.
        line: in the file.
        omit: of a row that has NULL here, the field is left as it is.
        by: the linked record is the one with these values; its fields, the first of them its own.
        model: of the record that the external id names, where the field is a number or a reference to any model.
        many: how the links of a many2many change: "" they are replaced, "add" the row's are added, "merge" and those
            that it had before are taken away.
        format: how a date is written in the column, or is to be written into text, as strftime has it.
        decimal: the decimal sign of numbers that are text.
        lang: the language of the text; empty = that of the table's context.
        empty_link: a link to a record that does not come is left empty in the end.
    """

    path: str
    expression: Expression
    values: Mapping[str, str]
    default: str | None
    line: int
    omit: bool = False
    by: tuple[tuple[str, Expression], ...] = ()
    model: str = ""
    many: str = ""
    format: str = ""
    decimal: str = ""
    lang: str = ""
    empty_link: bool = False

    @property
    def name(self) -> str:
        """The field's own name."""
        return self.path.partition("/")[0]

    @property
    def is_link(self) -> bool:
        """Does it name a record by its external id, for Odoo to find?"""
        return self.path.endswith("/id")

    def is_null(self, row: Mapping[str, Any]) -> bool:
        """Has the row nothing for it? A link lacks what it is made of as soon as one column is NULL. Raises Missing."""
        if self.by:
            return any(one.lacks(row) for _, one in self.by)
        whole = self.is_link or bool(self.model)
        return self.expression.lacks(row) if whole else self.expression.is_null(row)

    @property
    def is_looked_up(self) -> bool:
        """Is the record that it links to found by us?"""
        return bool(self.by or self.model)


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
class Action:
    """A method that is called for records of a table, once their rows are loaded.

    Args:
        when: of which rows.
        unless: not of these records; it is what makes it happen once.
        context: of Odoo, beside the table's.
        after: the tables whose rows have to be there; each with the column that says how many.
    """

    method: str
    when: Mapping[str, Any]
    unless: Mapping[str, Any]
    context: Mapping[str, Any]
    after: Mapping[str, str]

    def wants(self, row: Mapping[str, Any]) -> bool:
        """Is it for this row? Raises Missing."""
        return _meets(row, self.when, f"action {self.method}", all)


@dataclasses.dataclass(frozen=True, slots=True)
class TableMapping:
    """A table's mapping.

    Args:
        match: the names of the fields by which a record that has no external id yet is found.
        delete: the first that is for a record counts.
        truncate: does it delete?
        batch_size: rows in a request, at most; 0 = BATCH_SIZE.
        changed: an update writes what it has changed, not all of the row.
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
    actions: tuple[Action, ...]
    batch_size: int
    changed: bool

    @property
    def all_fields(self) -> tuple[FieldMapping, ...]:
        """Those of every load, then those of the creation only."""
        return (*self.fields, *self.create)

    @property
    def languages(self) -> tuple[str, ...]:
        """Those beside the context's."""
        return tuple(dict.fromkeys(one.lang for one in self.fields if one.lang))

    @property
    def omits(self) -> bool:
        """May rows leave out fields?"""
        return any(one.omit for one in self.all_fields)

    @property
    def merges(self) -> bool:
        """Are links taken away that a row had before?"""
        return any(one.many == "merge" for one in self.fields)

    @property
    def looks_up(self) -> bool:
        """Are records found by us, that it links to?"""
        return any(one.is_looked_up for one in self.all_fields)

    def deletes_by(self, do: str) -> bool:
        """Is this one of the things that may become of a record?"""
        return any(one.do == do for one in self.delete)

    @property
    def ignores_deletes(self) -> bool:
        """Does nothing become of any record?"""
        return all(one.do == "ignore" for one in self.delete)

    def wants(self, row: Mapping[str, Any]) -> bool:
        """Does the row meet the condition? Raises Missing."""
        return _meets(row, self.when, "when", all) and not _meets(row, self.unless, "unless", any)


@dataclasses.dataclass(frozen=True, slots=True)
class MappingFile:
    """The whole file.

    Args:
        tables: by name; of a table that is mapped more than once the others as "schema.table as NAME".
        unmapped: refuse or ignore events of tables that it does not name.
        also: by table, its mappings beside the first.
        order: by table, which go first; the others come last.
    """

    path: str
    tables: Mapping[str, TableMapping]
    unmapped: str
    also: Mapping[str, Sequence[TableMapping]]
    order: Mapping[str, int]

    def links(self, table: TableMapping, to: TableMapping) -> list[FieldMapping]:
        """The fields by which rows of a table link to those of another."""
        return [one for one in table.all_fields if one.is_link and one.expression.prefix == to.id.prefix]

    def link(self, table: TableMapping, to: TableMapping) -> FieldMapping:
        """The one; where actions wait for rows of a table, the reader has seen that there is one."""
        return self.links(table, to)[0]

    def headers(self, table: TableMapping) -> list[TableMapping]:
        """The tables with actions that wait for rows of this one."""
        return [one for one in self.tables.values() if any(table.name in action.after for action in one.actions)]

    def acts(self, table: TableMapping) -> bool:
        """Is anything to be called when rows of the table are loaded?"""
        return bool(table.actions or self.headers(table))
