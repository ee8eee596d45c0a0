"""What the writers have committed, written down by themselves: what must arrive, and in which order."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Literal, NamedTuple

Op = Literal["insert", "update", "delete"]
OPS: tuple[Op, ...] = ("insert", "update", "delete")


class Change(NamedTuple):
    """One change of one key; one event must come of it.

    version: the row's after the change, for a delete its last one.
    number: the row's column `change`; a delete has none of its own.
    """

    key: str
    op: Op
    version: int
    number: int | None = None

    @property
    def rank(self) -> int:
        """Its place among the changes of its key: versions only grow, and a delete comes after the version it ends."""
        return 2 * self.version + (self.op == "delete")


class Ledger:
    """The committed changes. Written by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_key: dict[str, dict[int, Change]] = {}
        self._committed_at: dict[tuple[str, int], int] = {}
        self.events = 0
        self.transactions = 0
        self.rolled_back = 0

    def commit(self, changes: Iterable[Change], at: int | None = None) -> None:
        """Note a transaction whose COMMIT has returned; `at`: when (monotonic ns), if its latency is to be measured."""
        with self._lock:
            self.transactions += 1
            for change in changes:
                ranks = self._by_key.setdefault(change.key, {})
                assert change.rank not in ranks, f"the demo itself is wrong: {change} was made twice"
                ranks[change.rank] = change
                self.events += 1
                if at is not None:
                    self._committed_at[change.key, change.rank] = at

    def roll_back(self) -> None:
        """Note a transaction that was rolled back: nothing of it may arrive."""
        with self._lock:
            self.rolled_back += 1

    def expected(self) -> dict[str, list[Change]]:
        """For each key its changes, in order."""
        with self._lock:
            return {key: [ranks[rank] for rank in sorted(ranks)] for key, ranks in self._by_key.items()}

    def committed_at(self) -> dict[tuple[str, int], int]:
        """When the measured changes, known by key and rank, were committed."""
        with self._lock:
            return dict(self._committed_at)
