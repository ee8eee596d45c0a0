"""Records, external ids and transactions of one database, in memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any

from dev.doubles.odoo.countries import COUNTRIES, COUNTRY_NAMES
from dev.doubles.odoo.errors import ConstraintError, OdooError, missing, validation_error
from dev.doubles.odoo.languages import INSTALLED
from dev.doubles.odoo.model import Added, Field, Model, like, models

Record = dict[str, Any]


class Store:
    """One database. `transaction` holds its lock; everything else is called inside of it.

    `series` is which Odoo it is, `version` which one it answers like ("17", "19") where nothing else is said.
    """

    def __init__(self, series: str) -> None:
        self.series = series
        self.version = like(series)
        self.models: dict[str, Model] = models(series)
        self.tables: dict[str, dict[int, Record]] = {name: {} for name in self.models}
        self.external: dict[str, tuple[str, int]] = {}  # "module.name" -> model, id
        self.numbers: dict[str, int] = {}  # ids of ir.model.data, by external id
        self.fixed: set[str] = set()  # external ids with the mark noupdate
        self._named: dict[tuple[str, int], set[str]] = {}
        self._unique: dict[tuple[Any, ...], int] = {}
        self._referrers: dict[tuple[str, int], set[tuple[str, int, str]]] = {}
        self._last: dict[str, int] = dict.fromkeys(self.models, 0)
        self._undo: list[Callable[[], object]] = []
        self._lock = threading.RLock()
        with self.transaction():
            self._fill()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing."""
        with self._lock:
            self._undo.clear()
            try:
                yield
            except BaseException:
                self.rollback(0)
                raise

    def savepoint(self) -> int:
        return len(self._undo)

    def rollback(self, savepoint: int) -> None:
        while len(self._undo) > savepoint:
            self._undo.pop()()

    def create(self, name: str, values: Mapping[str, Any]) -> int:
        """Values are those of a record: converted, links as ids. Sequences are not rolled back, as in PostgreSQL."""
        model = self.models[name]
        if name == "product.product" and not values.get("product_tmpl_id"):
            template = {"name": values.get("name") or False}  # _inherits: what it extends is created with it
            values = {**values, "product_tmpl_id": self.create("product.template", template)}
        self._last[name] += 1
        key = self._last[name]
        defaults = {field: one.initial for field, one in model.fields.items()}
        record = {**defaults, **values, "id": key, "create_date": now(), "write_date": now()}
        self._check(model, record, None)
        self.tables[name][key] = record
        self._undo.append(lambda: self.tables[name].pop(key))
        self._index(model, record)
        return key

    def write(self, name: str, key: int, values: Mapping[str, Any]) -> None:
        model, before = self.models[name], self.tables[name][key]
        joined = {
            field: tuple(dict.fromkeys((*before[field], *links)))
            for field, links in values.items()
            if isinstance(links, Added)
        }
        record = {**before, **values, **joined, "write_date": now()}
        self._check(model, record, key)
        self._unindex(model, before)
        self.tables[name][key] = record
        self._undo.append(lambda: self.tables[name].__setitem__(key, before))
        self._index(model, record)

    def unlink(self, name: str, key: int) -> None:
        """A record that others need stays, as PostgreSQL's RESTRICT has it; links that may be empty are emptied.

        What goes with it goes in PostgreSQL: its external ids stay, and name nothing.
        """
        for other, other_key, field in sorted(self._referrers.get((name, key), ())):
            definition = self.models[other].fields[field]
            if definition.cascade:
                self._remove(other, other_key)
                continue
            if definition.required:
                raise validation_error(_restricted(name, key, other, field))
            left = self.tables[other][other_key]
            emptied = tuple(one for one in left[field] if one != key) if definition.type == "many2many" else False
            self.write(other, other_key, {field: emptied})
        self._remove(name, key)
        for xmlid in list(self._named.get((name, key), ())):
            self.forget(xmlid)

    def _remove(self, name: str, key: int) -> None:
        before = self.tables[name].pop(key)
        self._unindex(self.models[name], before)
        self._undo.append(lambda: self.tables[name].__setitem__(key, before))

    def name(self, xmlid: str, model: str, key: int) -> None:
        """Give a record an external id."""
        if xmlid in self.external:
            self.forget(xmlid)
        self._last["ir.model.data"] += 1
        self._restore(xmlid, model, key, self._last["ir.model.data"])
        self._undo.append(lambda: self._drop(xmlid))

    def name_by_hand(self, values: Mapping[str, Any]) -> int:
        """Create a row of ir.model.data."""
        xmlid = f"{values['module']}.{values['name']}"
        if xmlid in self.external:
            text = 'duplicate key value violates unique constraint "ir_model_data_module_name_uniq_index"'
            raise validation_error(f"The operation cannot be completed: {text}")
        self.name(xmlid, values["model"], values["res_id"])
        self.fix(xmlid, fixed=bool(values.get("noupdate")))
        return self.numbers[xmlid]

    def unname_by_hand(self, numbers: Sequence[int]) -> bool:
        """Unlink rows of ir.model.data."""
        for xmlid in [xmlid for xmlid, number in self.numbers.items() if number in numbers]:
            self.forget(xmlid)
        return True

    def named(self, model: str, key: int) -> set[str]:
        """The external ids of a record."""
        return self._named.get((model, key), set())

    def fix(self, xmlid: str, *, fixed: bool) -> None:
        """Set or take the mark noupdate: a load in the mode of an update leaves such a record alone."""
        was = xmlid in self.fixed
        mark = {True: self.fixed.add, False: self.fixed.discard}
        mark[fixed](xmlid)
        self._undo.append(lambda: mark[was](xmlid))

    def exists(self, model: str, keys: Sequence[int], uid: int) -> None:
        gone = [key for key in keys if key not in self.tables[model]]
        if gone:
            raise missing(model, gone, uid)

    def forget(self, xmlid: str) -> None:
        """Take an external id away."""
        (model, key), number = self.external[xmlid], self.numbers[xmlid]
        self._drop(xmlid)
        self._undo.append(lambda: self._restore(xmlid, model, key, number))

    def _drop(self, xmlid: str) -> None:
        self._named[self.external.pop(xmlid)].discard(xmlid)
        del self.numbers[xmlid]

    def _restore(self, xmlid: str, model: str, key: int, number: int) -> None:
        self.external[xmlid] = (model, key)
        self.numbers[xmlid] = number
        self._named.setdefault((model, key), set()).add(xmlid)

    # Constraints, in the order in which PostgreSQL and Odoo find them: NOT NULL, CHECK, UNIQUE, foreign key, Python.

    def _check(self, model: Model, record: Record, key: int | None) -> None:
        for name, field in model.fields.items():
            lacks = record[name] is False or record[name] is None or record[name] == ""  # 0 is a number
            if field.required and not field.computed and lacks:
                raise self._mandatory(model, name, field)
        if model.check and record[model.check[0]] in (False, None, ""):
            message = model.check[1]
            raise ConstraintError(
                f"The operation cannot be completed: {message}", f"'{message}'" if self.version == "17" else message
            )
        for columns, message in model.unique:
            values = tuple(record[column] for column in columns)
            if False not in values and self._unique.get((model.name, columns, values), key) != key:
                raise ConstraintError(
                    f"The operation cannot be completed: {message}", self._taken(model, columns, message)
                )
        for name, field in model.fields.items():
            if field.relation:
                self._check_link(model, record, name, field)
        if model.parent and key:
            self._check_circle(model, record, key)

    def _mandatory(self, model: Model, name: str, field: Field) -> OdooError:
        short = f"Missing required value for the field '{field.string}' ({name})"
        long = (
            f"{short}.\nModel: '{model.label}' ({model.name})\n- create/update: a mandatory field is not set\n"
            "- delete: another model requires the record being deleted, you can archive it instead\n"
        )
        if self.version != "17":
            return ConstraintError(f"The operation cannot be completed: {long}", long, name)
        told = (
            "The operation cannot be completed:\n- Create/update: a mandatory field is not set.\n- Delete: another "
            "model requires the record being deleted. If possible, archive it instead.\n\n"
            f"Model: {model.label} ({model.name})\nField: {field.string} ({name})\n"
        )
        return ConstraintError(told, short, name)

    def _taken(self, model: Model, columns: Sequence[str], message: str) -> str:
        if self.version != "17":
            return message
        labels = ", ".join(model.fields[column].string for column in columns)
        return (
            f"The values for the fields '{', '.join(columns)}' already exist "
            f"(they are probably '{labels}' in the current model)."
        )

    def _check_link(self, model: Model, record: Record, name: str, field: Field) -> None:
        for key in targets(field, record[name]):
            if key not in self.tables[field.relation or ""]:
                if self.version == "17":
                    raise validation_error(
                        "The operation cannot be completed: another model requires the record being deleted. If "
                        f"possible, archive it instead.\n\nModel: {model.label} ({model.name})\n"
                        f"Constraint: {model.name.replace('.', '_')}_{name}_fkey\n"
                    )
                text = (
                    "The operation cannot be completed: Another model is using the record you are trying to delete.\n\n"
                    f"The troublemaker is: '{model.label}' ({model.name})\n"
                    f"Thanks to the following constraint: '{field.string}' ({name})\n"
                    "How about archiving the record instead?"
                )
                raise validation_error(text)

    def _check_circle(self, model: Model, record: Record, key: int) -> None:
        above = record[model.parent or ""]
        while above:
            if above == key:
                raise validation_error(f"You cannot create recursive {_circle(model)} hierarchies.")
            above = self.tables[model.name][above][model.parent or ""]

    def _index(self, model: Model, record: Record) -> None:
        for entry in self._entries(model, record):
            self._unique[entry] = record["id"]
            self._undo.append(partial(self._unique.pop, entry, None))
        for target, referrer in self._links(model, record):
            self._referrers.setdefault(target, set()).add(referrer)
            self._undo.append(partial(self._referrers[target].discard, referrer))

    def _unindex(self, model: Model, record: Record) -> None:
        for entry in self._entries(model, record):
            self._unique.pop(entry, None)
            self._undo.append(partial(self._unique.__setitem__, entry, record["id"]))
        for target, referrer in self._links(model, record):
            self._referrers[target].discard(referrer)
            self._undo.append(partial(self._referrers[target].add, referrer))

    def _entries(self, model: Model, record: Record) -> list[tuple[Any, ...]]:
        return [(model.name, columns, tuple(record[column] for column in columns)) for columns, _ in model.unique]

    def _links(self, model: Model, record: Record) -> Iterator[tuple[tuple[str, int], tuple[str, int, str]]]:
        for name, field in model.fields.items():
            if field.relation:
                for key in targets(field, record[name]):
                    yield (field.relation, key), (model.name, record["id"], name)

    def _fill(self) -> None:
        """What a fresh database has, under Odoo's own external ids."""
        self._base("res.company", "main_company", {"name": "My Company"})
        for code in COUNTRIES.split():
            xmlid = "uk" if code == "GB" else code.lower()
            self._base("res.country", xmlid, {"code": code, "name": COUNTRY_NAMES.get(code, code)})
        texas = {"name": "Texas", "code": "TX", "country_id": self.external["base.us"][1]}
        self._base("res.country.state", "state_us_44", texas)
        for code in INSTALLED:
            self.create("res.lang", {"code": code})
        for model in self.models.values():
            self.create("ir.model", {"model": model.name, "name": model.label})
        for code in ("EUR", "USD"):
            self._base("res.currency", code, {"name": code})
        for login, name in (("__system__", "OdooBot"), ("admin", "Administrator"), ("plain", "plain")):
            self.create("res.partner", {"name": name})
            self.create("res.users", {"login": login, "name": name})

    def _base(self, model: str, xmlid: str, values: Mapping[str, Any]) -> None:
        self.name(f"base.{xmlid}", model, self.create(model, values))


def targets(field: Field, value: Any) -> tuple[int, ...]:
    """The ids that a link's value names."""
    if field.type == "many2many":
        return tuple(value)
    return (value,) if value else ()


def now() -> str:
    """A time as Odoo writes it: UTC, without its offset."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")


def _circle(model: Model) -> str:
    return "Partner" if model.name == "res.partner" else model.label


def _restricted(name: str, key: int, other: str, field: str) -> str:
    here, there = name.replace(".", "_"), other.replace(".", "_")
    return (
        f'The operation cannot be completed: update or delete on table "{here}" violates RESTRICT setting of foreign '
        f'key constraint "{there}_{field}_fkey" on table "{there}"\n'
        f'DETAIL:  Key (id)=({key}) is referenced from table "{there}".\n'
    )
