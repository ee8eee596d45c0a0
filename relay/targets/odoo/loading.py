"""Rows of a table become records: what goes into which request of `load`, and what is done with its answer."""

import dataclasses
import functools
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any

from relay.delivery import Delivery, Outcome, Verdict
from relay.log import Log
from relay.targets.bisection import NOT_SENT, Refused, RowsRefused
from relay.targets.odoo.api import Api
from relay.targets.odoo.archive import revives, set_active
from relay.targets.odoo.convert import UTC, Unfit
from relay.targets.odoo.external_ids import Fields
from relay.targets.odoo.holding import Holding, Row
from relay.targets.odoo.load_answer import Waits, load
from relay.targets.odoo.mapping import TableMapping
from relay.targets.odoo.missing_links import Link
from relay.targets.odoo.plan import Load, left_out, row_of, taken_away, without
from relay.targets.odoo.shared import Shared
from relay.targets.odoo.steps import Step, steps
from relay.targets.template import Missing

# Major version. From it on product.product, which extends another record, minds files: of several new ones the first
# alone keeps its image, and emptying it loses the many2many of the same write (measured on 19; 17 does neither).
FILES_APART_SINCE = 18
# From it on `load` refuses an external id of another model's record (measured on 16). 14 writes over the record of its
# own model that has that one's number, whoever's it is, and takes the external id for it.
MODEL_MINDED_SINCE = 16

_log = Log("receiver")

Links = tuple[str, ...]
Send = Callable[[Sequence[Row]], Awaitable[None]]


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """What the rows of a request have in common.

    Args:
        paths: of all columns but the first, which is `id`.
        steps: the calls of `load`: positions of the columns, and what their context has beside the table's.
        files: positions of the columns of files that must not be written with the others.
        taken: by external id, and by field, the links that the row had before and has no longer.
        unarchive: their records come back from the archive afterwards.
        records: gets the records of the rows, by external id; None = nobody asks.
    """

    table: TableMapping
    types: Fields
    paths: Sequence[str]
    steps: Sequence[Step]
    files: Collection[int]
    taken: Mapping[str, Mapping[str, Links]]
    unarchive: bool
    records: dict[str, int] | None


class Loading:
    """One worker's."""

    def __init__(self, shared: Shared, api: Api) -> None:
        self._shared = shared
        self._api = api
        self._holding = Holding(api, shared.records, shared.orphans)

    async def load(
        self,
        batch: Sequence[Delivery],
        planned: list[tuple[int, Load]],
        outcomes: dict[int, Outcome],
        records: dict[str, int] | None = None,
    ) -> None:
        """Load the rows of one table; those that do not fit the model's fields are refused without asking.

        Args:
            records: gets the records of the rows, by external id.
        """
        table, revive = planned[0][1].table, planned[0][1].revive
        try:
            wanted = {field.name for field in table.all_fields}
            types = await self._shared.records.fields_of(self._api, table.model, wanted)
            files = await self._files_apart(table, types)
            active = revive and revives(table) and "active" in types
            # The field alone would leave a product's template in the archive.
            unarchive = active and bool(await self._shared.records.extends(self._api, types))
            known = await self._known(table, [one for _, one in planned])
        except Refused as refused:
            outcomes |= {at: NOT_SENT if refused.lost else refused.outcome for at, _ in planned}
            outcomes[planned[0][0]] = refused.outcome  # got lost: one piece of evidence, and one line
            return
        active = active and not unarchive
        paths = [field.path for field in table.all_fields] + (["active"] if active else [])
        parts: dict[frozenset[int], list[Row]] = {}
        taken: dict[str, Mapping[str, Links]] = {}
        merges = table.merges
        for at, one in planned:
            try:
                cells = row_of(one, types)
                leaves = left_out(one, cells, types if one.external_id in known else None)
                parts.setdefault(leaves, []).append((at, cells + (["1"] if active else [])))
                if merges and (gone := taken_away(one)):
                    taken[one.external_id] = gone
            except (Missing, Unfit) as error:
                outcomes[at] = Outcome(Verdict.MESSAGE, f"mapping: {error}")
        for leaves, some in parts.items():
            calls = steps(table, types, len(paths), leaves, files)
            request = Request(table, types, paths, calls, files, taken, unarchive, records)
            await self._load_rows(request, batch, some, outcomes)

    async def _load_rows(
        self, request: Request, batch: Sequence[Delivery], rows: list[Row], outcomes: dict[int, Outcome]
    ) -> None:
        table = request.table
        send = functools.partial(self._load_part, request, batch)
        ready, come = await self._holding.hold(table, batch, rows, outcomes)
        found = await self._send(request, send, ready)
        outcomes |= {at: outcome for (at, _), outcome in zip(ready, found, strict=True)}
        if table.looks_up and any(outcome.verdict is Verdict.MESSAGE for outcome in found):
            self._shared.lookups.forget(table.name)
        if any(one.empty_link for one in table.fields):
            await self._leave_empty(request, send, rows, outcomes)
        done = [(at, cells[0]) for at, cells in rows if outcomes[at].verdict is Verdict.DONE and outcomes[at].shows]
        woken = (*come, *self._shared.orphans.arrived([own for _, own in done]))
        if woken:
            at = done[0][0] if done else rows[0][0]
            outcomes[at] = dataclasses.replace(outcomes[at], wakes=(*outcomes[at].wakes, *woken))
        await self._break_circles(request, send, rows, outcomes)

    async def _send(self, request: Request, send: Send, rows: Sequence[Row]) -> list[Outcome]:
        """In requests of at most as many rows as may be together. Return an outcome for each."""
        if not rows:
            return []
        alone = await self._alone(request, rows)
        names = [cells[0] for _, cells in rows]
        return await self._shared.limits.send(rows, names, send, alone, request.table.batch_size)

    async def _known(self, table: TableMapping, planned: Sequence[Load]) -> Collection[str]:
        """The external ids of rows of which only what has changed needs to be written. Raises Refused."""
        if not table.changed:
            return ()
        changed = [one.external_id for one in planned if one.old is not None and not one.revive]
        return await self._shared.records.there(self._api, table.model, changed) if changed else ()

    async def _files_apart(self, table: TableMapping, types: Fields) -> Collection[int]:
        """Positions of files that a request of their own is for. Raises Refused."""
        files = [at for at, one in enumerate(table.all_fields, 1) if types.get(one.name, {}).get("type") == "binary"]
        if not files or (await self._api.server()).major < FILES_APART_SINCE:
            return ()
        return files if await self._shared.records.extends(self._api, types) else ()

    async def _alone(self, request: Request, rows: Sequence[Row]) -> list[int]:
        """Positions of rows that must not share a request: new records with a file that is set on creation only."""
        table = request.table
        files = [at for at in request.files if at > len(table.fields)]
        having = [at for at, (_, cells) in enumerate(rows) if any(cells[file] for file in files)]
        if not having or len(rows) == 1:
            return []
        try:
            known = await self._shared.records.find(self._api, table.model, [rows[at][1][0] for at in having])
        except Refused:
            return having  # one by one does no harm, and the first of them will say what is wrong
        return [at for at in having if rows[at][1][0] not in known]

    async def _leave_empty(self, request: Request, send: Send, rows: list[Row], outcomes: dict[int, Outcome]) -> None:
        """Load rows without the links that they have waited for in vain, where the mapping says so."""
        table, late = request.table, list[Row]()
        for at, cells in rows:
            links = self._shared.orphans.given_up(cells[0]) if outcomes[at].verdict is Verdict.MESSAGE else ()
            made = without(cells, table, links, left_empty=True)
            if made != cells:
                late.append((at, made))
        found = await self._send(request, send, late)
        outcomes |= {at: outcome for (at, _), outcome in zip(late, found, strict=True)}
        if late:
            what = "links were left empty, their records have not come"
            _log.warning(what, table=table.name, rows=len(late), example=late[0][1][0])

    async def _break_circles(self, request: Request, send: Send, rows: list[Row], outcomes: dict[int, Outcome]) -> None:
        """Load rows that wait for each other without the links between them; with them they are tried again.

        Only a row that was loaded whole is done: if we are killed in between, its event comes again.
        """
        orphans, bare = self._shared.orphans, list[Row]()
        for at, cells in rows:
            links = orphans.circle(cells[0]) if outcomes[at].verdict in (Verdict.CONFLICT, Verdict.MESSAGE) else ()
            made = without(cells, request.table, links)
            if made != cells:
                bare.append((at, made))
        found = await self._send(request, send, bare)
        for (at, cells), outcome in zip(bare, found, strict=True):
            woken = orphans.tried_bare(cells[0], loaded=outcome.verdict is Verdict.DONE)
            if outcome.verdict in (Verdict.ENDPOINT, Verdict.UNCLEAR):
                outcomes[at] = outcome
            elif woken:
                outcomes[at] = dataclasses.replace(outcomes[at], verdict=Verdict.CONFLICT, wakes=woken, final=False)
            elif outcome.verdict is Verdict.MESSAGE:
                reason = f"{outcomes[at].reason}; and without it: {outcome.reason}"
                outcomes[at] = dataclasses.replace(outcomes[at], reason=reason)

    async def _load_part(self, request: Request, batch: Sequence[Delivery], part: Sequence[Row]) -> None:
        """One request, with those that the mapping's settings add to it. Raises Refused."""

        waiting: set[int] = set()

        def waits(position: int, links: Sequence[Link], began: float) -> Outcome:
            at, cells = part[position]
            waiting.add(position)
            return self._holding.waits(table, batch[at], cells[0], links, began)

        def waits_now(position: int, links: Sequence[Link]) -> Outcome:
            return waits(position, links, asked)

        asked, table, types = time.monotonic(), request.table, request.types
        rows = [cells for _, cells in part]
        try:
            if table.looks_up:
                rows = await self._shared.lookups.fill(self._api, table, types, rows, waits_now)
            if table.match:
                async with self._shared.adoption.of(self._api, table, types, rows, waits_now):
                    await self._write(request, rows, waits)
            else:
                await self._write(request, rows, waits)
        except RowsRefused as refused:
            if not waiting or len(part) == 1:
                raise
            more = await self._holding.missing_too(table, rows, refused.settled, waits_now)
            raise RowsRefused(refused.outcome, {**refused.settled, **more}, refused.suspect) from None

    async def _write(self, request: Request, rows: list[list[str]], waits: Waits) -> None:
        """Raises Refused."""
        table, ids = request.table, list[int]()
        if (await self._api.server()).major < MODEL_MINDED_SINCE:
            await self._refuse_others(table, rows)
        # The mark `noupdate` on our external ids is what lets a load in the mode of a module's update pass them by.
        context = {**table.context, **UTC, "noupdate": True}
        for positions, more in request.steps:
            columns, chosen = ["id", *request.paths], rows
            if len(positions) < len(request.paths):
                columns = ["id", *(request.paths[at - 1] for at in positions)]
                chosen = [[row[0], *(row[at] for at in positions)] for row in rows]
            ids = await load(self._api, table.model, columns, chosen, {**context, **more}, waits)
        if request.records is not None:
            request.records.update(zip((row[0] for row in rows), ids, strict=True))
        if request.taken:
            await self._take_away(request, dict(zip((row[0] for row in rows), ids, strict=True)), context)
        if request.unarchive:
            await set_active(self._api, table.model, ids, context, active=True)

    async def _refuse_others(self, table: TableMapping, rows: list[list[str]]) -> None:
        """Rows whose external id is that of another model's record. Raises Refused."""
        others = await self._shared.records.of_others(self._api, table.model, [row[0] for row in rows])
        settled = {
            at: Outcome(Verdict.MESSAGE, f"the external id {row[0]} is that of a {others[row[0]]}, not a {table.model}")
            for at, row in enumerate(rows)
            if row[0] in others
        }
        if settled:
            raise RowsRefused(Outcome(Verdict.CONFLICT, "external ids"), settled, None)

    async def _take_away(self, request: Request, records: Mapping[str, int], context: Mapping[str, Any]) -> None:
        """Links of a many2many that rows have no longer; what others have added stays. Raises Refused."""
        gone: dict[tuple[str, Links], list[int]] = {}
        for own, record in records.items():
            for name, links in request.taken.get(own, {}).items():
                gone.setdefault((name, links), []).append(record)
        for (name, links), ids in gone.items():
            relation = str(request.types[name].get("relation"))
            found = await self._shared.records.find(self._api, relation, links)
            values = {name: [[3, record, 0] for record in found.values()]}
            await self._api.call(request.table.model, "write", {"vals": values}, ids=ids, context=context)
