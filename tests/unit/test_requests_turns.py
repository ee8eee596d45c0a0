"""Whose statement is next: of rows that are asked for, or of a table that is sent; and how many a second are taken."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Coroutine
from typing import Any, cast

import psycopg2
import psycopg2.errors
import pytest

from relay.amqp.session import Session
from relay.errors import RelayError, Unavailable
from relay.listening import requests as module
from relay.listening.addressees import Addressees
from relay.listening.beside import Beside
from relay.listening.fills import CHUNK, FILLS_MAX, PLACE_SECONDS, SKIPPED_MAX, Fills
from relay.listening.gets import KEYS_MAX, Gets
from relay.listening.requests import BUSY_EVENTS, BUSY_RATE, BUSY_SECONDS, ENOUGH, QUIET_RATE, Requests
from relay.log import Log


class Work:
    """Rows that are asked for without a pause, or a table that is due: notes each statement."""

    def __init__(self, name: str, done: list[str]) -> None:
        self._name = name
        self._done = done

    def __len__(self) -> int:
        return KEYS_MAX

    def next_due(self) -> float:
        return 0.0

    async def answer_some(self, _beside: Beside) -> int:
        self._done.append(self._name)
        return 1

    async def step(self, _beside: Beside) -> None:
        self._done.append(self._name)


def never() -> Coroutine[Any, Any, Any]:
    raise AssertionError("nothing of this opens a connection")


@pytest.fixture
def requests() -> Requests:
    log = Log("listen")
    return Requests(never, Addressees(log, ""), log, is_on=True)


def test_who_asks_without_a_pause_keeps_no_table_from_being_sent(requests: Requests) -> None:
    done: list[str] = []
    vars(requests).update(_gets=Work("rows", done), _fills=Work("table", done))

    async def run() -> None:
        for _ in range(6):
            await requests._next(cast(Beside, None))

    asyncio.run(run())
    assert done == ["rows", "table"] * 3


class Lost:
    """A connection that is lost whenever one table is asked for."""

    def __init__(self) -> None:
        self.asked: list[object] = []

    async def ask(self, sql: str, *params: object, **_table: str) -> list[tuple[object, ...]]:
        if "relay.resend" not in sql:
            return [(0,)]
        self.asked.append(params[0])
        if params[0] == "bad":
            raise Unavailable("PostgreSQL: lost")
        return [(1, '{"id": 1}', [])]


def test_a_table_over_which_postgresql_is_lost_keeps_no_other_from_being_sent() -> None:
    """Code of its owner's can have that happen each time; it was tried again and again, before all others."""
    beside, fills = Lost(), Fills(lambda _table, _why: None)
    for table in ("bad", "good"):
        fills.add({"table": table, "queue": "q"}, lambda _answer: None)

    async def run() -> None:
        for _ in range(4):
            with contextlib.suppress(RelayError):
                await fills.step(cast(Beside, beside))

    asyncio.run(run())
    assert beside.asked == ["bad", "good", "good", "good"]


def test_a_table_whose_owner_s_code_fails_late_keeps_others_waiting_for_one_statement_only() -> None:
    """It was asked about half of the keys again, and half of these: 99 statements, of 20 s each."""
    clock, asked = [0.0], list[object]()

    class Slow:
        async def ask(self, _sql: str, *params: object, **_table: str) -> list[tuple[object, ...]]:
            asked.append(params[1])
            clock[0] += 19.9
            raise psycopg2.errors.DivisionByZero

    gets, told = Gets(lambda _table, _why: None, lambda: clock[0]), list[dict[str, Any]]()
    gets.add({"table": "t", "keys": "\n".join(f'{{"id": {number}}}' for number in range(KEYS_MAX))}, told.append)
    asyncio.run(gets.answer_some(cast(Beside, Slow())))
    assert (len(asked), told) == (1, [])


def test_whose_statements_take_long_have_no_more_time_than_others() -> None:
    """A chunk of 20 s of each of 19 tables went before each chunk of the twentieth."""
    clock, rows = [0.0], dict[object, float]()

    class Slow:
        async def ask(self, sql: str, *params: object, **_table: str) -> list[tuple[object, ...]]:
            if "relay.resend" not in sql:
                return [(0,)]
            took = 0.01 if params[0] == "good" else 19.9
            clock[0] += took
            rows[params[0]] = rows.get(params[0], 0.0) + took
            return [(1, '{"id": 1}', [])]

    fills, now = Fills(lambda _table, _why: None, lambda: clock[0]), list[float]()

    async def run() -> None:
        for number in range(19):
            fills.add({"table": f"slow {number}", "queue": "q"}, lambda _answer: None)
        for _ in range(40):
            await fills.step(cast(Beside, Slow()))
        fills.add({"table": "good", "queue": "q"}, lambda _answer: None)
        now.append(clock[0])
        while clock[0] < now[0] + 4000:
            await fills.step(cast(Beside, Slow()))

    asyncio.run(run())
    assert rows["good"] > 150
    assert all(had > 150 for had in rows.values()), "who came later does not keep out who was there before, either"


def test_of_those_without_an_end_one_gives_its_place_to_another() -> None:
    clock, told = [0.0], dict[str, list[dict[str, Any]]]()
    fills = Fills(lambda _table, _why: None, lambda: clock[0])

    def add(table: str) -> None:
        fills.add({"table": table, "queue": "q", "after": '{"id": 7}'}, told.setdefault(table, []).append)

    for number in range(FILLS_MAX):
        add(f"t{number}")
        clock[0] += 1
    add("other")
    assert told.pop("other") == [
        {
            "done": True,
            "rows": 0,
            "after": '{"id": 7}',
            "error": "too many tables are being sent; ask again",
            "again": True,
        }
    ]
    clock[0] = PLACE_SECONDS
    add("other")
    assert not told.pop("other")
    (answer,) = told.pop("t0")
    assert (answer["again"], answer["after"]) == (True, '{"id": 7}')
    assert not any(told.values())
    assert len(fills) == FILLS_MAX


class Locked:
    """A table whose rows others have locked, all of them; it has no end."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.chunks = 0

    async def ask(self, sql: str, *_params: object, **_table: str) -> list[tuple[object, ...]]:
        if "resend_row" in sql:
            raise psycopg2.errors.LockNotAvailable
        if "resend_chunk" not in sql:
            return [(0,)]
        self.chunks += 1
        return [(0, self.key, [f"{self.key}{number}" for number in range(CHUNK)])]


@pytest.mark.parametrize(("key", "chunks"), [("1", SKIPPED_MAX // CHUNK + 1), ("x" * 1000, 3), ("x" * 10_000, 1)])
def test_of_rows_that_others_have_locked_so_many_are_remembered(key: str, chunks: int) -> None:
    """The owner of a table may lock all of it, and have keys of any length: it was the listener's memory."""
    beside, clock, refused = Locked(key), itertools.count(0.0, 1.0), dict[str, str]()
    fills, answers = Fills(refused.__setitem__, lambda: next(clock)), list[dict[str, Any]]()
    fills.add({"table": "t", "queue": "q"}, answers.append)

    async def run() -> None:
        for _ in range(20):
            if fills:
                await fills.step(cast(Beside, beside))

    asyncio.run(run())
    assert beside.chunks == chunks
    if len(key) < 10_000:
        assert fills
    else:
        assert "locked 500 rows of t, keys of 4 MiB" in answers[0]["error"]
        assert refused == {"t": answers[0]["error"]}


@pytest.mark.parametrize(("is_busy", "enough"), [(False, ENOUGH), (True, KEYS_MAX)])
def test_a_statement_waits_until_enough_keys_have_come(
    monkeypatch: pytest.MonkeyPatch, is_busy: bool, enough: int
) -> None:
    for name in ("GATHER_QUIET", "GATHER_MANY", "GATHER_BUSY"):
        monkeypatch.setattr(module, name, 60.0)

    async def run() -> None:
        gathering = module.Gathering()
        await asyncio.wait_for(gathering.wait(1, is_busy=is_busy), 5)  # the first one for a while waits for nobody
        gathering.end(1)
        await asyncio.wait_for(gathering.wait(enough, is_busy=is_busy), 5)
        gathering.end(enough)
        waits = asyncio.ensure_future(gathering.wait(1, is_busy=is_busy))
        for waiting in range(2, enough):
            await asyncio.sleep(0)
            gathering.more(waiting)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not waits.done()
        gathering.more(enough)
        await asyncio.wait_for(waits, 5)

    asyncio.run(run())


def test_between_two_reads_of_a_backlog_few_are_taken(requests: Requests, monkeypatch: pytest.MonkeyPatch) -> None:
    now, waiting = [1000.0], [0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    requests.begin(cast(Session, None), lambda: waiting[0])
    assert requests.rate() == BUSY_RATE, "what waits is not known yet"
    now[0] += BUSY_SECONDS
    assert requests.rate() == QUIET_RATE
    waiting[0] = BUSY_EVENTS + 1
    assert requests.rate() == BUSY_RATE
    waiting[0] = 0
    now[0] += BUSY_SECONDS / 2
    assert requests.rate() == BUSY_RATE
    now[0] += BUSY_SECONDS
    assert requests.rate() == QUIET_RATE
