"""Threads for functions of the user's, and a loop for their coroutines: none of it can hold up the end of the process,
as an executor's threads would, which are awaited at its exit.

Their loop is not the receiver's: a coroutine that blocks, or a task of theirs that fails, must cost neither a heartbeat
nor the process.
"""

import asyncio
import collections
import contextlib
import contextvars
import queue
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from relay.errors import place
from relay.log import Log

Job = Callable[[], None]
_log = Log("receiver")


class Crossing:
    """Calls on a loop from other threads, in their order, as many as there are with one waking of it.

    A waking is two system calls, and at each of them a thread may have to wait for the interpreter.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: collections.deque[Job] = collections.deque()
        self._is_awake = False

    def call(self, job: Job) -> None:
        """Have it called there; it must not raise. From any thread. RuntimeError: the loop is closed."""
        self._waiting.append(job)
        if not self._is_awake:  # else it has not begun to look at what waits
            self._is_awake = True
            self._loop.call_soon_threadsafe(self._work_off)

    def _work_off(self) -> None:
        self._is_awake = False
        while self._waiting:
            self._waiting.popleft()()


class Threads:
    """Runs jobs, each in a thread that does nothing else meanwhile. To be used on one thread.

    A thread takes what waits when it has ended a job: of short ones most are run by one that is awake.
    """

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._count = 0
        self._under_way = 0

    def start(self, job: Job) -> None:
        """Run it; say `ended` when it is through. There are never more jobs than threads: none waits for another."""
        threading.excepthook = _report_thread  # ours never end so: it is one that a function has begun
        self._under_way += 1
        if self._under_way > self._count:
            self._count += 1
            threading.Thread(target=self._work, name="handler", daemon=True).start()
        self._jobs.put(job)

    def ended(self) -> None:
        """A job is through."""
        self._under_way -= 1

    def _work(self) -> None:
        while True:
            self._jobs.get()()


class Coroutines:
    """A loop in a thread of its own, begun when it is first needed."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._crossing: Crossing
        self._lock = threading.Lock()
        self.thread: threading.Thread | None = None

    def start(self, made: Callable[[], Coroutine[Any, Any, None]], lost: Job) -> Job:
        """Have what is made there run as a task. From any thread. It must not raise, not even when it is cancelled.

        Args:
            lost: called there if it was cancelled before it began.

        Returns:
            What cancels it, from any thread.
        """
        crossing = self._started()
        task: asyncio.Task[None] | None = None

        def begin() -> None:
            nonlocal task
            task = asyncio.get_running_loop().create_task(made(), context=contextvars.Context())
            task.add_done_callback(ended)

        def ended(task: asyncio.Task[None]) -> None:
            if task.cancelled():  # before its first step: it catches what comes after
                lost()

        def end() -> None:
            if task is not None:
                task.cancel()

        crossing.call(begin)
        return lambda: crossing.call(end)

    def run(self, awaitable: Awaitable[Any], begun: Callable[[Job], None]) -> Any:
        """Await it there, and its real end here. From any thread but the loop's. Raises what it raises.

        Args:
            begun: is given what cancels it.
        """
        ended: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()

        async def guarded() -> None:
            try:
                ended.put((await awaitable, None))
            except BaseException as error:  # noqa: BLE001 - SystemExit would end the loop
                ended.put((None, error))

        begun(self.start(guarded, lambda: ended.put((None, asyncio.CancelledError()))))
        result, error = ended.get()
        if error is not None:
            raise error
        return result

    def beat(self, answer: Job) -> None:
        """Have it called by the loop, if there is one and it turns."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(answer)

    def _started(self) -> Crossing:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._loop.set_exception_handler(_report)
                self._crossing = Crossing(self._loop)
                self.thread = threading.Thread(
                    target=self._turn, args=(self._loop,), name="handlers' loop", daemon=True
                )
                self.thread.start()
            return self._crossing

    @staticmethod
    def _turn(loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        while True:
            with contextlib.suppress(BaseException):  # sys.exit in a task of theirs
                loop.run_forever()


def _report_thread(given: threading.ExceptHookArgs) -> None:
    at = place(given.exc_value) if given.exc_value else ""
    name = given.exc_type.__name__
    _log.error("a thread that a function has left behind failed", error=name, at=at or None)


def _report(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """By itself asyncio would show the exception's text."""
    error = context.get("exception")
    at = place(error) if isinstance(error, BaseException) else ""
    _log.error("a task that an async function has left behind failed", error=type(error).__name__, at=at or None)
