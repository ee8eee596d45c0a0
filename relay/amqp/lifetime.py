"""How long a session lasts: from `async with` to the first failure, a stop, or the end of its work.

The task that enters it is its main flow. Whatever breaks meanwhile, in any callback, is given to `fail`: that cancels
the task wherever it waits, and the end of the session raises the error in its place (as asyncio.timeout does). Nothing
of a session outlives it: its timers and tasks end with it.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self

from relay.daemon import Stop
from relay.errors import RelayError, Unavailable


class Timer:
    """One call to come; its session holds it until then."""

    __slots__ = ("_call", "_handle", "_owner")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, owner: "set[Timer]", seconds: float, call: Callable[[], object]
    ) -> None:
        self._call = call
        self._owner = owner
        self._handle = loop.call_later(seconds, self._due)
        owner.add(self)

    def cancel(self) -> None:
        """Never call."""
        self._owner.discard(self)
        self._handle.cancel()

    def _due(self) -> None:
        self._owner.discard(self)
        self._call()


class Lifetime:
    """The wish to stop, the first error, and what ends with the session. Entered with `async with`.

    Args:
        stop: fails the session, unless `on_stop` says otherwise.
    """

    def __init__(self, stop: Stop) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = stop
        self._task: asyncio.Task[Any] | None = None
        self._error: RelayError | None = None
        self._cancelled = False
        self._leaving = False
        self._finished = asyncio.Event()
        self._stopping: Callable[[], None] = lambda: self.fail(Unavailable("asked to stop"))
        self._timers: set[Timer] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._task = asyncio.current_task()
        self._stop.watch(self._on_stop)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leaving = True
        self._stop.forget(self._on_stop)
        self._leave()
        for timer in list(self._timers):
            timer.cancel()
        if self._cancelled and kind is not asyncio.CancelledError:
            with contextlib.suppress(asyncio.CancelledError):  # it is still to come, and would hit the next await
                await asyncio.sleep(0)
        if self._cancelled and self._task:  # not later: before 3.11.3 no asyncio.timeout in _close would end
            self._task.uncancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._close()
        others = self._task.cancelling() if self._cancelled and self._task else 0
        if self._error is not None and not others and (kind is None or kind is asyncio.CancelledError):
            raise self._error

    def fail(self, error: RelayError) -> None:
        """End the session with this error, if it is the first one. From a callback of the loop."""
        if self._error is None:
            self._error = error
        if not (self._cancelled or self._leaving) and self._task is not None:
            self._cancelled = True
            self._task.cancel()

    def finish(self) -> None:
        """All is done: `finished` returns."""
        self._finished.set()

    async def finished(self) -> None:
        """Await `finish`."""
        await self._finished.wait()

    @property
    def ended(self) -> bool:
        """Was it told to `finish`, or has it failed?"""
        return self._error is not None or self._finished.is_set()

    def on_stop(self, stopping: Callable[[], None]) -> None:
        """From now on a stop calls this: it begins an orderly end."""
        self._stopping = stopping

    def call_later(self, seconds: float, call: Callable[[], object]) -> Timer:
        """Call it then, unless the session has ended before."""
        timer = Timer(self._loop, self._timers, seconds, call)
        if self._leaving:  # asked for by one of the last callbacks
            timer.cancel()
        return timer

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run it beside the main flow, until the session ends. A RelayError that it raises ends the session."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, RelayError):
            self.fail(error)
        elif error is not None:
            raise error  # a defect: the loop's handler ends the process

    def _on_stop(self) -> None:
        if not self._leaving:
            self._stopping()

    def _leave(self) -> None:
        """The main flow has ended; the loop has not turned since."""

    async def _close(self) -> None:
        """Close what it talks over. Never raises."""
