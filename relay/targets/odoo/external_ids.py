"""What a target knows of Odoo's models and records: the types of fields, and which record an external id is."""

import asyncio
import itertools
import math
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar

from relay.delivery import Outcome, Verdict
from relay.targets.bisection import Refused
from relay.targets.odoo.api import Api
from relay.targets.odoo.expression import Column, Expression
from relay.targets.odoo.failures import not_odoos
from relay.targets.odoo.mapping import MappingFile, TableMapping
from relay.targets.odoo.plan import MODULE, Name, qualified

ATTRIBUTES = (
    *("type", "required", "readonly", "relation", "selection", "depends", "related", "store", "searchable"),
    *("translate", "digits"),
)
PAGE = 500  # records a request, when a table is emptied
FIELDS_SECONDS = 600.0  # so long is believed what fields_get has said: people change models while we run
UNKNOWN_SECONDS = 1.0  # and so long, if it did not know a field that is wanted

_NO_READ = 'the user may not read ir.model.data: give it the right "Access Rights", or write truncate = "ignore"'

_DATA = {"module": str, "name": str, "res_id": int}  # fields of ir.model.data, and what their values are

T = TypeVar("T")
Fields = Mapping[str, Mapping[str, Any]]  # by name, each with its attributes


class Records:
    """Shared by all workers of a target."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = asyncio.Lock()  # one of them asks; the others wait for the answer
        self._models: dict[str, tuple[float, Fields]] = {}  # when it was asked, and what it said
        self._may_read = True  # ir.model.data; a plain user may not

    async def fields_of(self, api: Api, model: str, wanted: Collection[str] = ()) -> Fields:
        """The model's fields; asked for now and then, and when one that is wanted is not among them. Raises Refused."""
        async with self._lock:
            asked, fields = self._models.get(model, (-math.inf, {}))
            known = all(name in fields for name in wanted)
            if self._clock() - asked >= (FIELDS_SECONDS if known else UNKNOWN_SECONDS):
                found = await api.call(model, "fields_get", {"allfields": None, "attributes": list(ATTRIBUTES)})
                if not isinstance(found, dict) or not all(isinstance(one, dict) for one in found.values()):
                    raise not_odoos("fields_get")
                fields = found
                self._models[model] = self._clock(), fields
            return fields

    async def extends(self, api: Api, fields: Fields) -> set[str]:
        """The links to records that one with these fields extends, and that are made with it: a product's template.

        It has all of their fields, and shows them as they are. To show some of another record's is not enough: a
        purchase.order of 14 and 16 has `receipt_reminder_email` of its vendor, whom nobody makes. Raises Refused.
        """
        shown: dict[str, list[str]] = {}
        for name, known in fields.items():
            link, source = _source(known)
            if source == name and fields.get(link, {}).get("required"):
                shown.setdefault(link, []).append(name)
        found = set()
        for link, names in shown.items():
            others = await self.fields_of(api, str(fields[link].get("relation")))
            # What a model shows of others of its own accord can't be written, if it does not say otherwise.
            alike = [name for name in names if _readonly(fields, name) == _readonly(others, name)]
            if alike and others.keys() <= fields.keys():
                found.add(link)
        return found

    async def find(self, api: Api, model: str, external_ids: Sequence[str]) -> dict[str, int]:
        """The records of these external ids; what does not exist is left out. Raises Refused."""
        found = await self._ask(lambda: _search(api, model, external_ids))
        if found is not None:
            return found
        singly = {one: await _look_up(api, model, one) for one in external_ids}
        return {external_id: record for external_id, record in singly.items() if record}

    async def there(self, api: Api, model: str, external_ids: Sequence[str]) -> set[str]:
        """Those whose records are there. An external id outlives a record that went with another's: an order's line.

        Raises Refused.
        """
        found = await self.find(api, model, external_ids)
        if not found:
            return set()
        arguments = {"domain": [["id", "in", list(found.values())]], "fields": ["id"]}
        rows = await api.call(model, "search_read", arguments, context={"active_test": False})
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise not_odoos("search_read")
        there = [row.get("id") for row in rows]
        return {external_id for external_id, record in found.items() if record in there}

    async def of_others(self, api: Api, model: str, external_ids: Sequence[str]) -> dict[str, str]:
        """Those of these external ids that name a record of another model, and which model. Raises Refused."""
        found = await self._ask(lambda: _search_others(api, model, external_ids))
        if found is not None:
            return found
        singly = {one: await _refer(api, one) for one in external_ids}
        return {external_id: one[0] for external_id, one in singly.items() if one and one[0] != model}

    async def present(self, api: Api, names: Collection[Name]) -> set[Name] | None:
        """Those of these external ids that are there, of any model; None = the user may not ask. Raises Refused."""
        return await self._ask(lambda: _present(api, names))

    async def _ask(self, question: Callable[[], Awaitable[T]]) -> T | None:
        """What a question to ir.model.data says; None = the user may not ask, which is remembered. Raises Refused."""
        if self._may_read:
            try:
                return await question()
            except Refused as refused:
                if refused.name != "odoo.exceptions.AccessError":
                    raise
                self._may_read = False
        return None

    async def of_table(self, api: Api, table: TableMapping, records: Sequence[int]) -> set[int]:
        """Which of these records are rows' of the table. Raises Refused."""
        shape = _shape(table.id)
        domain = [["model", "=", table.model], ["res_id", "in", list(records)]]
        return {row["res_id"] for row in await _read(api, domain, limit=None) if _fits(shape, table.id, row)}

    async def pages(self, api: Api, model: str, expression: Expression) -> AsyncIterator[list[int]]:
        """All records whose external ids look like made by `expression`, some at a time. Raises Refused."""
        module, prefix = qualified(expression.prefix)
        pattern = re.sub(r"([\\%_])", r"\\\1", prefix) + "%"
        shape = _shape(expression)
        last = 0
        while True:
            domain = [
                ["model", "=", model], ["module", "=", module], ["name", "=like", pattern], ["id", ">", last],
            ]  # fmt: skip
            try:
                rows = await _read(api, domain, limit=PAGE)
            except Refused as refused:
                if refused.name != "odoo.exceptions.AccessError":
                    raise
                raise Refused(Outcome(Verdict.MESSAGE, f"TRUNCATE: {_NO_READ}")) from None
            if not rows:
                return
            before, last = last, max(row["id"] for row in rows)
            if last <= before:  # the same page again, for ever
                raise not_odoos("search_read")
            yield [row["res_id"] for row in rows if _fits(shape, expression, row)]


def _source(known: Mapping[str, Any]) -> tuple[str, str]:
    """The link and the field behind it that a field shows; lists are older versions'."""
    path = known.get("related")
    link, _, name = (".".join(map(str, path)) if isinstance(path, list) else str(path or "")).partition(".")
    return link, name


def _readonly(fields: Fields, name: str) -> bool:
    return bool(fields.get(name, {}).get("readonly"))


async def owners(api: Api, mapping: MappingFile, model: str, records: Sequence[int]) -> dict[int, str]:
    """Which of these records are rows' of the mapping: by record, the external id. Raises Refused."""
    shapes = [(_shape(one.id), one.id) for one in mapping.tables.values() if one.model == model]
    domain = [["model", "=", model], ["res_id", "in", list(records)]]
    rows = await _read(api, domain, limit=None)
    return {row["res_id"]: _name(row) for row in rows if any(_fits(shape, one, row) for shape, one in shapes)}


def _shape(expression: Expression) -> "re.Pattern[str]":
    """What the external ids look like that are made by it.

    What stands between two columns is looked for once, the first time that it comes: another would do no better, and to
    try all of them would take for ever with a long name of a server's.
    """
    pieces = [None if isinstance(piece, Column) else re.escape(piece) for piece in expression.pieces]
    columns = [at for at, piece in enumerate(pieces) if piece is None]
    if not columns:
        return re.compile("".join(filter(None, pieces)), re.DOTALL)
    first, last = columns[0], columns[-1]
    between = ("".join(filter(None, pieces[this:following])) for this, following in itertools.pairwise(columns))
    before, behind = ("".join(filter(None, some)) for some in (pieces[:first], pieces[last:]))
    return re.compile(f"{before}{''.join(f'(?>.+?{text})' for text in between)}.+{behind}", re.DOTALL)


def _fits(shape: "re.Pattern[str]", expression: Expression, row: Mapping[str, Any]) -> bool:
    whole = f"{row['module']}.{row['name']}"
    if "." in expression.prefix:
        return bool(shape.fullmatch(whole))
    return row["module"] == MODULE and bool(shape.fullmatch(row["name"]))


def _name(row: Mapping[str, Any]) -> str:
    return str(row["name"]) if row["module"] == MODULE else f"{row['module']}.{row['name']}"


async def _read(
    api: Api, domain: list[Any], limit: int | None, more: Mapping[str, type] = MappingProxyType({})
) -> list[dict[str, Any]]:
    fields = {**_DATA, **more}
    arguments = {"domain": domain, "fields": list(fields), "limit": limit, "order": "id"}
    found = await api.call("ir.model.data", "search_read", arguments)
    wanted = {**fields, "id": int}
    if not isinstance(found, list) or not all(
        isinstance(row, dict) and all(isinstance(row.get(name), kind) for name, kind in wanted.items()) for row in found
    ):
        raise not_odoos("search_read")
    return found


def _by_module(external_ids: Sequence[str]) -> dict[str, dict[str, str]]:
    """By module, and by what they are called in it."""
    found: dict[str, dict[str, str]] = {}
    for external_id in external_ids:
        module, name = qualified(external_id)
        found.setdefault(module, {})[name] = external_id
    return found


async def _search(api: Api, model: str, external_ids: Sequence[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for module, names in _by_module(external_ids).items():
        domain = [["model", "=", model], ["module", "=", module], ["name", "in", list(names)]]
        rows = await _read(api, domain, limit=len(names))
        found |= {names[row["name"]]: row["res_id"] for row in rows if row["name"] in names}
    return found


async def _search_others(api: Api, model: str, external_ids: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for module, names in _by_module(external_ids).items():
        domain = [["module", "=", module], ["name", "in", list(names)], ["model", "!=", model]]
        rows = await _read(api, domain, limit=len(names), more={"model": str})
        found |= {names[row["name"]]: row["model"] for row in rows if row["name"] in names}
    return found


async def _present(api: Api, names: Collection[Name]) -> set[Name]:
    found: set[Name] = set()
    by_module: dict[str, list[str]] = {}
    for module, name in names:
        by_module.setdefault(module, []).append(name)
    for module, of_module in by_module.items():
        rows = await _read(api, [["module", "=", module], ["name", "in", of_module]], limit=None)
        found |= {(module, row["name"]) for row in rows if row["res_id"]}
    return found


async def _look_up(api: Api, model: str, external_id: str) -> int | None:
    """One external id, for users that may not read ir.model.data."""
    found = await _refer(api, external_id)
    return found[1] or None if found and found[0] == model else None


async def _refer(api: Api, external_id: str) -> tuple[str, int] | None:
    """The model and the number of what an external id names; 0, if the user may not read that. None = nothing."""
    module, name = qualified(external_id)
    # An archived record is one, too.
    context = {"active_test": False}
    try:
        found = await api.call(
            "ir.model.data", "check_object_reference", {"module": module, "xml_id": name}, context=context
        )
    except Refused as refused:
        if refused.name == "builtins.ValueError":  # "External ID not found in the system"
            return None
        raise
    known = isinstance(found, list) and len(found) == 2 and isinstance(found[0], str) and isinstance(found[1], int)
    return (found[0], int(found[1])) if known else None
