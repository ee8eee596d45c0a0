"""One pass through the parking lot: what is to be taken, and what becomes of each strand and table on the way. Pure.

What is left where it is must not be overtaken: once a strand has failed, the rest of it stays, and once a truncate
stays, everything of its table that is behind it does.
"""

import enum
from collections.abc import Callable, Collection, Set

from relay.delivery import Event
from relay.receiving.parking.acknowledged import Name
from relay.receiving.parking.index import READ_ANYWAY, Entry, ParkedIndex
from relay.receiving.whole import READ_MAX

Show = Callable[[Event | None, Entry | None], None]

FEW = 100  # if less than one in so many of what it has read could leave, a pass must read further
AHEAD_MAX = 8000  # messages: with 65,535 unacknowledged RabbitMQ 3.10 took minutes over the acknowledgements


def reach_of(index: ParkedIndex, fits: int, vain: int = 0) -> int:
    """How many messages a pass reads ahead; 0 = all, since their order must be kept, or they are no more than that.

    Thousands of rows that wait are mostly one event each. Of these some can be read: what goes back comes behind
    whatever was read before, so that the next pass reads others. But it comes before what was never read: where the
    first ones all stay, the next pass would read them again, and so must read further. An event that comes behind
    another of its strand meanwhile was never read before, and so stays behind whatever was; from then on all is read.

    Args:
        fits: so many events there is memory for.
        vain: so many passes have just read as far as they might, and moved next to nothing.
    """
    reach = max(READ_ANYWAY, min(AHEAD_MAX, fits)) << vain
    return reach if index.is_loose and reach < min(index.events, READ_MAX) else 0


class StrandState(enum.Enum):
    """Of a strand that was due when the pass began. All others stay where they are."""

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
        chosen: strands that are due.
        discarding: those of them of which the first events are thrown away.
        to_discard: single events that are, by strand and handle: others may have the same handle.
        sought: events that somebody wants to see, by handle or id.
        reach: messages that RabbitMQ hands out before one is acknowledged; 0 = all.
        forgotten: messages that were acknowledged before, and are still there.
    """

    def __init__(
        self,
        total: int,
        began: float,
        chosen: Collection[str],
        discarding: Collection[str] = (),
        to_discard: Collection[Name] = (),
        sought: Collection[str] = (),
        reach: int = 0,
        forgotten: int = 0,
    ) -> None:
        self._total = total
        self._reach = reach
        self._forgotten = forgotten
        self._gone = 0  # acknowledged
        self.began = began
        self._strands = dict.fromkeys(chosen, StrandState.CHOSEN) | dict.fromkeys(discarding, StrandState.DISCARDING)
        self._tables: dict[str, TableState] = {}
        self._to_discard = set(to_discard)
        self.to_discard: Set[Name] = frozenset(to_discard)
        self.sought: Set[str] = frozenset(sought)
        self._found = set[str]()  # of what is sought
        self._passed = set[str]()  # strands that were not chosen, and of which something was left
        self._empty = set[str]()  # chosen strands of which all has left the parking lot
        self._read = 0  # messages
        self._open_items = 0  # given out, and not yet acknowledged

    @property
    def has_read(self) -> int:
        """Messages that have come."""
        return self._read

    @property
    def has_read_all(self) -> bool:
        """Has all come that was there when it began?"""
        return self._read >= self._total

    @property
    def is_whole(self) -> bool:
        """Has all been read that was there, and is nothing of it left to deliver?"""
        return self.has_read_all and not self._open_items

    def found(self, name: str) -> None:
        """It was shown. Who asks for it again in the meantime waits for the next pass: this one is past it."""
        self._found.add(name)

    @property
    def missing(self) -> Set[str]:
        """What is sought, and has not come."""
        return self.sought - self._found

    @property
    def held(self) -> int:
        """Messages that have come, and were not acknowledged."""
        return self._read - self._gone

    @property
    def is_starved(self) -> bool:
        """Does RabbitMQ hand out nothing more, since so much was left where it is?"""
        return bool(self._reach) and not self._open_items and self.held >= self._reach

    @property
    def trickle(self) -> int | None:
        """RabbitMQ hands out one more for each of so many that are left to deliver; None = what it may has not come."""
        if self._to_discard or self.sought or self._forgotten > 0 or not self._reach or self.held < self._reach:
            return None
        return self._open_items

    @property
    def was_in_vain(self) -> bool:
        """Has it come to an end before what it was made for?"""
        return self.is_starved and self._gone * FEW < self._read

    @property
    def has_failed(self) -> bool:
        """Has nothing that was chosen any more to hope for? Then there is no need to read what is behind it."""
        if self._open_items or self._to_discard or self.sought or self._forgotten > 0:
            return False
        return all(state is StrandState.STOPPED or strand in self._empty for strand, state in self._strands.items())

    def join(self, strands: Collection[str]) -> int:
        """They are due now, too. Return how many the pass takes along: what it has left already it does not."""
        ahead = [strand for strand in strands if strand not in self._passed and strand not in self._strands]
        self._strands |= dict.fromkeys(ahead, StrandState.CHOSEN)
        return len(ahead)

    def read(self) -> None:
        """One more message has come."""
        self._read += 1

    def is_discarded(self, event: Event, strand: str, wanted: int) -> bool:
        """Is it thrown away? `wanted`: so many of its strand's first events still are."""
        is_named = (strand, event.handle) in self._to_discard
        self._to_discard.discard((strand, event.handle))
        return is_named or (self._strands.get(strand) is StrandState.DISCARDING and wanted > 0)

    def stays(self, event: Event, strand: str, *, barrier: bool, fits: bool, waits: bool = False) -> bool:
        """Is it left where it is?

        Args:
            barrier: it is a truncate that stands between the rows of its table.
            fits: there is memory left for it.
            waits: it may not be tried yet after all; all that comes after this pass would wait with it.
        """
        self._empty.discard(strand)
        if not self._must_stay(event, strand, barrier, stops=waits or (not fits and bool(self._open_items))):
            return False
        if strand not in self._strands:
            self._passed.add(strand)
        elif self._strands[strand] is StrandState.CHOSEN:
            self._strands[strand] = StrandState.LEFT
        if barrier:
            self.bar(event.table)  # whatever the reason: nothing behind a truncate may pass it
        else:
            self._tables.setdefault(event.table, TableState.SKIPPED)
        return True

    def _must_stay(self, event: Event, strand: str, barrier: bool, *, stops: bool) -> bool:
        table = self._tables.get(event.table)
        if self._strands.get(strand, StrandState.STOPPED) is StrandState.STOPPED or table is TableState.BARRED:
            return True
        if barrier and table is TableState.SKIPPED:
            return True
        if stops:
            self.stop(strand)
            return True
        return False

    def bar(self, table: str) -> None:
        """A truncate of it was left: nothing of the table that is behind it may go."""
        self._tables[table] = TableState.BARRED

    def stop(self, strand: str) -> None:
        """What is still to be read of a strand stays."""
        self._strands[strand] = StrandState.STOPPED

    def give_out(self) -> None:
        """An event was handed on."""
        self._open_items += 1

    def take_back(self) -> None:
        """An event that was handed on will not be acknowledged."""
        self._open_items -= 1

    def acknowledged(self, strand: str, *, was_last: bool = False) -> None:
        """An event that was handed on has left the parking lot, the last of its strand."""
        self._open_items -= 1
        self._gone += 1
        if was_last:
            self._empty.add(strand)
        if self._strands.get(strand) in (StrandState.CHOSEN, StrandState.LEFT):
            self._strands[strand] = StrandState.MOVED

    def found_probe(self) -> None:
        """One that means nothing has come, and leaves."""
        self._gone += 1

    def found_forgotten(self) -> None:
        """One that was acknowledged before has come."""
        self._forgotten -= 1
        self._gone += 1

    def immovable(self) -> list[str]:
        """Strands that were due, and of which nothing could be moved: something of their table is before them."""
        return [strand for strand, state in self._strands.items() if state is StrandState.LEFT]


class Wishes:
    """What a person has asked for, that only a pass can do."""

    def __init__(self) -> None:
        self.to_discard: set[Name] = set()  # one event each, by strand and handle
        self.shows: dict[str, Show] = {}  # by handle or event id; called with (None, None) if it is not there

    def __bool__(self) -> bool:
        return bool(self.shows or self.to_discard)

    def clear(self) -> None:
        """Nothing any more."""
        self.shows.clear()
        self.to_discard.clear()
