"""What must wait in the outbox while the rest flows: tables that can't be routed, keys with a refused event. Pure."""

import collections
import heapq
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from relay.listening.event import OutboxEvent

PROBE_MIN, PROBE_MAX = 0.25, 5.0  # seconds between two tries with the oldest event of a held group; doubling
PROBE_EACH = 0.02  # and at least so many for each of its kind that is held: 50 tries a second, however many there are
# Above it, of tables or of topics, what can't be routed is refused: any publisher can think of topics. But not of
# tables: by that these neither lose their place, nor wait for their next try behind ten thousand others.
GROUPS_MOST = 10_000
NAMED_MOST, NAMED_BYTES = 1000, 255  # how many keys, tables and topics a read is told of, and how long a key


@dataclass(slots=True)
class Hold:
    """Why a group (`OutboxEvent.group`) waits, from where it must be read again, and where its probe is looked for."""

    low: int
    reason: str
    since: float
    probe_from: int
    probe_at: float
    interval: float = PROBE_MIN


def _kind(group: str) -> str:
    return group.partition(" ")[0]


class Holds:
    """Held groups and held keys.

    A group waits because the broker has nowhere to put its events: it mends itself, so the oldest one probes.
    A key waits because the broker refused one of its events for good: a person releases or drops that one.
    """

    def __init__(self) -> None:
        self.groups: dict[str, Hold] = {}
        self._counts: collections.Counter[str] = collections.Counter()  # of them, by kind
        self._probes: list[tuple[float, str]] = []  # a heap: when, of which group
        # Not the keys themselves, which any writer can make large: Python's hash of a text has a secret of the process.
        self._keys: set[int] = set()
        self._refused_of: dict[str, int] = {}  # of a table: seq of its first refused event
        self._truncates: set[str] = set()  # tables with a refused TRUNCATE: all that comes after it waits
        self.keys: list[str] = []
        """Held keys for a read to leave out; not all of them (`NAMED_MOST`): `holds` knows."""

    def __bool__(self) -> bool:
        """Is anything held?"""
        return bool(self.groups or self._keys)

    def hold(self, group: str, seq: int, reason: str, now: float) -> bool:
        """Hold a group from `seq` on; return True if it was not held before."""
        held = self.groups.get(group)
        if held is None:
            held = self.groups[group] = Hold(seq, reason, now, seq, 0.0)
            self._counts[_kind(group)] += 1
            self.probe(group, held, now + PROBE_MIN)
            return True
        held.low = min(held.low, seq)
        held.probe_from = min(held.probe_from, seq)
        held.reason = reason
        return False

    def extend(self, group: str, seq: int, *, eligible: bool) -> None:
        """A held group has this event, too; `eligible`: it may be the probe, for no refused one is before it."""
        held = self.groups[group]
        held.low = min(held.low, seq)
        if eligible:
            held.probe_from = min(held.probe_from, seq)

    @property
    def refused_keys(self) -> int:
        """How many keys wait behind a refused event."""
        return len(self._keys)

    def is_full(self, group: str) -> bool:
        """Are there as many groups of this one's kind as there may be?"""
        return self._counts[_kind(group)] >= GROUPS_MOST

    def release(self, group: str) -> Hold:
        """The group flows again; return its hold."""
        hold = self.groups.pop(group)
        self._counts[_kind(group)] -= 1
        return hold

    def probe(self, group: str, hold: Hold, at: float) -> None:
        """Its next probe is due then."""
        hold.probe_at = at
        heapq.heappush(self._probes, (at, group))

    def due(self, now: float) -> tuple[str, Hold] | None:
        """Return a group whose probe is due, the one that has waited longest; its next one will be due later."""
        while self._probes and self._probes[0][0] <= now:
            at, group = heapq.heappop(self._probes)
            hold = self.groups.get(group)
            if hold and hold.probe_at == at:  # else it was released meanwhile, or is to be probed at another time
                hold.interval = min(PROBE_MAX, hold.interval * 2)
                self.probe(group, hold, now + max(hold.interval, PROBE_EACH * self._counts[_kind(group)]))
                return group, hold
        return None

    @property
    def next_probe(self) -> float | None:
        """When the next probe may be due; None = no group is held."""
        return self._probes[0][0] if self._probes else None

    def refuse(self, key: str | None, seq: int, table: str | None) -> None:
        """An event is marked as refused in the outbox: its key waits. Without a key nothing waits for it."""
        if table is not None:
            self._refused_of[table] = min(seq, self._refused_of.get(table, seq))
        if key is None or hash(key) in self._keys:
            return
        self._keys.add(hash(key))
        if len(self.keys) < NAMED_MOST and len(key) <= NAMED_BYTES:
            self.keys.append(key)
        if key == table:  # only a TRUNCATE's is
            self._truncates.add(table)

    def forget_refused(self) -> None:
        """Before reading everything anew: the marks in the outbox are the truth."""
        self._keys.clear()
        self._refused_of.clear()
        self._truncates.clear()
        self.keys = []

    def holds(self, event: OutboxEvent) -> bool:
        """Must this event wait?"""
        return event.group in self.groups or self.is_behind_refused(event.key, event.table)

    def is_behind_refused(self, key: str | None, table: str | None) -> bool:
        """Does a refused event hold those of this key, or of this table?"""
        return (key is not None and hash(key) in self._keys) or (table is not None and table in self._truncates)

    def refused_before(self, event: OutboxEvent) -> bool:
        """Is there, for a barrier, a refused event of its table before it?"""
        first = self._refused_of.get(event.table or "")
        return first is not None and first < event.seq

    @property
    def tables(self) -> list[str]:
        """Tables that wait, for a read to leave out; not all of them (`NAMED_MOST`)."""
        return self.all_tables()[:NAMED_MOST]

    @property
    def topics(self) -> list[str]:
        """The same for topics of events that belong to no table."""
        return list(itertools.islice(self._named("topic "), NAMED_MOST))

    def all_tables(self) -> list[str]:
        """All of them."""
        return [*self._truncates, *self._named("table ")]

    def all_topics(self) -> list[str]:
        """All of them."""
        return list(self._named("topic "))

    def _named(self, kind: str) -> Iterator[str]:
        return (group.removeprefix(kind) for group in self.groups if group.startswith(kind))
