"""TARGET=odoo-load: a mapping file turns rows into Odoo records, many in one request, without code in Odoo.

`load` updates by external id, so a row that is delivered twice changes nothing.
"""

import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import ClassVar, TypeVar

from relay import values
from relay.config import PREFETCH_MAX
from relay.delivery import DONE, Delivery, Event, Outcome, Verdict, Want, always
from relay.envfile import Problem
from relay.findings import Finding
from relay.setting import setting
from relay.targets.bisection import Limits, go_on_at_once
from relay.targets.client import check_tls_files
from relay.targets.odoo import check, check_columns, check_match, mapping_file
from relay.targets.odoo.actions import Actions, Waiting
from relay.targets.odoo.api import Api, Login
from relay.targets.odoo.archive import revives
from relay.targets.odoo.asking import Asking
from relay.targets.odoo.external_ids import Records
from relay.targets.odoo.headers import Headers, names_of
from relay.targets.odoo.inverse import objection
from relay.targets.odoo.loading import Loading
from relay.targets.odoo.lookups import Lookups
from relay.targets.odoo.matching import Adoption
from relay.targets.odoo.missing_links import Orphans
from relay.targets.odoo.plan import Load, Plan, Remove, explain, plans
from relay.targets.odoo.removing import Removing
from relay.targets.odoo.settings import OdooLogin
from relay.targets.odoo.shared import Shared
from relay.targets.template import Missing

BUSY = Outcome(Verdict.CONFLICT, "another request has rows of the same header, or its parent", wait=5.0)
P = TypeVar("P", Load, Remove)
Outcomes = dict[int, Outcome]  # by position in the batch
Some = list[tuple[int, P]]  # rows of one table, with their position
Do = Callable[[Sequence[Delivery], Some[P], Outcomes], Awaitable[None]]

LAST = 1 << 63  # rank of tables without an `order`; no number of a mapping file is larger


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(OdooLogin):
    """What TARGET=odoo-load reads."""

    needed: ClassVar[tuple[str, ...]] = ("ODOO_URL", "ODOO_MAPPING")

    odoo_mapping: str = setting(values.existing_file, "")
    batch_size: int = setting(values.whole(1, 1000), "100")
    odoo_link_wait: float = setting(values.seconds(0, 8_640_000), "3600")
    ask_after: float = setting(values.seconds(0, 86_400), "0")

    def __post_init__(self) -> None:
        # Full batches for all workers, and the next ones behind them.
        wanted = min(2 * self.workers * self.batch_size, PREFETCH_MAX)
        object.__setattr__(self, "prefetch", max(self.prefetch, wanted))

    def contradictions(self) -> list[Problem]:
        """See config.Common."""
        found = super().contradictions()
        if self.ask_after and self.lane:
            what = f"ASK_AFTER asks for rows for one queue alone, and LANE={self.lane} is one of several"
            found.append((what, "remove ASK_AFTER: what others link to comes by itself, or by listen.py resend"))
        if self.ask_after and not self.source:
            what = "ASK_AFTER is set, and SOURCE is not: whom to ask?"
            found.append((what, "write SOURCE=erp: the SOURCE of the tables' listener, by default its database's name"))
        return found


class OdooLoadTarget:
    """Rows to records."""

    def __init__(self, config: Settings) -> None:
        check_tls_files(config)
        self.config = config
        mapping, records = mapping_file.load(config.odoo_mapping), Records()
        waiting = Waiting(config.odoo_link_wait)
        orphans = Orphans(config.odoo_link_wait, (config.retry_min, config.retry_max))
        adoption, lookups = Adoption(mapping, records), Lookups(records)
        self.shared = Shared(mapping, records, Limits(), orphans, adoption, lookups, waiting, Headers())
        self._order = mapping.order
        self._asking = Asking(mapping, orphans, config.ask_after)
        self.batch_size = config.batch_size
        self.login = Login(config)

    def group(self, event: Event) -> str:
        """What can go in one request: rows of a table that are loaded, or that are removed."""
        table = self.shared.mapping.tables.get(event.table)
        if table is None:
            return ""
        if event.op in ("delete", "truncate"):
            return f"{event.table} {event.op}"
        return f"{event.table} {'update' if event.op == 'update' and revives(table) else 'load'}"

    def rank(self, group: str) -> int:
        """See delivery.Ranked."""
        return self._order.get(group.rpartition(" ")[0], LAST)

    def wants(self) -> Sequence[Want]:
        """See delivery.Asks."""
        return self._asking.wants()

    def heard(self, want: Want, *, is_there: bool) -> Sequence[Event]:
        """See delivery.Asks."""
        return self._asking.heard(want, is_there=is_there)

    def unheard(self, wants: Sequence[Want]) -> None:
        """See delivery.Asks."""
        self._asking.unheard(wants)

    def open(self, may_begin: Callable[[], bool] = always) -> "OdooLoadLink":
        """A link with a connection of its own."""
        return OdooLoadLink(self, may_begin)

    def describe(self, event: Event) -> list[str]:
        """See Target. Values as the mapping makes them; Odoo's fields, which it is asked for, may want other texts."""
        try:
            return [line for planned in plans(self.shared.mapping, event) for line in explain(planned)]
        except Missing as error:
            return [f"none: {error}"]

    async def check(self) -> AsyncIterator[Finding]:
        """See Target."""
        api = Api(self.config, self.login)
        async for finding in check.server(self.config, api):
            yield finding
        for table in self.shared.mapping.tables.values():
            async for finding in check.table(api, self.shared.records, self.shared.mapping, table):
                yield finding
            async for finding in check_match.table(api, self.shared, table):
                yield finding
            if self.config.ask_after and (why := objection(table.id)):
                where = f"{self.shared.mapping.path} line {table.line}"
                yield Finding(f"{table.name}: id", detail=f"rows of it are not asked for (ASK_AFTER): {why}; {where}")
        api.close()

    async def check_match(self, table: str, rows: Iterable[str]) -> AsyncIterator[Finding]:
        """See delivery.MapsRows."""
        api = Api(self.config, self.login)
        async for finding in check_match.rows(api, self.shared, table, rows):
            yield finding
        api.close()

    async def check_columns(self, table: str, columns: str) -> AsyncIterator[Finding]:
        """See delivery.MapsRows."""
        api = Api(self.config, self.login)
        async for finding in check_columns.of_table(api, self.shared.records, self.shared.mapping, table, columns):
            yield finding
        api.close()


class OdooLoadLink:
    """One worker's connection."""

    def __init__(self, target: OdooLoadTarget, may_begin: Callable[[], bool]) -> None:
        self._mapping = target.shared.mapping
        self._headers = target.shared.headers
        self._api = Api(target.config, target.login, may_begin)
        self._loading = Loading(target.shared, self._api)
        shared = target.shared
        self._actions = Actions(self._api, shared.mapping, shared.records, shared.limits, shared.waiting)
        self._removing = Removing(target.shared, self._api)

    async def deliver(self, batch: Sequence[Delivery]) -> Sequence[Outcome]:
        """See Link."""
        outcomes: dict[int, Outcome] = {}
        todo: dict[int, Sequence[Plan]] = {}
        for at, delivery in enumerate(batch):
            try:
                todo[at] = plans(self._mapping, delivery.event)
            except Missing as error:
                outcomes[at] = Outcome(Verdict.MESSAGE, f"mapping: {error}")
        for turn in range(max(map(len, todo.values()), default=0)):
            part = {at: some[turn] for at, some in todo.items() if turn < len(some) and _goes_on(outcomes.get(at))}
            for at, outcome in (await self._do(batch, part)).items():
                woken = outcomes[at].wakes if at in outcomes else ()
                outcomes[at] = dataclasses.replace(outcome, wakes=(*woken, *outcome.wakes)) if woken else outcome
        return go_on_at_once([delivery.event for delivery in batch], [outcomes[at] for at in range(len(batch))])

    async def _do(self, batch: Sequence[Delivery], part: Mapping[int, Plan]) -> dict[int, Outcome]:
        """One thing for each event, by its position in the batch."""
        outcomes: dict[int, Outcome] = {}
        loads: dict[tuple[str, bool], list[tuple[int, Load]]] = {}
        removes: dict[str, list[tuple[int, Remove]]] = {}
        for at, planned in part.items():
            if planned is None:
                outcomes[at] = DONE
            elif isinstance(planned, Load):
                loads.setdefault((planned.table.name, planned.revive), []).append((at, planned))
            elif isinstance(planned, Remove):
                removes.setdefault(planned.table.name, []).append((at, planned))
            else:
                outcomes[at] = await self._removing.empty(planned)
        for of_table in loads.values():
            await self._alone(batch, of_table, outcomes, self._load)
        for gone in removes.values():
            await self._alone(batch, gone, outcomes, self._remove)
        return outcomes

    async def _alone(self, batch: Sequence[Delivery], planned: Some[P], outcomes: Outcomes, do: Do[P]) -> None:
        """Load or remove rows of one table, while no other request changes the same headers or parents."""
        table = planned[0][1].table
        if not self._mapping.acts(table) and not self._mapping.links(table, table):
            await do(batch, planned, outcomes)
            return
        names = {at: (batch[at].event, names_of(self._mapping, one)) for at, one in planned}
        busy = await self._headers.take(names)
        outcomes |= dict.fromkeys(busy, BUSY)
        rows = [(at, one) for at, one in planned if at not in busy]
        woken: Sequence[Event] = ()
        try:
            await do(batch, rows, outcomes)
        finally:
            woken = self._headers.give_back(names[at][1] for at, _ in rows)
        if woken:
            last: Outcome = outcomes[rows[-1][0]]
            outcomes[rows[-1][0]] = dataclasses.replace(last, wakes=(*last.wakes, *woken))

    async def _load(self, batch: Sequence[Delivery], rows: Some[Load], outcomes: Outcomes) -> None:
        """Load rows; then what is to be called for them, or for those that they belong to."""
        table, records = rows[0][1].table, dict[str, int]()
        acts = self._mapping.acts(table)
        await self._loading.load(batch, rows, outcomes, records if acts else None)
        if acts:
            await self._actions.look(table, rows, records, outcomes)

    async def _remove(self, _batch: Sequence[Delivery], rows: Some[Remove], outcomes: Outcomes) -> None:
        found = await self._removing.remove(rows[0][1].table, [one.external_id for _, one in rows])
        outcomes |= {at: outcome for (at, _), outcome in zip(rows, found, strict=True)}

    async def probe(self) -> Outcome | None:
        """See Link."""
        return await self._api.probe()

    def close(self) -> None:
        """See Link."""
        self._api.close()


def _goes_on(outcome: Outcome | None) -> bool:
    return outcome is None or outcome.verdict is Verdict.DONE
