"""Calls of functions: begun in a thread, an `async def` on a loop of its own; never twice at once for one event.

Nothing can end a thread. A function past HANDLER_TIME_LIMIT counts as failed, its thread goes on, and its event, and
what follows of its key, is not tried again before the function has really returned; what it returned then counts.
"""

import asyncio
import collections
import contextlib
import functools
import inspect
import os
import time
from collections.abc import Callable
from typing import Any

from relay.daemon import EX_SOFTWARE
from relay.delivery import DONE, NOT_TRIED, Delivery, Event, Outcome, Verdict
from relay.errors import one_line
from relay.log import Log
from relay.targets.python import outcomes
from relay.targets.python.arguments import Unreadable, given
from relay.targets.python.registry import Handler
from relay.targets.python.threads import Coroutines, Crossing, Threads
from relay.targets.python.watchdog import Watchdog, Watched

LATE_MAX = 1000  # calls that returned past their limit, and whose events have not come again: the newest are remembered
_log = Log("receiver")


class Call:
    """One call.

    Args:
        may_begin: asked where it runs, right before the function is called.
        ended: called there with what came of it.
    """

    def __init__(
        self, handler: Handler, delivery: Delivery, may_begin: Callable[[], bool], ended: Callable[[Outcome], None]
    ) -> None:
        self.handler = handler
        self.delivery = delivery
        self._may_begin = may_begin
        self._ended = ended
        self.watched: Watched | None = None  # once a plain function is called
        self.began = time.monotonic()
        self.cancel: Callable[[], None] = lambda: None

    @property
    def event(self) -> Event:
        return self.delivery.event

    def run(self, coroutines: Coroutines, watchdog: Watchdog) -> None:
        """In a thread of its own. Never raises."""
        process = os.getpid()
        try:
            outcome = self._call(coroutines, watchdog)
        except BaseException as error:  # noqa: BLE001 - a defect of ours, or MemoryError in what judges
            outcome = _defect(error)
        self._end(outcome, process)

    async def run_here(self) -> None:
        """As `run`, for an `async def`: on the coroutines' loop."""
        process = os.getpid()
        try:
            outcome = await self._await()
        except BaseException as error:  # noqa: BLE001
            outcome = _defect(error)
        self._end(outcome, process)

    def lost(self) -> None:
        """It was cancelled before `run_here` began."""
        self._ended(outcomes.of_error(asyncio.CancelledError(), self.handler.file))

    def _end(self, outcome: Outcome, process: int) -> None:
        if os.getpid() != process:
            os._exit(EX_SOFTWARE)  # a child that the function has forked must not go on as a receiver
        with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
            self._ended(outcome)

    def _call(self, coroutines: Coroutines, watchdog: Watchdog) -> Outcome:
        if isinstance(arguments := self._arguments(), Outcome):
            return arguments
        try:
            with watchdog.watch(self.handler.name, self.event.id) as self.watched:
                returned = self.handler.function(**arguments)
            if inspect.isawaitable(returned):
                returned = coroutines.run(returned, self._can_be_cancelled)
            return outcomes.of_return(returned)
        except BaseException as error:  # noqa: BLE001 - sys.exit among them
            return outcomes.of_error(error, self.handler.file)

    async def _await(self) -> Outcome:
        if isinstance(arguments := self._arguments(), Outcome):
            return arguments
        try:
            return outcomes.of_return(await self.handler.function(**arguments))
        except BaseException as error:  # noqa: BLE001 - sys.exit among them
            return outcomes.of_error(error, self.handler.file)

    def _arguments(self) -> dict[str, Any] | Outcome:
        """What it is given, if it is to be called."""
        try:
            arguments = given(self.delivery, self.handler.arguments)
        except Unreadable as error:
            return Outcome(Verdict.MESSAGE, str(error), final=True, shows=False)
        return arguments if self._may_begin() else NOT_TRIED

    def _can_be_cancelled(self, cancel: Callable[[], None]) -> None:
        self.cancel = cancel


def _defect(error: BaseException) -> Outcome:
    _log.error("defect in a target, please report it", error=one_line(error))
    return Outcome(Verdict.UNCLEAR, f"{type(error).__name__}")


class Calls:
    """All calls of a target. To be used on the running loop.

    Args:
        limit: seconds that a function may take.
        late_max: functions past it that may run before nothing more is begun.
        by_key: does one that is late hold up its key, too?
    """

    def __init__(self, limit: float, late_max: int, *, by_key: bool) -> None:
        self._limit = limit
        self._late_max = late_max
        self._by_key = by_key
        self._threads = Threads()
        self._crossing: Crossing | None = None  # to the loop that awaits the calls
        self._coroutines = Coroutines()
        self._watchdog = Watchdog(self._coroutines)
        self._late: dict[object, Call] = {}  # by event
        self._late_keys: collections.Counter[str] = collections.Counter()
        self._returned: collections.OrderedDict[object, Outcome] = collections.OrderedDict()

    async def make(self, handler: Handler, delivery: Delivery, may_begin: Callable[[], bool]) -> Outcome:
        """Call a function for an event, unless it still runs for it."""
        event = delivery.event
        if (known := self._known(event)) is not None:
            return known
        loop = asyncio.get_running_loop()
        if self._crossing is None:
            self._crossing = Crossing(loop)
            self._watchdog.begin()
        crossing, in_thread = self._crossing, not handler.is_async
        future: asyncio.Future[Outcome] = loop.create_future()

        def end(outcome: Outcome) -> None:
            if in_thread:
                self._threads.ended()
            timer.cancel()
            if not future.done():
                future.set_result(outcome)
            elif _name(event) in self._late:
                self._has_returned(call, outcome)

        def give_up() -> None:
            if not future.done():
                future.set_result(self._give_up(call))

        call = Call(handler, delivery, may_begin, lambda outcome: crossing.call(functools.partial(end, outcome)))
        timer = loop.call_later(self._limit, give_up)
        if in_thread:
            self._threads.start(functools.partial(call.run, self._coroutines, self._watchdog))
        else:
            call.cancel = self._coroutines.start(call.run_here, call.lost)
        return await future

    def _known(self, event: Event) -> Outcome | None:
        """What is known without a call."""
        name = _name(event)
        if name in self._late or (self._by_key and event.key and self._late_keys[event.key]):
            return Outcome(Verdict.CONFLICT, "the function has not returned from an earlier try")
        outcome = self._returned.pop(name, None)
        if outcome is not None and (outcome.verdict in (Verdict.DONE, Verdict.CONFLICT) or outcome.final):
            return outcome
        if len(self._late) >= self._late_max:
            return Outcome(Verdict.ENDPOINT, f"{len(self._late)} functions have not returned, past HANDLER_TIME_LIMIT")
        return None

    def _give_up(self, call: Call) -> Outcome:
        event = call.event
        self._late[_name(event)] = call
        self._late_keys[event.key] += 1
        name, place = call.handler.name, self._watchdog.place(call.watched)
        _log.warning(
            "function runs on past HANDLER_TIME_LIMIT", function=name, event=event.id or None, at=place or None
        )
        call.cancel()
        return Outcome(Verdict.UNCLEAR, f"{call.handler.short} took longer than HANDLER_TIME_LIMIT={self._limit:g}")

    def _has_returned(self, call: Call, outcome: Outcome) -> None:
        event, name = call.event, _name(call.event)
        del self._late[name]
        self._late_keys[event.key] -= 1
        if not self._late_keys[event.key]:
            del self._late_keys[event.key]
        self._returned[name] = outcome
        if len(self._returned) > LATE_MAX:
            self._returned.popitem(last=False)
        _log.info(
            "function has returned at last",
            function=call.handler.name,
            event=event.id or None,
            after_s=time.monotonic() - call.began,
            failed=outcome.reason if outcome is not DONE else None,
        )


def _name(event: Event) -> object:
    """One without an id is known as long as it is here."""
    return event.id or event
