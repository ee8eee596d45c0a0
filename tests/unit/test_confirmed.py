"""What is carried from session to session: no copy without a crash, and never a tail that is cut off.

A model of listeners on one outbox: whatever they do, and whatever is lost on the way, by a random program.
"""

from __future__ import annotations

from collections import defaultdict

from hypothesis import example, given, settings
from hypothesis import strategies as st

from relay.listening.confirmed import Confirmed
from relay.listening.event import OutboxEvent
from relay.listening.window import Window

KEYS = 2


class Listener:
    """A process; `session` until it loses it."""

    def __init__(self) -> None:
        self.confirmed = Confirmed()
        self.window: Window | None = None
        self.under_way: list[OutboxEvent] = []
        self.was_confirmed: set[str] = set()


class World:
    def __init__(self) -> None:
        self.turn = 0
        self.outbox: list[OutboxEvent] = []
        self.written: dict[str, list[int]] = defaultdict(list)
        self.queue: list[OutboxEvent] = []
        self.listeners = [Listener(), Listener()]
        self.deletes: list[list[OutboxEvent]] = []
        """What each DELETE took whose commit is not on disk yet."""
        self.deletable = True
        self.disturbed = False
        """A process was killed, or another has had its turn."""

    def write(self, number: int) -> None:
        seq = sum(map(len, self.written.values())) + 1
        key = f"k{number % KEYS}"
        self.written[key].append(seq)
        self.outbox.append(OutboxEvent(seq, f"id-{seq}", 0, 1, "t", None, "message", key, b""))

    def begin(self, number: int, *, answered: bool = True) -> None:
        """The lease is free, or its holder has lost it; TAKE, and what was confirmed is deleted first."""
        listener, other = self.listeners[number % 2], self.listeners[1 - number % 2]
        self.lose(0)
        self.lose(1)
        self.disturbed = self.disturbed or other.confirmed.turn > 0
        self.turn += listener.confirmed.step
        self.deletes.clear()  # TAKE waits for the disk
        if not answered:
            return
        listener.confirmed.took(self.turn)
        if any(listener.confirmed.last.get(event.seq) == event.row for event in self.outbox):
            listener.confirmed.void()
        listener.window = Window(3, 1000)
        if not self.delete(number):
            self.lose(number)

    def begin_unanswered(self, number: int) -> None:
        self.begin(number, answered=False)

    def lose(self, number: int) -> None:
        self.listeners[number % 2].window = None
        self.listeners[number % 2].under_way.clear()

    def kill(self, number: int) -> None:
        self.listeners[number % 2] = Listener()
        self.disturbed = True

    def publish(self, number: int) -> None:
        listener = self.listeners[number % 2]
        window = listener.window
        if window is None:
            return
        for event in self.outbox:
            if event.seq not in window and event.seq not in listener.confirmed and window.room()[0]:
                window.add(event)
        for event in window.take(1 + number % 3):
            assert self.disturbed or event.id not in listener.was_confirmed, "a copy without a crash"
            self.queue.append(event)
            listener.under_way.append(event)

    def confirm(self, number: int) -> None:
        listener = self.listeners[number % 2]
        if listener.window is not None and listener.under_way:
            event = listener.under_way.pop(0)
            listener.window.done(event)
            listener.confirmed.add(event)
            listener.was_confirmed.add(event.id)

    def delete(self, number: int, *, answered: bool = True) -> bool:
        listener = self.listeners[number % 2]
        if listener.window is None or listener.confirmed.turn != self.turn or not self.deletable:
            self.lose(number)
            return False
        batch = listener.confirmed.batch()
        self.deletes.append([event for event in self.outbox if batch.get(event.seq) == event.row])
        self.outbox = [event for event in self.outbox if batch.get(event.seq) != event.row]
        if answered:
            listener.confirmed.deleted(batch)
        else:
            self.lose(number)
        return answered

    def delete_unanswered(self, number: int) -> None:
        self.delete(number, answered=False)

    def crash(self, number: int) -> None:
        """PostgreSQL forgets its last commits, as many as have not come to the disk: of DELETEs only."""
        forgotten = self.deletes[number:]
        self.outbox = sorted([*self.outbox, *(event for taken in forgotten for event in taken)])
        self.deletes.clear()
        self.disturbed = True
        self.lose(0)
        self.lose(1)

    def toggle(self, _number: int) -> None:
        self.deletable = not self.deletable

    def drain(self) -> None:
        self.deletable = True
        for number in (0, 1):
            self.begin(number)
            while self.outbox:
                self.publish(number)
                self.confirm(number)
                self.delete(number)

    def check(self) -> None:
        """Of each key all came; and after a step back all that follows came once more, to the end."""
        for key, seqs in self.written.items():
            places = [seqs.index(event.seq) for event in self.queue if event.key == key]
            assert all(later <= earlier + 1 for earlier, later in zip([-1, *places], places, strict=False)), places
            assert places[-1] == len(seqs) - 1, "the target is left with an older state"


STEPS = st.sampled_from(
    [
        "write",
        "begin",
        "begin_unanswered",
        "lose",
        "kill",
        "publish",
        "confirm",
        "delete",
        "delete_unanswered",
        "crash",
        "toggle",
    ]
)


@settings(max_examples=400)
@given(st.lists(st.tuples(STEPS, st.integers(0, 5)), max_size=60))
@example(
    [("write", 0), ("write", 0), ("begin", 0), *[("publish", 0), ("confirm", 0)] * 2, ("begin", 1), ("publish", 1)]
)
@example(
    [*[("write", 0)] * 3, ("begin", 0), *[("publish", 0), ("confirm", 0), ("delete", 0)] * 2, ("publish", 0),
     ("confirm", 0), ("crash", 2)]
)  # fmt: skip
def test_nothing_is_copied_without_a_crash_and_no_tail_is_cut_off(program: list[tuple[str, int]]) -> None:
    world = World()
    for step, number in program:
        getattr(world, step)(number)
    world.drain()
    world.check()


def test_a_turn_that_postgresql_has_forgotten_is_not_taken_for_ours() -> None:
    """After a failover: another's turn in the place of ours, and ours after that."""
    ours, others = Confirmed(), Confirmed()
    ours.took(ours.step)
    ours.add(OutboxEvent(1, "id", 0, 1, "t", None, "message", "k", b""))
    ours.took(others.step + ours.step)
    assert not ours


def test_a_turn_that_was_not_answered_is_ours() -> None:
    ours = Confirmed()
    ours.took(ours.step)
    ours.add(OutboxEvent(1, "id", 0, 1, "t", None, "message", "k", b""))
    ours.took(ours.step * 3)
    assert 1 in ours
    ours.took(ours.step * 2)  # a restore
    assert 1 not in ours
