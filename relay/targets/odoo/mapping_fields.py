"""Reads the fields of a table in the mapping file."""

import re
from typing import Any

from relay.targets.odoo.expression import Expression, InvalidExpression, parse
from relay.targets.odoo.mapping import FieldMapping
from relay.targets.odoo.mapping_problems import Problems

FIELD = ("from", "values", "default")

_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(/(id|\.id))?")


def expression(problems: Problems, table: str, key: str, value: Any) -> Expression | None:
    """None, if it is none: the problem is told."""
    if not isinstance(value, str):
        problems.add(table, key, "is not set" if value is None else "is no text", f'write {key} = "{{column}}"')
        return None
    try:
        return parse(value)
    except InvalidExpression as error:
        problems.add(table, key, str(error), 'write text with columns in braces: "customers_{id}"')
        return None


class FieldReader:
    """Reads the fields of one table.

    Args:
        table: its name.
        problems: gets what is wrong.
    """

    def __init__(self, table: str, problems: Problems) -> None:
        self._table = table
        self._problems = problems

    def read(self, content: dict[str, Any], section: str) -> tuple[FieldMapping, ...]:
        """Those of a section, `fields` or `create`."""
        found = content.get(section, {})
        if not isinstance(found, dict):
            self._problems.add(
                self._table, section, "is no table of fields", f'write [table."{self._table}".{section}]'
            )
            return ()
        made = [self._field(path, value) for path, value in found.items()]
        return tuple(one for one in made if one is not None)

    def _field(self, path: str, value: Any) -> FieldMapping | None:
        if not _FIELD.fullmatch(path) or path == "id":
            self._problems.add(
                self._table, path, "names no field", 'write name, or "partner_id/id" to link by external id'
            )
            return None
        values: dict[str, Any] = {}
        default = None
        if isinstance(value, dict):
            self._problems.check_keys(self._table, value, FIELD, within=path)
            values, default, value = value.get("values", {}), value.get("default"), value.get("from")
            usable = isinstance(values, dict) and all(is_plain(one) for one in values.values())
            if not usable or not (default is None or is_plain(default)):
                remedy = 'write values = { new = "draft" }'
                self._problems.add(self._table, path, "has values that are no text, number or switch", remedy)
                return None
        made = expression(self._problems, self._table, path, constant(value))
        replaced = {key: str(constant(one)) for key, one in values.items()}
        fallback = None if default is None else str(constant(default))
        return FieldMapping(path, made, replaced, fallback, self._problems.line(self._table, path)) if made else None


def constant(value: Any) -> Any:
    """TOML's numbers and switches as text; text as it is."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


def is_plain(value: Any) -> bool:
    return isinstance(value, str | bool | int | float)
