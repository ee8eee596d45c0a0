"""Rows that others link to and that do not come are asked for (ASK_AFTER): which, and what follows from the answer."""

import json
from collections.abc import Sequence

from relay.delivery import Event, Want
from relay.targets.odoo.inverse import origin
from relay.targets.odoo.mapping import MappingFile
from relay.targets.odoo.mapping_file import AGAIN
from relay.targets.odoo.missing_links import Orphans
from relay.targets.odoo.plan import Name

WANTED_MAX = 200  # rows in one go


class Asking:
    """Shared by all workers of a target.

    Args:
        orphans: who waits for what.
        after: ASK_AFTER, seconds; 0 = nothing is asked for.
    """

    def __init__(self, mapping: MappingFile, orphans: Orphans, after: float) -> None:
        more = (table for tables in mapping.also.values() for table in tables)
        self._tables = (*mapping.tables.values(), *more)
        self._orphans = orphans
        self._after = after
        self._asked: dict[Want, Name] = {}

    def wants(self) -> Sequence[Want]:
        """See delivery.Asks."""
        if not self._after:
            return ()
        found: dict[Want, Name] = {}
        for name in self._orphans.overdue(self._after, WANTED_MAX):
            if row := origin(self._tables, name):
                found[Want(row.table.partition(AGAIN)[0], json.dumps(row.key, ensure_ascii=False))] = name
        self._asked |= found
        return list(found)

    def heard(self, want: Want, *, is_there: bool) -> Sequence[Event]:
        """See delivery.Asks."""
        name = self._asked.pop(want, None)
        if name is None:
            return ()
        if is_there:
            self._orphans.is_coming(name)
            return ()
        return self._orphans.is_gone(name, f"{want.table} has no row {want.key}")

    def unheard(self, wants: Sequence[Want]) -> None:
        """See delivery.Asks."""
        for want in wants:
            self._asked.pop(want, None)
