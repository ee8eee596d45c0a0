"""What the waiting room holds, by lane: why, since when, and when it comes back. Pure: the queue itself is the truth.

Only what the receiver needs to decide is kept in memory, not the events: some hundred bytes a lane. It is read anew
from the queue at every start, so nothing is lost when it is.
"""

import collections
import dataclasses
import enum
from collections.abc import Collection, Iterator

from relay.delivery import Event, Tries

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
    first_id: str  # of its first event
    first_handle: str
    why: Why  # set by ParkedIndex.mark
    tries: Tries  # of the first event
    since: int  # seconds since the epoch
    due: float  # monotonic seconds: when its next try may be
    count: int = 0  # events; 0: all have been acknowledged, and RabbitMQ may still forget that
    discard: int = 0  # so many of its first events are not wanted any more
    stuck: bool = False  # the last pass could not move it: something of its table is before it

    @property
    def name(self) -> str:
        """Its key, or its event's id, for people."""
        return self.key or self.first_id or self.lane.lstrip("\0")

    def begins_with(self, event: Event) -> None:
        """This is its first event now."""
        self.first_id, self.first_handle = event.id, event.handle


class ParkedIndex:
    """The index.

    A lane whose last event was acknowledged stays, and holds back what arrives for it, until `settle`: RabbitMQ can
    forget acknowledgements (relay/receiving/lost_acks.py).

    Args:
        barriers: does a truncate hold up its table?
    """

    def __init__(self, *, barriers: bool = True) -> None:
        self.entries: dict[str, Entry] = {}
        self.events = 0
        self.dead = 0  # lanes that wait for a person
        self._has_barriers = barriers
        self._barriers: collections.Counter[str] = collections.Counter()
        self._fallen: collections.Counter[str] = collections.Counter()  # barriers acknowledged since `settle`
        self._lanes_of: collections.Counter[str] = collections.Counter()

    def clear(self) -> None:
        """Begin again, before the queue is read."""
        self.__init__(barriers=self._has_barriers)  # type: ignore[misc]

    def lanes(self) -> list[Entry]:
        """The lanes that hold something."""
        return [entry for entry in self.entries.values() if entry.count]

    @property
    def is_unsettled(self) -> bool:
        """Is there a lane that is empty and has not left?"""
        return any(not entry.count for entry in self.entries.values())

    def is_barrier(self, event: Event) -> bool:
        """Must all of its table that is before it go first?"""
        return self._has_barriers and event.is_barrier

    def blocks(self, lane: str, event: Event) -> bool:
        """Must this event go into the room as well, behind what is there?"""
        if lane in self.entries or (event.table and self._barriers[event.table]):
            return True
        return self.is_barrier(event) and bool(self._lanes_of[event.table])

    def is_leaving(self, lane: str) -> bool:
        """Is it here only because `settle` has not been called yet?"""
        entry = self.entries.get(lane)
        return entry is not None and not entry.count

    def is_barred(self, table: str) -> bool:
        """Is a truncate of this table here?"""
        return bool(table and self._barriers[table])

    def enter(self, event: Event, entry: Entry) -> None:
        """An event goes in; `entry` describes its lane if it is the first one there."""
        known = self.entries.get(entry.lane)
        if known is None or not known.count:
            self._lanes_of[entry.table] += known is None
            self.dead += entry.why is Why.DEAD
            known = self.entries[entry.lane] = entry
        known.count += 1
        self.events += 1
        self._barriers[event.table] += self.is_barrier(event)

    def mark(self, entry: Entry, why: Why) -> None:
        """Its first event waits for another reason now."""
        self.dead += (why is Why.DEAD) - (entry.why is Why.DEAD)
        entry.why = why

    def leave(self, lane: str, event: Event) -> None:
        """The first event of a lane has gone: delivered or discarded, and acknowledged."""
        entry = self.entries[lane]
        entry.count -= 1
        self.events -= 1
        entry.tries, entry.first_id, entry.first_handle, entry.stuck = Tries(), "", "", False
        self._fallen[event.table] += self.is_barrier(event)
        entry.discard = max(0, entry.discard - 1)
        if not entry.discard and entry.why is Why.DEAD:
            self.mark(entry, Why.OVERFLOW)
            entry.due = 0.0

    def wake(self, names: Collection[str], now: float) -> None:
        """What these lanes wait for has come."""
        for entry in (self.entries[name] for name in names if name in self.entries):
            if entry.why is Why.OVERFLOW:
                entry.due = min(entry.due, now)
                entry.tries.end_wait(now)

    def settle(self) -> None:
        """RabbitMQ has shown that it has the acknowledgements: what is empty is no longer here."""
        for entry in [entry for entry in self.entries.values() if not entry.count]:
            del self.entries[entry.lane]
            self._lanes_of[entry.table] -= 1
            for other in self.of_table(entry.table) if self._barriers[entry.table] else ():
                other.due = 0.0 if other.why is Why.BEHIND else other.due
        self._barriers -= self._fallen
        self._fallen.clear()

    def due(self, now: float) -> set[str]:
        """The lanes that may be tried, or are to be discarded."""
        return {e.lane for e in self.lanes() if e.discard or (e.why is not Why.DEAD and e.due <= now)}

    def waits_for_person(self, entry: Entry) -> bool:
        """Will nothing become of it by itself? Refused for good, or behind something that was."""
        if entry.discard:
            return False
        behind = entry.stuck and all(other.why is not Why.OVERFLOW for other in self.of_table(entry.table))
        return entry.why is Why.DEAD or behind

    def is_quiet(self) -> bool:
        """Will nothing here change by itself?"""
        return all(self.waits_for_person(entry) for entry in self.lanes())

    def of_table(self, table: str) -> Iterator[Entry]:
        """The lanes of a table."""
        return (entry for entry in self.entries.values() if table and entry.table == table and entry.count)
