"""`receiver.py check --columns`: does a table's mapping name its columns, and do the fields take what they hold?"""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

from relay.findings import Finding, Level, failed
from relay.targets.bisection import Refused
from relay.targets.odoo.api import Api
from relay.targets.odoo.check_fields import did_you_mean
from relay.targets.odoo.column_fit import misfit
from relay.targets.odoo.columns import Column, parse, table_name
from relay.targets.odoo.convert import NUMBERS
from relay.targets.odoo.external_ids import Fields, Records
from relay.targets.odoo.mapping import FieldMapping, MappingFile, TableMapping


async def of_table(api: Api, records: Records, mapping: MappingFile, table: str, text: str) -> AsyncIterator[Finding]:
    """Compare columns with a table's mapping, or with each of them.

    Args:
        table: its name.
        text: its columns, as `columns.parse` wants them.

    Raises:
        ConfigError: they can't be read.
    """
    name, columns = table_name(table) or table, parse(text)
    tables = [mapping.tables[name], *mapping.also.get(name, ())] if name in mapping.tables else []
    if not tables:
        remedy = did_you_mean(name, mapping.tables) or f"the tables are: {', '.join(mapping.tables)}"
        yield failed(f"{name}: columns", f"not in {mapping.path}", remedy)
    for mapped in tables:
        try:
            fields = await records.fields_of(api, mapped.model)
        except Refused as refused:
            yield failed(f"{mapped.name}: columns", refused.outcome.reason, "receiver.py check tells more")
            continue
        yield _whole(mapped, columns)
        for finding in compare(mapping, mapped, columns, fields):
            yield finding


def _whole(mapped: TableMapping, columns: Sequence[Column]) -> Finding:
    """What is told first: how many there are, and which the mapping does not use."""
    used = {column for _what, names, _line in _named(mapped) for column in names}
    unused = [one.name for one in columns if one.name not in used]
    detail = f"{len(columns)} columns"
    detail += f"; the mapping does not use {', '.join(unused)}" if unused else ""
    return Finding(f"{mapped.name}: columns", detail=detail)


def compare(mapping: MappingFile, mapped: TableMapping, columns: Sequence[Column], fields: Fields) -> Iterator[Finding]:
    """What does not fit. Pure."""
    there = {one.name: one for one in columns}
    for what, names, line in _named(mapped):
        for name in [name for name in names if name not in there]:
            where = f"in {mapping.path} line {line}"
            remedy = f"{did_you_mean(name, there) or 'change or remove it.'} It is {where}"
            yield failed(f"{mapped.name}: {what}", f"the table has no column {name}", remedy)
    keys = [one.name for one in columns if one.key]
    for name in [name for name in mapped.id.columns if keys and name in there and name not in keys]:
        remedy = f"name the columns of the key in {mapping.path} line {mapped.line}, or give relay.watch this key"
        yield failed(f"{mapped.name}: id", f"column {name} is not in the key ({', '.join(keys)})", remedy)
    for field in mapped.all_fields:
        if field.name in fields:
            yield from _of_field(mapping, mapped, field, there, fields)


def _named(mapped: TableMapping) -> Iterator[tuple[str, Sequence[str], int]]:
    """What names columns, the columns, and the line."""
    yield "id", mapped.id.columns, mapped.line
    for field in mapped.all_fields:
        sources = [one for _, one in field.by] or [field.expression]
        yield field.path, [name for one in sources for name in one.columns], field.line
    for what, names in (("when", mapped.when), ("unless", mapped.unless)):
        yield what, list(names), mapped.line
    for action in mapped.actions:
        yield f"actions {action.method}", [*action.when, *action.after.values()], mapped.line


def _of_field(
    mapping: MappingFile, mapped: TableMapping, field: FieldMapping, there: Mapping[str, Column], fields: Fields
) -> Iterator[Finding]:
    known, name, where = fields[field.name], f"{mapped.name}: {field.path}", f"in {mapping.path} line {field.line}"
    pieces = field.expression.pieces
    if len(field.by) > 1 or len(pieces) != 1 or isinstance(pieces[0], str) or pieces[0].name not in there:
        return
    column = there[pieces[0].name]
    # What has filters, or other words for what it holds, is not taken as the column has it.
    plain = not (pieces[0].filters or field.values or field.format or field.decimal or field.is_looked_up)
    wrong = misfit(column, field.name, known) if plain or field.is_link else None
    if wrong is not None:
        level = Level.FAILED if wrong.never else Level.WARNING
        yield Finding(name, level, f"column {column.name} {wrong.what}", f"{wrong.remedy}; it is {where}")
    takes_null = field.omit or field.default is not None or "" in field.values or known.get("type") in NUMBERS
    if known.get("required") and column.nullable and not takes_null and known.get("type") != "boolean":
        what = f"column {column.name} may be NULL, and Odoo requires {field.name}: such rows are refused"
        yield Finding(name, Level.WARNING, what, f'give it a default, or omit = "null", {where}')
