"""Values on their way into a record: from the cells of a `load`, and from the values of a create or write."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from dev.doubles.odoo.errors import user_error, value_error
from dev.doubles.odoo.model import Added, Field, Model
from dev.doubles.odoo.store import Store

DATE, DATETIME = "%Y-%m-%d", "%Y-%m-%d %H:%M:%S"
TRUE, FALSE = {"1", "true", "yes"}, {"", "0", "false", "no"}


class CellError(Exception):
    """A cell that cannot be converted; `more` is merged into the message of the load."""

    def __init__(self, message: str, more: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.more = dict(more or {})


class Cells:
    """The converter of one load: texts into values, links into ids.

    Odoo's converters call methods of str: a number or True where a text is due is an AttributeError, of the whole call.
    """

    def __init__(
        self, store: Store, model: Model, context: Mapping[str, Any], find: Callable[[str, str], int | None]
    ) -> None:
        self._store = store
        self._model = model
        self._zone = ZoneInfo(context.get("tz") or "UTC")
        self._find = find  # (model, external id)
        self.warnings: list[CellError] = []  # of the cells since somebody looked
        self._adds = bool(context.get("update_many2many"))

    def value(self, field: Field, sub: str | None, cell: Any) -> Any:
        """Raises: CellError, AttributeError, TypeError."""
        if field.type in {"many2one", "many2many"}:
            return self._link(field, sub, cell)
        converter = getattr(self, f"_{field.type}", None)
        return converter(field, cell) if converter else cell

    def _boolean(self, field: Field, cell: Any) -> bool:
        if cell.lower() in TRUE:
            return True
        if cell.lower() in FALSE:
            return False
        more, told = {"moreinfo": "Use '1' for yes and '0' for no"}, f"Unknown value '{cell}' for boolean field"
        if self._store.series == "14":
            self.warnings.append(CellError(f"{told} '{field.string}', assuming 'yes'", more))
            return True
        raise CellError(f"{told} '{field.string}'", {**more, "field_name": field.string})

    def _integer(self, field: Field, cell: Any) -> int:
        try:
            return int(cell)
        except ValueError:
            raise self._unlike("an integer", field, cell) from None

    def _float(self, field: Field, cell: Any) -> float:
        try:
            return rounded(field, float(cell))
        except ValueError:
            raise self._unlike("a number", field, cell) from None

    _monetary = _float
    _many2one_reference = _integer

    def _date(self, field: Field, cell: Any) -> str:
        try:
            return datetime.strptime(cell[:10], DATE).strftime(DATE)  # noqa: DTZ007 - Odoo's dates have no zone
        except ValueError:
            raise self._unlike("a valid date", field, cell, "2012-12-31") from None

    def _datetime(self, field: Field, cell: Any) -> str:
        try:
            parsed = datetime.strptime(cell, DATETIME[: len(cell) - 2])  # noqa: DTZ007 - and so in Odoo
        except ValueError:
            raise self._unlike("a valid datetime", field, cell, "2012-12-31 23:59:59") from None
        return parsed.replace(tzinfo=self._zone).astimezone(UTC).strftime(DATETIME)

    def _selection(self, field: Field, cell: Any) -> str:
        for value, label in field.selection:
            if cell.lower() in {value.lower(), label.lower()}:
                return value
        more = {"moreinfo": [label for _, label in field.selection], "field_name": field.string}
        raise CellError(f"Value '{cell}' not found in selection field '{field.string}'", more)

    def _char(self, _field: Field, cell: Any) -> str:
        return str(cell)

    _text = _html = _char

    def _link(self, field: Field, sub: str | None, cell: Any) -> Any:
        if field.type == "many2one":
            return self._target(field, sub, cell)
        found = (self._target(field, sub, one) for one in cell.split(","))
        made = tuple(dict.fromkeys(one for one in found if one))
        return Added(made) if self._adds else made

    def _target(self, field: Field, sub: str | None, cell: Any) -> Any:
        table = self._store.tables[field.relation or ""]
        if sub == ".id":
            kind, found = "database id", int(cell) if int(cell) in table else None
        elif sub == "id":
            if cell.lower() in FALSE:
                return False
            kind, found = "external id", self._find(field.relation or "", cell)
        else:
            kind = "name"
            found = next((key for key, one in table.items() if one.get("name") == cell), None)
        if found is None:
            message = f"No matching record found for {kind} '{cell}' in field '{field.string}'"
            raise CellError(message, {"moreinfo": self._action(field, sub), "field_name": field.string})
        return found

    def _action(self, field: Field, sub: str | None) -> dict[str, Any]:
        action: dict[str, Any] = {
            "name": "Possible Values",
            "type": "ir.actions.act_window",
            "target": "new",
            "view_mode": "tree,form" if self._store.version == "17" else "list,form",
            "views": [[False, "list"], [False, "form"]],
            "context": {"create": False},
            "help": "See all possible values",
            "res_model": field.relation if sub is None else "ir.model.data",
        }
        return action if sub is None else {**action, "domain": [["model", "=", field.relation]]}

    def _unlike(self, what: str, field: Field, cell: Any, form: str | None = None) -> CellError:
        more = {"moreinfo": f"Use the format '{form}'"} if form else {}
        message = f"'{cell}' does not seem to be {what} for field '{field.string}'"
        return CellError(message, {**more, "field_name": field.string})


def plain(
    store: Store, model: Model, values: Mapping[str, Any], held: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The values of a create or write, as a record holds them; `held`: the record's. Raises OdooError."""
    for name in values:
        if name not in model.fields:
            where = f"on model {model.name!r}" if store.version == "17" else f"in {model.name!r}"
            raise value_error(f"Invalid field {name!r} {where}")
    before = held or {}
    return {
        name: _plain(model, name, model.fields[name], value, before.get(name) or ())
        for name, value in values.items()
        if name != "id"
    }


def checked(model: Model, values: Mapping[str, Any]) -> None:
    """What Odoo's Python finds wrong with values that PostgreSQL would take. Raises OdooError."""
    for name, value in values.items():
        if model.fields[name].type == "binary" and value and not _is_base64(value):
            raise user_error("Image is not encoded in base64.")


def rounded(field: Field, value: float) -> float:
    return round(value + 1e-9, field.digits) if field.digits is not None else value


def _plain(model: Model, name: str, field: Field, value: Any, held: Sequence[int]) -> Any:
    if field.type == "many2many":
        return _commands(value, held)
    if field.type == "many2one_reference":
        return int(value or 0)
    if not value and field.type != "boolean":
        return field.empty
    if field.type == "integer":
        try:
            return int(value)
        except ValueError as error:
            raise value_error(str(error)) from None
    if field.type in {"float", "monetary"}:
        try:
            return rounded(field, float(value))
        except ValueError as error:
            raise value_error(str(error)) from None
    if field.type == "selection" and value not in {one for one, _ in field.selection}:
        raise value_error(f"Wrong value for {model.name}.{name}: {value!r}")
    return bool(value) if field.type == "boolean" else value


def _commands(value: Any, held: Sequence[int]) -> tuple[int, ...]:
    """[[6, 0, ids]], [[4, id]], [[3, id]]; a plain list of ids is a set too."""
    if value and not isinstance(value[0], Sequence):
        return tuple(dict.fromkeys(value))
    found: list[int] = list(held)
    for command in value or ():
        if command[0] == 6:
            found = [*command[2]]
        elif command[0] == 3:
            found = [one for one in found if one != command[1]]
        else:
            found.append(command[1])
    return tuple(dict.fromkeys(found))


def _is_base64(value: str) -> bool:
    try:
        base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return False
    return True
