"""The listener's next statement: what it reads, takes in, and deletes. Its database answers when the test says so."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

import pytest

from relay.listening import outbox, reading
from relay.listening.event import OutboxEvent
from relay.listening.outbox_relay import Carried, OutboxRelay
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
            self.database,
            1,
            settings,
            Log("test"),
            daemon,
            Carried(0, Log("test"), self.soon.append, is_shown=False),
        )  # type: ignore[arg-type]
        publisher = SimpleNamespace(publish=self.publish, silence=lambda: 0.0)
        self.capture.start(publisher, SimpleNamespace(waiting=False), lambda: None)  # type: ignore[arg-type]
        self.database.answer(outbox.DELETE, [(1, True, 0, "")])
        self.database.answer(outbox.INCOMPLETE, [])

    def publish(self, events: Iterable[OutboxEvent]) -> list[tuple[OutboxEvent, str]]:
        self.published.extend(events)
        return []

    def fail(self, error: Exception) -> None:
        raise error

    def read(self, seqs: Iterable[int]) -> Any:
        """Answer a READ with these rows; return what it asked for."""
        rows = [(9, n, f"id-{n}", 0, 1, "t", "t", "insert", f"t {n}", "{}", None, False, None, 2 * n) for n in seqs]
        return self.database.answer(outbox.READ, rows or [(9, *[None] * 13)])


def test_what_is_here_already_is_not_taken_in_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep reads what is on its way, and what is confirmed and not deleted yet, once more."""
    monkeypatch.setattr(reading, "PACE_EACH", 0.0)
    working = Working()
    working.read([1, 2])
    first, second = working.published
    working.capture.confirmed(first)
    working.capture.woken("", outbox.SWEEP)
    working.read([])  # was under way
    while working.database.asked and working.database.asked[0][0] != outbox.READ:
        working.database.answer(working.database.asked[0][0], [(9, True, 1, "")])
    assert working.read([1, 2, 3])["high"] == 0
    working.capture.confirmed(second)
    assert [event.seq for event in working.published] == [1, 2, 3]


def test_a_listener_that_has_work_gives_the_sleep_lock_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is held every transaction notifies, one after another."""
    monkeypatch.setattr(reading, "PACE_EACH", 0.0)
    working = Working()
    working.read([])
    working.database.answer(outbox.LOCK, [])
    working.database.answer(outbox.XID, [(5,)])
    working.read([])
    assert not working.database.asked, "asleep"
    working.capture.woken("", "")
    working.read([1])
    working.database.answer(outbox.UNLOCK, [])
    assert [event.seq for event in working.published] == [1]


def test_the_window_is_looked_through_once_for_a_table_that_nobody_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look goes through all of the window, and each of its events comes back."""
    monkeypatch.setattr(reading, "PACE_EACH", 0.0)
    working, looked = Working(), list[str]()
    drop = Window.drop
    monkeypatch.setattr(Window, "drop", lambda self, drops: looked.append("") or drop(self, drops))
    working.read(range(1, 51))
    for event in list(working.published):
        working.capture.declined(event, "unroutable")
    assert len(working.published) == 50
    assert len(looked) == 1
