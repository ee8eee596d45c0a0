"""Strands, whatever happens: models of a broker, workers, sessions and crashes, and what must be true in the end."""

import dataclasses
import itertools
import random
from collections import defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st

from relay.delivery import Event
from relay.receiving.strand import Item
from relay.receiving.strands import Strands
from tests.unit.test_strands import event

_marks = itertools.count(1)  # of receivers


class Model:
    """A broker that delivers again what was not acknowledged; workers that fail; sessions that end at any time."""

    def __init__(self, seed: int, order: str, workers: int) -> None:
        self.rng = random.Random(seed)
        self.strands = Strands(order, group=lambda one: one.table)
        self.workers = workers
        self.unacked = [self._random_event() for _ in range(40)]
        self.sent = list(self.unacked)
        self.arrived = 0  # so many of `unacked` are in the window
        self.running: list[Item] = []
        self.delivered: list[Event] = []
        self.now = 0.0

    def _random_event(self) -> Event:
        table = self.rng.choice(["t", "u"])
        barrier = self.rng.random() < 0.1
        key = table if barrier else f"{table} {self.rng.randrange(3)}"
        return event(key, table, "truncate" if barrier else "update")

    def step(self) -> None:
        self.now += 0.1
        chance = self.rng.random()
        if chance < 0.05:
            self._lose_session()
        elif chance < 0.1:
            self.strands.wake([strand.key for strand in self.strands if self.rng.random() < 0.5], self.now)
        elif chance < 0.4:
            self._arrive()
        elif chance < 0.7:
            if len(self.running) < self.workers:
                self.running += self.strands.take(self.now, maximum=2)
        elif self.running:
            self._finish(self.running.pop(self.rng.randrange(len(self.running))))

    def _lose_session(self) -> None:
        self.strands.release(self.now)
        self.arrived = 0
        self.unacked = [Event(**{**_fields(one), "redelivered": True}) for one in self.unacked]

    def _arrive(self) -> None:
        if self.arrived < len(self.unacked):
            one = self.unacked[self.arrived]
            if self.strands.is_copy(one, self.strands.strand_key(one)):
                self.unacked.remove(one)
            else:
                self.strands.add(one, lambda: self.unacked.remove(one), self.now)
                self.arrived += 1

    def _finish(self, item: Item) -> None:
        if self.rng.random() < 0.3:
            item.tries.retry = self.rng.random() < 0.5
            self.strands.again(item, self.now + self.rng.random() * 3, self.now, spent=True)
            return
        self.delivered.append(item.event)
        for receipt in self.strands.done(item, self.now):
            receipt()
            self.arrived -= 1


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(["key", "global", "none"]), st.integers(1, 5))
def test_whatever_happens_each_event_is_delivered_once_and_in_order(seed: int, order: str, workers: int) -> None:
    model = Model(seed, order, workers)
    steps = 0
    while model.unacked and steps < 10_000:
        model.step()
        steps += 1
    assert not model.unacked
    assert sorted(one.seq for one in model.delivered) == sorted(one.seq for one in model.sent), "none lost, none twice"
    _assert_order(model.delivered, order)


def _fields(one: Event) -> dict[str, object]:
    return {name: getattr(one, name) for name in Event.__slots__}


def _assert_order(delivered: list[Event], order: str) -> None:
    if order == "none":
        return
    last: dict[str, int] = defaultdict(int)  # the newest event of each key, table and stretch after a truncate
    for one in delivered:
        strand = one.key if order == "key" else ""
        assert one.seq > last[strand], "a row's events out of order"
        last[strand] = one.seq
        if order == "key":
            truncate, newest = f"truncate {one.table}", f"newest {one.table}"
            assert one.seq > last[truncate], "an event after a later truncate"
            if one.is_barrier:
                assert one.seq > last[newest], "a truncate after an event that came later"
                last[truncate] = one.seq
            last[newest] = max(last[newest], one.seq)


class Message:
    """A message in the queue. A listener that has crashed sends an event again, in another message."""

    def __init__(self, one: Event) -> None:
        self.event = one
        self.acknowledged = False

    def acknowledge(self) -> None:
        self.acknowledged = True

    def hand_out(self) -> Event:
        handed = self.event
        self.event = dataclasses.replace(handed, redelivered=True)
        return handed


class Receiver:
    """A process. It remembers its mark, and its requests go on whatever becomes of its connection."""

    def __init__(self, order: str) -> None:
        self.strands = Strands(order)
        self.running: list[Item] = []
        self.committed: set[Item] = set()  # requests that the target has carried out, and not answered yet
        self.mark = 0


class Crashes:
    """A listener that repeats tails, a broker that forgets acknowledgements, three receivers that die; and a target.

    One receiver has the lease. It loses its connection, and itself or another comes next.
    """

    def __init__(self, seed: int, order: str) -> None:
        self.rng = random.Random(seed)
        self.order = order
        self.sent = [self._random_event() for _ in range(30)]
        self.queue = [Message(one) for one in self._with_repetitions()]
        self.delivered: list[Event] = []
        self.now = 0.0
        self.receivers = [Receiver(order) for _ in range(3)]
        self.active = self.receivers[0]
        self.holder = 0
        self._connect()

    def _random_event(self) -> Event:
        barrier = self.rng.random() < 0.1
        key = "t" if barrier else f"t {self.rng.randrange(3)}"
        return event(key, "t", "truncate" if barrier else "update")

    def _with_repetitions(self) -> list[Event]:
        found, at = [], 0
        while at < len(self.sent):
            found.append(self.sent[at])
            at = max(0, at - self.rng.randrange(6)) if self.rng.random() < 0.1 else at + 1
        # At the end, where nothing newer comes that would hide what went wrong, more of them.
        return found + [one for _ in range(3) for one in self.sent[-self.rng.randrange(1, 10) :]]

    def _die(self) -> None:
        """A new process is in its place."""
        dead = self.active
        for item in dead.running[:1]:
            self._carry_out(dead, item)  # the target has it, and nobody knows
        self.receivers[self.receivers.index(dead)] = Receiver(self.order)
        self.active = self.rng.choice(self.receivers)
        self._connect()

    def _lose_connection(self) -> None:
        """What is under way is carried out now or never (docs/delivery.md, limits); its answer comes at any time."""
        loser = self.active
        for item in loser.running:
            self._carry_out(loser, item)
        loser.strands.release(self.now)
        if self.rng.random() < 0.5:
            self.active = self.rng.choice(self.receivers)
        self._connect()

    def _connect(self) -> None:
        one = self.active
        if not one.mark or one.mark != self.holder:
            one.strands.forget()
            one.mark = self.holder = next(_marks)
        self.unread = list(self.queue)
        for message in self.queue:
            message.acknowledged = False  # forgotten

    def step(self) -> None:
        self.now += 0.1
        chance = self.rng.random()
        if chance < 0.02:
            self._die()
        elif chance < 0.06:
            self._lose_connection()
        elif chance < 0.15:
            self.queue = [message for message in self.queue if not message.acknowledged]
        elif chance < 0.5:
            self._arrive()
        elif chance < 0.75:
            self.active.running += self.active.strands.take(self.now)
        else:
            one = self.active if self.rng.random() < 0.97 else self.rng.choice(self.receivers)
            if one.running:
                self._finish(one, one.running.pop(self.rng.randrange(len(one.running))))

    def _arrive(self) -> None:
        if not self.unread:
            return
        message, strands = self.unread.pop(0), self.active.strands
        one = message.hand_out()
        if strands.is_copy(one, strands.strand_key(one)):
            message.acknowledge()
        else:
            strands.add(one, message.acknowledge, self.now)

    def _carry_out(self, one: Receiver, item: Item) -> None:
        """Or not: whoever is next can't know."""
        if item.receipt is not None and self.rng.random() < 0.5:
            self._commit(one, item)

    def _commit(self, one: Receiver, item: Item) -> None:
        if item not in one.committed:
            one.committed.add(item)
            self.delivered.append(item.event)

    def _finish(self, one: Receiver, item: Item) -> None:
        lost = item.receipt is None and item not in one.committed
        if lost or self.rng.random() < 0.2:
            if not lost and self.rng.random() < 0.5:
                self._commit(one, item)  # the target has it, and its answer got lost
            one.committed.discard(item)
            one.strands.again(item, self.now + self.rng.random(), self.now, spent=True)
            if one is self.active and self.rng.random() < 0.5:
                self._lose_connection()  # what broke the request has broken this, too
            return
        self._commit(one, item)
        one.committed.discard(item)
        for receipt in one.strands.done(item, self.now):
            receipt()


def _state(events: list[Event]) -> dict[str, int]:
    """What a target holds in the end."""
    rows: dict[str, int] = {}
    for one in events:
        if one.is_barrier:
            rows.clear()
        else:
            rows[one.key] = one.seq
    return rows


@settings(max_examples=200)
@given(st.integers(0, 2**32), st.sampled_from(["key", "global"]))
def test_whatever_crashes_the_target_ends_with_the_newest_state(seed: int, order: str) -> None:
    model = Crashes(seed, order)
    steps = 0
    while model.queue and steps < 20_000:
        model.step()
        steps += 1
    assert not model.queue
    assert {one.seq for one in model.delivered} == {one.seq for one in model.sent}, "none lost"
    assert _state(model.delivered) == _state(model.sent)
