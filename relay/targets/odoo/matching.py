"""Finding the records that rows were before there was a relay: `match` of the mapping.

Only rows whose external id is not there are looked for, all of a request together. Nothing here changes anything but
`Adoption`, which gives a found record the row's external id.
"""

import contextlib
import dataclasses
import enum
from collections.abc import AsyncIterator, Callable, Hashable, Mapping, Sequence
from typing import Any

from relay.delivery import Outcome, Verdict
from relay.log import Log
from relay.targets.bisection import Refused, RowsRefused
from relay.targets.odoo.api import Api
from relay.targets.odoo.convert import UTC
from relay.targets.odoo.external_ids import Fields, Records, owners
from relay.targets.odoo.failures import not_odoos, of_rights
from relay.targets.odoo.mapping import FieldMapping, MappingFile, TableMapping
from relay.targets.odoo.missing_links import Link
from relay.targets.odoo.plan import qualified

TYPES = ("char", "text", "selection", "integer", "date", "datetime", "boolean", "many2one")  # that can be matched
MOST = 2000  # records that one request for matches may find: more are no match

Values = tuple[Any, ...]  # of the fields of `match`, as Odoo shows them

_log = Log("receiver")


class State(enum.Enum):
    """What was found for a row."""

    KNOWN = "has its record"  # its external id is there
    BARE = "has nothing to be found by"
    NONE = "no record fits"
    ONE = "one record fits"
    MANY = "several records fit"
    OWNED = "the record that fits is another row's"
    LINK = "a record that it links to is not there"


@dataclasses.dataclass(frozen=True, slots=True)
class Match:
    """Of one row.

    Args:
        values: what was looked for.
        records: which fit.
        detail: the other row's external id, or the links that are missing.
    """

    state: State
    values: Values = ()
    records: tuple[int, ...] = ()
    owner: str = ""
    links: tuple[Link, ...] = ()

    def refusal(self, table: TableMapping, own: str) -> str:
        """Why the row can't be loaded; empty = it can."""
        by = ", ".join(table.match)
        if self.state is State.MANY:
            some = ", ".join(str(one) for one in self.records[:5])
            return f"match: {len(self.records)} records of {table.model} have its {by} (ids {some})"
        if self.state is State.OWNED:
            record = f"record {self.records[0]} of {table.model}"
            return f"match: {own} and {self.owner} both fit {record} by {by}; it is {self.owner} already"
        return ""


def matches(field: FieldMapping, kind: str) -> bool:
    """Can a record be found by a field of this type? A link by name may mean several, a float is never the same."""
    return kind in TYPES and (kind != "many2one" or "/" in field.path)


class Finder:
    """Looks for the records of rows."""

    def __init__(self, api: Api, records: Records, mapping: MappingFile, table: TableMapping, types: Fields) -> None:
        self._api = api
        self._records = records
        self._mapping = mapping
        self._table = table
        self._types = types
        matched = [(at, one) for at, one in enumerate(table.all_fields, 1) if one.name in table.match and not one.lang]
        self._columns, self._fields = [at for at, _ in matched], [one for _, one in matched]

    async def find(self, rows: Sequence[Sequence[str]]) -> list[Match]:
        """For rows of `load`, the external id first. Raises Refused."""
        self._check_types()
        known = await self._records.find(self._api, self._table.model, [row[0] for row in rows])
        found = [Match(State.KNOWN if row[0] in known else State.BARE) for row in rows]
        new = [at for at, one in enumerate(found) if one.state is not State.KNOWN]
        if not new:
            return found
        cells = {at: [rows[at][column] for column in self._columns] for at in new}
        linked = await self._linked(list(cells.values()))
        wanted: dict[int, Values] = {}
        for at in new:
            missing = self._missing(cells[at], linked)
            if missing:
                found[at] = Match(State.LINK, links=missing)
            elif self._tells(cells[at]):
                wanted[at] = self._values(cells[at], linked)
        by_values = await self._search(list(wanted.values())) if wanted else {}
        for at, values in wanted.items():
            records = tuple(by_values.get(values, ()))
            state = State.NONE if not records else State.ONE if len(records) == 1 else State.MANY
            found[at] = Match(state, values, records)
        return await self._with_owners(found)

    def _check_types(self) -> None:
        for field in self._fields:
            kind = str(self._types[field.name].get("type"))
            if not matches(field, kind):
                detail = f"match: nothing is found by {field.path} of {self._table.model}, a {kind}; receiver.py check"
                raise Refused(Outcome(Verdict.MESSAGE, detail))

    async def _linked(self, cells: list[list[str]]) -> dict[str, dict[str, int]]:
        """By model, the records of the external ids that the rows link to."""
        wanted: dict[str, set[str]] = {}
        for position, field in enumerate(self._fields):
            if field.is_link:
                names = {row[position] for row in cells if row[position]}
                wanted.setdefault(self._relation(field), set()).update(names)
        return {
            model: await self._records.find(self._api, model, sorted(names)) for model, names in wanted.items() if names
        }

    def _relation(self, field: FieldMapping) -> str:
        return str(self._types[field.name].get("relation"))

    def _missing(self, cells: Sequence[str], linked: Mapping[str, Mapping[str, int]]) -> tuple[Link, ...]:
        pairs = zip(self._fields, cells, strict=True)
        return tuple(
            (field.path, cell)
            for field, cell in pairs
            if field.is_link and cell and cell not in linked.get(self._relation(field), {})
        )

    def _tells(self, cells: Sequence[str]) -> bool:
        """Is there anything to find it by? Where all is empty but links, too much would fit."""
        plain = [cell for field, cell in zip(self._fields, cells, strict=True) if "/" not in field.path]
        return any(plain or cells)

    def _values(self, cells: Sequence[str], linked: Mapping[str, Mapping[str, int]]) -> Values:
        found: list[Any] = []
        for field, cell in zip(self._fields, cells, strict=True):
            known, kind = self._types[field.name], self._types[field.name].get("type")
            if kind == "boolean":
                found.append(cell == "1")
            elif not cell:
                found.append(0 if kind == "integer" else False)
            elif field.is_link:
                found.append(linked[self._relation(field)][cell])
            elif kind in ("integer", "many2one"):
                found.append(int(cell))
            else:
                found.append(_option(known, cell) if kind == "selection" else cell)
        return tuple(found)

    async def _search(self, wanted: list[Values]) -> dict[Values, list[int]]:
        """The records that have these values, archived ones too."""
        names = [field.name for field in self._fields]
        domain = [[name, "in", list(dict.fromkeys(one[at] for one in wanted))] for at, name in enumerate(names)]
        arguments = {"domain": domain, "fields": names, "limit": MOST + 1, "order": "id"}
        context = {**self._table.context, **UTC, "active_test": False}
        rows = await self._api.call(self._table.model, "search_read", arguments, context=context)
        if not isinstance(rows, list):
            raise not_odoos("search_read")
        if len(rows) > MOST:
            detail = f"match: more than {MOST} records of {self._table.model} have its {', '.join(names)}"
            raise Refused(Outcome(Verdict.MESSAGE, detail), splits=True)
        found: dict[Values, list[int]] = {}
        for row in rows:
            values = tuple(_shown(self._types[name].get("type"), row[name]) for name in names)
            found.setdefault(values, []).append(row["id"])
        return found

    async def _with_owners(self, found: list[Match]) -> list[Match]:
        """Which of the records are other rows' of ours?"""
        records = sorted({one.records[0] for one in found if one.state is State.ONE})
        if not records:
            return found
        try:
            owned = await owners(self._api, self._mapping, self._table.model, records)
        except Refused as refused:
            raise of_rights(refused, "match") from None
        return [
            dataclasses.replace(one, state=State.OWNED, owner=owned[one.records[0]])
            if one.state is State.ONE and one.records[0] in owned
            else one
            for one in found
        ]


class Adoption:
    """Shared by all workers: while a row is looked for, and then created, none of them may do so with an equal one."""

    def __init__(self, mapping: MappingFile, records: Records) -> None:
        self._mapping = mapping
        self._records = records
        self._held: dict[Hashable, str] = {}  # what is looked for, or adopted: by which row

    @contextlib.asynccontextmanager
    async def of(
        self,
        api: Api,
        table: TableMapping,
        types: Fields,
        rows: Sequence[Sequence[str]],
        waits: Callable[[int, Sequence[Link]], Outcome],
    ) -> AsyncIterator[None]:
        """Adopt the records of these rows (as Finder.find); what is inside of it loads them. Raises Refused.

        Args:
            waits: the outcome of a row, by position, some of whose links lead nowhere yet.
        """
        found = await Finder(api, self._records, self._mapping, table, types).find(rows)
        held: list[Hashable] = []
        try:
            settled: dict[int, Outcome] = {}
            for at, one in enumerate(found):
                own = rows[at][0]
                refusal = one.refusal(table, own)
                if refusal:
                    settled[at] = Outcome(Verdict.MESSAGE, refusal)
                elif one.state is State.LINK:
                    settled[at] = waits(at, one.links)
                elif one.state in (State.NONE, State.ONE):
                    keys: list[Hashable] = [(table.name, one.values), *((table.model, key) for key in one.records)]
                    other = next((self._held[key] for key in keys if key in self._held), None)
                    if other is not None:
                        reason = f"match: {own} has the same {', '.join(table.match)} as {other}, which goes first"
                        settled[at] = Outcome(Verdict.CONFLICT, reason)
                        continue
                    self._held |= dict.fromkeys(keys, own)
                    held += keys
            if settled:
                raise RowsRefused(Outcome(Verdict.CONFLICT, "match"), settled, None)
            await _adopt(api, table, {rows[at][0]: one.records[0] for at, one in enumerate(found) if one.records})
            yield
        finally:
            for key in held:
                del self._held[key]


async def _adopt(api: Api, table: TableMapping, records: Mapping[str, int]) -> None:
    """Give the records these external ids. Raises Refused."""
    if not records:
        return
    rows = []
    for own, record in records.items():
        module, name = qualified(own)
        rows.append({"module": module, "name": name, "model": table.model, "res_id": record, "noupdate": True})
    try:
        await api.call("ir.model.data", "create", {"vals_list": rows})
    except Refused as refused:
        raise of_rights(refused, "match") from None
    own, record = next(iter(records.items()))
    example = f"{own} is {table.model} {record}"
    _log.info("records that were there before are rows' now", table=table.name, records=len(records), example=example)


def _option(known: Mapping[str, Any], cell: str) -> str:
    """A selection's value; `load` takes its label as well."""
    options = known.get("selection")
    pairs = [(str(one[0]), str(one[1])) for one in options] if isinstance(options, list) else []
    fits = (value for value, label in pairs if cell.lower() in (value.lower(), label.lower()))
    return next(fits, cell)


def _shown(kind: object, value: Any) -> Any:
    """A value of search_read, to be compared: a link is its number, what is empty is False."""
    if kind == "many2one":
        return value[0] if isinstance(value, list) and value else False
    return value if kind in ("integer", "boolean") else value or False
