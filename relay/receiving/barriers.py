"""TRUNCATE is a barrier for its table: what came before it is finished first, what came after it waits. Pure."""

import collections
from collections.abc import Callable

from relay.delivery import Event


class Barriers:
    """Counts the unfinished events of each table, in stretches between two barriers.

    A stretch is a number that `enter` gives to an event; a barrier is a stretch of its own. An event may be delivered
    when its stretch is the table's current one: everything of earlier stretches is finished then.
    """

    def __init__(self) -> None:
        self._unfinished: dict[str, collections.deque[list[int]]] = {}  # table -> [stretch, count], oldest first

    def enter(self, table: str, *, barrier: bool) -> int:
        """An event has arrived. Return its stretch. Events without a table know no barriers: they get 0."""
        if not table:
            return 0
        stretches = self._unfinished.setdefault(table, collections.deque([[0, 0]]))
        if barrier:
            last = stretches[-1][0]
            stretches.append([last + 1, 1])
            stretches.append([last + 2, 0])
            if stretches[0][1] == 0:
                stretches.popleft()
            return last + 1
        stretches[-1][1] += 1
        return stretches[-1][0]

    def bars(self, table: str) -> bool:
        """Is there a barrier?"""
        return len(self._unfinished.get(table, ())) > 1

    def open_for(self, table: str, stretch: int) -> bool:
        """May an event of this stretch be delivered?"""
        stretches = self._unfinished.get(table)
        return not table or stretches is None or stretches[0][0] == stretch

    def leave(self, table: str, stretch: int) -> bool:
        """An event is finished. Return True if a later stretch has become the current one."""
        if not table:
            return False
        stretches = self._unfinished[table]
        next(entry for entry in stretches if entry[0] == stretch)[1] -= 1
        before = stretches[0][0]
        while len(stretches) > 1 and stretches[0][1] == 0:
            stretches.popleft()
        if len(stretches) == 1 and stretches[0][1] == 0:
            del self._unfinished[table]
            return True
        return stretches[0][0] != before


class Before:
    """What stands before an event, and keeps it where it is: something of its row, or a truncate of its table.

    Args:
        is_barrier: is this event a truncate that stands between the rows of its table?
    """

    def __init__(self, is_barrier: Callable[[Event], bool]) -> None:
        self._is_barrier = is_barrier
        self._strands: set[str] = set()
        self._tables: set[str] = set()
        self._barred: set[str] = set()  # tables with a truncate

    def add(self, strand: str, event: Event) -> None:
        """It stands there. An empty strand has no order."""
        if strand:
            self._strands.add(strand)
        self._tables.add(event.table)
        if self._is_barrier(event):
            self._barred.add(event.table)

    def holds_up(self, strand: str, event: Event) -> bool:
        """Is something here that this one must not overtake?"""
        if self._is_barrier(event) and event.table in self._tables:
            return True
        return strand in self._strands or event.table in self._barred
