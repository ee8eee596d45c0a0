"""Events that share a request: when a batch starts, what counts as evidence, and which come back together."""

import random

import pytest

from relay.delivery import DONE, Event, Outcome, Verdict
from relay.log import Log
from relay.receiving.breaker import Breaker
from relay.receiving.dispatcher import LINGER, LINGER_BUSY, Dispatcher
from relay.receiving.strand import Item
from relay.receiving.strands import Strands
from relay.receiving.workers import Finished


class Workers:
    """Threads that never finish by themselves: the test says when."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.busy = 0
        self.batches: list[list[Item]] = []
        self._finished: list[Finished] = []

    def start(self, batch: list[Item]) -> None:
        self.busy += 1
        self.batches.append(batch)

    def finish(self, outcome: Outcome, started: float = 0.0) -> None:
        batch = self.batches.pop(0)
        self._finished.append(Finished(batch, [outcome] * len(batch), started))

    def collect(self) -> list[Finished]:
        found, self._finished = self._finished, []
        self.busy -= len(found)
        return found

    def recall(self) -> list[list[Item]]:
        return []


class Bench:
    """Dispatcher and strands on a clock of the test's own."""

    def __init__(self, *, batch: int = 10, workers: int = 2) -> None:
        self.now = 1000.0
        self.strands = Strands("key", lambda event: event.table)
        self.workers = Workers(workers)
        self.breaker = Breaker(streak=3, minimum=1.0, rng=random.Random(1))
        self.dispatcher = Dispatcher(
            self.strands,
            self.workers,  # type: ignore[arg-type]
            self.breaker,
            batch_size=batch,
            retry=(1.0, 60.0),
            max_attempts=8,
            max_rate=0,
            clock=lambda: self.now,
            log=Log("test"),
        )
        self._count = 0

    def arrive(self, count: int, table: str = "t") -> None:
        for _ in range(count):
            self._count += 1
            self.strands.add(Event(b"", table, key=f"{table} {self._count}", table=table), lambda: None, self.now)
            self.dispatcher.start_ready()

    def sizes(self) -> list[int]:
        return [len(batch) for batch in self.workers.batches]

    def sleep(self) -> float:
        """As the loop does: until the dispatcher wants to be woken."""
        wake = self.dispatcher.next_wake()
        assert wake is not None
        self.now += wake
        self.dispatcher.start_ready()
        return wake


def test_a_single_row_on_a_quiet_system_goes_at_once() -> None:
    bench = Bench()
    bench.arrive(1)
    assert bench.sizes() == [1]


def test_while_a_request_is_under_way_rows_gather_until_no_more_come() -> None:
    bench = Bench()
    bench.arrive(1)
    bench.arrive(4)
    bench.now += LINGER[0] / 2
    bench.arrive(3)
    assert bench.sizes() == [1]
    assert bench.sleep() == pytest.approx(LINGER[0])
    assert bench.sizes() == [1, 7]


def test_a_full_batch_does_not_wait_and_a_trickle_not_for_ever() -> None:
    bench = Bench()
    bench.arrive(1)
    bench.arrive(10)
    assert bench.sizes() == [1, 10]
    bench = Bench(batch=1000)
    bench.arrive(1)
    started = bench.now
    while len(bench.sizes()) == 1:
        bench.arrive(1)
        bench.now += LINGER[0] / 3
        bench.dispatcher.start_ready()
    assert bench.now - started == pytest.approx(LINGER[1], abs=LINGER[0])


def test_while_no_worker_is_free_a_batch_can_grow() -> None:
    bench = Bench(workers=1)
    bench.arrive(1)
    bench.arrive(2)
    assert bench.sleep() == pytest.approx(LINGER_BUSY[0])
    assert bench.sizes() == [1, 2]


def test_a_table_with_a_backlog_does_not_hold_up_the_single_row_of_another() -> None:
    bench = Bench()
    bench.arrive(100, "big")
    bench.arrive(1, "small")
    tables = []
    for _ in range(6):
        bench.now += LINGER[1]
        tables.append(bench.workers.batches[0][0].event.table)
        bench.workers.finish(DONE, bench.now)
        bench.dispatcher.collect()
        bench.dispatcher.start_ready()
    assert "small" in tables


def test_a_timeout_of_a_whole_batch_is_one_piece_of_evidence() -> None:
    bench = Bench()
    bench.arrive(1)
    bench.arrive(10)
    bench.workers.finish(Outcome(Verdict.UNCLEAR, "no answer in time"))
    bench.workers.finish(Outcome(Verdict.UNCLEAR, "no answer in time"))
    bench.dispatcher.collect()
    assert not bench.breaker.is_open, "two requests, and three make a streak"


def test_rows_that_wait_come_back_together() -> None:
    bench = Bench(batch=100)
    bench.arrive(1)
    bench.arrive(99)
    bench.now += LINGER[0]
    bench.dispatcher.start_ready()
    bench.workers.finish(DONE, bench.now)
    bench.workers.finish(Outcome(Verdict.CONFLICT, "no record yet"))
    bench.dispatcher.collect()
    bench.workers.count = bench.dispatcher._capacity = 100
    while sum(bench.sizes()) < 99:
        bench.sleep()
    assert len(bench.sizes()) <= 3, "waits of 0.5 to 1 s, each by chance"


def test_an_event_that_must_not_be_tried_again_is_given_up_at_once() -> None:
    bench = Bench()
    given_up = []

    class Park:
        def give_up(self, item: Item, reason: str, _now: float) -> None:
            given_up.append((item.tries.attempts, reason))
            bench.strands.set_aside(item)

        def waits(self, _item: Item) -> None:
            raise AssertionError

    bench.dispatcher.desk = Park()
    bench.arrive(1)
    bench.workers.finish(Outcome(Verdict.MESSAGE, "committed", final=True))
    bench.dispatcher.collect()
    assert given_up == [(1, "committed")]


@pytest.mark.parametrize("asked", [False, True])
def test_a_lost_request_of_several_convicts_none_of_them_and_is_no_line_a_row(
    caplog: pytest.LogCaptureFixture, asked: bool
) -> None:
    caplog.set_level("INFO")
    bench = Bench()
    bench.arrive(1)
    bench.arrive(10)
    bench.workers.finish(DONE)
    bench.dispatcher.collect()
    bench.now += 1
    batch = bench.workers.batches[0]
    for item in batch:
        item.tries.asked = asked
    bench.workers.finish(Outcome(Verdict.UNCLEAR, "no answer in time", told=True))
    bench.dispatcher.collect()
    bench.arrive(1, "other")
    bench.workers.finish(DONE, started=bench.now)
    bench.dispatcher.collect()
    assert [item.tries.attempts for item in batch] == [0] * 10
    assert not caplog.records


@pytest.mark.parametrize("later", [False, True])
def test_what_waits_is_tried_at_once_when_another_outcome_says_so(later: bool) -> None:
    """Also if it is with a worker, and will fail only then: it was told that its link is missing before it came."""
    bench = Bench(batch=1)
    bench.arrive(2)
    [child], [parent] = bench.workers.batches
    done, conflict = Outcome(Verdict.DONE, wakes=(child.event,)), Outcome(Verdict.CONFLICT, "no record yet", wait=50.0)
    if later:
        bench.workers.batches.reverse()
    for outcome in (done, conflict) if later else (conflict, done):
        bench.workers.finish(outcome)
        bench.dispatcher.collect()
    bench.dispatcher.start_ready()
    assert bench.workers.batches == [[child]]
    assert not child.tries.retry, "it has not failed by itself"
    assert not parent.strand.items
