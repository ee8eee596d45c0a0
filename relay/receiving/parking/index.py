"""What the parking lot holds, by lane: why, since when, and when it comes back. Pure: the queue itself is the truth.

Only what the receiver needs to decide is kept in memory, not the events: some hundred bytes a lane. It is read anew
from the queue at every start, so nothing is lost when it is.
"""

import collections
import dataclasses
import enum
from collections.abc import Collection
from typing import Any

from relay.delivery import Event, Tries

ROOM_MAX = 50_000  # events: a pass can go through 65,535, and the main window may still come on top


class Why(enum.Enum):
    """Why the first event of a lane is in the parking lot."""

    DEAD = "dead"  # refused after its last attempt: a person decides
    OVERFLOW = "overflow"  # it waits for its next try: comes back by itself
    BEHIND = "behind"  # something of its table is here that must go first: comes back by itself


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One lane of the parking lot. The index replaces it whenever something about it changes."""

    lane: str
    key: str  # as people see it (key_name)
    table: str
    first_id: str  # of its first event
    first_handle: str
    why: Why
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


class ParkedIndex:
    """The index, and the only one that changes an entry.

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
        for book in (self.entries, self._barriers, self._fallen, self._lanes_of):
            book.clear()
        self.events = self.dead = 0

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
        """Must this event go into the parking lot as well, behind what is there?"""
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

    def enter(self, event: Event, entry: Entry) -> bool:
        """An event goes in; `entry` describes its lane if it is the first one there. Return whether it is."""
        known = self.entries.get(entry.lane)
        is_first = known is None or not known.count
        if known is None or not known.count:
            self._lanes_of[entry.table] += known is None
            self.dead += entry.why is Why.DEAD
            known = entry
        self.entries[entry.lane] = dataclasses.replace(known, count=known.count + 1)
        self.events += 1
        self._barriers[event.table] += self.is_barrier(event)
        return is_first

    def leave(self, lane: str, event: Event) -> None:
        """The first event of a lane has gone: delivered or discarded, and acknowledged."""
        entry = self.entries[lane]
        discard = max(0, entry.discard - 1)
        self._change(
            lane, count=entry.count - 1, tries=Tries(), first_id="", first_handle="", stuck=False, discard=discard
        )
        self.events -= 1
        self._fallen[event.table] += self.is_barrier(event)
        if not discard and entry.why is Why.DEAD:
            self.retry(lane, 0.0)

    def begins_with(self, lane: str, event: Event, tries: Tries) -> None:
        """This is a lane's first event now, and what it has been through."""
        self._change(lane, first_id=event.id, first_handle=event.handle, tries=tries)

    def failed(self, lane: str, why: Why, event: Event, tries: Tries) -> None:
        """A lane's first event was tried, and not delivered."""
        if lane in self.entries:
            self._change(lane, why=why, due=tries.not_before)
            self.begins_with(lane, event, tries)

    def refuse(self, lane: str, tries: Tries) -> None:
        """A lane's first event waits for a person, without having been tried."""
        self._change(lane, why=Why.DEAD, tries=tries)

    def retry(self, lane: str, now: float) -> None:
        """A lane's first event may leave in the next pass, whatever it waited for."""
        self._change(lane, why=Why.OVERFLOW, due=now)

    def replay(self, lane: str, now: float, attempts: int) -> None:
        """A person wants a lane to be tried now. A refused event gets one try.

        Args:
            attempts: that a refused event has spent then: one less than it has.
        """
        entry = self.entries[lane]
        if entry.why is Why.DEAD:
            entry.tries.ask(attempts)
            self._change(lane, why=Why.OVERFLOW)
        self._change(lane, due=now, stuck=False)
        for other in self.of_table(entry.table):
            if other.why is Why.BEHIND:
                self._change(other.lane, due=min(other.due, now), stuck=False)

    def discard(self, lane: str) -> None:
        """A person does not want what a lane holds. What comes in behind it from now on is none of it."""
        self._change(lane, discard=self.entries[lane].count)

    def did_not_move(self, lane: str, now: float, until: float) -> None:
        """A pass could not take a lane that was due at `now`: the next look at it is at `until`, monotonic seconds."""
        entry = self.entries.get(lane)
        if entry is not None and entry.due <= now:
            self._change(lane, due=until, stuck=entry.why is Why.BEHIND)

    def wake(self, names: Collection[str], now: float) -> None:
        """What these lanes wait for has come."""
        for entry in [self.entries[name] for name in names if name in self.entries]:
            if entry.why is Why.OVERFLOW:
                self._change(entry.lane, due=min(entry.due, now))
                entry.tries.end_wait(now)

    def settle(self) -> None:
        """RabbitMQ has shown that it has the acknowledgements: what is empty is no longer here."""
        for entry in [entry for entry in self.entries.values() if not entry.count]:
            del self.entries[entry.lane]
            self._lanes_of[entry.table] -= 1
            for other in self.of_table(entry.table) if self._barriers[entry.table] else ():
                self._change(other.lane, due=0.0 if other.why is Why.BEHIND else other.due)
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

    def of_table(self, table: str) -> list[Entry]:
        """The lanes of a table that hold something."""
        return [entry for entry in self.entries.values() if table and entry.table == table and entry.count]

    def _change(self, lane: str, **fields: Any) -> None:
        before = self.entries[lane]
        entry = self.entries[lane] = dataclasses.replace(before, **fields)
        self.dead += (entry.why is Why.DEAD) - (before.why is Why.DEAD)
