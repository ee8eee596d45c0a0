"""Which events this process is done with: a copy that the broker hands out again need only be acknowledged. Pure.

A listener that has crashed sends a tail of events again, in order. Once one of them is delivered again, what followed
it in its row must be, too, even where the queue still held it from before: the target would be left with the older
state. So an event that comes in makes the later ones of its row forgotten (later: by `seq`; docs/delivery.md).
"""

import collections
import dataclasses
import itertools

from relay.delivery import Event, Tries


@dataclasses.dataclass(frozen=True, slots=True)
class _Known:
    seq: int
    strand: str
    table: str


class Deduplication:
    """The ids of the newest ones.

    Args:
        maximum: how many of each kind; at least a window, and the acknowledgements that may be lost with it.
        barriers: does a truncate stand between the rows of its table?
    """

    def __init__(self, maximum: int, *, barriers: bool) -> None:
        self._maximum = maximum
        self._has_barriers = barriers
        self._delivered: collections.OrderedDict[str, _Known] = collections.OrderedDict()
        self._stored: collections.OrderedDict[str, _Known] = collections.OrderedDict()
        self._strands: dict[str, dict[str, int]] = {}  # of a strand: ids and their seq, which ascends
        self._barriers: dict[str, dict[str, int]] = {}  # of a table: the same for its truncates

    def was_delivered(self, event: Event) -> bool:
        """Has the target got it from this process, in whatever session?"""
        # Only what the broker calls redelivered, and only our own ids: others may use an id twice.
        return event.redelivered and bool(event.seq) and event.id in self._delivered

    def is_stored(self, event: Event) -> bool:
        """Is it in the parking lot already? (A crash came before its acknowledgement.)"""
        return event.redelivered and bool(event.seq) and event.id in self._stored

    def add(self, event: Event, strand: str, *, stored: bool = False) -> None:
        """It was delivered just now, or is safe in the parking lot (`stored`)."""
        if not (event.id and event.seq):
            return
        for event_id in [event.id, *self._later(event, strand)]:
            self._forget(event_id)
        book = self._stored if stored else self._delivered
        book[event.id] = _Known(event.seq, strand, event.table)
        self._strands.setdefault(strand, {})[event.id] = event.seq
        if event.is_barrier and self._has_barriers:
            self._barriers.setdefault(event.table, {})[event.id] = event.seq
        if len(book) > self._maximum:
            self._forget(next(iter(book)))

    def begun(self, event: Event, strand: str) -> None:
        """It is about to be sent: what was delivered of it and after it in its row proves nothing any more.

        Not so what is stored: that comes after it anyway.
        """
        if event.id and event.seq:
            for event_id in [event.id, *self._later(event, strand)]:
                if event_id in self._delivered:
                    self._forget(event_id)

    def forget(self) -> None:
        """Another receiver may have delivered since."""
        for book in (self._delivered, self._stored, self._strands, self._barriers):
            book.clear()

    def forget_stored(self) -> None:
        """The parking lot is read anew."""
        for event_id in list(self._stored):
            self._forget(event_id)

    def _later(self, event: Event, strand: str) -> list[str]:
        """What goes after it in its row, or after a truncate of its table."""
        if not event.seq:
            return []
        if event.is_barrier and self._has_barriers:
            known = [*self._delivered.items(), *self._stored.items()]
            return [event_id for event_id, one in known if one.table == event.table and one.seq > event.seq]
        own = itertools.takewhile(lambda one: one[1] > event.seq, reversed(self._strands.get(strand, {}).items()))
        barriers = self._barriers.get(event.table, {}).items()
        return [event_id for event_id, seq in [*own, *barriers] if seq > event.seq]

    def _forget(self, event_id: str) -> None:
        known = self._delivered.pop(event_id, None) or self._stored.pop(event_id, None)
        if known is None:
            return
        for order, name in ((self._strands, known.strand), (self._barriers, known.table)):
            ids = order.get(name, {})
            ids.pop(event_id, None)
            if not ids:
                order.pop(name, None)


class Failures:
    """What events have been through that are not here any more, and will be delivered to us again, from either queue.

    Args:
        maximum: the newest ones; at least a window.
    """

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._tries: collections.OrderedDict[str, Tries] = collections.OrderedDict()

    def keep(self, event: Event, tries: Tries) -> None:
        """It is the broker's again, unfinished."""
        been_tried = tries.attempts or tries.not_before or tries.running_until
        if event.id and event.seq and been_tried:  # others may use an id twice
            self._tries[event.id] = tries
            if len(self._tries) > self._maximum:
                self._tries.popitem(last=False)

    def take(self, event: Event, now: float) -> Tries | None:
        """It is here again, or a copy that its listener has sent. None = nothing is known of it."""
        known = self._tries.get(event.id) if event.seq else None
        if known is not None and known.running_until <= now:  # else what comes of it after a copy must know it, too
            del self._tries[event.id]
        return known

    def remind(self, event: Event, tries: Tries) -> None:
        """It lies in the parking lot, whose word is `tries`: a request of ours for it may still run on the server."""
        known = self._tries.get(event.id) if event.seq else None
        if known is not None:
            tries.await_end(known.running_until)
