"""Which rows of a batch can be loaded now? The others wait for records that are not there yet.

A refused load keeps nothing of its batch. So what is known to be missing is not sent; after a refusal all links of the
batch are asked for at once (a row that links to a refused one is not named); and within a request parents go before
their children.
"""

import dataclasses
import time
from collections.abc import Callable, Collection, Iterator, Sequence

from relay.delivery import Delivery, Event, Outcome, Verdict
from relay.targets.bisection import Refused
from relay.targets.odoo.api import Api
from relay.targets.odoo.external_ids import Records
from relay.targets.odoo.mapping import TableMapping
from relay.targets.odoo.missing_links import Link, Orphans
from relay.targets.odoo.plan import Name, qualified

# Of a row that is deleted by a later event, and that links to what is not there: what it links to was perhaps deleted
# with it, and has overtaken it. Nobody could load it, and its delete would wait behind it.
PASSED = Outcome(Verdict.DONE, shows=False)

Row = tuple[int, list[str]]  # position in the batch, and the cells of `load`: its external id, then the fields


class Holding:
    """One worker's."""

    def __init__(self, api: Api, records: Records, orphans: Orphans) -> None:
        self._api = api
        self._records = records
        self._orphans = orphans

    async def hold(
        self, table: TableMapping, batch: Sequence[Delivery], rows: Sequence[Row], outcomes: dict[int, Outcome]
    ) -> tuple[list[Row], Sequence[Event]]:
        """Settle the rows whose links are known to lead nowhere.

        Returns:
            Those to be sent, and the events that have waited for what was found meanwhile.
        """
        ordered, orphans = parents_first(table, rows), self._orphans
        columns, began, name = _columns(table), time.monotonic(), batch[rows[0][0]].event.table if rows else ""
        if not (columns and rows) or orphans.is_idle(name):
            return ordered, ()
        links = {at: list(_links(columns, cells)) for at, cells in ordered}
        own = {qualified(cells[0]) for _, cells in ordered}
        asked = orphans.to_ask(name, {qualified(link) for some in links.values() for _, link in some} - own)
        absent, woken = await self._ask(asked)
        if asked and not absent:
            orphans.all_there(name)
        tried = set[Name]() if orphans.asks_for_all else set(asked)  # each by one row
        sent: list[Row] = []
        there: set[Name] = set()
        for at, cells in ordered:
            lacking = orphans.lacking(links[at])
            missing = [
                link
                for link in links[at]
                if (qualified(link[1]) in absent or link in lacking) and qualified(link[1]) not in there | tried
            ]
            if missing:
                news = any(qualified(link) in absent for _, link in missing)
                outcomes[at] = self.waits(table, batch[at], cells[0], missing, began if news else None)
            else:
                sent.append((at, cells))
                there.add(qualified(cells[0]))
                tried.difference_update(qualified(link) for _, link in links[at])
        return sent, woken

    def waits(
        self, table: TableMapping, delivery: Delivery, own: str, links: Sequence[Link], asked: float | None
    ) -> Outcome:
        """What becomes of a row whose links lead nowhere; see `Orphans.missing`."""
        if not table.deletes_by("ignore") and delivery.is_deleted():
            return dataclasses.replace(PASSED, wakes=self._orphans.passed_over(own))
        return self._orphans.missing(delivery.event, own, links, asked)

    async def missing_too(
        self,
        table: TableMapping,
        rows: Sequence[Sequence[str]],
        settled: Collection[int],
        waits: Callable[[int, Sequence[Link]], Outcome],
    ) -> dict[int, Outcome]:
        """Rows of a request that was refused since links of some (`settled`) lead nowhere. Of which others do they?"""
        columns = _columns(table)
        links = {at: list(_links(columns, row)) for at, row in enumerate(rows) if at not in settled}
        names = {qualified(link) for of_row in links.values() for _, link in of_row}
        if not names:
            return {}
        try:
            present = await self._records.present(self._api, sorted(names))
        except Refused:
            return {}  # the next request will say what is wrong
        self._orphans.asks_for_all = present is not None
        if present is None:
            return {}
        found: dict[int, Outcome] = {}
        for at, of_row in links.items():
            missing = [link for link in of_row if qualified(link[1]) not in present]
            if missing:
                found[at] = waits(at, missing)
            else:
                present.add(qualified(rows[at][0]))
        return found

    async def _ask(self, names: Sequence[Name]) -> tuple[Collection[Name], Sequence[Event]]:
        """Which of these records are not there? And the events that have waited for others, which are."""
        if not names or not self._orphans.asks_for_all:
            return (), ()
        try:
            present = await self._records.present(self._api, names)
        except Refused:
            return (), ()  # the rows' own request will say what is wrong
        self._orphans.asks_for_all = present is not None
        return ((), ()) if present is None else (set(names) - present, self._orphans.there(present))


def parents_first(table: TableMapping, rows: Sequence[Row]) -> list[Row]:
    """The rows, each behind those of them that it links to, where they link to their own table."""
    columns = [
        at for at, one in enumerate(table.all_fields, 1) if one.is_link and one.expression.prefix == table.id.prefix
    ]
    if not columns or len(rows) < 2:
        return list(rows)
    places = {qualified(cells[0]): at for at, (_, cells) in enumerate(rows)}
    order: dict[int, None] = {}
    seen: set[int] = set()
    for first in range(len(rows)):
        ahead = [first]
        while ahead:
            at = ahead[-1]
            links = (qualified(link) for column in columns for link in rows[at][1][column].split(",") if link)
            before = [places[link] for link in links if link in places]
            todo = [one for one in before if one not in seen]
            if at in seen or not todo:
                order.setdefault(ahead.pop())
                seen.add(at)
            else:
                seen.add(at)
                ahead += todo
    return [rows[at] for at in order]


def _columns(table: TableMapping) -> list[tuple[int, str]]:
    return [(at, one.path) for at, one in enumerate(table.all_fields, 1) if one.is_link]


def _links(columns: Sequence[tuple[int, str]], cells: Sequence[str]) -> Iterator[Link]:
    for at, path in columns:
        for link in cells[at].split(","):
            if link:
                yield path, link
