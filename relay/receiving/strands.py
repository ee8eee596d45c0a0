"""Which event may be delivered now? A queue (strand) for each key, states, waits. Pure: no sockets, threads or clock.

The rules, each of which tests/unit/test_strands.py breaks on purpose:

- Of one strand, at most one event is with a worker: its first. So the order of a row is the order of arrival.
- A strand that waits (back-off) is not ready; it occupies no worker and holds up no other strand (`ready.py`).
- A request of a lost session may still run: its event stays as a *ghost*; what comes again of its key waits behind it.
"""

import itertools
import uuid
from collections.abc import Callable, Collection, Iterator

from relay.delivery import Event, Tries, strand_name
from relay.receiving.barriers import Barriers
from relay.receiving.deduplication import Deduplication, Failures
from relay.receiving.ready import Patience, Ready
from relay.receiving.strand import Item, Origin, Receipt, State, Strand

REMEMBERED_MIN = 2000  # events whose failures, or success, are remembered across sessions, at least


class Strands:
    """All strands.

    Args:
        order: "key", "global" (one strand for everything) or "none" (a strand for each event; no barriers).
        group: events of one group may share a batch.
        remember: number of finished and failed events kept in mind across sessions; a window and its acknowledgements.
        retries: batches of events that have failed before that may be with workers, before the others go first.
        rank: of a group: which of those that are ready go first; None = all are alike.
        barriers: with order "key": does a truncate stand between the rows of its table?
    """

    def __init__(
        self,
        order: str = "key",
        group: Callable[[Event], str] = lambda _event: "",
        remember: int = REMEMBERED_MIN,
        retries: int = 1,
        rank: Callable[[str], int] | None = None,
        *,
        barriers: bool = True,
    ) -> None:
        self._order = order
        self._has_barriers = barriers and order == "key"
        self._group = group
        self._strands: dict[Origin, dict[str, Strand]] = {origin: {} for origin in Origin}
        self.ready = Ready(retries, rank)  # to be asked, and nothing else: a blocked strand may be there as well
        self._blocked: dict[str, list[Strand]] = {}  # by the table whose barrier they wait for
        self._barriers = Barriers()
        self._opened: list[str] = []  # tables whose barrier has just fallen
        self._count = itertools.count()
        self.failures = Failures(max(remember, REMEMBERED_MIN))
        self.deduplication = Deduplication(max(remember, REMEMBERED_MIN), barriers=self._has_barriers)
        self.size = 0  # bytes of all events that are here, ghosts included
        self.events = 0

    def add(
        self,
        event: Event,
        receipt: Receipt,
        now: float,
        strand: str | None = None,
        tries: Tries | None = None,
        origin: Origin = Origin.MAIN,
    ) -> Item:
        """An event has arrived, and is no copy of one that need not be delivered.

        `strand`: its own, if not as `strand_key` says. `tries`: what it has been through. `origin`: from where.
        """
        failed = self.failures.take(event, now)
        name = self.strand_key(event) if strand is None else strand
        mine = self.strand(name, origin)
        if mine is None:
            mine = self._strands[origin][name] = Strand(name, origin)
        stretch = self._barriers.enter(self._table(event), barrier=event.is_barrier)
        item = Item(event, receipt, mine, stretch=stretch, number=next(self._count), arrived=now, tries=tries or failed)
        mine.items.append(item)
        self.size += event.size
        self.events += 1
        first = mine.items[0]
        if event.op == "delete" and first.is_deleted and not first.tries.attempts:
            self._wake(mine, now)  # the target may pass over what it waits for
        self._list(mine, now)
        return item

    def take(self, now: float, maximum: int = 1, minimum: int = 1, patience: Patience = (0.0, 0.0)) -> list[Item]:
        """The next batch to deliver: of one group, no two of one strand, at most `maximum`. Empty: none is ready.

        A group of fewer than `minimum` is left to grow, while it does and as long as `patience` says.
        """
        for strand in self.ready.due(now):
            self._list(strand, now)
        batch = [strand.items[0] for strand in self.ready.take(now, maximum, minimum, patience)]
        for item in batch:
            self.deduplication.begun(item.event, self.strand_key(item.event))
        return batch

    def largest(self) -> int:
        """Bytes of the largest event that is here."""
        return max((item.event.size for strand in self for item in strand.items), default=0)

    def done(self, item: Item, now: float) -> list[Receipt]:
        """The target has it. Return what may be acknowledged now: it, and copies of it that were delivered again.

        The acknowledgement may still get lost with the connection, so the id is kept in mind.
        """
        if item.event.id and item.event.seq and item.proves:
            self.deduplication.add(item.event, self.strand_key(item.event))
        strand, receipts = item.strand, [item.take_receipt()]
        self._remove(item)
        while strand.items and self.is_copy(strand.items[0].event, strand.key, strand.origin):
            receipts.append(strand.items[0].take_receipt())
            self._remove(strand.items[0])
        self._after_removal(strand, now)
        return [receipt for receipt in receipts if receipt is not None]

    def again(self, item: Item, not_before: float, now: float, *, spent: bool) -> None:
        """It failed and stays first of its strand until `not_before`. `spent`: an attempt of its own."""
        item.tries.postpone(not_before, spent=spent)
        if item.strand.woken:
            item.tries.end_wait(now)
        self._land(item.strand)
        if item.receipt is None:
            self.failures.keep(item.event, item.tries)
            self._remove(item)
            self._after_removal(item.strand, now)
        else:
            self._list(item.strand, now)

    def wake(self, names: Collection[str], now: float) -> None:
        """What these strands wait for has come: no back-off, and no yielding to others any more."""
        for strand in [strands[name] for strands in self._strands.values() for name in names if name in strands]:
            self._wake(strand, now)

    def _wake(self, strand: Strand, now: float) -> None:
        strand.wake()
        if strand.state is State.WAITING and strand.items[0].tries.not_before > now:
            self.ready.remove(strand)
            strand.items[0].tries.end_wait(now)
            self._list(strand, now)

    def set_aside(self, item: Item) -> None:
        """It has failed for good: its strand rests until its events are dropped."""
        if item.strand.items and item.strand.items[0] is item:  # of a pass that has ended, there may be none
            self._land(item.strand)
        self.hold(item.strand)

    def hold(self, strand: Strand) -> None:
        """It rests until `resume`, or until its events are dropped."""
        self.ready.remove(strand)
        strand.hold()

    def resume(self, strand: Strand, now: float) -> None:
        """It rested, and may go on."""
        strand.let_go()
        self._list(strand, now)

    def release(self, now: float, origin: Origin | None = None) -> None:
        """A channel is gone, its messages come again. What is with a worker remains. `origin`: of this queue only."""
        for strand in [strand for strand in self if origin in (None, strand.origin)]:
            for item in list(strand.items):
                self.drop(item, now)
            strand.let_go()

    def forget(self) -> None:
        """Another receiver may have been at work. What was delivered before, or is under way, proves nothing any more.

        What the other one had delivered of a row may come again from an older event on, and then all of it must. A
        request under way goes on holding up its key, from whichever queue it comes now.
        """
        self.deduplication.forget()
        main, parked = self._strands[Origin.MAIN], self._strands[Origin.PARKED]
        for item in list(self.in_flight()):
            item.prove_nothing()
            strand = item.strand
            if strand.origin is Origin.PARKED and strand.key not in main:
                main[strand.key] = parked.pop(strand.key)
                strand.move_to(Origin.MAIN)

    def drop(self, item: Item, now: float, *, remember: bool = True) -> None:
        """Let go of an unfinished event; with a worker, it becomes a ghost. `remember` its failures if it returns.

        That a request may still run on the server is remembered in any case.
        """
        strand = item.strand
        if item not in strand.items:
            return  # it was let go of before, with its channel
        is_first = strand.items[0] is item
        if strand.is_in_flight and is_first:
            item.take_receipt()
            return
        if remember or item.tries.running_until > now:
            self.failures.keep(item.event, item.tries)
        if is_first:
            self._unlist(strand)
        strand.items.remove(item)
        self._leave(item)
        self._after_removal(strand, now)

    def strand(self, key: str, origin: Origin = Origin.MAIN) -> Strand | None:
        """The strand of this name."""
        return self._strands[origin].get(key)

    def __iter__(self) -> Iterator[Strand]:
        """All of them."""
        return itertools.chain.from_iterable(strands.values() for strands in self._strands.values())

    def of(self, origin: Origin) -> list[Strand]:
        """Those whose events come from this queue."""
        return list(self._strands[origin].values())

    def together(self, item: Item) -> list[Item]:
        """What must not change places with it, oldest first: its strand; with a truncate of its table, the table."""
        table, own = item.event.table, list(item.strand.items)
        if not self._barriers.bars(table):
            return own
        strands = (strand.items for strand in self.of(item.strand.origin))
        items = [one for strand in strands if any(other.event.table == table for other in strand) for one in strand]
        is_here = any(one.event.is_barrier and one.event.table == table for one in items)
        return sorted(items, key=lambda one: one.number) if is_here else own

    def in_flight(self) -> Iterator[Item]:
        """What is with a worker."""
        return (strand.items[0] for strand in self if strand.is_in_flight)

    def is_copy(self, event: Event, strand: str, origin: Origin = Origin.MAIN) -> bool:
        """Was it delivered before, and only its acknowledgement got lost? It arrives now, or is first of its strand."""
        return self.deduplication.was_delivered(event) and not self.holds_older(event, strand, origin)

    def holds_older(self, event: Event, strand: str, origin: Origin = Origin.MAIN) -> bool:
        """Is something here that goes before it? If it was handled before, that comes again, and so must this."""
        own = self.strand(strand, origin)
        if own and any(item.event.seq < event.seq for item in own.items if item.event.seq):
            return True
        if not self._has_barriers or not (event.is_barrier or self._barriers.bars(event.table)):
            return False
        same = (item.event for each in self for item in each.items if item.event.table == event.table)
        return any(one.seq < event.seq for one in same if one.seq and (one.is_barrier or event.is_barrier))

    def strand_key(self, event: Event) -> str:
        """The name of its strand: its key, or a name of its own."""
        if self._order == "global":
            return ""
        if event.key and self._order == "key":
            return strand_name(event.key)
        # By id, so that a copy delivered again waits for a request of the lost session that may still be running.
        is_named = event.id and (event.seq or event.claimed_id is not None)
        return strand_name(f"\0{event.id}") if is_named else f"\0#{uuid.uuid4()}"

    def _list(self, strand: Strand, now: float) -> None:
        """Put a strand where it belongs after anything about its first event has changed."""
        if strand.state is not State.IDLE or not strand.items:
            return
        first = strand.items[0]
        if first.tries.not_before > now:
            self.ready.wait(strand)
        elif not self._barriers.open_for(first.event.table, first.stretch):
            strand.state = State.BLOCKED
            self._blocked.setdefault(first.event.table, []).append(strand)
        else:
            self.ready.add(strand, self._group(first.event), now)

    def _unlist(self, strand: Strand) -> None:
        self.ready.remove(strand)
        if strand.state is State.BLOCKED:
            strand.state = State.IDLE

    def _land(self, strand: Strand) -> None:
        self.ready.landed(strand)
        strand.land()

    def _remove(self, item: Item) -> None:
        strand = item.strand
        assert strand.items[0] is item, "only the first of a strand is ever with a worker"  # noqa: S101
        strand.items.popleft()
        self._land(strand)
        self._leave(item)

    def _leave(self, item: Item) -> None:
        self.size -= item.event.size
        self.events -= 1
        if self._barriers.leave(self._table(item.event), item.stretch):
            self._opened.append(item.event.table)

    def _table(self, event: Event) -> str:
        return event.table if self._has_barriers else ""

    def _after_removal(self, strand: Strand, now: float) -> None:
        if strand.items:
            first = strand.items[0]
            first.inherit(self.failures.take(first.event, now))  # of its ghost, which has failed since
            self._list(strand, now)
        else:
            self._strands[strand.origin].pop(strand.key, None)
        while self._opened:
            for blocked in self._blocked.pop(self._opened.pop(), ()):
                self._unlist(blocked)
                self._list(blocked, now)
