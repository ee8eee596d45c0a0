"""What must wait in the outbox while the rest flows: tables that can't be routed, keys with a refused event. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

from relay.listening.event import Event

PROBE_MIN, PROBE_MAX = 0.25, 5.0  # seconds between two tries with the oldest event of a held group; doubling


@dataclass(slots=True)
class Hold:
    """Why a group (`Event.group`) waits, and from where it must be read again."""

    low: int
    reason: str
    since: float
    probe_at: float
    interval: float = PROBE_MIN

    def probed(self, now: float) -> None:
        """A probe goes out: the next one later."""
        self.interval = min(PROBE_MAX, self.interval * 2)
        self.probe_at = now + self.interval


class Holds:
    """Held groups and held keys.

    A group waits because the broker has nowhere to put its events: it mends itself, so the oldest one probes.
    A key waits because the broker refused one of its events for good: a person releases or drops that one.
    """

    def __init__(self) -> None:
        self.groups: dict[str, Hold] = {}
        self._keys: dict[str, tuple[int, str | None]] = {}
        self._truncates: set[str] = set()  # tables with a refused TRUNCATE: all that comes after it waits

    def __bool__(self) -> bool:
        """Is anything held?"""
        return bool(self.groups or self._keys)

    def hold(self, group: str, seq: int, reason: str, now: float) -> bool:
        """Hold a group from `seq` on; return True if it was not held before."""
        held = self.groups.get(group)
        if held is None:
            self.groups[group] = Hold(seq, reason, now, now + PROBE_MIN)
            return True
        held.low = min(held.low, seq)
        held.reason = reason
        return False

    def release(self, group: str) -> Hold:
        """The group flows again; return its hold."""
        return self.groups.pop(group)

    def due(self, now: float) -> Iterator[tuple[str, Hold]]:
        """Yield the groups whose probe is due."""
        for group, hold in self.groups.items():
            if hold.probe_at <= now:
                yield group, hold

    def refuse(self, key: str | None, seq: int, table: str | None) -> None:
        """An event is marked as refused in the outbox: its key waits. Without a key nothing waits for it."""
        if key is not None and key not in self._keys:
            self._keys[key] = (seq, table)
            if key == table:  # only a TRUNCATE's is
                self._truncates.add(table)

    def forget_refused(self) -> None:
        """Before reading everything anew: the marks in the outbox are the truth."""
        self._keys.clear()
        self._truncates.clear()

    def holds(self, event: Event) -> bool:
        """Must this event wait?"""
        return event.group in self.groups or self.is_behind_refused(event.key, event.table)

    def is_behind_refused(self, key: str | None, table: str | None) -> bool:
        """Does a refused event hold those of this key, or of this table?"""
        return (key is not None and key in self._keys) or (table is not None and table in self._truncates)

    def refused_before(self, event: Event) -> bool:
        """Is there, for a barrier, a refused event of its table before it?"""
        return any(table == event.table and seq < event.seq for seq, table in self._keys.values())

    @property
    def keys(self) -> list[str]:
        """The held keys."""
        return list(self._keys)

    @property
    def tables(self) -> list[str]:
        """The tables that wait, all of them."""
        tables = [group.removeprefix("table ") for group in self.groups if group.startswith("table ")]
        return [*tables, *self._truncates]

    @property
    def topics(self) -> list[str]:
        """The held topics of events that belong to no table."""
        return [group.removeprefix("topic ") for group in self.groups if group.startswith("topic ")]
