"""Methods that are called for records, once their rows are loaded: `actions` of the mapping.

They hold no event. An action that waits for the rows of other tables (an order for its lines) leaves a mark beside the
record, an external id of module MARKS, so that whoever loads the last of those rows knows of it: also after a restart.
"""

import asyncio
import collections
import dataclasses
import time
from collections.abc import Mapping, Sequence

from relay.delivery import Outcome, Verdict
from relay.log import Log
from relay.targets.bisection import NOT_SENT, Limits, Refused
from relay.targets.odoo.api import Api
from relay.targets.odoo.convert import UTC
from relay.targets.odoo.expression import column_of
from relay.targets.odoo.external_ids import Records
from relay.targets.odoo.mapping import Action, MappingFile, TableMapping
from relay.targets.odoo.marks import Mark, Marks, Wanted, is_count
from relay.targets.odoo.plan import Load, links_of
from relay.targets.odoo.states import holds
from relay.targets.odoo.states import read as states_of
from relay.targets.template import Missing

Rows = Sequence[tuple[int, Load]]  # with their position in the batch

REMEMBERED = 10_000  # records whose action waits

_log = Log("receiver")


@dataclasses.dataclass(frozen=True, slots=True)
class Candidate:
    """A record that an action may be due for.

    Args:
        at: position of the row that has led to it: it is refused if the action is.
        own: the record's external id.
        wanted: how many rows of each table of `after` it has, in their order.
        mark: of an earlier time, where there is one.
        applies: does the row still meet the action's `when`?
    """

    at: int
    own: str
    record: int
    wanted: Wanted
    mark: Mark | None
    applies: bool = True


class Waiting:
    """Shared by all workers of a target: one of them at a time looks at a table's actions, and what they wait for."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._locks: dict[str, asyncio.Lock] = {}
        self._since: collections.OrderedDict[tuple[str, str], float] = collections.OrderedDict()  # method, external id

    def lock(self, table: str) -> asyncio.Lock:
        """Of the table whose records are acted on."""
        return self._locks.setdefault(table, asyncio.Lock())

    def begin(self, action: Action, own: str) -> None:
        """Its rows are not all there yet."""
        self._since.setdefault((action.method, own), time.monotonic())
        if len(self._since) > REMEMBERED:
            self._since.popitem(last=False)

    def end(self, action: Action, own: str) -> None:
        """It waits no longer."""
        self._since.pop((action.method, own), None)

    def tell_late(self) -> None:
        """Those that have waited too long, once."""
        while self._since:
            (method, own), since = next(iter(self._since.items()))
            if time.monotonic() - since < self._patience:
                return
            del self._since[method, own]
            seconds = round(time.monotonic() - since)
            _log.error("an action was not called, its rows have not come", record=own, method=method, after_s=seconds)


class Actions:
    """One worker's."""

    def __init__(self, api: Api, mapping: MappingFile, records: Records, limits: Limits, waiting: Waiting) -> None:
        self._api = api
        self._mapping = mapping
        self._records = records
        self._limits = limits
        self._waiting = waiting
        self._marks = Marks(api)

    async def look(
        self, table: TableMapping, planned: Rows, records: Mapping[str, int], outcomes: dict[int, Outcome]
    ) -> None:
        """What is due, now that these rows are loaded?

        Args:
            records: of the rows, by external id.
            outcomes: of the rows, by position; what an action's refusal is put into.
        """
        rows = [(at, one) for at, one in planned if outcomes[at].verdict is Verdict.DONE and one.external_id in records]
        try:
            if table.actions and rows:
                async with self._waiting.lock(table.name):
                    await self._own(table, rows, records, outcomes)
            for other in self._mapping.headers(table) if rows else ():
                async with self._waiting.lock(other.name):
                    await self._of_header(other, table, rows, outcomes)
        except Refused as refused:
            outcomes |= {at: NOT_SENT if refused.lost else refused.outcome for at, _ in rows}
            outcomes[rows[0][0]] = refused.outcome  # got lost: one piece of evidence, and one line
        self._waiting.tell_late()

    async def _own(
        self, table: TableMapping, rows: Rows, records: Mapping[str, int], outcomes: dict[int, Outcome]
    ) -> None:
        """Of rows that have actions themselves. Raises Refused."""
        waits = any(action.after for action in table.actions)
        marks = await self._marks.find(table.model, [records[one.external_id] for _, one in rows]) if waits else {}
        for action in table.actions:
            found: list[Candidate] = []
            for at, one in rows:
                own, record = one.external_id, records[one.external_id]
                mark = next((mark for mark in marks.get(record, ()) if mark.method == action.method), None)
                try:
                    applies = action.wants(one.row)
                    wanted = _counts(action, one) if applies else ()
                except Missing as error:
                    outcomes[at] = Outcome(Verdict.MESSAGE, f"actions: {error}")
                    continue
                if applies or mark is not None:
                    found.append(Candidate(at, own, record, wanted, mark, applies))
            await self._act(table, action, found, outcomes)

    async def _of_header(
        self, table: TableMapping, lines: TableMapping, rows: Rows, outcomes: dict[int, Outcome]
    ) -> None:
        """Of the records that rows of another table belong to. Raises Refused."""
        link = self._mapping.link(lines, table)
        owners = {own: at for at, one in rows for own in links_of(link, one.row)}
        records = await self._records.find(self._api, table.model, list(owners))
        marks = await self._marks.find(table.model, list(records.values())) if records else {}
        for action in table.actions:
            found = [
                Candidate(owners[own], own, record, mark.wanted, mark)
                for own, record in records.items()
                for mark in marks.get(record, ())
                if mark.method == action.method and len(mark.wanted) == len(action.after)
            ]
            await self._act(table, action, found, outcomes)

    async def _act(
        self, table: TableMapping, action: Action, found: list[Candidate], outcomes: dict[int, Outcome]
    ) -> None:
        """Call the method for those that it is due for. Raises Refused: nobody knows whether it is."""
        if not found:
            return
        context = {**table.context, **action.context, **UTC}
        applying = [one.record for one in found if one.applies]
        states = await states_of(self._api, table.model, applying, [action.unless], context) if applying else {}
        open_ = [one for one in found if one.record in states and not holds(action.unless, states[one.record])]
        there = await self._lines(table, action, [one.record for one in open_]) if action.after and open_ else {}
        due = [one for one in open_ if _complete(there.get(one.record, ()), one.wanted)]
        called = {one.record for one in due}
        late = [one for one in open_ if one.record not in called]

        async def call(ids: Sequence[int]) -> None:
            await self._api.perform(table.model, action.method, {}, ids=list(ids), context=context)

        ids = [one.record for one in due]
        results = await self._limits.send(ids, [(table.model, action.method, one) for one in ids], call)
        failed = set()
        for one, outcome in zip(due, results, strict=True):
            if outcome.verdict is not Verdict.DONE:
                failed.add(one.record)
                reason = f"{action.method} of {one.own}: {outcome.reason}"
                outcomes[one.at] = dataclasses.replace(outcome, reason=reason)
        for one in late:
            self._waiting.begin(action, one.own)
        kept = {one.record for one in late} | failed
        for one in found:
            if one.record not in kept:
                self._waiting.end(action, one.own)
        stale = [one.mark for one in found if one.mark and (one.record not in kept or one.mark.wanted != one.wanted)]
        new = [one for one in late if one.mark is None or one.mark.wanted != one.wanted]
        await self._marks.put(table.model, action, {one.record: (one.own, one.wanted) for one in new}, stale)

    async def _lines(self, table: TableMapping, action: Action, ids: list[int]) -> dict[int, list[int]]:
        """By record, how many rows of each table of `after` are there. Raises Refused."""
        found: dict[int, list[int]] = {one: [] for one in ids}
        for name in action.after:
            lines = self._mapping.tables[name]
            link = self._mapping.link(lines, table).name
            arguments = {"domain": [[link, "in", ids]], "fields": [link]}
            rows = await self._api.call(
                lines.model, "search_read", arguments, context={**lines.context, **UTC, "active_test": False}
            )
            ours = await self._records.of_table(self._api, lines, [row["id"] for row in rows]) if rows else set()
            counted = collections.Counter(row[link][0] for row in rows if row["id"] in ours)
            for one in ids:
                found[one].append(counted[one])
        return found


def _complete(there: Sequence[int], wanted: Wanted) -> bool:
    return all(have >= want for have, want in zip(there, wanted, strict=True))


def _counts(action: Action, planned: Load) -> Wanted:
    """How many rows of each table it is to have. Raises Missing."""
    found = []
    for column in action.after.values():
        value = column_of(planned.row, column)
        if not (isinstance(value, str) and is_count(value)):
            raise Missing(f"{action.method}: column {column} is no number of rows")
        found.append(int(value))
    return tuple(found)
