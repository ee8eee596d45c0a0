"""`receiver.py check` on `match`: can records be found by it, and how many rows of a table would find one?"""

import collections
import itertools
from collections.abc import AsyncIterator, Hashable, Iterable

from relay.cli import plural
from relay.delivery import Event
from relay.findings import Finding, failed
from relay.targets.bisection import Refused
from relay.targets.odoo.api import Api
from relay.targets.odoo.check import may
from relay.targets.odoo.convert import Unfit
from relay.targets.odoo.external_ids import Fields
from relay.targets.odoo.mapping import FieldMapping, MappingFile, TableMapping
from relay.targets.odoo.matching import Finder, Match, State, matches
from relay.targets.odoo.plan import Load, plan, row_of
from relay.targets.odoo.shared import Shared
from relay.targets.template import Missing

ROWS = 500  # in a request

# In what order they are told, and how.
_FINE = {
    State.KNOWN: "have their record already",
    State.ONE: "would adopt one",
    State.NONE: "would create one",
    State.BARE: "have nothing to be found by, and would create one",
    State.LINK: "link to records that are not there yet",
}


async def table(api: Api, shared: Shared, mapped: TableMapping) -> AsyncIterator[Finding]:
    """Does the `match` of a table fit its model, and has the user the rights?"""
    if not mapped.match:
        return
    name, where = f"{mapped.name} -> {mapped.model}: match", f"{shared.mapping.path} line {mapped.line}"
    try:
        fields = await shared.records.fields_of(api, mapped.model)
        denied = [one for one in ("read", "create") if not await may(api, "ir.model.data", one)]
    except Refused:
        return  # check.table has said why
    if denied:
        detail = f"the user may not {' and '.join(denied)} ir.model.data"
        yield failed(name, detail=detail, remedy=f'give it the right "Access Rights", or remove match in {where}')
    matched = [one for one in mapped.all_fields if one.name in mapped.match and one.name in fields]
    wrong = [one for one in matched if not _finds(one, fields)]
    for field in wrong:
        detail = f"nothing is found by {field.path}: it is a {fields[field.name].get('type')}"
        if not fields[field.name].get("searchable", True):
            detail = f"nothing is found by {field.path}: Odoo computes it, and can't search by it"
        yield failed(name, detail=detail, remedy=f"remove it from match in {where}")
    if not denied and not wrong:
        yield Finding(name, detail=f"by {', '.join(mapped.match)}")


def _finds(field: FieldMapping, fields: Fields) -> bool:
    known = fields[field.name]
    return matches(field, str(known.get("type"))) and bool(known.get("searchable", True))


async def rows(api: Api, shared: Shared, name: str, lines: Iterable[str]) -> AsyncIterator[Finding]:
    """How many rows would find a record?

    Args:
        name: the table's.
        lines: a row each, in JSON, as PostgreSQL's row_to_json writes it.
    """
    mapped = shared.mapping.tables.get(name)
    if mapped is None:
        there = ", ".join(shared.mapping.tables)
        yield failed(f"{name}: match", detail=f"not in {shared.mapping.path}", remedy=f"the tables are: {there}")
        return
    if not mapped.match:
        where = f"{shared.mapping.path} line {mapped.line}"
        remedy = f'write match = ["email"], or other fields, in {where}'
        yield failed(f"{name}: match", detail="it has none", remedy=remedy)
        return
    count = _Count(shared.mapping, mapped)
    try:
        types = await shared.records.fields_of(api, mapped.model)
        finder = Finder(api, shared.records, shared.mapping, mapped, types)
        numbered = enumerate((line for line in lines if line.strip()), 1)
        while chunk := list(itertools.islice(numbered, ROWS)):
            made = count.read(chunk, types)
            for row, found in zip(made, await finder.find(made) if made else [], strict=True):
                count.add(row[0], found)
    except Refused as refused:
        yield failed(f"{name}: match", detail=refused.outcome.reason, remedy="look at Odoo, and try again")
        return
    for finding in count.findings():
        yield finding


class _Count:
    """Of the rows of a table."""

    def __init__(self, mapping: MappingFile, mapped: TableMapping) -> None:
        self._mapping = mapping
        self._mapped = mapped
        self._states: collections.Counter[State] = collections.Counter()
        self._left_out = 0
        self._wrong: list[str] = []
        self._taken: dict[Hashable, str] = {}

    def read(self, lines: list[tuple[int, str]], types: Fields) -> list[list[str]]:
        """Rows of `load`."""
        made = []
        for number, line in lines:
            if not line.lstrip().startswith("{"):
                self._wrong.append(f"row {number}: it is no JSON object, as row_to_json of PostgreSQL makes them")
                continue
            body = f'{{"op": "snapshot", "key": null, "old": null, "new": {line}}}'
            event = Event(body.encode(), self._mapped.name, op="snapshot", table=self._mapped.name)
            try:
                planned = plan(self._mapping, event)
                if isinstance(planned, Load):
                    made.append(row_of(planned, types))
                else:
                    self._left_out += 1
            except (Missing, Unfit) as error:
                self._wrong.append(f"row {number}: {error}")
        return made

    def add(self, own: str, found: Match) -> None:
        """What was found for a row."""
        refusal = found.refusal(self._mapped, own)
        if refusal:
            self._wrong.append(refusal)
            return
        keys: list[Hashable] = [*found.records, *([found.values] if found.values else [])]
        other = next((self._taken[key] for key in keys if key in self._taken), "")
        if other:
            self._wrong.append(f"{own} and {other} have the same {', '.join(self._mapped.match)}")
            return
        self._taken |= dict.fromkeys(keys, own)
        self._states[found.state] += 1

    def findings(self) -> Iterable[Finding]:
        """What to tell."""
        name = f"{self._mapped.name}: match"
        told = [f"{self._states[state]} {said}" for state, said in _FINE.items() if self._states[state]]
        if self._left_out:
            told.append(f"{self._left_out} do not meet the condition")
        total = sum(self._states.values()) + self._left_out + len(self._wrong)
        yield Finding(name, detail=f"{plural(total, 'row')}: {', '.join(told) or 'none would go through'}")
        if self._wrong:
            some = "; ".join(self._wrong[:3])
            detail = f"{plural(len(self._wrong), 'row')} would be refused: {some}"
            yield failed(name, detail=detail, remedy="make them, or the records, different; or match by more fields")
