"""The worker threads end before the interpreter does, unless a request hangs."""

import threading
import time
from collections.abc import Iterator, Sequence

from relay.delivery import DONE, Delivery, Event, Finding, Outcome
from relay.dispatch import Item, Lane
from relay.workers import Workers


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
    return Item(Event(b"{}", "t"), None, Lane(""), 0)


def test_threads_with_work_before_them_wake_the_loop_once_and_one_without_at_once() -> None:
    """Or the loop, woken for every request, would take the interpreter's lock from the threads again and again."""
    target, woken = Slow(), threading.Semaphore(0)
    workers = Workers(target, 1)
    workers.wake_with(woken.release)
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
