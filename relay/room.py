"""What the waiting room holds, by lane: why, since when, and when it comes back. Pure: the queue itself is the truth.

Only what the receiver needs to decide is kept in memory, not the events: some hundred bytes a lane. It is read anew
from the queue at every start, so nothing is lost when it is.
"""

import collections
import dataclasses
import enum
from collections.abc import Iterator

from relay.delivery import Event

ROOM_MAX = 50_000  # events: a pass can go through 65,535, and the main window may still come on top


class Why(enum.Enum):
    """Why the first event of a lane is in the waiting room."""

    DEAD = "dead"  # refused after its last attempt: a person decides
    OVERFLOW = "overflow"  # it waits for its next try: comes back by itself
    BEHIND = "behind"  # something of its table is here that must go first: comes back by itself


@dataclasses.dataclass(slots=True)
class Entry:
    """One lane of the waiting room."""

    lane: str
    key: str
    table: str
    first_id: str
    why: Why
    reason: str
    attempts: int
    since: int  # seconds since the epoch
    due: float  # monotonic seconds: when its next try may be
    count: int = 0
    discard: bool = False  # a person does not want it any more

    @property
    def name(self) -> str:
        """Its key, or its event's id, for people."""
        return self.key or self.first_id or self.lane.lstrip("\0")


class Room:
    """The index.

    Args:
        remember: ids of the newest events that are known again when a crash came between publishing them into the
            waiting room and acknowledging them in the queue; at least a window.
    """

    def __init__(self, remember: int) -> None:
        self.entries: dict[str, Entry] = {}
        self.events = 0
        self.in_queue = 0  # events that RabbitMQ has in the room; the others are on their way there
        self._ids: collections.OrderedDict[str, None] = collections.OrderedDict()
        self._remember = remember
        self._barriers: collections.Counter[str] = collections.Counter()
        self._lanes_of: collections.Counter[str] = collections.Counter()

    def clear(self) -> None:
        """Begin again, before the queue is read."""
        self.__init__(self._remember)  # type: ignore[misc]

    @property
    def dead(self) -> int:
        """Lanes that wait for a person."""
        return sum(entry.why is Why.DEAD for entry in self.entries.values())

    def blocks(self, lane: str, event: Event) -> bool:
        """Must this event go into the room as well, behind what is there?"""
        if lane in self.entries or (event.table and self._barriers[event.table]):
            return True
        return event.is_barrier and bool(self._lanes_of[event.table])

    def has_table(self, table: str) -> bool:
        """Is anything of this table here?"""
        return bool(table and self._lanes_of[table])

    def is_barred(self, table: str) -> bool:
        """Is a truncate of this table here?"""
        return bool(table and self._barriers[table])

    def knows(self, event: Event) -> bool:
        """Is it here already? (A crash came before its acknowledgement.)"""
        return event.redelivered and bool(event.id) and event.id in self._ids

    def enter(self, event: Event, entry: Entry) -> None:
        """An event goes in; `entry` describes its lane if it is the first one there."""
        known = self.entries.get(entry.lane)
        if known is None:
            known = self.entries[entry.lane] = entry
            self._lanes_of[entry.table] += 1
        known.count += 1
        self.events += 1
        if event.is_barrier:
            self._barriers[event.table] += 1

    def stored(self, event: Event) -> None:
        """RabbitMQ has it in the room: a copy in the main queue need only be acknowledged."""
        self.in_queue += 1
        if event.id:
            self._ids[event.id] = None
            if len(self._ids) > self._remember:
                self._ids.popitem(last=False)

    def leave(self, lane: str, event: Event) -> None:
        """An event has gone: delivered or discarded, and acknowledged."""
        entry = self.entries[lane]
        entry.count -= 1
        self.events -= 1
        self.in_queue -= 1
        entry.attempts = 0
        if event.is_barrier:
            self._barriers[event.table] -= 1
        if not entry.count:
            del self.entries[lane]
            self._lanes_of[entry.table] -= 1

    def due(self, now: float) -> set[str]:
        """The lanes that may be tried, or are to be discarded."""
        return {e.lane for e in self.entries.values() if e.discard or (e.why is not Why.DEAD and e.due <= now)}

    def next_due(self) -> float | None:
        """When the first lane becomes due; None = none will by itself."""
        return min((e.due for e in self.entries.values() if e.why is not Why.DEAD), default=None)

    def of_table(self, table: str) -> Iterator[Entry]:
        """The lanes of a table."""
        return (entry for entry in self.entries.values() if table and entry.table == table)
