"""The events between the outbox and their confirms: what may be published now, and what must wait its turn. Pure.

At most one event of a key is unconfirmed; the next one follows its confirm. Were there two, a nack, a return or a
binding made in between would let the later one overtake (measured: 1,350 returned, 1,650 younger routed).
A TRUNCATE is a barrier for its table: it waits for all earlier events of the table, and all later ones wait for it.
"""

from collections import deque
from collections.abc import Callable

from relay.listening.event import OutboxEvent

BEHIND = 4


class Window:
    """Events taken from the outbox and not yet confirmed.

    An event is waiting, then ready (nothing before it), then unconfirmed (taken to be published), then done.

    Args:
        max_events: how many it should hold that are ready or unconfirmed. BEHIND times as many may wait behind those:
            else thousands of one key, one after the other, would keep all others out.
        max_bytes: how many bytes (`OutboxEvent.size`) it should hold; a single larger event still fits.
    """

    def __init__(self, max_events: int, max_bytes: int) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._clear()

    def _clear(self) -> None:
        self.bytes = 0
        self._events: dict[int, OutboxEvent] = {}
        self._unconfirmed: set[int] = set()
        self._ready: deque[OutboxEvent] = deque()
        # Of a key: what waits behind its ready or unconfirmed event. None = nothing: a deque for each would cost 3 us
        self._strands: dict[str, deque[OutboxEvent] | None] = {}
        self._tables: dict[str, int] = {}  # of a table: how many events are here, its barrier and those behind apart
        self._barriers: dict[str, deque[OutboxEvent]] = {}  # of a table: a barrier, and all that came behind it

    def __len__(self) -> int:
        return len(self._events)

    def __contains__(self, seq: int) -> bool:
        return seq in self._events

    def room(self) -> tuple[int, int]:
        """Return how many more events and bytes should come in; (0, 0) as long as it is more than half full."""
        moving = len(self._ready) + len(self._unconfirmed)
        behind = len(self._events) - moving
        events = min(self._max_events - moving, self._max_events * BEHIND - behind)
        size = self._max_bytes - self.bytes
        return (events, size) if events * 2 >= self._max_events and size * 2 >= self._max_bytes else (0, 0)

    @property
    def has_ready(self) -> bool:
        """Is there something that `take` would give?"""
        return bool(self._ready)

    @property
    def unconfirmed(self) -> int:
        """How many events were taken and are not done."""
        return len(self._unconfirmed)

    def has_unconfirmed(self, group: str) -> bool:
        """Is an event of this group (`OutboxEvent.group`) unconfirmed?"""
        return any(self._events[seq].group == group for seq in self._unconfirmed)

    def add(self, event: OutboxEvent) -> None:
        """Take in an event; those of one key and of one table in the order of `seq`."""
        self._events[event.seq] = event
        self.bytes += event.size
        self._queue(event)

    def _queue(self, event: OutboxEvent) -> None:
        table = event.table
        if table is not None and table in self._barriers:
            self._barriers[table].append(event)
        elif table is not None and event.is_barrier:
            self._barriers[table] = deque([event])
            if table not in self._tables:
                self._ready.append(event)
        elif self._enter(event):
            self._ready.append(event)

    def _enter(self, event: OutboxEvent) -> bool:
        """Count the event in; return whether it is the first of its key, otherwise it waits in its strand."""
        if event.table is not None:
            self._tables[event.table] = self._tables.get(event.table, 0) + 1
        key = event.key
        if key is None:
            return True
        if key not in self._strands:
            self._strands[key] = None
            return True
        strand = self._strands[key]
        if strand is None:
            strand = self._strands[key] = deque()
        strand.append(event)
        return False

    def take(self, maximum: int | None = None) -> list[OutboxEvent]:
        """Return the events that are ready, or the first `maximum` of them; they are unconfirmed from here on."""
        if maximum is None:
            taken = list(self._ready)
            self._ready.clear()
        else:
            taken = [self._ready.popleft() for _ in range(min(maximum, len(self._ready)))]
        self._unconfirmed.update(event.seq for event in taken)
        return taken

    def barrier(self, table: str | None) -> OutboxEvent | None:
        """Return the first TRUNCATE of a table that is here and has not been taken yet."""
        waiting = self._barriers.get(table or "", ())
        return next((event for event in waiting if event.is_barrier and event.seq not in self._unconfirmed), None)

    def done(self, event: OutboxEvent) -> None:
        """An unconfirmed event was confirmed, or is given up here: the next of its key or table may go."""
        del self._events[event.seq]
        self._unconfirmed.remove(event.seq)
        self.bytes -= event.size
        table = event.table
        if table is not None and event.is_barrier:
            behind = self._barriers.pop(table)
            behind.popleft()
            for later in behind:
                self._queue(later)
            return
        if event.key is not None:
            strand = self._strands[event.key]
            if strand:
                self._ready.append(strand.popleft())
            else:
                del self._strands[event.key]
        if table is not None:
            self._leave(table)

    def _leave(self, table: str) -> None:
        self._tables[table] -= 1
        if not self._tables[table]:
            del self._tables[table]
            if table in self._barriers:
                self._ready.append(self._barriers[table][0])

    def drop(self, drops: Callable[[OutboxEvent], bool]) -> list[OutboxEvent]:
        """Forget the events that `drops` picks, unless they are unconfirmed; return them, lowest seq first.

        `drops` must pick, with an event, all later ones of its key. Rare, so everything is simply queued anew.
        """
        unconfirmed = self._unconfirmed
        if not any(drops(event) for event in self._events.values() if event.seq not in unconfirmed):
            return []
        events = sorted(self._events.values())
        self._clear()
        dropped = []
        for event in events:
            if event.seq in unconfirmed:
                self._events[event.seq] = event
                self.bytes += event.size
                self._unconfirmed.add(event.seq)
                if event.table is not None and event.is_barrier:
                    self._barriers[event.table] = deque([event])
                else:
                    self._enter(event)
        for event in events:
            if event.seq in unconfirmed:
                continue
            if drops(event):
                dropped.append(event)
            else:
                self.add(event)
        return dropped
