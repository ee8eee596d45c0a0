"""Tasks that outlive the sessions: what they tell, what ends them, and what a defect in a target costs."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.delivery import DONE, Delivery, Event, Outcome, Verdict, always
from relay.findings import Finding
from relay.receiving.strands import Item, Strand
from relay.receiving.workers import Workers


class Slow:
    """A target whose probe hangs until told otherwise."""

    batch_size = 1

    def __init__(self) -> None:
        self.closed = 0
        self.asked = asyncio.Event()
        self.answer = asyncio.Event()

    def group(self, event: Event) -> str:
        return event.table

    async def check(self) -> AsyncIterator[Finding]:
        for one in ():
            yield one

    def open(self, _may_begin: Callable[[], bool] = always) -> "Slow":
        return self

    async def deliver(self, batch: Sequence[Delivery]) -> Sequence[Outcome]:
        return [DONE] * len(batch)

    async def probe(self) -> Outcome:
        self.asked.set()
        await self.answer.wait()
        return DONE

    def close(self) -> None:
        self.closed += 1


def test_the_end_closes_every_connection() -> None:
    async def ended() -> int:
        target = Slow()
        workers = Workers(target, 3)
        await asyncio.sleep(0)  # they have begun
        await workers.end()
        return target.closed

    assert asyncio.run(ended()) == 3


def test_a_request_that_hangs_does_not_hold_the_end_up() -> None:
    async def ended() -> int:
        target = Slow()
        workers = Workers(target, 2)
        workers.start([])
        await target.asked.wait()
        await workers.end()
        return target.closed

    assert asyncio.run(asyncio.wait_for(ended(), 10)) == 2


class Stubborn(Slow):
    """What it does can't be broken off."""

    async def probe(self) -> Outcome:
        self.asked.set()
        while not self.answer.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await self.answer.wait()
        return DONE


def test_nor_does_one_that_cannot_be_broken_off() -> None:
    async def ended() -> float:
        target = Stubborn()
        workers = Workers(target, 1)
        workers.start([])
        await target.asked.wait()
        began = time.monotonic()
        await workers.end(patience=0.2)
        took = time.monotonic() - began
        target.answer.set()
        return took

    assert 0.2 <= asyncio.run(asyncio.wait_for(ended(), 10)) < 5


def item() -> Item:
    return Item(Event(b"{}", "t"), None, Strand(""))


def test_what_finishes_in_one_turn_of_the_loop_is_told_once() -> None:
    """So that it is acknowledged together."""

    async def told() -> list[int]:
        workers, counts = Workers(Slow(), 4), list[int]()
        workers.report_to(lambda: counts.append(len(workers.collect())))
        for _ in range(4):
            workers.start([item()])
        while workers.busy:
            await asyncio.sleep(0)
        await workers.end()
        return counts

    assert asyncio.run(told()) == [4]


def test_what_finishes_between_two_sessions_is_told_to_the_next() -> None:
    async def told() -> list[int]:
        target, counts = Slow(), list[int]()
        workers = Workers(target, 1)
        workers.report_to(lambda: counts.append(-1))
        workers.start([])
        await target.asked.wait()
        workers.report_to(None)
        target.answer.set()
        for _ in range(10):
            await asyncio.sleep(0)
        workers.report_to(lambda: counts.append(len(workers.collect())))
        while workers.busy:
            await asyncio.sleep(0)
        await workers.end()
        return counts

    assert asyncio.run(told()) == [1]


def test_what_no_worker_has_begun_is_taken_back() -> None:
    async def recalled() -> tuple[int, int]:
        target = Slow()
        workers = Workers(target, 1)
        workers.start([])
        await target.asked.wait()
        workers.start([item()])
        workers.start([item(), item()])
        found = workers.recall()
        busy = workers.busy
        await workers.end()
        return sum(len(batch) for batch in found), busy

    assert asyncio.run(recalled()) == (3, 1)


class Broken(Slow):
    """It can't even be opened."""

    def open(self, _may_begin: Callable[[], bool] = always) -> "Slow":
        raise KeyError("no link")


def test_the_end_of_a_worker_is_not_silent() -> None:
    """Its share of the work would stop without a word."""

    async def noticed() -> list[object]:
        met: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: met.append(context.get("exception")))
        workers = Workers(Broken(), 1)
        while not met:
            await asyncio.sleep(0)
        await workers.end()
        return met

    [error] = asyncio.run(asyncio.wait_for(noticed(), 10))
    assert isinstance(error, KeyError)


class Tripping:
    """A target that trips over some events: an exception that nobody foresaw, for the whole request."""

    batch_size = 100

    def __init__(self, bad: set[int]) -> None:
        self._bad = bad
        self.delivered: list[int] = []
        self.closed = 0

    def group(self, event: Event) -> str:
        return event.table

    async def check(self) -> AsyncIterator[Finding]:
        for one in ():
            yield one

    def open(self, _may_begin: Callable[[], bool] = always) -> "Tripping":
        return self

    async def deliver(self, batch: Sequence[Delivery]) -> Sequence[Outcome]:
        numbers = [delivery.event.seq for delivery in batch]
        if self._bad & set(numbers):
            raise KeyError("the password is s3cret")
        self.delivered += numbers
        return [DONE] * len(batch)

    async def probe(self) -> Outcome:
        raise KeyError("the password is s3cret")

    def close(self) -> None:
        self.closed += 1


def outcomes_of(target: Tripping, batch: list[Item]) -> list[Outcome]:
    async def outcomes() -> list[Outcome]:
        workers, done = Workers(target, 1), asyncio.Event()
        workers.report_to(done.set)
        workers.start(batch)
        await asyncio.wait_for(done.wait(), 10)
        await workers.end()
        [finished] = workers.collect()
        return list(finished.outcomes)

    return asyncio.run(outcomes())


def numbered(count: int, problem: str = "", unreadable: Sequence[int] = ()) -> list[Item]:
    events = [Event(b"{}", "t", seq=n, problem=problem if n in unreadable else "") for n in range(1, count + 1)]
    return [Item(event, None, Strand("")) for event in events]


@given(st.integers(1, 100), st.sets(st.integers(1, 100), max_size=5))
def test_a_defect_counts_for_the_event_that_met_it(count: int, bad: set[int]) -> None:
    target = Tripping(bad)
    outcomes = outcomes_of(target, numbered(count))
    bad = {n for n in bad if n <= count}
    assert [n for n, outcome in enumerate(outcomes, 1) if outcome.verdict is not Verdict.DONE] == sorted(bad)
    assert {outcomes[n - 1].verdict for n in bad} <= {Verdict.MESSAGE}, "never as unclear"
    assert sorted(target.delivered) == [n for n in range(1, count + 1) if n not in bad], "each once"
    assert target.closed > len(bad), "what is left on the connection is nobody's answer"


def test_what_a_defect_says_goes_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    [outcome] = outcomes_of(Tripping({1}), numbered(1))
    assert outcomes_of(Tripping({1}), []) == [], "of the probe: there is no way to ask"
    assert outcome.reason.startswith("defect: KeyError at test_workers.py:")
    assert "s3cret" not in caplog.text + outcome.reason
    assert caplog.text.count("please report it") == 2


def test_what_cannot_be_read_is_refused_at_once_and_not_sent() -> None:
    target = Tripping(set())
    outcomes = outcomes_of(target, numbered(3, "its headers can't be read: cut short", unreadable=[2]))
    assert target.delivered == [1, 3]
    assert [outcome.verdict for outcome in outcomes] == [Verdict.DONE, Verdict.MESSAGE, Verdict.DONE]
    assert (outcomes[1].reason, outcomes[1].final) == ("its headers can't be read: cut short", True)
