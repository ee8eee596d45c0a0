"""What the parking lot holds, by strand: why, since when, and when it comes back. Pure: the queue itself is the truth.

Only what the receiver needs to decide is kept in memory, not the events: some hundred bytes a strand. It is read anew
from the queue at every start, so nothing is lost when it is.
"""

import collections
import dataclasses
import enum
import math
from collections.abc import Collection
from typing import Any

from relay.delivery import Event, Tries, memory

ROOM_BYTES = 192 << 20  # that all of it takes here
EVENT_BYTES, STRAND_BYTES = 300, 700  # that an event, and a strand, take beside their texts
ROOM_MAX = 150_000  # events: each takes up to 2 kB of memory, here and with the target that knows what it waits for
READ_ANYWAY = 1000  # events: so few are always read as a whole


class Why(enum.Enum):
    """Why the first event of a strand is in the parking lot."""

    DEAD = "dead"  # refused after its last attempt: a person decides
    OVERFLOW = "overflow"  # it waits for its next try: comes back by itself
    BEHIND = "behind"  # something of its table is here that must go first: comes back by itself


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One strand of the parking lot. The index replaces it whenever something about it changes."""

    strand: str
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
    texts: int = 0  # bytes that its texts took when it came in
    deletes: int = 0  # so many of its events delete its row

    @property
    def name(self) -> str:
        """Its key, or its event's id, for people."""
        return self.key or self.first_id or self.strand.lstrip("\0")


class ParkedIndex:
    """The index, and the only one that changes an entry.

    A strand whose last event was acknowledged stays, and holds back what arrives for it, until `settle`: RabbitMQ can
    forget acknowledgements (relay/receiving/lost_acks.py).

    Args:
        barriers: does a truncate hold up its table?
    """

    def __init__(self, *, barriers: bool = True) -> None:
        self.entries: dict[str, Entry] = {}
        self.events = 0
        self.is_whole = True  # else the queue is being read
        self._texts = 0  # bytes
        self.dead = 0  # strands that wait for a person
        self._has_barriers = barriers
        self._barriers: collections.Counter[str] = collections.Counter()
        self._fallen: collections.Counter[str] = collections.Counter()  # barriers acknowledged since `settle`
        self._strands_of: collections.Counter[str] = collections.Counter()
        self._empty = 0  # strands
        self._next_due = math.inf  # no strand is due before, monotonic seconds

    def clear(self) -> None:
        """Begin again, before the queue is read: until `complete` it is not whole."""
        self.is_whole = False
        for book in (self.entries, self._barriers, self._fallen, self._strands_of):
            book.clear()
        self.events = self.dead = self._empty = self._texts = 0
        self._next_due = math.inf

    def complete(self) -> None:
        """All of the queue has been read."""
        self.is_whole = True

    def strands(self) -> list[Entry]:
        """The strands that hold something."""
        return [entry for entry in self.entries.values() if entry.count]

    def holds(self, strand: str) -> bool:
        """Is something of a strand here?"""
        entry = self.entries.get(strand)
        return entry is not None and entry.count > 0

    @property
    def size(self) -> int:
        """Bytes that all of it takes, about."""
        return self._texts + STRAND_BYTES * len(self.entries) + EVENT_BYTES * self.events

    @property
    def is_full(self) -> bool:
        """Is there no room for more, whoever has put it there?"""
        return self.events >= ROOM_MAX or self.size >= ROOM_BYTES

    @property
    def is_unsettled(self) -> bool:
        """Is there a strand that is empty and has not left?"""
        return self._empty > 0

    @property
    def is_loose(self) -> bool:
        """Are there many, and nothing whose order matters? One event of each strand, and no truncate."""
        if self.events <= READ_ANYWAY or any(self._barriers.values()):
            return False
        return self.events == len(self.entries) - self._empty

    def is_barrier(self, event: Event) -> bool:
        """Must all of its table that is before it go first?"""
        return self._has_barriers and event.is_barrier

    def blocks(self, strand: str, event: Event) -> bool:
        """Must this event go into the parking lot as well, behind what is there?"""
        if strand in self.entries or (event.table and self._barriers[event.table]):
            return True
        return self.is_barrier(event) and bool(self._strands_of[event.table])

    def is_leaving(self, strand: str) -> bool:
        """Is it here only because `settle` has not been called yet?"""
        entry = self.entries.get(strand)
        return entry is not None and not entry.count

    def has_delete(self, strand: str) -> bool:
        """Does an event of this strand that is here delete its row?"""
        entry = self.entries.get(strand)
        return entry is not None and entry.deletes > 0

    def is_barred(self, table: str) -> bool:
        """Is a truncate of this table here?"""
        return bool(table and self._barriers[table])

    def enter(self, event: Event, entry: Entry) -> bool:
        """An event goes in; `entry` describes its strand if it is the first one there. Return whether it is."""
        known = self.entries.get(entry.strand)
        is_first = known is None or not known.count
        if known is None or not known.count:
            entry = dataclasses.replace(entry, texts=_texts(entry))
            self._texts += entry.texts - (known.texts if known is not None else 0)
            self._strands_of[entry.table] += known is None
            self._empty -= known is not None
            self.dead += entry.why is Why.DEAD
            self._may_be_due(entry)
            known = entry
        deletes = known.deletes + (event.op == "delete")
        self.entries[entry.strand] = dataclasses.replace(known, count=known.count + 1, deletes=deletes)
        if event.op == "delete" and not is_first and known.why is Why.OVERFLOW and not known.tries.attempts:
            self.wake([entry.strand], 0.0)  # the target may pass over what it waits for
        self.events += 1
        self._barriers[event.table] += self.is_barrier(event)
        return is_first

    def leave(self, strand: str, event: Event) -> None:
        """The first event of a strand has gone: delivered or discarded, and acknowledged."""
        entry = self.entries[strand]
        discard = max(0, entry.discard - 1)
        deletes = entry.deletes - (event.op == "delete")
        self._change(
            strand,
            count=entry.count - 1,
            tries=Tries(),
            first_id="",
            first_handle="",
            stuck=False,
            discard=discard,
            deletes=deletes,
        )
        self.events -= 1
        self._empty += entry.count == 1
        self._fallen[event.table] += self.is_barrier(event)
        if not discard and entry.why is Why.DEAD:
            self.retry(strand, 0.0)

    def begins_with(self, strand: str, event: Event, tries: Tries) -> None:
        """This is a strand's first event now, and what it has been through."""
        self._change(strand, first_id=event.id, first_handle=event.handle, tries=tries)

    def failed(self, strand: str, why: Why, event: Event, tries: Tries) -> None:
        """A strand's first event was tried, and not delivered."""
        if strand in self.entries:
            self._change(strand, why=why, due=tries.not_before)
            self.begins_with(strand, event, tries)

    def put_off(self, strand: str, tries: Tries) -> None:
        """An event was tried in vain elsewhere: if it is the first one here, it waits for its next try like any."""
        entry = self.entries.get(strand)
        if entry is not None and entry.tries is tries and entry.why is not Why.DEAD and entry.due < tries.not_before:
            self._change(strand, why=Why.OVERFLOW, due=tries.not_before)

    def refuse(self, strand: str, tries: Tries) -> None:
        """A strand's first event waits for a person, without having been tried."""
        self._change(strand, why=Why.DEAD, tries=tries)

    def retry(self, strand: str, now: float) -> None:
        """A strand's first event may leave in the next pass, whatever it waited for."""
        self._change(strand, why=Why.OVERFLOW, due=now)

    def replay(self, strand: str, now: float, attempts: int) -> None:
        """A person wants a strand to be tried now. A refused event gets one try.

        Args:
            attempts: that a refused event has spent then: one less than it has.
        """
        entry = self.entries[strand]
        if entry.why is Why.DEAD:
            entry.tries.ask(attempts)
            self._change(strand, why=Why.OVERFLOW)
        else:
            entry.tries.end_wait(now)
        self._change(strand, due=max(now, entry.tries.not_before), stuck=False)

    def hurry(self, tables: Collection[str], now: float) -> None:
        """Strands of these tables were replayed: what waits behind them may leave in the next pass, too."""
        for other in self.strands():
            if other.table in tables and other.table and other.why is Why.BEHIND:
                self._change(other.strand, due=min(other.due, now), stuck=False)

    def discard(self, strand: str) -> None:
        """A person does not want what a strand holds. What comes in behind it from now on is none of it."""
        self._change(strand, discard=self.entries[strand].count)

    def did_not_move(self, strand: str, now: float, until: float) -> None:
        """A pass could not take a strand that was due at `now`: the next look is at `until`, monotonic seconds."""
        entry = self.entries.get(strand)
        if entry is not None and entry.due <= now:
            self._change(strand, due=until, stuck=entry.why is Why.BEHIND)

    def wake(self, names: Collection[str], now: float) -> list[str]:
        """What these strands wait for has come. Return those that go on."""
        found = [name for name in names if (entry := self.entries.get(name)) and entry.why is Why.OVERFLOW]
        for name in found:
            entry = self.entries[name]
            entry.tries.end_wait(now)
            self._change(name, due=min(entry.due, entry.tries.not_before))
        return found

    def settle(self) -> None:
        """RabbitMQ has shown that it has the acknowledgements: what is empty is no longer here."""
        for entry in [entry for entry in self.entries.values() if not entry.count] if self._empty else ():
            del self.entries[entry.strand]
            self._texts -= entry.texts
            self._strands_of[entry.table] -= 1
            for other in self.of_table(entry.table) if self._barriers[entry.table] else ():
                self._change(other.strand, due=0.0 if other.why is Why.BEHIND else other.due)
        self._empty = 0
        self._barriers -= self._fallen
        self._fallen.clear()

    def due(self, now: float) -> set[str]:
        """The strands that may be tried, or are to be discarded."""
        if now < self._next_due:
            return set()
        self._next_due = min((e.due for e in self.strands() if e.why is not Why.DEAD), default=math.inf)
        found = {e.strand for e in self.strands() if e.discard or (e.why is not Why.DEAD and e.due <= now)}
        if any(self.entries[strand].discard for strand in found):
            self._next_due = -math.inf
        return found

    def waits_for_person(self, entry: Entry) -> bool:
        """Will nothing become of it by itself? Refused for good, or behind something that was."""
        if entry.discard:
            return False
        behind = entry.stuck and all(other.why is not Why.OVERFLOW for other in self.of_table(entry.table))
        return entry.why is Why.DEAD or behind

    def is_quiet(self) -> bool:
        """Will nothing here change by itself?"""
        return all(self.waits_for_person(entry) for entry in self.strands())

    def of_table(self, table: str) -> list[Entry]:
        """The strands of a table that hold something."""
        return [entry for entry in self.entries.values() if table and entry.table == table and entry.count]

    def _change(self, strand: str, **fields: Any) -> None:
        before = self.entries[strand]
        entry = self.entries[strand] = dataclasses.replace(before, **fields)
        self.dead += (entry.why is Why.DEAD) - (before.why is Why.DEAD)
        self._may_be_due(entry)

    def _may_be_due(self, entry: Entry) -> None:
        if entry.discard:
            self._next_due = -math.inf
        elif entry.why is not Why.DEAD:
            self._next_due = min(self._next_due, entry.due)


def _texts(entry: Entry) -> int:
    return sum(map(memory, (entry.strand, entry.key, entry.table, entry.first_id, entry.tries.reason)))
