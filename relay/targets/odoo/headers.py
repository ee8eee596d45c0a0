"""Rows of one header (an order's lines, the order itself) share no two requests that run at the same time.

Odoo computes a header's totals anew with each of its lines. Of two requests that do so at once PostgreSQL refuses one,
and Odoo works through all of its rows again, up to five times: on 19.0 two workers that loaded lines of some thousand
orders, in no order, spent half of their time so.
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence

from relay.delivery import Event
from relay.targets.odoo.mapping import MappingFile, TableMapping
from relay.targets.odoo.plan import Load, links_of
from relay.targets.template import Missing

MANY = 4  # if more than one of so many rows of a batch is kept off by others, all of it waits for them

Names = Collection[str]  # external ids


def names_of(mapping: MappingFile, table: TableMapping, planned: Load) -> Names:
    """The headers that loading this row changes: those whose actions wait for rows of its table, and itself as one.

    A row that its mapping refuses changes none.
    """
    own = [planned.external_id] if any(action.after for action in table.actions) else []
    try:
        links = [links_of(mapping.link(table, other), planned.row) for other in mapping.headers(table)]
    except Missing:
        return own
    return [*own, *(name for some in links for name in some)]


class Headers:
    """Those that are being changed. Shared by all workers of a target."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[Event]] = {}  # by header: the events that wait for its request to end
        self._freed = asyncio.Event()

    async def take(self, rows: Mapping[int, tuple[Event, Names]]) -> set[int]:
        """Take the headers of rows, if others have none of them, or few. Return the rows that must wait.

        Of these, `give_back` names the events. Where it would be many, they are awaited here.
        """
        while True:
            busy = {at for at, (_, names) in rows.items() if any(name in self._waiting for name in names)}
            if len(busy) * MANY <= len(rows):
                break
            self._freed.clear()
            await self._freed.wait()
        for at in busy:
            event, names = rows[at]
            next(self._waiting[name] for name in names if name in self._waiting).append(event)
        self._waiting |= {name: [] for at, (_, names) in rows.items() if at not in busy for name in names}
        return busy

    def give_back(self, names: Iterable[str]) -> Sequence[Event]:
        """The request that had taken these has ended. Return the events that have waited for it."""
        woken = [event for name in dict.fromkeys(names) for event in self._waiting.pop(name, ())]
        self._freed.set()
        return woken
