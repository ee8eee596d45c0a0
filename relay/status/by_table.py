"""Counts by table, for /metrics. Pure."""

import collections
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client.core import Metric

TABLES_MAX, NAME_MAX = 100, 200  # whoever may publish may name any table: how many are told apart; characters of a name
OTHERS = "(others)"


class ByTable:
    """Lives as long as the process.

    Args:
        label: what else is told apart, by few values that no stranger chooses; empty = nothing.
    """

    def __init__(self, label: str = "") -> None:
        self._label = label
        self._counts = collections.Counter[tuple[str, str]]()
        self._tables: set[str] = set()

    def add(self, table: str, value: str = "", count: int = 1) -> None:
        """So many more. `table`: empty = an application's own event."""
        if table not in self._tables:
            if len(self._tables) < TABLES_MAX and len(table) <= NAME_MAX and table.isprintable():
                self._tables.add(table)
            else:
                table = OTHERS
        self._counts[table, value] += count

    def metric(self, name: str, about: str) -> "Metric":
        """For Prometheus."""
        from relay.status.metrics import labelled  # here: without STATUS_ADDR nobody needs it

        labels = ("table", self._label) if self._label else ("table",)
        return labelled(name, about, labels, ((key[: len(labels)], n) for key, n in self._counts.items()))
