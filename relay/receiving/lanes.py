"""Which event may be delivered now? A queue (lane) for each key, states, waits. Pure: no sockets, threads or clock.

The rules, each of which tests/unit/test_lanes.py breaks on purpose:

- Of one lane, at most one event is with a worker: its first. So the order of a row is the order of arrival.
- A lane that waits (back-off) is not ready; it occupies no worker and holds up no other lane.
- A lane whose first event has failed by itself, and may be tried again, leaves nearly all of the work to the others,
  while any is ready: thousands of such events must not take the workers from those that nothing is wrong with.
- A request of a lost session may still be running: its event stays in its lane as a *ghost*, and what RabbitMQ
  delivers again of that key queues up behind it.
"""

import collections
import heapq
import itertools
import uuid
from collections.abc import Callable, Collection, Iterator

from relay.delivery import Event, Tries, lane_name
from relay.receiving.barriers import Barriers
from relay.receiving.deduplication import Deduplication

RETRY_TURN = 20  # one of so many batches is of events that have failed before, while others are ready, too
REMEMBERED_MIN = 2000  # events whose failures, or success, are remembered across sessions, at least

Patience = tuple[float, float]  # seconds since a batch last grew, and since its first event was ready
_Group = tuple[bool, str]  # has the lanes' first event failed before? And: what may share a batch
Receipt = Callable[[], None]  # acknowledges the event to RabbitMQ; made by the session, never called here


def _ripe(times: tuple[float, float], patience: Patience) -> float:
    return min(times[1] + patience[0], times[0] + patience[1])


class Item:
    """An event in its lane."""

    __slots__ = ("event", "lane", "number", "proves", "receipt", "since", "stretch", "tries")

    def __init__(self, event: Event, receipt: Receipt | None, lane: "Lane", stretch: int) -> None:
        self.event = event
        self.receipt = receipt  # None: a ghost, its channel is gone, there is nothing to acknowledge
        self.lane = lane
        self.stretch = stretch
        self.number = 0  # order of arrival
        self.proves = True  # once delivered, a copy of it need not be: nobody else was at work since it was begun
        self.since = 0.0  # when it was given to a worker
        self.tries = Tries()


class Lane:
    """The events of one key that are here, oldest first."""

    __slots__ = ("busy", "held", "items", "key", "listed", "retries", "woken")

    def __init__(self, key: str) -> None:
        self.key = key
        self.items: collections.deque[Item] = collections.deque()
        self.busy = False  # its first event is with a worker
        self.listed = False  # among the ready, the waiting or the blocked ones
        self.held = False  # somebody else decides when it goes on
        self.retries = False  # busy with an event that has failed before
        self.woken = False  # what it would wait for, should this try fail, has come


class Lanes:
    """All lanes.

    Args:
        order: "key", "global" (one lane for everything) or "none" (a lane for each event; no barriers).
        group: events of one group may share a batch.
        remember: number of finished and failed events kept in mind across sessions; a window and its acknowledgements.
        retries: batches of events that have failed before that may be with workers, before the others go first.
    """

    def __init__(
        self,
        order: str = "key",
        group: Callable[[Event], str] = lambda _event: "",
        remember: int = REMEMBERED_MIN,
        retries: int = 1,
    ) -> None:
        self._order = order
        self._group = group
        self._lanes: dict[str, Lane] = {}
        self._ready: dict[_Group, collections.deque[Lane]] = {}
        self._ready_times: dict[_Group, tuple[float, float]] = {}  # when its first lane came, and its last
        self._since_retry = 0  # batches that were taken since the last one of events that have failed before
        self._retrying = 0  # events that have failed before, and are with a worker again
        self._most_retries = retries
        self._waiting: list[tuple[float, int, Lane]] = []
        self._blocked: dict[str, list[Lane]] = {}  # by the table whose barrier they wait for
        self._barriers = Barriers()
        self._opened: list[str] = []  # tables whose barrier has just fallen
        self._count = itertools.count()
        self._failed: collections.OrderedDict[str, Tries] = collections.OrderedDict()
        self._remember = max(remember, REMEMBERED_MIN)
        self.deduplication = Deduplication(self._remember, barriers=order == "key")
        self.size = 0  # bytes of all events that are here, ghosts included
        self.events = 0

    def add(
        self, event: Event, receipt: Receipt, now: float, lane: str | None = None, tries: Tries | None = None
    ) -> Item:
        """An event has arrived, and is no copy of one that need not be delivered.

        `lane`: its lane, if not the one that `lane_key` says. `tries`: what it has been through.
        """
        item = self._append(event, receipt, self.lane_key(event) if lane is None else lane)
        failed = self._failed.pop(event.id, None) if event.seq else None  # others may use an id twice
        item.tries = tries or failed or item.tries
        if item.lane.items[0] is item:
            self._list(item.lane, now)
        return item

    def take(self, now: float, most: int = 1, least: int = 1, patience: Patience = (0.0, 0.0)) -> list[Item]:
        """The next batch to deliver: events of one group, no two of one lane, at most `most`. Empty = none is ready.

        A group of fewer than `least` is left to grow, while it does and as long as `patience` says.
        """
        while self._waiting and self._waiting[0][0] <= now:
            lane = heapq.heappop(self._waiting)[2]
            lane.listed = False
            self._list(lane, now)
        for group in self._in_turn(most):
            if len(self._ready[group]) < least and now < _ripe(self._ready_times[group], patience):
                continue
            lanes = self._ready.pop(group)
            batch = list(itertools.islice(self._startable(lanes, now), most))
            if lanes:
                self._ready[group] = lanes  # behind the other groups: they take turns
                self._ready_times[group] = (now, now)
            else:
                del self._ready_times[group]
            if batch:
                self._since_retry = 0 if group[0] else self._since_retry + 1
                return batch
        return []

    def _in_turn(self, most: int) -> list[_Group]:
        """Groups take turns; those of events that have failed before come last, but now and then first."""
        retries_first = self._since_retry >= RETRY_TURN - 1 and self._retrying < self._most_retries * most
        return sorted(self._ready, key=lambda group: group[0] != retries_first)

    def next_ripe(self, patience: Patience) -> float | None:
        """When the first group need not grow any more; None = there is nothing to `take`."""
        return min((_ripe(times, patience) for times in self._ready_times.values()), default=None)

    def next_wake(self) -> float | None:
        """When the first waiting lane becomes ready; None = none waits."""
        return self._waiting[0][0] if self._waiting else None

    def has_ready(self, now: float, without: str = "\2") -> bool:
        """Is there anything to `take`, except in lanes with this prefix? (A blocked lane may be counted as well.)"""
        ready = any(not lane.key.startswith(without) for lanes in self._ready.values() for lane in lanes)
        return ready or bool(self._waiting and self._waiting[0][0] <= now)

    def largest(self) -> int:
        """Bytes of the largest event that is here."""
        return max((item.event.size for lane in self._lanes.values() for item in lane.items), default=0)

    def done(self, item: Item, now: float) -> list[Receipt]:
        """The target has it. Return what may be acknowledged now: it, and copies of it that were delivered again.

        The acknowledgement may still get lost with the connection, so the id is kept in mind.
        """
        if item.event.id and item.event.seq and item.proves:
            self.deduplication.add(item.event, self.lane_key(item.event))
        lane, receipts = item.lane, [item.receipt]
        item.receipt = None  # whoever else holds the item must not acknowledge it a second time
        self._remove(item)
        while lane.items and self.is_copy(lane.items[0].event, lane.key):
            copy = lane.items[0]
            receipts.append(copy.receipt)
            copy.receipt = None
            self._remove(copy)
        self._after_removal(lane, now)
        return [receipt for receipt in receipts if receipt is not None]

    def again(self, item: Item, wake: float, now: float, *, spent: bool) -> None:
        """It failed and stays first of its lane until `wake`. `spent`: an attempt of its own."""
        item.tries.attempts += spent
        item.tries.not_before = wake
        if item.lane.woken:
            item.tries.end_wait(now)
        self._free(item.lane)
        if item.receipt is None:
            self._keep_failure(item)
            self._remove(item)
            self._after_removal(item.lane, now)
        else:
            self._list(item.lane, now)

    def wake(self, names: Collection[str], now: float) -> None:
        """What these lanes wait for has come: no back-off, and no yielding to others any more."""
        lanes = [self._lanes[name] for name in names if name in self._lanes]
        for lane in lanes:
            lane.woken = lane.busy
        idle = {id(lane) for lane in lanes if not lane.busy and lane.items and lane.items[0].tries.not_before > now}
        if not idle:
            return
        woken = [entry[2] for entry in self._waiting if id(entry[2]) in idle]
        self._waiting = [entry for entry in self._waiting if id(entry[2]) not in idle]
        heapq.heapify(self._waiting)
        for lane in woken:
            lane.items[0].tries.end_wait(now)
            lane.listed = False
            self._list(lane, now)

    def set_aside(self, item: Item) -> None:
        """It has failed for good: its lane rests until its events are dropped."""
        self._free(item.lane)
        item.lane.held = True

    def resume(self, lane: Lane, now: float) -> None:
        """It rested, and may go on."""
        lane.held = False
        self._list(lane, now)

    def release(self, now: float, prefix: str = "", without: str = "\2") -> None:
        """A channel is gone and RabbitMQ will deliver its messages again. Only what is with a worker remains.

        Only lanes with this prefix, and not those with the other.
        """
        names = [name for name in self._lanes if name.startswith(prefix) and not name.startswith(without)]
        for lane in [self._lanes[name] for name in names]:
            for item in list(lane.items):
                self.drop(item, now)
            lane.held = False

    def forget(self, prefix: str = "\2") -> None:
        """Another receiver may have been at work. What was delivered before, or is under way, proves nothing any more.

        What the other one had delivered of a row may come again from an older event on, and then all of it must. A
        request under way goes on holding up its key; in a lane with this prefix, the lane without it.
        """
        self.deduplication.forget()
        for item in list(self.in_flight()):
            item.proves = False
            lane, key = item.lane, item.lane.key.removeprefix(prefix)
            if key not in self._lanes:
                self._lanes[key] = self._lanes.pop(lane.key)
                lane.key = key

    def drop(self, item: Item, now: float, *, remember: bool = True) -> None:
        """Let go of an event that is not finished; with a worker, it becomes a ghost.

        `remember`: its failures count when it is delivered to us again.
        """
        lane = item.lane
        if item not in lane.items:
            return  # it was let go of before, with its channel
        if lane.busy and lane.items[0] is item:
            item.receipt = None
            return
        if remember:
            self._keep_failure(item)
        lane.items.remove(item)
        self._leave(item)
        self._after_removal(lane, now)

    def lane(self, key: str) -> Lane | None:
        """The lane of this name."""
        return self._lanes.get(key)

    def lanes(self) -> Iterator[Lane]:
        """All of them."""
        return iter(self._lanes.values())

    def idle(self, now: float) -> bool:
        """Nothing is with a worker, and nothing could be."""
        return not self.has_ready(now) and not any(True for _ in self.in_flight())

    def in_flight(self) -> Iterator[Item]:
        """What is with a worker."""
        return (lane.items[0] for lane in self._lanes.values() if lane.busy)

    def is_copy(self, event: Event, lane: str) -> bool:
        """Was it delivered before, and only its acknowledgement got lost? It arrives now, or is first of its lane."""
        return self.deduplication.was_delivered(event) and not self.holds_older(event, lane)

    def holds_older(self, event: Event, lane: str) -> bool:
        """Is something here that goes before it? If it was handled before, that comes again, and so must this."""
        own = self._lanes.get(lane)
        if own is not None and any(item.event.seq < event.seq for item in own.items if item.event.seq):
            return True
        if self._order != "key" or not (event.is_barrier or self._barriers.shut(event.table)):
            return False
        same = (item.event for each in self._lanes.values() for item in each.items if item.event.table == event.table)
        return any(one.seq < event.seq for one in same if one.seq and (one.is_barrier or event.is_barrier))

    def _append(self, event: Event, receipt: Receipt, key: str) -> Item:
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = Lane(key)
        item = Item(event, receipt, lane, self._enter(event))
        item.number = next(self._count)
        lane.items.append(item)
        self.size += event.size
        self.events += 1
        return item

    def lane_key(self, event: Event) -> str:
        """The name of its lane: its key, or a name of its own."""
        if self._order == "global":
            return ""
        if event.key and self._order == "key":
            return lane_name(event.key)
        # By id, so that a copy delivered again waits for a request of the lost session that may still be running.
        is_named = event.id and (event.seq or event.claimed_id is not None)
        return lane_name(f"\0{event.id}") if is_named else f"\0#{uuid.uuid4()}"

    def _enter(self, event: Event) -> int:
        table = event.table if self._order == "key" else ""
        return self._barriers.enter(table, barrier=event.is_barrier)

    def _list(self, lane: Lane, now: float) -> None:
        """Put a lane where it belongs after anything about its first event has changed."""
        if lane.busy or lane.listed or lane.held or not lane.items:
            return
        first = lane.items[0]
        lane.listed = True
        if first.tries.not_before > now:
            heapq.heappush(self._waiting, (first.tries.not_before, next(self._count), lane))
        elif not self._is_open(first):
            self._blocked.setdefault(first.event.table, []).append(lane)
        else:
            group = (first.tries.retry, self._group(first.event))
            self._ready.setdefault(group, collections.deque()).append(lane)
            self._ready_times[group] = (self._ready_times.get(group, (now, now))[0], now)

    def _is_open(self, item: Item) -> bool:
        return self._order != "key" or self._barriers.open_for(item.event.table, item.stretch)

    def _startable(self, lanes: collections.deque[Lane], now: float) -> Iterator[Item]:
        while lanes:
            lane = lanes.popleft()
            lane.listed = False
            if lane.items and lane.items[0].tries.not_before > now:
                self._list(lane, now)  # its failure has turned out to be its own meanwhile
            elif lane.items and not lane.held and not lane.busy:
                lane.busy, lane.retries = True, lane.items[0].tries.retry
                self._retrying += lane.retries
                lane.items[0].since = now
                yield lane.items[0]

    def _free(self, lane: Lane) -> None:
        self._retrying -= lane.retries
        lane.busy = lane.retries = lane.woken = False

    def _remove(self, item: Item) -> None:
        lane = item.lane
        assert lane.items[0] is item, "only the first of a lane is ever with a worker"  # noqa: S101
        lane.items.popleft()
        self._free(lane)
        self._leave(item)

    def _leave(self, item: Item) -> None:
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
            self._lanes.pop(lane.key, None)
        while self._opened:
            for blocked in self._blocked.pop(self._opened.pop(), ()):
                blocked.listed = False
                self._list(blocked, now)

    def _inherit(self, item: Item) -> None:
        """It was delivered again while its ghost was running, and the ghost has failed since."""
        if item.event.seq and item.event.id in self._failed:
            item.tries = self._failed.pop(item.event.id)

    def _keep_failure(self, item: Item) -> None:
        if item.event.id and item.event.seq and (item.tries.attempts or item.tries.not_before):
            self._failed[item.event.id] = item.tries
            if len(self._failed) > self._remember:
                self._failed.popitem(last=False)
