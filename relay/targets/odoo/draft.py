"""A first mapping of a table, out of its columns and the model's fields, as text; `# ?` marks what is guessed. Pure."""

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from relay.errors import ConfigError
from relay.targets.odoo.check_fields import STAMPS
from relay.targets.odoo.column_fit import misfit, options
from relay.targets.odoo.columns import WANTED, Column, Kind
from relay.targets.odoo.convert import TEXTS
from relay.targets.odoo.external_ids import Fields
from relay.targets.odoo.failures import short
from relay.targets.odoo.guesses import Pair, pairs, plain, plural, singular, usable

SHOWN = 8  # values of a selection
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_BY_ID = re.compile(r"(^|_)(id|ids|uuid|uuids|no|nr|key)$")
_FINDS = ("default_code", "barcode", "email", "vat", "ref", "login", "acc_number", "code")


@dataclasses.dataclass(frozen=True, slots=True)
class Subject:
    """What is mapped.

    Args:
        table: its name, with its schema.
        fields: of the model, with `string`, their labels.
        defaults: fields that Odoo fills in a new record.
        server: which Odoo was asked, for people.
    """

    table: str
    model: str
    columns: Sequence[Column]
    fields: Fields
    defaults: frozenset[str]
    server: str


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """A field's line. `notes`: what is guessed. `off`: it is written as a comment."""

    path: str
    value: str
    notes: tuple[str, ...] = ()
    off: bool = False

    def __str__(self) -> str:
        note = f"  # ? {'; '.join(self.notes)}" if self.notes else ""
        return f"{'#' if self.off else ''}{_key(self.path)} = {self.value}{note}"


def filled(subject: Subject) -> set[str]:
    """The fields that a column was found for."""
    return {pair.field for pair in _pairs(subject) if pair.field and _line(subject, pair).off is False}


def draft(subject: Subject, lacking: Sequence[str]) -> str:
    """The mapping.

    Args:
        lacking: required fields that neither a column nor Odoo fills.

    Raises:
        ConfigError: no column can be named as the key, or no field can be written.
    """
    table, model, fields = subject.table, subject.model, subject.fields
    identity, found = _identity(subject), _pairs(subject)
    lines = [_line(subject, pair) for pair in found if pair.field]
    if all(line.off for line in lines):
        lines.append(_any_line(subject, {line.path.partition("/")[0] for line in lines}))
    archives = "active" in fields
    at_all = "" if archives else f"  # ? {model} has no field active to archive by; or ignore, or a method"
    head = [
        f"# A first mapping of {_shown(table)}, made by receiver.py mapping. Asked for fields: {subject.server}.",
        "# Look at each line with a question mark; mapping.example.toml explains them all. Then: receiver.py check",
        "",
        f"[table.{_text(table)}]",
        f"model = {_text(model)}",
        identity,
        *_match(lines),
        f'delete = "{"archive" if archives else "unlink"}"{at_all}',
        'truncate = "ignore"  # ? or "delete": TRUNCATE then does the same to all records of the table',
        "",
        f"[table.{_text(table)}.fields]",
        *map(str, lines),
    ]
    tail = [*_left(subject, found), *_lacking(lacking, fields)]
    return "\n".join([*head, *([""] if tail else []), *tail]) + "\n"


def _pairs(subject: Subject) -> list[Pair]:
    able = [one for one in subject.columns if _nameable(one.name)]
    known = usable(subject.fields)
    made = {pair.column.name: pair for pair in pairs(able, known, subject.table)}
    return [made.get(one.name, Pair(one)) for one in subject.columns]


def _keys(subject: Subject) -> tuple[list[Column], str]:
    """The columns of the row's key, and what is guessed."""
    keys = [one for one in subject.columns if one.key]
    if keys:
        return keys, ""
    own = {"id", f"{singular(plain(subject.table.rpartition('.')[2]))}_id"}
    able = [one for one in subject.columns if _nameable(one.name)]
    return [one for one in able if one.name in own][:1] or able[:1], "  # ? the columns of the row's key"


def _identity(subject: Subject) -> str:
    keys, guess = _keys(subject)
    if not keys or not all(_nameable(one.name) for one in keys):
        what = f"{subject.table}: its key has a name that a mapping can't hold"
        remedy = "no braces, no |, no spaces at its ends: take other columns, relay.watch(..., key => ...)"
        raise ConfigError((what, remedy))
    columns = "_".join(f"{{{one.name}}}" for one in keys)
    return f"id = {_text(prefix(subject.table) + columns)}{guess}"


def prefix(table: str) -> str:
    """How the external ids of a table's records begin: customers_ of public.customers."""
    return (re.sub(r"\W+", "_", table.rpartition(".")[2]).strip("_") or "rows") + "_"


def _match(lines: Sequence[Line]) -> Iterator[str]:
    there = [line.path for line in lines if not line.off and line.path in _FINDS]
    finds = next((one for one in _FINDS if one in there), "")
    if finds:
        yield f'#match = ["{finds}"]  # ? if Odoo may have these records already: docs/odoo.md'


def _line(subject: Subject, pair: Pair) -> Line:
    column, known = pair.column, subject.fields[pair.field]
    kind = str(known.get("type"))
    notes = [pair.why] if pair.why else []
    wrong = misfit(column, pair.field, known)
    if wrong is not None:
        notes.append(f"{column.name} {wrong.what}")
    if kind in ("many2one", "many2many"):
        path, value, guess = _link(subject, column, pair.field)
        notes += [guess] if guess else []
    else:
        path, value = pair.field, _text(f"{{{column.name}}}")
        if kind == "selection":
            notes.append(f"it takes {_options(known)}")
    if column.nullable and (known.get("required") or pair.field == "active"):
        if pair.field in subject.defaults and not value.startswith("{"):
            value = f'{{ from = {value}, omit = "null" }}'
        elif pair.field not in subject.defaults:
            notes.append("Odoo requires it: rows with NULL are refused")
    if pair.field == "active":
        notes.append("a row with false archives its record")
    return Line(path, value, tuple(short(one) for one in notes), off=bool(wrong and wrong.never))


def _link(subject: Subject, column: Column, field: str) -> tuple[str, str, str]:
    """Path, value, and what is guessed."""
    relation = str(subject.fields[field].get("relation"))
    name, by_code = column.name, column.kind is Kind.TEXT and column.type.lower() != "uuid"
    told = by_code or (column.kind is Kind.UNKNOWN and not _BY_ID.search(plain(name)))
    if relation == "res.country" and told:
        value = f'{{ from = {_text(f"base.{{{name}|lower}}")}, values = {{ "base.gb" = "base.uk" }} }}'
        return f"{field}/id", value, "if it is the country's code of two letters"
    if relation == "res.currency" and told:
        return f"{field}/id", _text(f"base.{{{name}|upper}}"), "if it is the currency's code of three letters"
    if relation == "res.country.state" and told:
        return (
            field,
            f'{{ from = {_text(f"{{{name}}}")}, by = "code" }}',
            "states of two countries may have one code",
        )
    if (told or (column.kind is Kind.LIST and "text" in column.type.lower())) and not _BY_ID.search(plain(name)):
        return (
            field,
            f'{{ from = {_text(f"{{{name}}}")}, by = "name" }}',
            f"{relation} is found by its name",
        )
    if column.references:
        return f"{field}/id", _text(f"{prefix(column.references)}{{{name}}}"), ""
    if relation == subject.model and field == "parent_id":
        return f"{field}/id", _text(f"{prefix(subject.table)}{{{name}}}"), "if it is a row of the same table"
    base = re.sub(r"_(ids?|uuids?)$", "", plain(name)) or plain(name)
    begin = prefix(base if base.endswith("s") else plural(base))
    return (
        f"{field}/id",
        _text(f"{begin}{{{name}}}"),
        f"write it as the id of the table that becomes {relation}",
    )


def _options(known: Mapping[str, Any]) -> str:
    words = options(known)
    more = f" ... ({len(words)})" if len(words) > SHOWN else ""
    return ", ".join(words[:SHOWN]) + more if words else "values that Odoo did not tell"


def _any_line(subject: Subject, taken: set[str]) -> Line:
    """A mapping needs one field."""
    known = usable(subject.fields)
    texts = [name for name in known if known[name].get("type") in TEXTS and name not in taken]
    field = next((one for one in ("name", *texts) if one in texts), "")
    column = next((one.name for one in subject.columns if _nameable(one.name) and not one.key), "")
    column = column or next((one.name for one in subject.columns if _nameable(one.name)), "")
    if not field or not column:
        what = f"no column of {subject.table} looks like a field of {subject.model} that can be written"
        raise ConfigError((what, f"is it the right model? {WANTED}"))
    return Line(field, _text(f"{{{column}}}"), ("no column looks like a field: which one is it?",))


def _left(subject: Subject, found: Sequence[Pair]) -> Iterator[str]:
    keys, fields = [one.name for one in _keys(subject)[0]], subject.fields
    for pair in found:
        column = pair.column
        if pair.field or column.name in keys:
            continue
        why = f"no field looks like it{f' ({_shown(column.type)})' if column.type else ''}"
        if column.name in STAMPS or column.name in fields:
            why = "Odoo writes this field itself"
        if not _nameable(column.name):
            why = "a mapping can't name it (braces, | or spaces at its ends)"
        yield f"# ? column {_shown(column.name)}: {why}"


def _lacking(names: Sequence[str], fields: Fields) -> Iterator[str]:
    for name in names:
        known = fields[name]
        kind = str(known.get("type"))
        value = f"{known.get('relation')}_..." if kind == "many2one" else "..."
        path = f"{name}/id" if kind == "many2one" else name
        note = "Odoo requires it, has no default, and no column looks like it"
        yield str(Line(path, _text(short(value)), (note,), off=True))


def _nameable(name: str) -> bool:
    return bool(name) and name == name.strip() and not re.search(r"[{}|]", name)


def _key(path: str) -> str:
    return path if _BARE.fullmatch(path) else _text(path)


def _text(text: str) -> str:
    """As TOML writes it."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _shown(text: str) -> str:
    return short(text)
