"""One pass through the parking lot: what is to be taken, and what becomes of each lane and table on the way. Pure.

What is left where it is must not be overtaken: once a lane has failed, the rest of it stays, and once a truncate stays,
everything of its table that is behind it does.
"""

import enum
from collections.abc import Collection, Set

from relay.delivery import Event


class LaneState(enum.Enum):
    """Of a lane that was due when the pass began. All others stay where they are."""

    CHOSEN = "chosen"  # nothing has become of it yet
    DISCARDING = "discarding"  # its first events are thrown away
    LEFT = "left"  # something of it was left where it is, and nothing has moved
    MOVED = "moved"  # something of it was delivered
    STOPPED = "stopped"  # it has failed, or may not go on: what is still to be read of it stays


class TableState(enum.Enum):
    """Of a table of which something was left where it is."""

    SKIPPED = "skipped"  # no truncate of it may go
    BARRED = "barred"  # a truncate was left: nothing of it may go


class Sweep:
    """What one pass knows.

    Args:
        total: messages that were there when it began.
        began: monotonic seconds.
        chosen: lanes that are due.
        discarding: those of them of which the first events are thrown away.
        discard_handles: single events that are.
        sought: events that somebody wants to see, by handle or id.
    """

    def __init__(
        self,
        total: int,
        began: float,
        chosen: Collection[str],
        discarding: Collection[str] = (),
        discard_handles: Collection[str] = (),
        sought: Collection[str] = (),
    ) -> None:
        self._total = total
        self.began = began
        self._lanes = dict.fromkeys(chosen, LaneState.CHOSEN) | dict.fromkeys(discarding, LaneState.DISCARDING)
        self._tables: dict[str, TableState] = {}
        self._to_discard = set(discard_handles)
        self.discard_handles: Set[str] = frozenset(discard_handles)
        self.sought: Set[str] = frozenset(sought)
        self._read = 0
        self._open_items = 0  # given out, and not yet acknowledged
        self.seconds = 0.0  # that reading the parking lot took

    @property
    def is_whole(self) -> bool:
        """Has all been read that was there, and is nothing of it left to deliver?"""
        return self._read >= self._total and not self._open_items

    @property
    def has_failed(self) -> bool:
        """Has nothing that was chosen any more to hope for? Then there is no need to read what is behind it."""
        if self._open_items or self._to_discard or self.sought:
            return False
        return all(state is LaneState.STOPPED for state in self._lanes.values())

    def read(self, now: float) -> None:
        """One more message has come."""
        self._read += 1
        if self._read <= self._total:
            self.seconds = now - self.began

    def is_discarded(self, event: Event, lane: str, wanted: int) -> bool:
        """Is it thrown away? `wanted`: so many of its lane's first events still are."""
        is_named = event.handle in self._to_discard
        self._to_discard.discard(event.handle)
        return is_named or (self._lanes.get(lane) is LaneState.DISCARDING and wanted > 0)

    def stays(self, event: Event, lane: str, *, barrier: bool, fits: bool) -> bool:
        """Is it left where it is?

        Args:
            barrier: it is a truncate that stands between the rows of its table.
            fits: there is memory left for it.
        """
        if not self._must_stay(event, lane, barrier, fits):
            return False
        if self._lanes.get(lane) is LaneState.CHOSEN:
            self._lanes[lane] = LaneState.LEFT
        if barrier:
            self.bar(event.table)  # whatever the reason: nothing behind a truncate may pass it
        else:
            self._tables.setdefault(event.table, TableState.SKIPPED)
        return True

    def _must_stay(self, event: Event, lane: str, barrier: bool, fits: bool) -> bool:
        table = self._tables.get(event.table)
        if self._lanes.get(lane, LaneState.STOPPED) is LaneState.STOPPED or table is TableState.BARRED:
            return True
        if barrier and table is TableState.SKIPPED:
            return True
        if not fits and self._open_items:
            self.stop(lane)
            return True
        return False

    def bar(self, table: str) -> None:
        """A truncate of it was left: nothing of the table that is behind it may go."""
        self._tables[table] = TableState.BARRED

    def stop(self, lane: str) -> None:
        """What is still to be read of a lane stays."""
        self._lanes[lane] = LaneState.STOPPED

    def give_out(self) -> None:
        """An event was handed on."""
        self._open_items += 1

    def take_back(self) -> None:
        """An event that was handed on will not be acknowledged."""
        self._open_items -= 1

    def acknowledged(self, lane: str) -> None:
        """An event that was handed on has left the parking lot."""
        self._open_items -= 1
        if self._lanes.get(lane) in (LaneState.CHOSEN, LaneState.LEFT):
            self._lanes[lane] = LaneState.MOVED

    def immovable(self) -> list[str]:
        """Lanes that were due, and of which nothing could be moved: something of their table is before them."""
        return [lane for lane, state in self._lanes.items() if state is LaneState.LEFT]
