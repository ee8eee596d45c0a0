"""A thread that owns a driver's connection: it runs one call after another while the loop goes on publishing."""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

Result = TypeVar("Result")

Call = Callable[[Any], Any]
"""What is run there, with the driver's connection."""


class Worker:
    """Takes one call at a time. A daemon thread: a server that hangs holds up neither the loop nor the process's end.

    Args:
        open_: called in the thread, first; returns what calls get.
        close: called in the thread with that, last.
    """

    def __init__(self, open_: Callable[[], Any], close: Callable[[Any], None]) -> None:
        self._open, self._close = open_, close
        self._loop = asyncio.get_running_loop()
        self._calls: queue.SimpleQueue[tuple[Call, Callable[[Any, BaseException | None], None]] | None]
        self._calls = queue.SimpleQueue()
        self._ended = False
        self.busy = False
        threading.Thread(target=self._work, daemon=True, name="relay polled source").start()

    def run(self, call: Call, done: Callable[[Any, BaseException | None], None]) -> None:
        """Have a call run; `done` gets what it returns, or what it raises, on the loop. Only when not `busy`."""
        assert not self.busy, "one statement at a time"  # noqa: S101
        self.busy = True
        self._calls.put((call, done))

    async def ask(self, call: Callable[[Any], Result]) -> Result:
        """Run a call and await it; raises what it raises."""
        answer: asyncio.Future[Result] = self._loop.create_future()

        def done(result: Result, error: BaseException | None) -> None:
            if answer.done():
                return
            if error is None:
                answer.set_result(result)
            else:
                answer.set_exception(error)

        self.run(call, done)
        return await answer

    def end(self) -> None:
        """Nothing is called any more; the connection is closed when what is under way has ended."""
        self._ended = True
        self._calls.put(None)

    def _work(self) -> None:
        handle: Any = None
        try:
            while (one := self._calls.get()) is not None:
                call, done = one
                result, error = None, None
                try:
                    handle = handle or self._open()
                    result = call(handle)
                except BaseException as raised:  # noqa: BLE001 - it is told where it was asked for
                    error = raised
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                    self._loop.call_soon_threadsafe(self._answer, done, result, error)
        finally:
            if handle is not None:
                with contextlib.suppress(Exception):
                    self._close(handle)

    def _answer(
        self, done: Callable[[Any, BaseException | None], None], result: Any, error: BaseException | None
    ) -> None:
        self.busy = False
        if not self._ended:
            done(result, error)
