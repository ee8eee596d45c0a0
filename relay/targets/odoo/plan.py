"""What an event means for Odoo: a record to load, one to remove, a table to empty, or nothing. Pure."""

import dataclasses
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from relay.delivery import Event
from relay.targets.odoo.convert import Unfit, in_form, to_text
from relay.targets.odoo.expression import Expression
from relay.targets.odoo.failures import short
from relay.targets.odoo.mapping import FieldMapping, MappingFile, TableMapping
from relay.targets.template import Context, Missing, as_text

MODULE = "__import__"  # where Odoo puts external ids that name no module

Name = tuple[str, str]  # an external id, taken apart
Types = Mapping[str, Mapping[str, Any]]  # as fields_get has them


@dataclasses.dataclass(frozen=True, slots=True)
class Load:
    """Create or update a record. `revive`: it may have been archived, with its row, before. `old`: the row before."""

    table: TableMapping
    external_id: str
    row: Mapping[str, Any]
    revive: bool
    old: Mapping[str, Any] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Remove:
    """The row is gone. `row`: what is known of it."""

    table: TableMapping
    external_id: str
    row: Mapping[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Empty:
    """All rows of the table are gone."""

    table: TableMapping


Plan = Load | Remove | Empty | None


class Unmapped(Missing):
    """The mapping does not name the event's table."""


def plans(mapping: MappingFile, event: Event) -> Sequence[Plan]:
    """What is to be done, one thing after the other: a table may be mapped more than once. Raises Missing."""
    first, more = plan(mapping, event), mapping.also.get(event.table)
    if not more:
        return (first,)
    found = [first, *(_plan_of(table, event) for table in more)]
    # What was made last may need what was made first.
    return found[::-1] if event.op in ("delete", "truncate") else found


def plan(mapping: MappingFile, event: Event) -> Plan:
    """What is to be done by the table's first mapping; None = nothing. Raises Missing: something that it names."""
    table = mapping.tables.get(event.table)
    if table is None:
        if mapping.unmapped == "ignore":
            return None
        where = f"table {event.table}" if event.table else f"topic {event.topic}"
        raise Unmapped(f'{where} is not in the mapping: add it, bind it no longer, or write unmapped = "ignore"')
    return _plan_of(table, event)


def _plan_of(table: TableMapping, event: Event) -> Plan:
    if event.op == "truncate":
        return Empty(table) if table.truncate else None
    context = Context(event)
    key, new, old = (_image(context, name) for name in ("key", "new", "old"))
    if event.op != "delete" and new is None:
        raise Missing("the event has no new row: it was too large to be written as JSON")
    external_id = _identity(table.id, key or {}, new or old or {})
    if event.op == "delete":
        kept_out = old is not None and not table.wants(old)
        return None if kept_out or table.ignores_deletes else Remove(table, external_id, old or {})
    assert new is not None  # noqa: S101
    if table.wants(new):
        entered = event.op == "update" and old is not None and bool(table.when or table.unless) and not table.wants(old)
        return Load(table, external_id, new, event.op != "update" or entered, old if event.op == "update" else None)
    never_was = event.op == "insert" or (event.op == "update" and old is not None and not table.wants(old))
    return None if never_was or table.ignores_deletes else Remove(table, external_id, old or new)


def explain(planned: Plan) -> list[str]:
    """What is to be done, for a person. Raises Missing."""
    if planned is None:
        return ["none: the mapping wants nothing of it"]
    table = planned.table
    if isinstance(planned, Load):
        return [f"load: {table.model} {planned.external_id}", *_cells(planned)]
    doing = " or ".join(dict.fromkeys(rule.do for rule in table.delete))
    if isinstance(planned, Empty):
        return [f"{doing}: all records of {table.model} that came of {table.name}"]
    return [f"{doing}: {table.model} {planned.external_id}"]


def _cells(planned: Load) -> list[str]:
    table, lines = planned.table, []
    for field in table.all_fields:
        try:
            value = cell(field, planned.row, "char", table)
        except Unfit as error:
            value = str(error)
        lines.append(f"  {field.path} = {value}")
    return lines


def _image(context: Context, name: str) -> Mapping[str, Any] | None:
    event = context.value("event", None)
    found = event.get(name) if isinstance(event, dict) else None
    return found if isinstance(found, dict) else None


def _identity(expression: Expression, key: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    outside = [name for name in expression.columns if key and name not in key]
    if outside:
        # An external id that changes with the row would leave a record behind at each change.
        raise Missing(f"id: column {outside[0]} is not in the row's key ({short(', '.join(key))})")
    found = expression.external_ids(key or row)
    if len(found) != 1:
        raise Missing("id: the row's key is NULL or a list")
    return found[0]


def cell(field: FieldMapping, row: Mapping[str, Any], kind: str, table: TableMapping) -> str:
    """The text of one field for `load`; where we find the record, what Lookups.fill wants. Raises Missing, Unfit."""
    if field.by or field.model:  # as is_looked_up; this is asked for every cell
        wanted = _looked_for(field, row)
        return json.dumps(wanted) if wanted else ""
    if field.is_link:
        return ",".join(links_of(field, row))
    value = field.expression.value(row)
    if field.default is not None and _defaults(field, row):
        value = field.default
    elif field.values and (value is not None or "" in field.values):
        value = _replaced(field, as_text(value))
    try:
        if field.format or field.decimal:
            value = in_form(kind, value, table.zone, field.format, field.decimal)
        return to_text(kind, value, table.zone)
    except Unfit as error:
        raise Unfit(f"{field.path} = {field.expression.source}: the value {error}") from None


def row_of(planned: Load, types: Types) -> list[str]:
    """The row of `load`: the external id, then the fields; `types` as fields_get has them. Raises Missing, Unfit."""
    table, made, first = planned.table, [planned.external_id], 0
    for field in table.all_fields:
        if field.name not in types:
            raise Unfit(f"line {field.line}: {table.model} has no field {field.name}; receiver.py check")
        try:
            text = cell(field, planned.row, str(types[field.name].get("type", "")), table)
        except Missing as error:
            raise Missing(f"{field.path}, line {field.line}: {error}") from None
        if field.lang:
            text = text or made[first]  # an empty one would empty all languages
        else:
            first = len(made)
        made.append(text)
    return made


def without(row: Sequence[str], table: TableMapping, links: Collection[Name], *, left_empty: bool = False) -> list[str]:
    """The cells of a row (its external id, then the fields), without these links. Those of `match` are needed.

    Args:
        left_empty: only where the mapping says that they may be.
    """
    made = list(row)
    for at, field in enumerate(table.fields, 1):
        if field.is_link and field.name not in table.match and (field.empty_link or not left_empty):
            made[at] = ",".join(one for one in row[at].split(",") if qualified(one) not in links)
    return made


def left_out(planned: Load, cells: Sequence[str], types: Types | None) -> frozenset[int]:
    """Positions in the row of `load` that are left out of its request. Raises Missing.

    Args:
        cells: as row_of has made them.
        types: also what has not changed is left out; None = the record may not be there.
    """
    table = planned.table
    omitted = _omitted(table, planned.row)
    if types is None or planned.old is None:
        return omitted
    fixed = frozenset(range(1 + len(table.fields), len(cells)))  # set on creation only
    try:
        before = row_of(dataclasses.replace(planned, row=planned.old), types)
        held = _omitted(table, planned.old)  # of these nobody knows what the record has
    except (Missing, Unfit):
        return omitted | fixed
    same = {at for at, (one, other) in enumerate(zip(before, cells, strict=True)) if at and one == other}
    return omitted | fixed | (same - held)


def _omitted(table: TableMapping, row: Mapping[str, Any]) -> frozenset[int]:
    if not table.omits:
        return frozenset()
    return frozenset(at for at, field in enumerate(table.all_fields, 1) if field.omit and field.is_null(row))


def taken_away(planned: Load) -> dict[str, tuple[str, ...]]:
    """By field, the links that the row had before and has no longer, where they are merged. Raises Missing."""
    found: dict[str, tuple[str, ...]] = {}
    for field in planned.table.fields if planned.old is not None else ():
        if field.many == "merge":
            now = links_of(field, planned.row)
            found[field.name] = tuple(one for one in links_of(field, planned.old or {}) if one not in now)
    return {name: links for name, links in found.items() if links}


def links_of(field: FieldMapping, row: Mapping[str, Any]) -> list[str]:
    """The external ids that a row links to. Raises Missing."""
    if field.default is not None and _defaults(field, row):
        return [field.default]
    return [_replaced(field, one) for one in field.expression.external_ids(row)]


def _looked_for(field: FieldMapping, row: Mapping[str, Any]) -> list[str] | list[list[str]]:
    """External ids; or the values of the linked record's fields, of each record a list. Raises Missing."""
    if field.model:
        return links_of(field, row)
    if field.is_null(row):
        return [[field.default]] if field.default is not None and _defaults(field, row) else []
    if len(field.by) > 1:
        return [[as_text(one.value(row)) for _, one in field.by]]
    value = field.expression.value(row)
    found = value if isinstance(value, list) else [value]
    texts = [_replaced(field, as_text(one)) for one in found if one is not None]
    return [[text] for text in texts if text]


def _defaults(field: FieldMapping, row: Mapping[str, Any]) -> bool:
    """Is it NULL, and `default` meant for that? Beside `values` it is for what they do not name."""
    return not field.values and field.is_null(row)


def _replaced(field: FieldMapping, text: str) -> str:
    if not field.values:
        return text
    return field.values.get(text, text if field.default is None else field.default)


def qualified(external_id: str) -> Name:
    """Module and name, as Odoo takes them apart."""
    module, dot, name = external_id.partition(".")
    return (module, name) if dot else (MODULE, external_id)
