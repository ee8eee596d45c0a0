"""Which event may be delivered now? A queue (lane) for each key, states, waits. Pure: no sockets, threads or clock.

The rules, each of which tests/unit/test_dispatch.py breaks on purpose:

- Of one lane, at most one event is with a worker: its first. So the order of a row is the order of arrival.
- A lane that waits (back-off) is not ready; it occupies no worker and holds up no other lane.
- A request of a lost session may still be running: its event stays in its lane as a *ghost*, and what RabbitMQ
  delivers again of that key queues up behind it.
"""

import collections
import heapq
import itertools
from collections.abc import Callable, Hashable, Iterator
from typing import Any

from relay.barriers import Barriers
from relay.delivery import Event

REMEMBERED_MIN = 2000  # events whose failures, or success, are remembered across sessions, at least

Receipt = Callable[[], None]  # acknowledges the event to RabbitMQ; made by the session, never called here


class Item:
    """An event in its lane."""

    __slots__ = ("event", "failures", "lane", "receipt", "stretch", "wake")

    def __init__(self, event: Event, receipt: Receipt | None, lane: "Lane", stretch: int) -> None:
        self.event = event
        self.receipt = receipt  # None: a ghost, its channel is gone, there is nothing to acknowledge
        self.lane = lane
        self.stretch = stretch
        self.failures = 0  # attempts spent
        self.wake = 0.0  # not before this time


class Lane:
    """The events of one key that are here, oldest first."""

    __slots__ = ("busy", "held", "items", "key", "listed")

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self.items: collections.deque[Item] = collections.deque()
        self.busy = False  # its first event is with a worker
        self.listed = False  # among the ready, the waiting or the blocked ones
        self.held = False  # somebody else decides when it goes on


class Dispatch:
    """All lanes.

    Args:
        order: "key", "global" (one lane for everything) or "none" (a lane for each event; no barriers).
        group: events of one group may share a batch.
        remember: number of finished and failed events kept in mind across sessions; a window and its acknowledgements.
    """

    def __init__(
        self, order: str = "key", group: Callable[[Event], str] = lambda _event: "", remember: int = REMEMBERED_MIN
    ) -> None:
        self._order = order
        self._group = group
        self._lanes: dict[Hashable, Lane] = {}
        self._ready: dict[str, collections.deque[Lane]] = {}
        self._waiting: list[tuple[float, int, Lane]] = []
        self._blocked: dict[str, list[Lane]] = {}  # by the table whose barrier they wait for
        self._barriers = Barriers()
        self._opened: list[str] = []  # tables whose barrier has just fallen
        self._count = itertools.count()
        self._delivered: collections.OrderedDict[str, None] = collections.OrderedDict()
        self._failed: collections.OrderedDict[str, tuple[int, float]] = collections.OrderedDict()
        self._remember = max(remember, REMEMBERED_MIN)
        self.size = 0  # bytes of all events that are here, ghosts included
        self.events = 0

    def add(self, event: Event, receipt: Receipt, now: float) -> Item | None:
        """An event has arrived. None = it was delivered before, and only its acknowledgement got lost: do that."""
        if self._was_delivered(event):
            return None
        item = self._append(event, receipt)
        if event.id in self._failed:
            item.failures, item.wake = self._failed.pop(event.id)
        if item.lane.items[0] is item:
            self._list(item.lane, now)
        return item

    def take(self, now: float, most: int = 1) -> list[Item]:
        """The next batch to deliver: events of one group, no two of one lane, at most `most`. Empty = none is ready."""
        while self._waiting and self._waiting[0][0] <= now:
            lane = heapq.heappop(self._waiting)[2]
            lane.listed = False
            self._list(lane, now)
        for group in list(self._ready):
            lanes = self._ready.pop(group)
            batch = list(itertools.islice(self._startable(lanes), most))
            if lanes:
                self._ready[group] = lanes  # behind the other groups: they take turns
            if batch:
                return batch
        return []

    def next_wake(self) -> float | None:
        """When the first waiting lane becomes ready; None = none waits."""
        return self._waiting[0][0] if self._waiting else None

    def has_ready(self, now: float) -> bool:
        """Is there anything to `take`? (A blocked lane may be counted as well.)"""
        return bool(self._ready) or bool(self._waiting and self._waiting[0][0] <= now)

    def done(self, item: Item, now: float) -> list[Receipt]:
        """The target has it. Return what may be acknowledged now: it, and copies of it that were delivered again.

        The acknowledgement may still get lost with the connection, so the id is kept in mind.
        """
        if item.event.id and item.event.seq:
            self._delivered[item.event.id] = None
            self._forget_oldest(self._delivered)
        lane, receipts = item.lane, [item.receipt]
        self._remove(item)
        while lane.items and self._was_delivered(lane.items[0].event):
            receipts.append(lane.items[0].receipt)
            self._remove(lane.items[0])
        self._after_removal(lane, now)
        return [receipt for receipt in receipts if receipt is not None]

    def again(self, item: Item, wake: float, now: float, *, spent: bool) -> None:
        """It failed and stays first of its lane until `wake`. `spent`: an attempt of its own."""
        item.failures += spent
        item.wake = wake
        item.lane.busy = False
        if item.receipt is None:
            self._keep_failure(item)
            self._remove(item)
            self._after_removal(item.lane, now)
        else:
            self._list(item.lane, now)

    def release(self) -> None:
        """The channel is gone and RabbitMQ will deliver everything again. Only what is with a worker remains."""
        ghosts = []
        for lane in self._lanes.values():
            for item in lane.items:
                if lane.busy and item is lane.items[0]:
                    item.receipt = None
                    ghosts.append(item)
                else:
                    self._keep_failure(item)
        self._lanes = {item.lane.key: item.lane for item in ghosts}
        self._ready, self._waiting, self._blocked, self._barriers = {}, [], {}, Barriers()
        self.size, self.events = sum(item.event.size for item in ghosts), len(ghosts)
        for item in ghosts:
            item.lane.items = collections.deque([item])
            item.lane.listed = False
            item.stretch = self._enter(item.event)

    def in_flight(self) -> Iterator[Item]:
        """What is with a worker."""
        return (lane.items[0] for lane in self._lanes.values() if lane.busy)

    def _was_delivered(self, event: Event) -> bool:
        # Only what the broker calls redelivered, and only our own ids: others may use an id twice.
        return event.redelivered and bool(event.seq) and event.id in self._delivered

    def _append(self, event: Event, receipt: Receipt) -> Item:
        key = self._lane_key(event)
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = Lane(key)
        item = Item(event, receipt, lane, self._enter(event))
        lane.items.append(item)
        self.size += event.size
        self.events += 1
        return item

    def _lane_key(self, event: Event) -> Hashable:
        if self._order == "global":
            return ""
        if event.key and self._order == "key":
            return event.key
        # By id, so that a copy delivered again waits for a request of the lost session that may still be running.
        return ("id", event.id) if event.id and event.seq else ("number", next(self._count))

    def _enter(self, event: Event) -> int:
        table = event.table if self._order == "key" else ""
        return self._barriers.enter(table, barrier=event.is_barrier)

    def _list(self, lane: Lane, now: float) -> None:
        """Put a lane where it belongs after anything about its first event has changed."""
        if lane.busy or lane.listed or lane.held or not lane.items:
            return
        first = lane.items[0]
        lane.listed = True
        if first.wake > now:
            heapq.heappush(self._waiting, (first.wake, next(self._count), lane))
        elif not self._is_open(first):
            self._blocked.setdefault(first.event.table, []).append(lane)
        else:
            self._ready.setdefault(self._group(first.event), collections.deque()).append(lane)

    def _is_open(self, item: Item) -> bool:
        return self._order != "key" or self._barriers.open_for(item.event.table, item.stretch)

    def _startable(self, lanes: collections.deque[Lane]) -> Iterator[Item]:
        while lanes:
            lane = lanes.popleft()
            lane.listed = False
            if lane.items and not lane.held:
                lane.busy = True
                yield lane.items[0]

    def _remove(self, item: Item) -> None:
        lane = item.lane
        assert lane.items[0] is item, "only the first of a lane is ever with a worker"  # noqa: S101
        lane.items.popleft()
        lane.busy = False
        self.size -= item.event.size
        self.events -= 1
        table = item.event.table if self._order == "key" else ""
        if self._barriers.leave(table, item.stretch):
            self._opened.append(table)

    def _after_removal(self, lane: Lane, now: float) -> None:
        if lane.items:
            self._inherit(lane.items[0])
            self._list(lane, now)
        else:
            del self._lanes[lane.key]
        while self._opened:
            for blocked in self._blocked.pop(self._opened.pop(), ()):
                blocked.listed = False
                self._list(blocked, now)

    def _inherit(self, item: Item) -> None:
        """It was delivered again while its ghost was running, and the ghost has failed since."""
        if item.event.id in self._failed:
            item.failures, item.wake = self._failed.pop(item.event.id)

    def _keep_failure(self, item: Item) -> None:
        if item.event.id and item.event.seq and (item.failures or item.wake):
            self._failed[item.event.id] = (item.failures, item.wake)
            self._forget_oldest(self._failed)

    def _forget_oldest(self, memory: "collections.OrderedDict[str, Any]") -> None:
        if len(memory) > self._remember:
            memory.popitem(last=False)
