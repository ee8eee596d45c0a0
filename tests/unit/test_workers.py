"""The worker threads end before the interpreter does, unless a request hangs."""

import threading
import time
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.delivery import DONE, Delivery, Event, Outcome, Verdict
from relay.findings import Finding
from relay.receiving.lanes import Item, Lane
from relay.receiving.workers import Finished, Workers


class Slow:
    """A target whose links take their time to close, and whose probe hangs until told otherwise."""

    batch_size = 1

    def __init__(self) -> None:
        self.closed: list[str] = []
        self.asked = threading.Event()
        self.answer = threading.Event()

    def group(self, event: Event) -> str:
        return event.table

    def check(self) -> Iterator[Finding]:
        return iter(())

    def open(self) -> "Slow":
        return self

    def deliver(self, batch: Sequence[Delivery]) -> Sequence[Outcome]:
        return [DONE] * len(batch)

    def probe(self) -> Outcome:
        self.asked.set()
        self.answer.wait(30)
        return DONE

    def close(self) -> None:
        time.sleep(0.1)  # what a connection's goodbye may take
        self.closed.append(threading.current_thread().name)


def test_the_end_awaits_that_every_idle_thread_has_closed_its_connection() -> None:
    target = Slow()
    workers = Workers(target, 3)
    workers.end()
    assert sorted(target.closed) == ["worker-0", "worker-1", "worker-2"]


def test_a_request_that_hangs_does_not_hold_the_end_up() -> None:
    target = Slow()
    workers = Workers(target, 2)
    workers.start([])
    assert target.asked.wait(10)
    began = time.monotonic()
    workers.end(patience=0.5)
    assert time.monotonic() - began < 5
    assert len(target.closed) == 1, "the idle one"
    target.answer.set()


def item() -> Item:
    return Item(Event(b"{}", "t"), None, Lane(""))


def test_threads_with_work_before_them_wake_the_loop_once_and_one_without_at_once() -> None:
    """Or the loop, woken for every request, would take the interpreter's lock from the threads again and again."""
    target, woken = Slow(), threading.Semaphore(0)
    workers = Workers(target, 1)
    workers.report_to(woken.release)
    workers.start([])  # the probe holds the thread, so that the others are ready behind it
    assert target.asked.wait(10)
    for _ in range(3):
        workers.start([item()])
    target.answer.set()
    assert woken.acquire(timeout=10), "the first to finish"
    assert woken.acquire(timeout=10), "the last: its thread has nothing to do"
    assert workers.is_awake
    while workers.busy:
        workers.collect()
    assert not workers.collect()
    assert not workers.is_awake
    assert not woken.acquire(blocking=False), "not for those in between"
    workers.start([item()])
    assert woken.acquire(timeout=10), "after a look that found nothing, the next one tells"
    workers.end()


class Tripping:
    """A target that trips over some events: an exception that nobody foresaw, for the whole request."""

    batch_size = 100

    def __init__(self, bad: set[int]) -> None:
        self._bad = bad
        self.delivered: list[int] = []
        self.closed = 0

    def group(self, event: Event) -> str:
        return event.table

    def check(self) -> Iterator[Finding]:
        return iter(())

    def open(self) -> "Tripping":
        return self

    def deliver(self, batch: Sequence[Delivery]) -> Sequence[Outcome]:
        numbers = [delivery.event.seq for delivery in batch]
        if self._bad & set(numbers):
            raise KeyError("the password is s3cret")
        self.delivered += numbers
        return [DONE] * len(batch)

    def probe(self) -> Outcome:
        raise KeyError("the password is s3cret")

    def close(self) -> None:
        self.closed += 1


def outcomes_of(target: Tripping, batch: list[Item]) -> list[Outcome]:
    workers = Workers(target, 1)
    workers.start(batch)
    finished: list[Finished] = []
    until = time.monotonic() + 10
    while not finished and time.monotonic() < until:
        finished = workers.collect()
    workers.end()
    return list(finished[0].outcomes)


def numbered(count: int, problem: str = "", unreadable: Sequence[int] = ()) -> list[Item]:
    events = [Event(b"{}", "t", seq=n, problem=problem if n in unreadable else "") for n in range(1, count + 1)]
    return [Item(event, None, Lane("")) for event in events]


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
