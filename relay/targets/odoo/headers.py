"""Rows that change one record are in no two requests at the same time: lines of an order, a contact and its parent.

Odoo computes a header's totals anew with each of its lines, and a contact has its address from its parent: who writes
the one writes the other. Of two requests that do so at once PostgreSQL refuses one, and Odoo has worked on all of its
rows for nothing, and tries each by itself: on 19.0 two workers that loaded lines of some thousand orders, in no order,
spent half of their time so; on 17.0 with contacts, of which a third has a parent, over a third.
"""

import asyncio
import collections
import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence

from relay.delivery import Event
from relay.targets.odoo.mapping import MappingFile
from relay.targets.odoo.plan import Load, Remove, links_of
from relay.targets.template import Missing

MANY = 4  # if more than one of so many rows of a batch is kept off by others, all of it waits for them


@dataclasses.dataclass(frozen=True, slots=True)
class Names:
    """External ids of what loading or removing a row changes.

    Args:
        alone: what no other request may change at the same time, nor have with others.
        shared: its parents in its own table: others may have them with it, and must not load them.
    """

    alone: Collection[str] = ()
    shared: Collection[str] = ()


def names_of(mapping: MappingFile, planned: Load | Remove) -> Names:
    """The headers of a row (the records whose actions wait for rows of its table), itself as one, and its parents.

    A row that its mapping refuses, or that is gone and was not published, changes none.
    """
    table, to_itself = planned.table, mapping.links(planned.table, planned.table)
    own = [planned.external_id] if to_itself or any(action.after for action in table.actions) else []
    try:
        headers = [links_of(mapping.link(table, other), planned.row) for other in mapping.headers(table)]
        parents = [links_of(link, planned.row) for link in to_itself]
    except Missing:
        return Names(own)
    return Names([*own, *(name for some in headers for name in some)], [name for some in parents for name in some])


class Headers:
    """Those that are being changed. Shared by all workers of a target."""

    def __init__(self) -> None:
        self._alone: set[str] = set()
        self._requests: collections.Counter[str] = collections.Counter()  # by external id: that have it, either way
        self._waiting: dict[str, list[Event]] = {}  # the events that wait for them to end
        self._freed = asyncio.Event()

    async def take(self, rows: Mapping[int, tuple[Event, Names]]) -> set[int]:
        """Take what rows change, if others have none of it, or of few rows. Return the rows that must wait.

        Of these, `give_back` names the events. Where it would be many, they are awaited here.
        """
        while True:
            busy = {at: name for at, (_, names) in rows.items() if (name := self._in_the_way(names)) is not None}
            if len(busy) * MANY <= len(rows):
                break
            self._freed.clear()
            await self._freed.wait()
        for at, name in busy.items():
            self._waiting.setdefault(name, []).append(rows[at][0])
        alone, shared = _all(names for at, (_, names) in rows.items() if at not in busy)
        self._alone |= alone
        self._requests.update(alone | shared)
        return set(busy)

    def give_back(self, names: Iterable[Names]) -> Sequence[Event]:
        """The request that had taken these has ended. Return the events that have waited for it."""
        alone, shared = _all(names)
        self._alone -= alone
        woken: list[Event] = []
        for name in sorted(alone | shared):
            self._requests[name] -= 1
            if not self._requests[name]:
                del self._requests[name]
                woken += self._waiting.pop(name, ())
        self._freed.set()
        return woken

    def _in_the_way(self, names: Names) -> str | None:
        """One of these that others have. Whoever waits for a parent is not overtaken by more and more of its rows."""
        taken = (name for name in names.alone if name in self._requests)
        barred = (name for name in names.shared if name in self._alone or name in self._waiting)
        return next(taken, None) or next(barred, None)


def _all(names: Iterable[Names]) -> tuple[set[str], set[str]]:
    """What a request has alone, and what else it has."""
    every = list(names)
    alone = {name for one in every for name in one.alone}
    return alone, {name for one in every for name in one.shared} - alone
