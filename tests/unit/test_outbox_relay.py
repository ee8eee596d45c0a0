"""The listener's next statement: what it reads, takes in, and deletes. Its database answers when the test says so."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

import pytest

from relay.listening import outbox, outbox_read, reading, sleep
from relay.listening.carried import Carried
from relay.listening.event import OutboxEvent
from relay.listening.outbox_relay import OutboxRelay
from relay.listening.postgres import Postgres
from relay.listening.window import Window
from relay.log import Log


class Database:
    """Takes one statement at a time."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any, Callable[..., None]]] = []

    @property
    def busy(self) -> bool:
        return bool(self.asked)

    def run(self, sql: str, parameters: Any, done: Callable[..., None], _failed: object = None) -> None:
        assert not self.asked
        self.asked.append((sql, parameters, done))

    def answer(self, sql: str, rows: list[Any]) -> Any:
        """Answer the statement that was sent, which is this one; return its parameters."""
        asked, parameters, done = self.asked.pop()
        assert asked == sql
        done(rows)
        return parameters


async def no_other() -> Any:
    raise AssertionError("nothing was nacked")


class Working:
    """A capture at work, and what it has published."""

    def __init__(self) -> None:
        self.database, self.published = Database(), list[OutboxEvent]()
        self.soon: list[Callable[[], None]] = []
        session = SimpleNamespace(
            call_later=lambda *_: SimpleNamespace(cancel=lambda: None), ended=False, fail=self.fail, finish=lambda: None
        )
        settings = SimpleNamespace(
            poll_interval=60.0,
            notify=True,
            window_events=100,
            window_mb=1,
            outbox_warn=0,
            alert_command=(),
            alert_age=0.0,
        )
        daemon = SimpleNamespace(calm=lambda: None, progress=lambda: None)
        self.capture = OutboxRelay(
            session,
            Postgres(session, self.database, 1, settings.poll_interval, notify=settings.notify, log=Log("test")),
            settings,
            Log("test"),
            daemon,
            Carried(0, Log("test"), self.soon.append, is_shown=False),
        )  # type: ignore[arg-type]
        publisher = SimpleNamespace(publish=self.publish, silence=lambda: 0.0)
        self.capture.start(publisher, no_other, SimpleNamespace(waiting=False), lambda: None)  # type: ignore[arg-type]
        self.database.answer(outbox.DELETE, [(1, True, 0, "")])
        self.database.answer(outbox.INCOMPLETE, [])

    def publish(self, events: Iterable[OutboxEvent]) -> list[tuple[OutboxEvent, str]]:
        self.published.extend(events)
        return []

    def fail(self, error: Exception) -> None:
        raise error

    def read(self, seqs: Iterable[int]) -> Any:
        """Answer a READ with these rows; return what it asked for."""
        rows = [
            (9, n, f"id-{n}", 0, 1, "t", "t", "insert", f"t {n}", "{}", None, None, False, None, 2 * n, "1:1:")
            for n in seqs
        ]
        return self.database.answer(outbox_read.READ, rows or [(9, *[None] * 15)])


def test_what_is_here_already_is_not_taken_in_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep reads what is on its way, and what is confirmed and not deleted yet, once more."""
    monkeypatch.setattr(reading, "PACE_SHARE", 0.0)
    working = Working()
    working.read([1, 2])
    first, second = working.published
    working.capture.confirmed(first)
    working.capture.woken("", outbox.SWEEP)
    working.read([])  # was under way
    while working.database.asked and working.database.asked[0][0] != outbox_read.READ:
        working.database.answer(working.database.asked[0][0], [(9, True, 1, "")])
    assert working.read([1, 2, 3])["high"] == 0
    working.capture.confirmed(second)
    assert [event.seq for event in working.published] == [1, 2, 3]


class Asleep(Working):
    """The sleep lock is taken, and all is read."""

    def __init__(self) -> None:
        super().__init__()
        self.read([])
        self.database.answer(outbox.LOCK, [])
        self.database.answer(outbox.XID, [(5,)])
        self.read([])
        assert not self.database.asked, "asleep"

    def relay(self, *seqs: int) -> None:
        """Wake it, and let it relay what it finds."""
        self.capture.woken("", "")
        self.read(seqs)
        for event in self.published[-len(seqs) :]:
            self.capture.confirmed(event)


def test_a_listener_that_has_work_gives_the_sleep_lock_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is held every transaction notifies, one after another."""
    monkeypatch.setattr(reading, "PACE_SHARE", 0.0)
    working = Asleep()
    working.capture.woken("", "")
    working.read([1, 2])
    working.database.answer(outbox.UNLOCK, [])
    assert [event.seq for event in working.published] == [1, 2]


def test_a_single_event_now_and_then_leaves_the_listener_asleep(monkeypatch: pytest.MonkeyPatch) -> None:
    """And it is not read for again: whatever commits later notifies. Twenty within a tenth of a second wake it up."""
    now = 1000.0
    monkeypatch.setattr(sleep.time, "monotonic", lambda: now)
    working = Asleep()
    seq = 0
    for apart in [0.1 / 19] * 100 + [0.001] * 20:
        now += apart
        seq += 1
        working.relay(seq)
        if working.database.asked[-1][0] == outbox.UNLOCK:
            break
        working.database.answer(outbox.DELETE, [(seq, True, 1, "")])
        assert not working.database.asked, "asleep"
    assert 100 < seq < 120
    working.database.answer(outbox.UNLOCK, [])


def test_who_is_woken_while_it_reads_a_single_event_reads_again() -> None:
    working = Asleep()
    working.capture.woken("", "")
    working.capture.woken("", "")
    working.read([1])
    working.read([2])
    assert [event.seq for event in working.published] == [1, 2]


def test_the_window_is_looked_through_once_for_a_table_that_nobody_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look goes through all of the window, and each of its events comes back."""
    monkeypatch.setattr(reading, "PACE_SHARE", 0.0)
    working, looked = Working(), list[str]()
    drop = Window.drop
    monkeypatch.setattr(Window, "drop", lambda self, drops: looked.append("") or drop(self, drops))
    working.read(range(1, 51))
    for event in list(working.published):
        working.capture.declined(event, "unroutable")
    assert len(working.published) == 50
    assert len(looked) == 1
