"""How a polled outbox is read: on a real database, to whose numbers writers come in any order, also in mid-read."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.database_url import SQLITE
from relay.listening.polled import reads as module
from relay.listening.polled.message import Messages, Text
from relay.listening.polled.outbox_table import own
from relay.listening.polled.reads import Asked, Reads
from relay.listening.polled.seen import PolledSeen
from relay.listening.polled.statements import Statements
from relay.listening.source import Read, Waits, Wanted

INSTALL = (Path(__file__).parents[2] / "sql/sqlite/install.sql").read_text()
STATEMENTS = Statements(SQLITE, sqlalchemy.create_engine("sqlite://").dialect, own(SQLITE))


class Outbox(sqlite3.Connection):
    """Before each statement something is committed: `between`."""

    between: Callable[[], object] = staticmethod(lambda: None)

    def cursor(self, *_arguments: Any) -> sqlite3.Cursor:
        self.between()
        return super().cursor()

    def put(self, seq: int, topic: str = "t", key: str | None = None, error: str | None = None) -> None:
        row = seq, topic, "message", key, "{}", error
        self.execute("insert into relay_outbox (seq, topic, op, key, body, error) values (?, ?, ?, ?, ?, ?)", row)


def outbox() -> Outbox:
    opened = sqlite3.connect(":memory:", factory=Outbox)
    opened.executescript(INSTALL)
    opened.isolation_level, opened.text_factory = None, Text
    return opened


class Reader:
    """A session: Polled without its thread."""

    def __init__(self, driver: Outbox) -> None:
        self._driver = driver
        self._reads = Reads(SQLITE, STATEMENTS, Messages(own(SQLITE), "s", in_bytes=True))
        self._reads._is_quiet = lambda *_: False  # type: ignore[method-assign]  # of other connections' commits
        self.seen = PolledSeen()

    def read(self, most: int = 1000, most_bytes: int = 1 << 20, topics: list[str] | None = None) -> Read:
        self.seen.reading()
        asked = Asked(Wanted(most, most_bytes, [], [], topics or []), self.seen.high, self.seen.unseen.copy())
        found, is_empty = self._reads.read(self._driver, asked)
        if is_empty:
            self.seen.rewind(1)
        self.seen.note(found.seqs, whole=found.whole, xmin=0)
        return found

    def skip(self, *topics: str) -> Any:
        return self._reads.skip(self._driver, self.seen.high, Waits(["k"], [], list(topics)))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_RANGES", 2)
    monkeypatch.setattr(module, "PAGE", 3)
    monkeypatch.setattr(module, "CHUNK", 2)


@pytest.mark.usefixtures("small")
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chance=st.randoms(use_true_random=True))
def test_whatever_stays_and_commits_late_each_row_comes_soon_once_and_in_order(chance: random.Random) -> None:
    """Rows of one key are committed in the order of their numbers, for the later one's writer waits for the other."""
    driver = outbox()
    reader = Reader(driver)
    keys = {seq: chance.choice("abc") for seq in range(1, 25)}
    order = chance.sample(range(1, 25), chance.randint(0, 24))
    sorted_ = {key: iter(sorted(seq for seq in order if keys[seq] == key)) for key in "abc"}
    order = [next(sorted_[keys[seq]]) for seq in order]
    waiting, seen = list(order), list[int]()
    stays = chance.choice(["", "a", "ab", "abc"])

    def commit() -> None:
        if waiting and chance.random() < 0.5:
            seq = waiting.pop(0)
            driver.put(seq, key=keys[seq])

    driver.between = commit
    while waiting:
        commit()
        seen += reader.read(chance.randint(1, 4), chance.choice([1, 400, 1 << 20])).seqs
        gone = [seq for seq in seen if keys[seq] not in stays and chance.random() < 0.5]
        reader.seen.forget(gone)
        driver.executemany("delete from relay_outbox where seq = ?", [(seq,) for seq in gone])
    for _ in range(len(order) + 1):
        seen += reader.read(1).seqs
    assert sorted(seen) == sorted(order)
    for key in "abc":
        of_key = [seq for seq in seen if keys[seq] == key]
        assert of_key == sorted(of_key)


@pytest.mark.usefixtures("small")
def test_what_is_new_does_not_pass_what_was_committed_while_gaps_were_looked_at() -> None:
    """A row's first change, with a low number, and its second are committed between two statements of one read."""
    driver = outbox()
    reader = Reader(driver)
    for seq in (10, 30, 50, 70, 90, 110):
        driver.put(seq)
    reader.read()
    count = 0

    def commit() -> None:
        nonlocal count
        count += 1
        if count == statement:
            driver.put(20, key="k")
            driver.put(200, key="k")

    for statement in range(1, 9):
        count, driver.between = 0, commit
        found = [seq for _ in range(5) for seq in reader.read().seqs]
        assert found == [20, 200], statement
        reader = Reader(driver)
        driver.between = staticmethod(lambda: None)
        driver.execute("delete from relay_outbox where key is not null")
        reader.read()


def test_what_is_new_is_read_at_once_whatever_stays() -> None:
    """And a reader that has much to look at does not take it for new: 20,000 numbers, each second one of a row."""
    driver = outbox()
    reader = Reader(driver)
    with driver:
        driver.execute("begin")
        for seq in range(2, 20_001, 2):
            driver.put(seq, "waits")
    for _ in range(10):
        reader.read()
    assert len(reader.seen.unseen) == 10_000
    driver.put(30_000)
    driver.put(777)
    assert [reader.read().seqs, reader.read().seqs, reader.read().seqs] == [[777], [30_000], []]


def test_what_waits_is_passed_up_to_what_does_not() -> None:
    driver = outbox()
    reader = Reader(driver)
    rows = ["waits", "waits", "flows", "waits"]
    for seq, topic in enumerate(rows, 1):
        driver.put(seq, topic)
    skipped = reader.skip("waits", "others")
    assert (skipped.seqs, skipped.full) == ([1, 2], False)
    assert [(one.seq, one.table, one.topic, one.is_behind) for one in skipped.passed] == [(1, None, "waits", False)]
    driver.execute("update relay_outbox set key = 'k', topic = 'of a key' where seq = 3")
    skipped = reader.skip("waits")
    assert skipped.seqs == [1, 2, 3, 4]
    assert [(one.seq, one.topic, one.is_behind) for one in skipped.passed] == [(1, "waits", False), (3, None, True)]
    driver.execute("update relay_outbox set error = 'by hand' where seq = 2")
    assert reader.skip("waits").seqs == [1]
    driver.execute("update relay_outbox set topic = ? where seq = 1", ("waits" * 1000,))
    assert reader.skip("waits" * 1000).seqs == []


def test_what_is_passed_is_full_when_more_may_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SKIP_ROWS", 2)
    driver = outbox()
    for seq in (1, 2, 3):
        driver.put(seq, "waits")
    assert Reader(driver).skip("waits").full
