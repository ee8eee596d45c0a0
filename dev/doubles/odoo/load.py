"""`load`: rows of texts become records. The steps are those of Odoo's own, because its mistakes are ours to know:

Cells are converted row by row. The batch is written when a link asks for a record of the batch itself, and at the end:
first all of it at once, and if that fails row by row. An error of Odoo's Python in the first attempt is told as if it
were the first row's, *before* the message that names the right one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from dev.doubles.odoo.convert import CellError, Cells, checked
from dev.doubles.odoo.errors import ConstraintError, OdooError, not_allowed, validation_error, value_error
from dev.doubles.odoo.languages import in_language
from dev.doubles.odoo.model import Model
from dev.doubles.odoo.store import Store
from dev.doubles.odoo.trouble import Conflict

ENOUGH = 10
TOO_MANY = (
    "Found more than 10 errors and more than one error per 10 records, interrupted to avoid showing too many errors."
)
Row = tuple[str | None, dict[str, Any], dict[str, Any]]  # external id, values, info
Message = dict[str, Any]


class Load:
    """One call.

    Args:
        may_write: whether this user may create and change records of the model.
        conflict: raises Conflict for a row that another transaction has changed meanwhile.
    """

    def __init__(
        self, store: Store, model: Model, context: Mapping[str, Any], *, may_write: bool, conflict: Any
    ) -> None:
        self._store = store
        self._model = model
        self._module = context.get("module", "__import__")
        self._updates = context.get("mode") == "update"
        self._fixes = bool(context.get("noupdate"))
        self._may_write = may_write
        self._language = context.get("lang")
        self._conflict = conflict
        self._cells = Cells(store, model, context, self._find)
        self._batch: list[Row] = []
        self._pending: set[str] = set()
        self._ids: list[int] = []
        self._messages: list[Message] = []
        self._has_image = False

    def run(self, fields: Sequence[str], data: Sequence[Sequence[Any]]) -> dict[str, Any]:
        """Raises: OdooError, AttributeError, TypeError: the whole call failed."""
        paths = [self._path(name) for name in fields]
        savepoint = self._store.savepoint()
        for number, row in enumerate(data):
            self._take(paths, row, number)
        self._flush()
        ids: list[int] | bool = self._ids
        if any(message["type"] == "error" for message in self._messages):
            self._store.rollback(savepoint)
            ids = False
        return {"ids": ids, "messages": self._messages, "nextrow": 0}

    def _path(self, name: str) -> tuple[str, str | None]:
        """ "partner_id/id" as field and what the cell holds of it: "id", ".id" or None, a name."""
        field, _, sub = re.sub(
            r"([^/])(\.id|:id)$", lambda found: f"{found[1]}/{found[2].lstrip(':')}", name
        ).partition("/")
        if field not in self._model.fields and field not in {"id", ".id"}:
            if self._store.version == "17":
                raise OdooError("builtins.KeyError", field)
            raise value_error(f"Invalid field name {field!r}")
        return field, sub or None

    def _take(self, paths: Sequence[tuple[str, str | None]], row: Sequence[Any], number: int) -> None:
        info = {"rows": {"from": number, "to": number}, "record": number}
        xmlid, values = None, {}
        for (name, sub), cell in zip(paths, row, strict=False):
            if name == "id":
                xmlid = cell or None
            elif not cell:
                values[name] = self._model.fields[name].empty
            else:
                try:
                    values[name] = self._cells.value(self._model.fields[name], sub, cell)
                except CellError as error:
                    self._tell(number, name, error)
                except OdooError as error:
                    self._tell(number, name, CellError(error.message))
                while self._cells.warnings:
                    self._tell(number, name, self._cells.warnings.pop(), "warning")
        if xmlid:
            xmlid = xmlid if "." in xmlid else f"{self._module}.{xmlid}"
            self._pending.add(xmlid)
        self._batch.append((xmlid, values, info))

    def _tell(self, number: int, name: str, error: CellError, kind: str = "error") -> None:
        rows = {"rows": {"from": number, "to": number}, "type": kind, "record": number, "field": name}
        self._messages.append({**rows, "message": error.message, **error.more})

    def _find(self, model: str, cell: str) -> int | None:
        xmlid = cell if "." in cell else f"{self._module}.{cell}"
        if xmlid in self._pending:
            self._flush()
        found = self._store.external.get(xmlid)
        if found and found[0] != model:
            raise value_error(f"Invalid external ID {xmlid}: expected model {model!r}, found {found[0]!r}")
        return found[1] if found else None

    def _flush(self) -> None:
        batch, self._batch, self._pending = self._batch, [], set()
        if not batch:
            return
        savepoint, first = self._store.savepoint(), None
        try:
            self._ids += [self._put(row) for row in batch]
        except OdooError as error:
            self._store.rollback(savepoint)
            if error.is_user_error and not isinstance(error, ConstraintError) and self._store.series != "14":
                first = {**batch[0][2], "type": "error", "message": error.message}
            self._one_by_one(batch, first)
        except Conflict:
            self._store.rollback(savepoint)
            self._one_by_one(batch, None)

    def _one_by_one(self, batch: Sequence[Row], first: Message | None) -> None:
        errors = 0
        for count, row in enumerate(batch, 1):
            savepoint = self._store.savepoint()
            try:
                self._ids.append(self._put(row))
            except (OdooError, Conflict) as error:
                self._store.rollback(savepoint)
                self._messages.append({**row[2], "type": "error", **_told(error)})
                errors += 1
            if errors >= ENOUGH and errors >= count / 10:
                self._messages.append({"type": "warning", "message": TOO_MANY})
                break
        if errors and first and first not in self._messages:
            self._messages.insert(0, first)

    def _put(self, row: Row) -> int:
        """Create or update one record."""
        xmlid, values, _ = row
        known = self._store.external.get(xmlid) if xmlid else None
        if xmlid and known and known[0] != self._model.name and self._store.series == "14":
            known = self._taken_over(xmlid, known[1])
        if xmlid and known and known[0] == self._model.name and known[1] not in self._store.tables[self._model.name]:
            self._store.forget(xmlid)  # its record went with another's
            known = None
        if known and known[0] != self._model.name:
            raise validation_error(
                f"For external id {xmlid} when trying to create/update a record of model {self._model.name} "
                f"found record of different model {known[0]} ({known[1]})"
            )
        if not self._may_write:
            raise not_allowed("modify" if known else "create", self._model.label, self._model.name)
        self._conflict(self._model.name)
        checked(self._model, values)
        if xmlid and known:
            if not (self._updates and xmlid in self._store.fixed):
                held = self._store.tables[self._model.name][known[1]]
                values = self._without_lost_links(values, held)
                self._store.write(self._model.name, known[1], in_language(self._model, values, held, self._language))
            self._store.fix(xmlid, fixed=self._fixes)
            return known[1]
        values = in_language(self._model, self._without_lost_image(values), {}, self._language)
        key = self._store.create(self._model.name, values)
        if xmlid:
            if " " in xmlid:
                raise ConstraintError("", NO_SPACES)
            self._store.name(xmlid, self._model.name, key)
            self._store.fix(xmlid, fixed=self._fixes)
        return key

    def _taken_over(self, xmlid: str, number: int) -> tuple[str, int] | None:
        """14 does not look of which model the record is that the external id names: only its number counts."""
        if number not in self._store.tables[self._model.name]:
            return None
        self._store.name(xmlid, self._model.name, number)
        return self._model.name, number

    def _without_lost_image(self, values: dict[str, Any]) -> dict[str, Any]:
        """Of several products that one load creates on 19, the first keeps its image."""
        if self._store.version == "17" or self._model.name != "product.product" or not values.get("image_1920"):
            return values
        first, self._has_image = not self._has_image, True
        return values if first else {**values, "image_1920": False}

    def _without_lost_links(self, values: dict[str, Any], held: Mapping[str, Any]) -> dict[str, Any]:
        """A product whose image is emptied on 19 keeps the links of many2many fields that it had."""
        emptied = held.get("image_1920") and values.get("image_1920") is False
        if self._store.version == "17" or self._model.name != "product.product" or not emptied:
            return values
        return {name: one for name, one in values.items() if self._model.fields[name].type != "many2many"}


NO_SPACES = 'new row for relation "ir_model_data" violates check constraint "ir_model_data_name_nospaces"\n'


def _told(error: OdooError | Conflict) -> Message:
    if isinstance(error, ConstraintError):
        return {"message": error.told_by_load, **({"field": error.field} if error.field else {})}
    return {"message": error.message}
