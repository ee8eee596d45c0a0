"""Links whose records are found by us: by their values, or by external ids where `load` takes only numbers."""

import collections
import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from relay.delivery import Outcome, Verdict
from relay.targets.bisection import Refused, RowsRefused
from relay.targets.odoo.api import Api
from relay.targets.odoo.convert import UTC
from relay.targets.odoo.external_ids import Fields, Records
from relay.targets.odoo.failures import not_odoos, short
from relay.targets.odoo.mapping import FieldMapping, TableMapping
from relay.targets.odoo.missing_links import Link

REMEMBERED = 10_000  # values
SECONDS = 300.0  # so long is believed which record it was: people rename and delete them

Values = tuple[str, ...]
Waits = Callable[[int, Sequence[Link]], Outcome]


class Lookups:
    """Shared by all workers of a target."""

    def __init__(self, records: Records, clock: Callable[[], float] = time.monotonic) -> None:
        self._records = records
        self._clock = clock
        self._known: collections.OrderedDict[tuple[str, str, Values], tuple[float, int]] = collections.OrderedDict()

    async def fill(
        self, api: Api, table: TableMapping, types: Fields, rows: Sequence[Sequence[str]], waits: Waits
    ) -> list[list[str]]:
        """The rows of `load`, with the records' numbers where plan.cell has put what is wanted.

        Args:
            waits: the outcome of a row, by position, some of whose links lead nowhere yet.

        Raises:
            Refused: also RowsRefused: of the rows that name a record that is not there, or several.
        """
        made = [list(row) for row in rows]
        settled: dict[int, Outcome] = {}
        for column, field in enumerate(table.all_fields, 1):
            if not field.is_looked_up:
                continue
            wanted = {at: json.loads(row[column]) for at, row in enumerate(rows) if row[column]}
            if field.model:
                await self._by_id(api, field, column, types, wanted, made, settled, waits)
                continue
            lists = {at: [tuple(one) for one in values] for at, values in wanted.items()}
            relation = _relation(table, field, types)
            found = await self._find(api, table, field, relation, {one for values in lists.values() for one in values})
            for at, values in lists.items():
                wrong = next((one for one in values if len(found.get(one, ())) != 1), None)
                if wrong is None:
                    made[at][column] = ",".join(str(found[one][0]) for one in values)
                else:
                    settled[at] = Outcome(Verdict.MESSAGE, _miss(field, relation, wrong, found.get(wrong, [])))
        if settled:
            raise RowsRefused(Outcome(Verdict.CONFLICT, "links"), settled, None)
        return made

    def forget(self, table: str) -> None:
        """A row of it was refused: a record may have gone."""
        for key in [key for key in self._known if key[0] == table]:
            del self._known[key]

    async def _by_id(
        self,
        api: Api,
        field: FieldMapping,
        column: int,
        types: Fields,
        wanted: Mapping[int, list[str]],
        made: list[list[str]],
        settled: dict[int, Outcome],
        waits: Waits,
    ) -> None:
        names = sorted({one for links in wanted.values() for one in links})
        found = await self._records.find(api, field.model, names) if names else {}
        begin = f"{field.model}," if types[field.name].get("type") == "reference" else ""
        for at, links in wanted.items():
            missing = [(field.path, link) for link in links if link not in found]
            if missing:
                settled[at] = waits(at, missing)
            else:
                made[at][column] = ",".join(f"{begin}{found[link]}" for link in links)

    async def _find(
        self, api: Api, table: TableMapping, field: FieldMapping, relation: str, wanted: Collection[Values]
    ) -> dict[Values, list[int]]:
        """By values, the records that have them. Raises Refused."""
        now, found, rest = self._clock(), dict[Values, list[int]](), dict[Values, list[str]]()
        for values in wanted:
            asked, record = self._known.get((table.name, field.path, values), (now - SECONDS, 0))
            if now - asked < SECONDS:
                found[values] = [record]
            else:
                rest.setdefault(values[1:], []).append(values[0])
        first, *others = [name for name, _ in field.by]
        context = {**table.context, **UTC}
        for same, texts in rest.items():
            fixed = [[name, "=", text] for name, text in zip(others, same, strict=True)]
            domain: list[Any] = [[first, "in", texts], *fixed]
            rows = await api.call(relation, "search_read", {"domain": domain, "fields": [first]}, context=context)
            if not isinstance(rows, list):
                raise not_odoos("search_read")
            for row in rows:
                found.setdefault((str(row[first]), *same), []).append(row["id"])
            for text in texts:
                records = found.get((text, *same), [])
                if len(records) == 1:
                    self._known[table.name, field.path, (text, *same)] = now, records[0]
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return found


def _relation(table: TableMapping, field: FieldMapping, types: Fields) -> str:
    known = types[field.name]
    if known.get("type") not in ("many2one", "many2many"):
        detail = f"{field.name} of {table.model} is a {known.get('type')} and links to nothing; receiver.py check"
        raise Refused(Outcome(Verdict.MESSAGE, detail))
    return str(known.get("relation"))


def _miss(field: FieldMapping, relation: str, values: Values, records: Sequence[int]) -> str:
    what = short(" and ".join(f"{name} = {text}" for (name, _), text in zip(field.by, values, strict=True)))
    if not records:
        return f"{field.name}: no record of {relation} has {what} (archived ones are not looked at)"
    return f"{field.name}: {len(records)} records of {relation} have {what} (ids {', '.join(map(str, records[:5]))})"
