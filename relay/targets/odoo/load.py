"""TARGET=odoo-load: a mapping file turns rows into Odoo records, many in one request, without code in Odoo.

`load` updates by external id, so a row that is delivered twice changes nothing.
"""

import dataclasses
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, ClassVar

from relay import values
from relay.config import setting
from relay.delivery import DONE, Delivery, Event, Outcome, Verdict, always
from relay.findings import Finding
from relay.targets.client import tls
from relay.targets.odoo import check, mapping
from relay.targets.odoo.api import Api, Login
from relay.targets.odoo.bisection import NOT_SENT, Limits
from relay.targets.odoo.convert import Unfit
from relay.targets.odoo.external_ids import Fields, Records, extends
from relay.targets.odoo.failures import Refused
from relay.targets.odoo.load_answer import load
from relay.targets.odoo.mapping import TableMapping
from relay.targets.odoo.missing_links import Link, Orphans
from relay.targets.odoo.plan import Empty, Load, Remove, cell, explain, plan, without
from relay.targets.odoo.settings import OdooLogin
from relay.targets.template import Missing

ONE_FILE_SINCE = 18  # major version: 17 keeps all files of new products, 19 does not, 18 was not looked at
NO_METHOD = ("builtins.AttributeError", "werkzeug.exceptions.NotFound")  # over JSON-RPC, over JSON-2
Row = tuple[int, list[str]]  # position in the batch, and the cells of `load`: its external id, then the fields

UTC = {"tz": "UTC"}  # else Odoo takes times for those of the user's time zone


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(OdooLogin):
    """What TARGET=odoo-load reads."""

    needed: ClassVar[tuple[str, ...]] = ("ODOO_URL", "ODOO_MAPPING")

    odoo_mapping: str = setting(values.existing_file, "")
    batch_size: int = setting(values.whole(1, 1000), "100")
    odoo_link_wait: float = setting(values.seconds(0, 8_640_000), "3600")

    def __post_init__(self) -> None:
        # Full batches for all workers, and the next ones behind them.
        object.__setattr__(self, "prefetch", max(self.prefetch, 2 * self.workers * self.batch_size))


class OdooLoadTarget:
    """Rows to records."""

    def __init__(self, config: Settings) -> None:
        tls(config)
        self.config = config
        self.mapping = mapping.load(config.odoo_mapping)
        self.batch_size = config.batch_size
        self.login = Login(config)
        self.records = Records()
        self.limits = Limits()
        self.orphans = Orphans(config.odoo_link_wait, (config.retry_min, config.retry_max))

    def group(self, event: Event) -> str:
        """What can go in one request: rows of a table that are loaded, or that are removed."""
        table = self.mapping.tables.get(event.table)
        if table is None:
            return ""
        if event.op in ("delete", "truncate"):
            return f"{event.table} {event.op}"
        return f"{event.table} {'update' if event.op == 'update' and _revives(table) else 'load'}"

    def open(self, may_begin: Callable[[], bool] = always) -> "OdooLoadLink":
        """A link with a connection of its own."""
        return OdooLoadLink(self, may_begin)

    def describe(self, event: Event) -> list[str]:
        """See Target. Values as the mapping makes them; Odoo's fields, which it is asked for, may want other texts."""
        try:
            return explain(plan(self.mapping, event))
        except Missing as error:
            return [f"none: {error}"]

    async def check(self) -> AsyncIterator[Finding]:
        """See Target."""
        api = Api(self.config, self.login)
        async for finding in check.server(self.config, api):
            yield finding
        for table in self.mapping.tables.values():
            async for finding in check.table(api, self.records, self.mapping, table):
                yield finding
        api.close()


class OdooLoadLink:
    """One worker's connection."""

    def __init__(self, target: OdooLoadTarget, may_begin: Callable[[], bool]) -> None:
        self._target = target
        self._api = Api(target.config, target.login, may_begin)

    async def deliver(self, batch: Sequence[Delivery]) -> Sequence[Outcome]:
        """See Link."""
        outcomes: dict[int, Outcome] = {}
        loads: dict[tuple[str, bool], list[tuple[int, Load]]] = {}
        removes: dict[str, list[tuple[int, Remove]]] = {}
        for at, delivery in enumerate(batch):
            try:
                planned = plan(self._target.mapping, delivery.event)
            except Missing as error:
                outcomes[at] = Outcome(Verdict.MESSAGE, f"mapping: {error}")
                continue
            if planned is None:
                outcomes[at] = DONE
            elif isinstance(planned, Load):
                loads.setdefault((planned.table.name, planned.revive), []).append((at, planned))
            elif isinstance(planned, Remove):
                removes.setdefault(planned.table.name, []).append((at, planned))
            else:
                outcomes[at] = await self._empty(planned)
        for of_table in loads.values():
            await self._load(batch, of_table, outcomes)
        for gone in removes.values():
            send = functools.partial(self._remove, gone[0][1].table)
            ids = [one.external_id for _, one in gone]
            found = await self._target.limits.send(ids, ids, send)
            outcomes |= {at: outcome for (at, _), outcome in zip(gone, found, strict=True)}
        self._halve_at_once(batch, outcomes)
        return [outcomes[at] for at in range(len(batch))]

    @staticmethod
    def _halve_at_once(batch: Sequence[Delivery], outcomes: dict[int, Outcome]) -> None:
        """A request of several rows got lost, and runs no more: its rows need not sit out a back-off to be halved."""
        lost = any(one.told for one in outcomes.values())
        again = [at for at, one in outcomes.items() if lost and (one.told or one is NOT_SENT) and not one.running]
        if again:
            wakes = (*outcomes[again[0]].wakes, *(batch[at].event for at in again))
            outcomes[again[0]] = dataclasses.replace(outcomes[again[0]], wakes=wakes)

    async def probe(self) -> Outcome | None:
        """See Link."""
        return await self._api.probe()

    def close(self) -> None:
        """See Link."""
        self._api.close()

    async def _load(
        self, batch: Sequence[Delivery], planned: list[tuple[int, Load]], outcomes: dict[int, Outcome]
    ) -> None:
        """Load the rows of one table; those that do not fit the model's fields are refused without asking."""
        table, revive = planned[0][1].table, planned[0][1].revive
        try:
            wanted = {field.name for field in table.all_fields}
            types = await self._target.records.fields_of(self._api, table.model, wanted)
        except Refused as refused:
            outcomes |= {at: NOT_SENT if refused.lost else refused.outcome for at, _ in planned}
            outcomes[planned[0][0]] = refused.outcome  # got lost: one piece of evidence, and one line
            return
        active = revive and _revives(table) and "active" in types
        unarchive = active and bool(extends(types))  # the field alone would leave a product's template in the archive
        active = active and not unarchive
        paths = [field.path for field in table.all_fields] + (["active"] if active else [])
        rows: list[Row] = []
        for at, one in planned:
            try:
                rows.append((at, _cells(one, types) + (["1"] if active else [])))
            except (Missing, Unfit) as error:
                outcomes[at] = Outcome(Verdict.MESSAGE, f"mapping: {error}")
        send = functools.partial(self._load_part, table, paths, batch, unarchive)
        names, alone = [cells[0] for _, cells in rows], await self._alone(table, rows, types)
        found = await self._target.limits.send(rows, names, send, alone)
        outcomes |= {at: outcome for (at, _), outcome in zip(rows, found, strict=True)}
        done = [(at, cells[0]) for at, cells in rows if outcomes[at].verdict is Verdict.DONE]
        woken = self._target.orphans.arrived([own for _, own in done])
        if woken:
            outcomes[done[0][0]] = Outcome(Verdict.DONE, wakes=woken)
        await self._break_circles(send, table, rows, outcomes)

    async def _alone(self, table: TableMapping, rows: list[Row], types: Fields) -> list[int]:
        """Positions of rows that must not share a request: new records with a file, of which 19 keeps the first."""
        files = [at for at, one in enumerate(table.all_fields, 1) if types.get(one.name, {}).get("type") == "binary"]
        having = [at for at, (_, cells) in enumerate(rows) if any(cells[file] for file in files)]
        if not having or len(rows) == 1:
            return []
        try:
            if (await self._api.server()).major < ONE_FILE_SINCE:
                return []
            known = await self._target.records.find(self._api, table.model, [rows[at][1][0] for at in having])
        except Refused:
            return having  # one by one does no harm, and the first of them will say what is wrong
        return [at for at in having if rows[at][1][0] not in known]

    async def _break_circles(
        self,
        send: Callable[[Sequence[Row]], Awaitable[None]],
        table: TableMapping,
        rows: list[Row],
        outcomes: dict[int, Outcome],
    ) -> None:
        """Load rows that wait for each other without the links between them; with them they are tried again.

        Only a row that was loaded whole is done: if we are killed in between, its event comes again.
        """
        orphans, bare = self._target.orphans, list[Row]()
        for at, cells in rows:
            links = orphans.circle(cells[0]) if outcomes[at].verdict in (Verdict.CONFLICT, Verdict.MESSAGE) else ()
            made = without(cells, table.fields, links)
            if made != cells:
                bare.append((at, made))
        found = await self._target.limits.send(bare, [cells[0] for _, cells in bare], send)
        for (at, cells), outcome in zip(bare, found, strict=True):
            woken = orphans.tried_bare(cells[0], loaded=outcome.verdict is Verdict.DONE)
            if outcome.verdict in (Verdict.ENDPOINT, Verdict.UNCLEAR):
                outcomes[at] = outcome
            elif woken:
                outcomes[at] = dataclasses.replace(outcomes[at], verdict=Verdict.CONFLICT, wakes=woken)
            elif outcome.verdict is Verdict.MESSAGE:
                reason = f"{outcomes[at].reason}; and without it: {outcome.reason}"
                outcomes[at] = dataclasses.replace(outcomes[at], reason=reason)

    async def _load_part(
        self, table: TableMapping, paths: list[str], batch: Sequence[Delivery], unarchive: bool, part: Sequence[Row]
    ) -> None:
        """One request, or two where there are fields that are set on creation only. Raises Refused."""

        def waits(position: int, links: Sequence[Link], began: float) -> Outcome:
            at, cells = part[position]
            return self._target.orphans.missing(batch[at].event, cells[0], links, began)

        # The mark `noupdate` on our external ids is what lets a load in the mode of a module's update pass them by.
        context = {**table.context, **UTC, "noupdate": True}
        columns, rows = ["id", *paths], [cells for _, cells in part]
        if table.create:
            ids = await load(self._api, table.model, columns, rows, {**context, "mode": "update"}, waits)
            first, last = 1 + len(table.fields), 1 + len(table.fields) + len(table.create)
            columns = columns[:first] + columns[last:]
            rows = [row[:first] + row[last:] for row in rows]
        if len(columns) > 1:
            ids = await load(self._api, table.model, columns, rows, context, waits)
        if unarchive:
            await self._set_active(table, ids, context, active=True)

    async def _remove(self, table: TableMapping, external_ids: Sequence[str]) -> None:
        """Do what the mapping says with the records of these rows; what is not there is done. Raises Refused."""
        found = await self._target.records.find(self._api, table.model, external_ids)
        await self._remove_records(table, list(found.values()))

    async def _remove_records(self, table: TableMapping, ids: list[int]) -> None:
        if not ids:
            return
        context = {**table.context, **UTC, "active_test": False}
        try:
            if table.delete == "archive":
                await self._archive(table, ids, context)
            else:
                await self._api.perform(table.model, table.delete, {}, ids=ids, context=context)
        except Refused as refused:
            if refused.name != "odoo.exceptions.MissingError" or len(ids) > 1:
                raise

    async def _archive(self, table: TableMapping, ids: list[int], context: Mapping[str, Any]) -> None:
        """Raises Refused."""
        if "active" not in await self._target.records.fields_of(self._api, table.model):
            reason = f"{table.model} has no field active: choose another delete for {table.name} in the mapping"
            raise Refused(Outcome(Verdict.MESSAGE, reason))
        await self._set_active(table, ids, context, active=False)

    async def _set_active(
        self, table: TableMapping, ids: list[int], context: Mapping[str, Any], *, active: bool
    ) -> None:
        """As Odoo's own button does: it takes along what belongs to a record (a product's template). Raises Refused."""
        method = "action_unarchive" if active else "action_archive"
        try:
            # With active_test off a template would still see the variants that are archived, and stay.
            await self._api.perform(table.model, method, {}, ids=ids, context={**context, "active_test": True})
        except Refused as refused:
            if refused.name not in NO_METHOD and not refused.unfinished:
                raise
            await self._api.call(table.model, "write", {"vals": {"active": active}}, ids=ids, context=context)

    async def _empty(self, planned: Empty) -> Outcome:
        """A TRUNCATE. It can be repeated: what was removed is not there, or removed again."""
        table = planned.table
        try:
            async for ids in self._target.records.pages(self._api, table.model, table.id):
                names = [(table.model, one) for one in ids]
                found = await self._target.limits.send(ids, names, lambda part: self._remove_records(table, list(part)))
                failed = next((outcome for outcome in found if outcome.verdict is not Verdict.DONE), None)
                if failed is not None:
                    return failed
        except Refused as refused:
            return refused.outcome
        return DONE


def _revives(table: TableMapping) -> bool:
    """Must a row that comes (again) bring its record back from the archive?"""
    mapped = any(field.path == "active" for field in table.all_fields)
    return table.delete == "archive" and not mapped


def _cells(planned: Load, types: Fields) -> list[str]:
    """The row of `load`. Raises Missing, Unfit."""
    table, cells = planned.table, [planned.external_id]
    for field in table.all_fields:
        if field.name not in types:
            raise Unfit(f"line {field.line}: {table.model} has no field {field.name}; receiver.py check")
        cells.append(cell(field, planned.row, str(types[field.name].get("type", "")), table))
    return cells
