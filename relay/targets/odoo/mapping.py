"""The mapping file: which table becomes which model, and how. mapping.example.toml explains every line.

Everything that is wrong in it is found before anything starts, and reported together, each with its line.
"""

import dataclasses
import difflib
import itertools
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from relay import files
from relay.errors import ConfigError
from relay.targets.odoo.expression import Expression, InvalidExpression, column_of, parse, same

TOP = ("unmapped", "timezone", "context", "table")
TABLE = ("model", "id", "fields", "create", "when", "unless", "delete", "truncate", "context", "timezone")
FIELD = ("from", "values", "default")
RESERVED = ("mode", "noupdate", "tz", "module")  # of Odoo's context: ours

_MODEL = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)*")
_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(/(id|\.id))?")
_HEADER = re.compile(r"\s*\[([^\]]+)\]")
_PART = re.compile(r"\"([^\"]*)\"|'([^']*)'|([A-Za-z0-9_-]+)")
_METHOD = re.compile(r"[a-z][A-Za-z0-9_]*")


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
class TableMapping:
    """A table's mapping. `delete`: archive, unlink, ignore or a method's name; `truncate`: does it delete?"""

    name: str
    line: int
    model: str
    id: Expression
    fields: tuple[FieldMapping, ...]
    create: tuple[FieldMapping, ...]
    when: Mapping[str, Any]
    unless: Mapping[str, Any]
    delete: str
    truncate: bool
    context: Mapping[str, Any]
    zone: ZoneInfo

    @property
    def all_fields(self) -> tuple[FieldMapping, ...]:
        """Those of every load, then those of the creation only."""
        return (*self.fields, *self.create)

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


def load(path: str) -> MappingFile:
    """Read the file. Raises ConfigError with all that is wrong in it."""
    try:
        text = files.text(Path(path))
        content = tomllib.loads(text)
    except files.Unreadable as error:
        problem = (f"ODOO_MAPPING={path} {error}", "make it readable for this user, as UTF-8 text")
        raise ConfigError(problem) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError((f"{path} is not TOML: {error}", "mapping.example.toml shows how to write it")) from None
    reader = _Reader(path, text, content)
    found = reader.read()
    if reader.problems:
        raise ConfigError(*reader.problems)
    return found


class _Reader:
    """Reads what tomllib made of the file, and collects the problems."""

    def __init__(self, path: str, text: str, content: dict[str, Any]) -> None:
        self._path = path
        self._lines = text.splitlines()
        self._content = content
        self.problems: list[tuple[str, str]] = []

    def read(self) -> MappingFile:
        content = self._content
        self._check_keys("", content, TOP)
        unmapped = content.get("unmapped", "refuse")
        if unmapped not in ("refuse", "ignore"):
            self._problem("", "unmapped", "is neither refuse nor ignore", 'write unmapped = "refuse" or "ignore"')
        context = self._context("", content)
        zone = self._zone("", content, ZoneInfo("UTC"))
        tables = content.get("table", {})
        if not isinstance(tables, dict) or not tables or not all(isinstance(one, dict) for one in tables.values()):
            self._problem("", "table", "there is no table in it", 'add [table."schema.name"] with model, id and fields')
            tables = {}
        made = {name: self._table(name, table, context, zone) for name, table in tables.items()}
        found = {name: table for name, table in made.items() if table is not None}
        self._check_prefixes(found)
        return MappingFile(self._path, found, str(unmapped))

    def _table(
        self, name: str, table: dict[str, Any], context: Mapping[str, Any], zone: ZoneInfo
    ) -> TableMapping | None:
        before = len(self.problems)
        self._check_keys(name, table, TABLE)
        if "." not in name.strip("."):
            self._problem(name, "", "names no schema", f'write [table."public.{name}"]')
        model = self._word(name, table, "model", _MODEL, 'write the model\'s technical name: model = "res.partner"')
        ident = self._expression(name, "id", table.get("id"))
        if ident is not None and not ident.columns:
            self._problem(name, "id", "is the same for every row", 'name the key: id = "orders_{id}"')
        delete = table.get("delete", "archive")
        if not isinstance(delete, str) or not _METHOD.fullmatch(delete):
            wanted = 'write delete = "archive", "unlink", "ignore" or the name of a method'
            self._problem(name, "delete", "says nothing that can be done", wanted)
        truncate = table.get("truncate", "delete")
        if truncate not in ("delete", "ignore"):
            self._problem(name, "truncate", "is neither delete nor ignore", 'write truncate = "delete" or "ignore"')
        fields, create = self._fields(name, table, "fields"), self._fields(name, table, "create")
        if not fields and not create:
            self._problem(name, "fields", "there is no field", f'add [table."{name}".fields]')
        for path in {one.name for one in fields} & {one.name for one in create}:
            self._problem(name, path, "is both in fields and in create", "keep one of them")
        whole = {**context, **self._context(name, table)}
        zone = self._zone(name, table, zone)
        when, unless = self._condition(name, table, "when"), self._condition(name, table, "unless")
        if len(self.problems) > before or ident is None:
            return None
        return TableMapping(
            name, self._line(name, ""), model, ident, fields, create, when, unless, str(delete),
            truncate == "delete" and delete != "ignore", whole, zone,
        )  # fmt: skip

    def _fields(self, table: str, content: dict[str, Any], section: str) -> tuple[FieldMapping, ...]:
        found = content.get(section, {})
        if not isinstance(found, dict):
            self._problem(table, section, "is no table of fields", f'write [table."{table}".{section}]')
            return ()
        made = [self._field(table, path, value) for path, value in found.items()]
        return tuple(one for one in made if one is not None)

    def _field(self, table: str, path: str, value: Any) -> FieldMapping | None:
        if not _FIELD.fullmatch(path) or path == "id":
            self._problem(table, path, "names no field", 'write name, or "partner_id/id" to link by external id')
            return None
        values: dict[str, Any] = {}
        default = None
        if isinstance(value, dict):
            self._check_keys(table, value, FIELD, within=path)
            values, default, value = value.get("values", {}), value.get("default"), value.get("from")
            usable = isinstance(values, dict) and all(_is_plain(one) for one in values.values())
            if not usable or not (default is None or _is_plain(default)):
                remedy = 'write values = { new = "draft" }'
                self._problem(table, path, "has values that are no text, number or switch", remedy)
                return None
        expression = self._expression(table, path, _constant(value))
        replaced = {key: str(_constant(one)) for key, one in values.items()}
        fallback = None if default is None else str(_constant(default))
        return FieldMapping(path, expression, replaced, fallback, self._line(table, path)) if expression else None

    def _expression(self, table: str, key: str, value: Any) -> Expression | None:
        if not isinstance(value, str):
            self._problem(table, key, "is not set" if value is None else "is no text", f'write {key} = "{{column}}"')
            return None
        try:
            return parse(value)
        except InvalidExpression as error:
            self._problem(table, key, str(error), 'write text with columns in braces: "customers_{id}"')
            return None

    def _word(self, table: str, content: dict[str, Any], key: str, pattern: "re.Pattern[str]", remedy: str) -> str:
        value = content.get(key)
        if not isinstance(value, str) or not pattern.fullmatch(value):
            self._problem(table, key, "is not set" if value is None else f"is no {key}", remedy)
            return ""
        return value

    def _context(self, table: str, content: dict[str, Any]) -> dict[str, Any]:
        found = content.get("context", {})
        if not isinstance(found, dict):
            self._problem(table, "context", "is no table", 'write context = { lang = "en_US" }')
            return {}
        for key in [key for key in found if key in RESERVED]:
            self._problem(table, key, "in the context is set by the relay", "remove it")
        return found

    def _condition(self, table: str, content: dict[str, Any], key: str) -> dict[str, Any]:
        found = content.get(key, {})
        if not isinstance(found, dict) or not all(_is_condition(one) for one in found.values()):
            wanted = f'write {key} = {{ kind = "customer", country = ["US", "CA"], deleted = {{ null = true }} }}'
            self._problem(table, key, "is no condition", wanted)
            return {}
        return found

    def _zone(self, table: str, content: dict[str, Any], default: ZoneInfo) -> ZoneInfo:
        name = content.get("timezone")
        if name is None:
            return default
        try:
            return ZoneInfo(name)
        except (ValueError, TypeError, OSError, KeyError):
            self._problem(table, "timezone", "is no time zone", 'write timezone = "Europe/Berlin"')
            return default

    def _check_keys(self, table: str, content: Mapping[str, Any], known: tuple[str, ...], within: str = "") -> None:
        for key in [key for key in content if key not in known]:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            remedy = f"did you mean {near[0]}?" if near else f"remove it; there are: {', '.join(known)}"
            self._problem(table, within or key, f"{key} is no setting" if within else "is no setting", remedy)

    def _check_prefixes(self, tables: Mapping[str, TableMapping]) -> None:
        """A TRUNCATE finds a table's records by how their external ids begin."""
        for one, other in itertools.permutations(tables.values(), 2):
            alike = one.model == other.model and other.id.prefix.startswith(one.id.prefix)
            if one.truncate and alike:
                what = f"a TRUNCATE would take the records of {other.name}, too: its ids begin alike"
                self._problem(one.name, "id", what, 'begin them differently, or write truncate = "ignore"')

    def _problem(self, table: str, key: str, what: str, remedy: str) -> None:
        where = f'table."{table}"' if table else ""
        name = " ".join(part for part in (where, key) if part)
        self.problems.append((f"{self._path} line {self._line(table, key)}: {name}: {what}", remedy))

    def _line(self, table: str, key: str) -> int:
        """Where a key stands, as far as it can be found: tomllib tells no lines."""
        inside, found = not table, 1
        for number, line in enumerate(self._lines, 1):
            if header := _HEADER.match(line):
                names = ["".join(part) for part in _PART.findall(header[1])]
                inside = names[1:2] == [table] if table else names == ["context"]
                if inside and found == 1:
                    found = number
                if inside and names[2:] == [key]:
                    return number
            elif inside and key and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=", line):
                return number
        return found


def _constant(value: Any) -> Any:
    """TOML's numbers and switches as text; text as it is."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | bool | int | float)


def _is_condition(value: Any) -> bool:
    if isinstance(value, dict):
        return list(value) == ["null"] and isinstance(value["null"], bool)
    if isinstance(value, list):
        return all(isinstance(one, str | bool | int) for one in value)
    return isinstance(value, str | bool | int)
