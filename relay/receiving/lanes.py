"""Which event may be delivered now? A queue (lane) for each key, states, waits. Pure: no sockets, threads or clock.

The rules, each of which tests/unit/test_lanes.py breaks on purpose:

- Of one lane, at most one event is with a worker: its first. So the order of a row is the order of arrival.
- A lane that waits (back-off) is not ready; it occupies no worker and holds up no other lane (`ready.py`).
- A request of a lost session may still run: its event stays as a *ghost*; what comes again of its key waits behind it.
"""

import itertools
import uuid
from collections.abc import Callable, Collection, Iterator

from relay.delivery import Event, Tries, lane_name
from relay.receiving.barriers import Barriers
from relay.receiving.deduplication import Deduplication, Failures
from relay.receiving.lane import Item, Lane, Origin, Receipt, State
from relay.receiving.ready import Patience, Ready

REMEMBERED_MIN = 2000  # events whose failures, or success, are remembered across sessions, at least


class Lanes:
    """All lanes.

    Args:
        order: "key", "global" (one lane for everything) or "none" (a lane for each event; no barriers).
        group: events of one group may share a batch.
        remember: number of finished and failed events kept in mind across sessions; a window and its acknowledgements.
        retries: batches of events that have failed before that may be with workers, before the others go first.
        rank: of a group: which of those that are ready go first; None = all are alike.
    """

    def __init__(
        self,
        order: str = "key",
        group: Callable[[Event], str] = lambda _event: "",
        remember: int = REMEMBERED_MIN,
        retries: int = 1,
        rank: Callable[[str], int] | None = None,
    ) -> None:
        self._order = order
        self._group = group
        self._lanes: dict[Origin, dict[str, Lane]] = {origin: {} for origin in Origin}
        self._ready = Ready(retries, rank)
        self._blocked: dict[str, list[Lane]] = {}  # by the table whose barrier they wait for
        self._barriers = Barriers()
        self._opened: list[str] = []  # tables whose barrier has just fallen
        self._count = itertools.count()
        self._failures = Failures(max(remember, REMEMBERED_MIN))
        self.deduplication = Deduplication(max(remember, REMEMBERED_MIN), barriers=order == "key")
        self.size = 0  # bytes of all events that are here, ghosts included
        self.events = 0

    def add(
        self,
        event: Event,
        receipt: Receipt,
        now: float,
        lane: str | None = None,
        tries: Tries | None = None,
        origin: Origin = Origin.MAIN,
    ) -> Item:
        """An event has arrived, and is no copy of one that need not be delivered.

        `lane`: its lane, if not the one that `lane_key` says. `tries`: what it has been through. `origin`: from where.
        """
        failed = self._failures.take(event)
        name = self.lane_key(event) if lane is None else lane
        mine = self.lane(name, origin)
        if mine is None:
            mine = self._lanes[origin][name] = Lane(name, origin)
        stretch = self._barriers.enter(self._table(event), barrier=event.is_barrier)
        number = next(self._count)
        item = Item(event, receipt, mine, stretch=stretch, number=number, arrived=now, tries=tries or failed)
        mine.items.append(item)
        self.size += event.size
        self.events += 1
        self._list(mine, now)
        return item

    def take(self, now: float, maximum: int = 1, minimum: int = 1, patience: Patience = (0.0, 0.0)) -> list[Item]:
        """The next batch to deliver: events of one group, no two of one lane, at most `maximum`. Empty = none is ready.

        A group of fewer than `minimum` is left to grow, while it does and as long as `patience` says.
        """
        for lane in self._ready.due(now):
            self._list(lane, now)
        batch = [lane.items[0] for lane in self._ready.take(now, maximum, minimum, patience)]
        for item in batch:
            self.deduplication.begun(item.event, self.lane_key(item.event))
        return batch

    def next_ripe(self, patience: Patience) -> float | None:
        """When the first group need not grow any more; None = there is nothing to `take`."""
        return self._ready.next_ripe(patience)

    def next_wake(self) -> float | None:
        """When the first waiting lane becomes ready; None = none waits."""
        return self._ready.next_wake()

    def has_ready(self, now: float, origin: Origin | None = None) -> bool:
        """Is there anything to `take`, of this origin? (A blocked lane may be counted as well.)"""
        return self._ready.has_ready(now, origin)

    def largest(self) -> int:
        """Bytes of the largest event that is here."""
        return max((item.event.size for lane in self for item in lane.items), default=0)

    def done(self, item: Item, now: float) -> list[Receipt]:
        """The target has it. Return what may be acknowledged now: it, and copies of it that were delivered again.

        The acknowledgement may still get lost with the connection, so the id is kept in mind.
        """
        if item.event.id and item.event.seq and item.proves:
            self.deduplication.add(item.event, self.lane_key(item.event))
        lane, receipts = item.lane, [item.take_receipt()]
        self._remove(item)
        while lane.items and self.is_copy(lane.items[0].event, lane.key, lane.origin):
            receipts.append(lane.items[0].take_receipt())
            self._remove(lane.items[0])
        self._after_removal(lane, now)
        return [receipt for receipt in receipts if receipt is not None]

    def again(self, item: Item, not_before: float, now: float, *, spent: bool) -> None:
        """It failed and stays first of its lane until `not_before`. `spent`: an attempt of its own."""
        item.tries.postpone(not_before, spent=spent)
        if item.lane.woken:
            item.tries.end_wait(now)
        self._land(item.lane)
        if item.receipt is None:
            self._failures.keep(item.event, item.tries)
            self._remove(item)
            self._after_removal(item.lane, now)
        else:
            self._list(item.lane, now)

    def wake(self, names: Collection[str], now: float) -> None:
        """What these lanes wait for has come: no back-off, and no yielding to others any more."""
        for lane in [lanes[name] for lanes in self._lanes.values() for name in names if name in lanes]:
            lane.wake()
            if lane.state is State.WAITING and lane.items[0].tries.not_before > now:
                self._ready.remove(lane)
                lane.items[0].tries.end_wait(now)
                self._list(lane, now)

    def set_aside(self, item: Item) -> None:
        """It has failed for good: its lane rests until its events are dropped."""
        if item.lane.items and item.lane.items[0] is item:  # of a pass that has ended, there may be none
            self._land(item.lane)
        self.hold(item.lane)

    def hold(self, lane: Lane) -> None:
        """It rests until `resume`, or until its events are dropped."""
        self._ready.remove(lane)
        lane.hold()

    def resume(self, lane: Lane, now: float) -> None:
        """It rested, and may go on."""
        lane.let_go()
        self._list(lane, now)

    def release(self, now: float, origin: Origin | None = None) -> None:
        """A channel is gone, its messages come again. What is with a worker remains. `origin`: of this queue only."""
        for lane in [lane for lane in self if origin in (None, lane.origin)]:
            for item in list(lane.items):
                self.drop(item, now)
            lane.let_go()

    def forget(self) -> None:
        """Another receiver may have been at work. What was delivered before, or is under way, proves nothing any more.

        What the other one had delivered of a row may come again from an older event on, and then all of it must. A
        request under way goes on holding up its key, from whichever queue it comes now.
        """
        self.deduplication.forget()
        main, parked = self._lanes[Origin.MAIN], self._lanes[Origin.PARKED]
        for item in list(self.in_flight()):
            item.prove_nothing()
            lane = item.lane
            if lane.origin is Origin.PARKED and lane.key not in main:
                main[lane.key] = parked.pop(lane.key)
                lane.move_to(Origin.MAIN)

    def drop(self, item: Item, now: float, *, remember: bool = True) -> None:
        """Let go of an unfinished event; with a worker, it becomes a ghost. `remember` its failures if it returns."""
        lane = item.lane
        if item not in lane.items:
            return  # it was let go of before, with its channel
        is_first = lane.items[0] is item
        if lane.is_in_flight and is_first:
            item.take_receipt()
            return
        if remember:
            self._failures.keep(item.event, item.tries)
        if is_first:
            self._unlist(lane)
        lane.items.remove(item)
        self._leave(item)
        self._after_removal(lane, now)

    def lane(self, key: str, origin: Origin = Origin.MAIN) -> Lane | None:
        """The lane of this name."""
        return self._lanes[origin].get(key)

    def __iter__(self) -> Iterator[Lane]:
        """All of them."""
        return itertools.chain.from_iterable(lanes.values() for lanes in self._lanes.values())

    def of(self, origin: Origin) -> list[Lane]:
        """Those whose events come from this queue."""
        return list(self._lanes[origin].values())

    def together(self, item: Item) -> list[Item]:
        """What must not change places with it, oldest first: its lane; with a truncate of its table here, the table."""
        table, own = item.event.table, list(item.lane.items)
        if not self._barriers.bars(table):
            return own
        lanes = (lane.items for lane in self.of(item.lane.origin))
        items = [one for lane in lanes if any(other.event.table == table for other in lane) for one in lane]
        is_here = any(one.event.is_barrier and one.event.table == table for one in items)
        return sorted(items, key=lambda one: one.number) if is_here else own

    def in_flight(self) -> Iterator[Item]:
        """What is with a worker."""
        return (lane.items[0] for lane in self if lane.is_in_flight)

    def is_copy(self, event: Event, lane: str, origin: Origin = Origin.MAIN) -> bool:
        """Was it delivered before, and only its acknowledgement got lost? It arrives now, or is first of its lane."""
        return self.deduplication.was_delivered(event) and not self.holds_older(event, lane, origin)

    def holds_older(self, event: Event, lane: str, origin: Origin = Origin.MAIN) -> bool:
        """Is something here that goes before it? If it was handled before, that comes again, and so must this."""
        own = self.lane(lane, origin)
        if own and any(item.event.seq < event.seq for item in own.items if item.event.seq):
            return True
        if self._order != "key" or not (event.is_barrier or self._barriers.bars(event.table)):
            return False
        same = (item.event for each in self for item in each.items if item.event.table == event.table)
        return any(one.seq < event.seq for one in same if one.seq and (one.is_barrier or event.is_barrier))

    def lane_key(self, event: Event) -> str:
        """The name of its lane: its key, or a name of its own."""
        if self._order == "global":
            return ""
        if event.key and self._order == "key":
            return lane_name(event.key)
        # By id, so that a copy delivered again waits for a request of the lost session that may still be running.
        is_named = event.id and (event.seq or event.claimed_id is not None)
        return lane_name(f"\0{event.id}") if is_named else f"\0#{uuid.uuid4()}"

    def _list(self, lane: Lane, now: float) -> None:
        """Put a lane where it belongs after anything about its first event has changed."""
        if lane.state is not State.IDLE or not lane.items:
            return
        first = lane.items[0]
        if first.tries.not_before > now:
            self._ready.wait(lane)
        elif not self._barriers.open_for(first.event.table, first.stretch):
            lane.state = State.BLOCKED
            self._blocked.setdefault(first.event.table, []).append(lane)
        else:
            self._ready.add(lane, self._group(first.event), now)

    def _unlist(self, lane: Lane) -> None:
        self._ready.remove(lane)
        if lane.state is State.BLOCKED:
            lane.state = State.IDLE

    def _land(self, lane: Lane) -> None:
        self._ready.landed(lane)
        lane.land()

    def _remove(self, item: Item) -> None:
        lane = item.lane
        assert lane.items[0] is item, "only the first of a lane is ever with a worker"  # noqa: S101
        lane.items.popleft()
        self._land(lane)
        self._leave(item)

    def _leave(self, item: Item) -> None:
        self.size -= item.event.size
        self.events -= 1
        if self._barriers.leave(self._table(item.event), item.stretch):
            self._opened.append(item.event.table)

    def _table(self, event: Event) -> str:
        return event.table if self._order == "key" else ""  # else a truncate is no barrier

    def _after_removal(self, lane: Lane, now: float) -> None:
        if lane.items:
            lane.items[0].inherit(self._failures.take(lane.items[0].event))  # of its ghost, which has failed since
            self._list(lane, now)
        else:
            self._lanes[lane.origin].pop(lane.key, None)
        while self._opened:
            for blocked in self._blocked.pop(self._opened.pop(), ()):
                self._unlist(blocked)
                self._list(blocked, now)
