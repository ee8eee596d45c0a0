"""Reads the mapping file: everything that is wrong in it is found before anything starts, and reported together."""

import itertools
import re
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from relay import files
from relay.errors import ConfigError
from relay.targets.odoo.mapping import MODEL, MappingFile, TableMapping
from relay.targets.odoo.mapping_fields import FieldReader, expression
from relay.targets.odoo.mapping_parts import actions, condition, removals
from relay.targets.odoo.mapping_parts import context as mapping_context
from relay.targets.odoo.mapping_problems import Problems

TOP = ("unmapped", "timezone", "context", "table")
TABLE = (
    *("model", "id", "match", "fields", "create", "when", "unless", "delete", "truncate", "actions", "context"),
    *("timezone", "batch_size", "order", "update"),
)

AGAIN = " as "  # between a table and the name of another mapping of it


def load(path: str) -> MappingFile:
    """Read the file. Raises ConfigError with all that is wrong in it."""
    try:
        text = files.text(Path(path))
        content = tomllib.loads(text)
    except files.Unreadable as error:
        problem = (f"ODOO_MAPPING={path} {error}", "make it readable for this user, as UTF-8 text")
        raise ConfigError(problem) from None
    except (ValueError, RecursionError) as error:  # what tomllib says; a number of 5,000 digits; brackets in brackets
        why = error if isinstance(error, tomllib.TOMLDecodeError) else "a number is too long, or lists are too deep"
        raise ConfigError((f"{path} is not TOML: {why}", "mapping.example.toml shows how to write it")) from None
    reader = _Reader(Problems(path, text), content)
    found = reader.read()
    if reader.problems.found:
        raise ConfigError(*reader.problems.found)
    return found


class _Reader:
    """Reads what tomllib made of the file, and collects the problems."""

    def __init__(self, problems: Problems, content: dict[str, Any]) -> None:
        self.problems = problems
        self._content = content

    def read(self) -> MappingFile:
        content = self._content
        self.problems.check_keys("", content, TOP)
        unmapped = content.get("unmapped", "refuse")
        if unmapped not in ("refuse", "ignore"):
            self.problems.add("", "unmapped", "is neither refuse nor ignore", 'write unmapped = "refuse" or "ignore"')
        context = mapping_context(self.problems, "", content)
        zone = self._zone("", content, ZoneInfo("UTC"))
        tables = content.get("table", {})
        if not isinstance(tables, dict) or not tables or not all(isinstance(one, dict) for one in tables.values()):
            self.problems.add(
                "", "table", "there is no table in it", 'add [table."schema.name"] with model, id and fields'
            )
            tables = {}
        made = {name: self._table(name, table, context, zone) for name, table in tables.items()}
        found = {name: table for name, table in made.items() if table is not None}
        self._check_prefixes(found)
        also: dict[str, list[TableMapping]] = {}
        for name, table in found.items():
            first, again, _ = name.partition(AGAIN)
            if again:
                also.setdefault(first, []).append(table)
        for name in [name for name in also if name not in tables]:
            what = f"there is no table {name} that it maps again"
            self.problems.add(also[name][0].name, "", what, f'begin with [table."{name}"]')
        order = {name: self._order(name, table) for name, table in tables.items() if "order" in table}
        made_of = MappingFile(self.problems.path, found, str(unmapped), also, order)
        self._check_actions(made_of)
        return made_of

    def _table(
        self, name: str, table: dict[str, Any], context: Mapping[str, Any], zone: ZoneInfo
    ) -> TableMapping | None:
        before = len(self.problems.found)
        self.problems.check_keys(name, table, TABLE)
        if "." not in name.strip("."):
            self.problems.add(name, "", "names no schema", f'write [table."public.{name}"]')
        model = self._word(name, table, "model", MODEL, 'write the model\'s technical name: model = "res.partner"')
        ident = expression(self.problems, name, "id", table.get("id"))
        if ident is not None and not ident.columns:
            self.problems.add(name, "id", "is the same for every row", 'name the key: id = "orders_{id}"')
        delete = removals(self.problems, name, table)
        truncate = table.get("truncate", "delete")
        if truncate not in ("delete", "ignore"):
            self.problems.add(name, "truncate", "is neither delete nor ignore", 'write truncate = "delete" or "ignore"')
        whole = {**context, **mapping_context(self.problems, name, table)}
        reader = FieldReader(name, self.problems, str(whole.get("lang", "")))
        told = len(self.problems.found)
        fields, create = reader.read(table, "fields"), reader.read(table, "create")
        if not fields and not create and len(self.problems.found) == told:
            self.problems.add(name, "fields", "there is no field", f'add [table."{name}".fields]')
        for path in {one.name for one in fields} & {one.name for one in create}:
            self.problems.add(name, path, "is both in fields and in create", "keep one of them")
        are_read = len(self.problems.found) == told
        match = self._match(name, table, {one.name for one in (*fields, *create)}) if are_read else ()
        zone = self._zone(name, table, zone)
        when, unless = (condition(self.problems, name, table, key) for key in ("when", "unless"))
        acts = actions(self.problems, name, table)
        size = table.get("batch_size", 0)
        if not isinstance(size, int) or isinstance(size, bool) or not int("batch_size" in table) <= size <= 1000:
            self.problems.add(
                name, "batch_size", "is no number of rows", "write batch_size = 10, or a number up to 1000"
            )
        update = table.get("update", "all")
        if update not in ("all", "changed"):
            self.problems.add(name, "update", "is neither all nor changed", 'write update = "all" or "changed"')
        if update == "changed" and any(one.empty_link for one in fields):
            what = "would never set a link that was left empty"
            self.problems.add(name, "update", f'"changed" {what}', "remove it, or empty_link")
        if len(self.problems.found) > before or ident is None:
            return None
        return TableMapping(
            name, self.problems.line(name, ""), model, ident, fields, create, match, when, unless, delete,
            truncate == "delete" and any(one.do != "ignore" for one in delete), whole, zone,
            acts, size, update == "changed",
        )  # fmt: skip

    def _order(self, name: str, table: Mapping[str, Any]) -> int:
        value = table["order"]
        if not isinstance(value, int) or isinstance(value, bool):
            self.problems.add(
                name, "order", "is no number", "write order = 1 for what goes first, 2 for what comes then"
            )
            return 0
        if AGAIN in name:
            self.problems.add(name, "order", "is of the table, not of its second model", "write it there")
        return value

    def _match(self, table: str, content: dict[str, Any], fields: Collection[str]) -> tuple[str, ...]:
        found = content.get("match", [])
        names = [one for one in found if isinstance(one, str)] if isinstance(found, list) else []
        if names != found or len(set(names)) < len(names):
            self.problems.add(table, "match", "is no list of fields", 'write match = ["email", "company_id"]')
            return ()
        for name in [name for name in names if name not in fields]:
            there = ", ".join(sorted(fields))
            self.problems.add(table, "match", f"{name} is not among the fields", f"add it there; there are: {there}")
        return tuple(names)

    def _word(self, table: str, content: dict[str, Any], key: str, pattern: "re.Pattern[str]", remedy: str) -> str:
        value = content.get(key)
        if not isinstance(value, str) or not pattern.fullmatch(value):
            self.problems.add(table, key, "is not set" if value is None else f"is no {key}", remedy)
            return ""
        return value

    def _zone(self, table: str, content: dict[str, Any], default: ZoneInfo) -> ZoneInfo:
        name = content.get("timezone")
        if name is None:
            return default
        try:
            return ZoneInfo(name)
        except (ValueError, TypeError, OSError, KeyError):
            self.problems.add(table, "timezone", "is no time zone", 'write timezone = "Europe/Berlin"')
            return default

    def _check_actions(self, mapping: MappingFile) -> None:
        """What an action waits for has to be found by its links."""
        for table in mapping.tables.values():
            for name in {name for action in table.actions for name in action.after}:
                lines = mapping.tables.get(name)
                if lines is None:
                    self.problems.add(table.name, "actions", f"{name} is not in the mapping", "add it, or change after")
                elif not table.id.prefix or len(mapping.links(lines, table)) != 1:
                    what = f"{name} has no link to {table.name} by its external id, or several"
                    remedy = f'add "order_id/id" = "{table.id.source}", with the column of {name}'
                    self.problems.add(table.name, "actions", what, remedy)

    def _check_prefixes(self, tables: Mapping[str, TableMapping]) -> None:
        """A TRUNCATE finds a table's records by how their external ids begin."""
        for one, other in itertools.permutations(tables.values(), 2):
            alike = one.model == other.model and other.id.prefix.startswith(one.id.prefix)
            if one.truncate and alike:
                what = f"a TRUNCATE would take the records of {other.name}, too: its ids begin alike"
                self.problems.add(one.name, "id", what, 'begin them differently, or write truncate = "ignore"')
