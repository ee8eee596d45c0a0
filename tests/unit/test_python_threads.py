"""Functions' threads and their coroutines' loop: what crosses between loops, and what becomes of what is cancelled."""

from __future__ import annotations

import asyncio
import threading

from relay.targets.python.threads import Coroutines, Crossing, Threads

SECONDS = 30


def test_what_crosses_while_the_loop_works_comes_with_one_waking_and_in_order() -> None:
    loop, wakings, came = asyncio.new_event_loop(), [0], list[int]()
    crossing = Crossing(loop)
    woken = loop.call_soon_threadsafe

    def count(*arguments: object) -> object:
        wakings[0] += 1
        return woken(*arguments)  # type: ignore[arg-type]

    loop.call_soon_threadsafe = count  # type: ignore[method-assign, assignment]

    def cross() -> None:
        for number in range(100):
            crossing.call(lambda number=number: came.append(number))  # type: ignore[misc]
        crossing.call(loop.stop)

    crossing.call(cross)
    loop.run_forever()
    loop.close()
    assert came == list(range(100))
    assert wakings[0] == 2, "the first, and one for what came while that was worked off"


def test_nothing_that_crosses_is_left_behind() -> None:
    loop, left = asyncio.new_event_loop(), 4 * 5000
    crossing = Crossing(loop)

    def one() -> None:
        nonlocal left
        left -= 1
        if not left:
            loop.stop()

    senders = [threading.Thread(target=lambda: [crossing.call(one) for _ in range(5000)]) for _ in range(4)]
    for sender in senders:
        sender.start()
    loop.call_later(SECONDS, loop.stop)
    loop.run_forever()
    for sender in senders:
        sender.join()
    loop.close()
    assert left == 0


def test_each_job_has_a_thread_of_its_own_and_threads_are_used_again() -> None:
    threads, together = Threads(), threading.Barrier(5)
    used = set[int]()
    for _ in range(3):
        for _ in range(4):
            threads.start(lambda: (used.add(threading.get_ident()), together.wait(SECONDS)))  # type: ignore[func-returns-value, arg-type, return-value]
        together.wait(SECONDS)  # breaks if one of them waits for another
        for _ in range(4):
            threads.ended()
    assert len(used) <= 4


def test_what_is_cancelled_before_it_begins_is_told_and_never_runs() -> None:
    coroutines, lost, ran, held = Coroutines(), threading.Event(), list[str](), threading.Event()

    async def hold() -> None:
        held.wait(SECONDS)

    async def run() -> None:
        ran.append("it ran")

    coroutines.start(hold, lambda: None)
    coroutines.start(run, lost.set)()
    held.set()
    assert lost.wait(SECONDS)
    assert ran == []


def test_what_is_cancelled_at_work_is_not_lost_twice() -> None:
    coroutines, began, ended, lost = Coroutines(), threading.Event(), threading.Event(), threading.Event()

    async def run() -> None:
        began.set()
        try:
            await asyncio.sleep(SECONDS)
        except asyncio.CancelledError:
            ended.set()

    cancel = coroutines.start(run, lost.set)
    assert began.wait(SECONDS)
    cancel()
    assert ended.wait(SECONDS)
    again = threading.Event()
    coroutines.beat(again.set)
    assert again.wait(SECONDS)
    assert not lost.is_set()
