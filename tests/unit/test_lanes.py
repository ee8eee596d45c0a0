"""Lanes: the order of a row, waits that hold up nobody, barriers, ghosts of lost sessions."""

import dataclasses
import random
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.delivery import Event, Tries
from relay.receiving.lane import Item, Origin
from relay.receiving.lanes import REMEMBERED_MIN, Lanes
from relay.receiving.ready import RETRY_TURN

_numbers = iter(range(1, 10**9))


def event(key: str = "", table: str = "", op: str = "update", *, redelivered: bool = False, seq: int = 0) -> Event:
    number = seq or next(_numbers)
    return Event(b"{}", "t", id=f"id-{number}", op=op, key=key, table=table, seq=number, redelivered=redelivered)


def add(lanes: Lanes, one: Event, now: float = 0.0) -> Item | None:
    """As the consumer does."""
    if lanes.is_copy(one, lanes.lane_key(one)):
        return None
    return lanes.add(one, lambda: None, now)


def ids(batch: list[Item]) -> list[str]:
    return [item.event.id for item in batch]


def test_of_one_key_only_the_first_event_is_with_a_worker() -> None:
    lanes = Lanes()
    first, second = event("a"), event("a")
    add(lanes, first)
    add(lanes, second)
    [item] = lanes.take(0)
    assert item.event is first
    assert lanes.take(0) == []
    add(lanes, event("a"))  # it comes while the first one is under way
    assert lanes.take(0) == []
    lanes.done(item, 0)
    assert ids(lanes.take(0)) == [second.id]


def test_a_waiting_key_holds_up_no_other() -> None:
    lanes = Lanes()
    bad, behind, good = event("a"), event("a"), event("b")
    for one in (bad, behind):
        add(lanes, one)
    [item] = lanes.take(0)
    lanes.again(item, 10.0, 0, spent=True)
    assert not lanes.has_ready(9.9)
    add(lanes, good)
    assert ids(lanes.take(0)) == [good.id]
    assert lanes.take(9.9) == []
    assert lanes.next_wake() == 10.0
    [retried] = lanes.take(10.0)
    assert retried.event is bad
    assert retried.tries.attempts == 1


def failed(lanes: Lanes, count: int) -> None:
    """So many events that have failed by themselves, and may be tried again."""
    for n in range(count):
        lanes.add(event(f"failed {n}"), lambda: None, 0.0, tries=Tries(attempts=1, retry=True))


def test_what_has_failed_gets_one_turn_of_twenty_while_others_are_ready() -> None:
    lanes = Lanes()
    failed(lanes, 50)
    for n in range(100):
        add(lanes, event(f"good {n}"))
    taken = []
    for _ in range(100):
        [item] = lanes.take(0)
        taken.append(item.event.key.split()[0])
        lanes.done(item, 0)
    assert taken.count("failed") == 100 // RETRY_TURN
    assert taken.index("failed") == RETRY_TURN - 1


def test_what_has_failed_gets_everything_while_nobody_else_is_ready() -> None:
    lanes = Lanes()
    failed(lanes, 50)
    assert len([lanes.take(0) for _ in range(50)]) == 50


def test_what_has_failed_and_takes_long_does_not_take_all_workers() -> None:
    lanes = Lanes(retries=2)
    failed(lanes, 50)
    for n in range(200):
        add(lanes, event(f"good {n}"))
    hanging = 0
    for _ in range(100):
        [item] = lanes.take(0)
        if item.tries.retry:
            hanging += 1
        else:
            lanes.done(item, 0)
    assert hanging == 2


def test_what_is_behind_an_event_that_had_failed_has_its_usual_turn() -> None:
    lanes = Lanes()
    failed(lanes, 1)
    add(lanes, event("failed 0"))
    [item] = lanes.take(0)
    lanes.done(item, 0)
    add(lanes, event("good"))
    assert [item.event.key for item in lanes.take(0, maximum=2)] == ["failed 0", "good"]


def test_events_without_a_key_do_not_wait_for_each_other() -> None:
    lanes = Lanes()
    for _ in range(3):
        add(lanes, event())
    assert len(lanes.take(0, maximum=5)) == 3


def test_a_batch_holds_one_group_and_no_key_twice() -> None:
    lanes = Lanes(group=lambda one: one.table)
    for key, table in [("a", "t"), ("a", "t"), ("b", "u"), ("c", "t"), ("d", "t")]:
        add(lanes, event(key, table))
    assert [item.event.key for item in lanes.take(0, maximum=2)] == ["a", "c"]
    assert [item.event.key for item in lanes.take(0, maximum=2)] == ["b"]  # the groups take turns
    assert [item.event.key for item in lanes.take(0, maximum=2)] == ["d"]


def test_truncate_waits_for_what_came_before_and_holds_what_comes_after() -> None:
    lanes = Lanes()
    before, truncate, after = event("t 1", "t"), event("t", "t", "truncate"), event("t 2", "t")
    elsewhere = event("u 1", "u")
    for one in (before, truncate, after, elsewhere):
        add(lanes, one)
    first, other = lanes.take(0, maximum=9)
    assert {first.event, other.event} == {before, elsewhere}
    lanes.done(first, 0)
    [barrier] = lanes.take(0, maximum=9)
    assert barrier.event is truncate
    lanes.done(barrier, 0)
    assert ids(lanes.take(0, maximum=9)) == [after.id]


def test_order_global_is_one_lane_and_none_is_none() -> None:
    for order, together in (("global", 1), ("none", 3), ("key", 2)):
        lanes = Lanes(order)
        for key in ("a", "a", "b"):
            add(lanes, event(key))
        assert len(lanes.take(0, maximum=9)) == together, order


def test_a_request_of_a_lost_session_holds_its_key() -> None:
    lanes = Lanes()
    one = event("a")
    add(lanes, one)
    [ghost] = lanes.take(0)
    lanes.release(0)
    again = event("a", redelivered=True, seq=one.seq)
    later = event("a", redelivered=True)
    add(lanes, again)
    add(lanes, later)
    assert lanes.take(0) == []
    assert len(lanes.done(ghost, 0)) == 1, "the copy is acknowledged, and not delivered a second time"
    assert ids(lanes.take(0)) == [later.id]


def test_a_failure_of_a_lost_session_counts() -> None:
    lanes = Lanes()
    one = event("a")
    add(lanes, one)
    [ghost] = lanes.take(0)
    lanes.release(0)
    add(lanes, event("a", redelivered=True, seq=one.seq))
    lanes.again(ghost, 5.0, 0, spent=True)
    assert lanes.take(4.9) == []
    [item] = lanes.take(5.0)
    assert item.tries.attempts == 1


@pytest.mark.parametrize("last", ["update", "truncate"])
def test_after_a_repetition_what_followed_is_repeated_too(last: str) -> None:
    """A listener that crashed sends 1 and 2 again; our connection breaks after 1: 2 comes redelivered."""
    lanes = Lanes()
    first, second = event("a", "t", seq=1), event("a" if last == "update" else "", "t", last, seq=2)
    for one in (first, second, event("b", "t", seq=3), first):
        add(lanes, one)
        lanes.done(*lanes.take(0), 0)
    assert add(lanes, dataclasses.replace(second, redelivered=True)) is not None
    third = add(lanes, event("b", "t", redelivered=True, seq=3))
    assert (third is None) == (last == "update"), "only a truncate concerns it"


def test_what_was_delivered_is_recognised_when_its_acknowledgement_got_lost() -> None:
    lanes = Lanes()
    one = event("a")
    add(lanes, one)
    lanes.done(lanes.take(0)[0], 0)
    lanes.release(0)
    assert add(lanes, event("a", redelivered=True, seq=one.seq)) is None
    assert add(lanes, event("a", seq=one.seq)) is not None, "only what the broker calls redelivered"


def test_what_another_receiver_may_have_repeated_is_not_taken_for_known() -> None:
    """Two were delivered, their acknowledgements lost; another receiver has delivered the first again, and died."""
    lanes = Lanes()
    one, two = event("a"), event("a")
    for each in (one, two):
        add(lanes, each)
        lanes.done(*lanes.take(0), 0)
    lanes.release(0)
    lanes.forget()
    assert add(lanes, dataclasses.replace(two, redelivered=True)) is not None


def test_a_request_begun_before_another_receivers_turn_proves_nothing() -> None:
    lanes = Lanes()
    one = event("a")
    add(lanes, one)
    [ghost] = lanes.take(0)
    lanes.release(0)
    lanes.forget()
    again = dataclasses.replace(one, redelivered=True)
    add(lanes, again)
    assert lanes.take(0) == [], "its key waits for it"
    assert lanes.done(ghost, 0) == [], "the copy is not acknowledged"
    [item] = lanes.take(0)
    assert item.event is again
    lanes.release(0)
    lanes.done(item, 0)
    assert add(lanes, again) is None, "a request begun since is known"


def test_a_request_from_the_waiting_room_holds_its_key_when_another_receiver_has_emptied_it() -> None:
    lanes = Lanes()
    lanes.add(event("a"), lambda: None, 0, "a", origin=Origin.PARKED)
    [ghost] = lanes.take(0)
    lanes.release(0)
    lanes.forget()
    later = event("a")
    add(lanes, later)
    assert lanes.take(0) == []
    lanes.again(ghost, 0, 0, spent=True)
    assert ids(lanes.take(0)) == [later.id]


class Model:
    """A broker that delivers again what was not acknowledged; workers that fail; sessions that end at any time."""

    def __init__(self, seed: int, order: str, workers: int) -> None:
        self.rng = random.Random(seed)
        self.lanes = Lanes(order, group=lambda one: one.table)
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
            self.lanes.wake([lane.key for lane in self.lanes if self.rng.random() < 0.5], self.now)
        elif chance < 0.4:
            self._arrive()
        elif chance < 0.7:
            if len(self.running) < self.workers:
                self.running += self.lanes.take(self.now, maximum=2)
        elif self.running:
            self._finish(self.running.pop(self.rng.randrange(len(self.running))))

    def _lose_session(self) -> None:
        self.lanes.release(self.now)
        self.arrived = 0
        self.unacked = [Event(**{**_fields(one), "redelivered": True}) for one in self.unacked]

    def _arrive(self) -> None:
        if self.arrived < len(self.unacked):
            one = self.unacked[self.arrived]
            if self.lanes.is_copy(one, self.lanes.lane_key(one)):
                self.unacked.remove(one)
            else:
                self.lanes.add(one, lambda: self.unacked.remove(one), self.now)
                self.arrived += 1

    def _finish(self, item: Item) -> None:
        if self.rng.random() < 0.3:
            item.tries.retry = self.rng.random() < 0.5
            self.lanes.again(item, self.now + self.rng.random() * 3, self.now, spent=True)
            return
        self.delivered.append(item.event)
        for receipt in self.lanes.done(item, self.now):
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
        lane = one.key if order == "key" else ""
        assert one.seq > last[lane], "a row's events out of order"
        last[lane] = one.seq
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
        self.lanes = Lanes(order)
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
        loser.lanes.release(self.now)
        if self.rng.random() < 0.5:
            self.active = self.rng.choice(self.receivers)
        self._connect()

    def _connect(self) -> None:
        one = self.active
        if not one.mark or one.mark != self.holder:
            one.lanes.forget()
            one.mark = self.holder = next(_numbers)
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
            self.active.running += self.active.lanes.take(self.now)
        else:
            one = self.active if self.rng.random() < 0.97 else self.rng.choice(self.receivers)
            if one.running:
                self._finish(one, one.running.pop(self.rng.randrange(len(one.running))))

    def _arrive(self) -> None:
        if not self.unread:
            return
        message, lanes = self.unread.pop(0), self.active.lanes
        one = message.hand_out()
        if lanes.is_copy(one, lanes.lane_key(one)):
            message.acknowledge()
        else:
            lanes.add(one, message.acknowledge, self.now)

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
            one.lanes.again(item, self.now + self.rng.random(), self.now, spent=True)
            if one is self.active and self.rng.random() < 0.5:
                self._lose_connection()  # what broke the request has broken this, too
            return
        self._commit(one, item)
        one.committed.discard(item)
        for receipt in one.lanes.done(item, self.now):
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


def test_what_comes_to_rest_while_it_is_ready_is_not_delivered() -> None:
    lanes = Lanes()
    item = add(lanes, event("a"))
    assert item is not None
    lanes.hold(item.lane)  # it moves into the parking lot
    assert lanes.take(0) == []
    lanes.resume(item.lane, 0)
    assert lanes.take(0) == [item]


def test_only_the_newest_failures_are_remembered() -> None:
    lanes = Lanes(remember=1)
    events = [event(str(n)) for n in range(REMEMBERED_MIN + 100)]
    for one in events:
        add(lanes, one)
        [item] = lanes.take(0)
        lanes.again(item, 0, 0, spent=True)
        lanes.drop(item, 0)
    again = [lanes.add(one, lambda: None, 0) for one in events]
    assert [item.tries.attempts for item in again] == [0] * 100 + [1] * REMEMBERED_MIN


@pytest.mark.parametrize("order", ["key", "global", "none"])
def test_bytes_and_events_are_counted_back_to_nothing(order: str) -> None:
    lanes = Lanes(order)
    for key in ("a", "a", "b", ""):
        add(lanes, event(key, "t"))
    while batch := lanes.take(0):
        for item in batch:
            lanes.done(item, 0)
    assert (lanes.events, lanes.size) == (0, 0)


def test_a_repetition_that_was_begun_is_repeated_to_its_end() -> None:
    """The target has it, the answer got lost, and so does the connection: what follows it must come again, too."""
    lanes = Lanes()
    older, newer = event("a"), event("a")
    for one in (older, newer):
        add(lanes, one)
        [item] = lanes.take(0)
        lanes.done(item, 0)
    add(lanes, older)  # a listener has crashed, and sends both again
    add(lanes, newer)
    [item] = lanes.take(0)
    lanes.again(item, 5, 0, spent=False)  # the connection was reset
    lanes.release(0)
    again = [dataclasses.replace(one, redelivered=True) for one in (older, newer)]
    assert [lanes.is_copy(one, lanes.lane_key(one)) for one in again] == [False, False]
