"""The one loop around a session: run, wait, run again, until asked to stop. Nothing below it reconnects.

A session is a function that opens what it needs, works until it is asked to stop (then it returns) or until
something breaks (then it raises a `RelayError`). It calls `Daemon.up()` once it is doing its work; or,
if more can go wrong then, `ready()` when it begins, and `progress()` when something is done.
"""

import asyncio
import contextlib
import math
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from relay.backoff import Backoff
from relay.errors import ConfigError, Ousted, RelayError, Standby
from relay.flapping import Flapping
from relay.log import Log, complain, printable, to_file
from relay.systemd import Systemd

EX_OK = 0
EX_SOFTWARE = 70  # sysexits.h: a defect of ours
EX_TEMPFAIL = 75  # sysexits.h: try again later
EX_CONFIG = 78  # sysexits.h: something in the configuration; the systemd units do not restart on it

STANDBY_INTERVAL = 1.0  # seconds between two tries for the lease: takeover within 5 s of a process's death
OUSTED_SECONDS = 5.0  # until who was driven out asks for the lease again: topology.HOLD_EVERY, and as much again
REMINDER_INTERVAL = 300.0  # seconds between two log lines that say the same of an outage
MAX_REPORTED = 20  # different lines of one outage that are remembered

STARTING, AT_WORK, WAITING, STANDBY = "starting", "at work", "waiting", "standby"
"""The states of a daemon; behind the last two stands why."""


Result = TypeVar("Result")


class Defect(Exception):
    """Something went wrong that we have not foreseen; `__cause__` has it."""


def run(main: Callable[[], Coroutine[Any, Any, int]]) -> int:
    """Run a program on an event loop of its own. Return its exit status.

    Raises:
        Defect: what `main`, or any callback of the loop, raises unforeseen. Of a callback asyncio by itself would only
            report it, and go on without that timer, connection or task.
        RelayError: what `main` raises. OSError: the same.
    """

    async def watched() -> int:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        defects: list[BaseException] = []

        def met(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
            defects.append(context.get("exception") or RuntimeError(context["message"]))
            if task is not None and len(defects) == 1:
                task.cancel()

        loop.set_exception_handler(met)
        try:
            status = await main()
        except (RelayError, OSError, asyncio.CancelledError):
            if not defects:
                raise
        except Exception as error:  # noqa: BLE001
            defects.insert(0, error)
        if defects:
            raise Defect from defects[0]
        return status

    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        return runner.run(watched())


def check_end(task: "asyncio.Task[None]") -> None:
    """For a task that ends when it is cancelled; whatever else ends it is raised here, where the loop takes notice."""
    if not task.cancelled():
        task.result()


async def in_thread(call: Callable[[], Result]) -> Result:
    """Call what blocks, and await its end; raises what it raises.

    In a thread of our own, a daemon: one that hangs, as a name server may, holds up neither the loop nor the end of the
    process, at which the loop's own threads would be awaited.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[Result] = loop.create_future()

    def tell(result: Result | None, error: BaseException | None) -> None:
        if ended.done():
            return
        if error is None:
            ended.set_result(result)  # type: ignore[arg-type]
        else:
            ended.set_exception(error)

    def work() -> None:
        result: Result | None = None
        failure: BaseException | None = None
        try:
            result = call()
        except Exception as error:  # noqa: BLE001 - for whoever awaits it
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
            loop.call_soon_threadsafe(tell, result, failure)

    threading.Thread(target=work, name="blocking call", daemon=True).start()
    return await ended


class Stop:
    """A wish to stop, set by SIGTERM and SIGINT. Can be awaited, and watched."""

    def __init__(self) -> None:
        self._asked = asyncio.Event()
        self._watchers: list[Callable[[], None]] = []

    @property
    def requested(self) -> bool:
        """Was a stop asked for?"""
        return self._asked.is_set()

    def install(self, on_hangup: Callable[[], None]) -> None:
        """Take over SIGTERM and SIGINT, and SIGHUP for what logrotate wants. From the main thread's running loop.

        Only so: asyncio has a wake-up descriptor of its own, and with another one beside it no signal is heard.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.set)
        loop.add_signal_handler(signal.SIGHUP, on_hangup)

    def set(self) -> None:
        """Ask to stop. From the loop's thread."""
        if not self.requested:
            self._asked.set()
            for call in list(self._watchers):
                call()

    def watch(self, call: Callable[[], None]) -> None:
        """Call it, on the loop, when a stop is asked for; soon, if one was."""
        self._watchers.append(call)
        if self.requested:
            asyncio.get_running_loop().call_soon(call)

    def forget(self, call: Callable[[], None]) -> None:
        """Do not call it any more."""
        self._watchers.remove(call)

    async def wait(self, seconds: float) -> bool:
        """Wait at most `seconds`; return True, at once, if a stop is asked for."""
        try:
            async with asyncio.timeout(seconds):
                await self._asked.wait()
        except TimeoutError:
            pass
        return self.requested


class Daemon:
    """Runs sessions one after another.

    Args:
        stop: ends the loop.
        log: gets one line when an outage begins, a reminder now and then, and its end with its length.
        backoff: waits between sessions.
    """

    def __init__(self, stop: Stop, log: Log, backoff: Backoff) -> None:
        self.stop = stop
        self.systemd = Systemd()
        self._log = log
        self._backoff = backoff
        self._ever_up = False
        self._down_since: float | None = None
        self._is_told = False  # the log has a line about the outage
        self._is_news = True  # the log has said something since it said that the session was ready
        self._reported: dict[str, float] = {}  # since the last progress: when
        self._flapping = Flapping()
        self._last = ""  # why the last session ended, said or not
        self._has_begun = False  # the session was ready
        self.state, self.state_since = STARTING, time.time()  # in words, and since when: seconds of the epoch
        self.last_error: tuple[str, float] | None = None  # that ended a session, and when: seconds of the epoch

    def up(self) -> None:
        """The session is connected, and that is all that could go wrong."""
        self.ready()
        self.progress()

    def ready(self) -> bool:
        """The session begins its work. Return whether that is worth a line: not again and again in one outage."""
        self._ever_up = self._has_begun = True
        self._notify_systemd(AT_WORK)
        is_news, self._is_news = self._is_news, False
        return is_news

    def calm(self) -> None:
        """There is nothing to do: the outage is over, as far as can be seen without work."""
        if self._down_since is not None and self._is_told:
            self._log.info("recovered", after_s=time.monotonic() - self._down_since)
        self._down_since, self._is_told = None, False
        self._report_flapping(time.monotonic())

    def _report_flapping(self, now: float) -> None:
        for what, times, seconds in self._flapping.due(now):
            self._log.warning("an outage comes and goes", times=times, in_s=seconds, what=what)

    def detail(self, text: str) -> None:
        """What systemd shows of a daemon that is at work, beside that; empty = nothing. Often called."""
        if self.state == AT_WORK:
            self.systemd.show_detail(printable(text), AT_WORK)

    def progress(self) -> None:
        """Something is done for good. Only this resets the back-off, and lets the log say a thing once more."""
        self.calm()
        self._reported.clear()
        self._backoff.reset()

    async def run(self, session: Callable[[], Awaitable[int | None]]) -> int:
        """Run sessions until a stop is asked for, or one returns a status. Return it, or the process's own."""
        while not self.stop.requested:
            try:
                if (status := await session()) is not None:
                    return status
            except RelayError as error:
                if self._is_final(error):
                    return EX_CONFIG
                end = time.monotonic() + self._told_of(error)
                while (left := end - time.monotonic()) > 0 and not self.stop.requested:
                    self.feed_watchdog()
                    await self.stop.wait(min(left, self.systemd.watchdog_interval or left))
        return self._stopped()

    def _is_final(self, error: RelayError) -> bool:
        """A configuration error is, and told. Not if it worked before: the login server or a grant may come back."""
        if self._ever_up or not isinstance(error, ConfigError):
            return False
        report(error)
        return True

    def _stopped(self) -> int:
        self.systemd.send("STOPPING=1")
        self._log.info("stopped")
        return EX_OK

    def feed_watchdog(self) -> None:
        """Tell systemd that the loop turns. Called from the loop itself, never from a thread or a timer apart."""
        self.systemd.feed(time.monotonic())

    def _notify_systemd(self, status: str) -> None:
        if status != self.state:
            self.state, self.state_since = status, time.time()
        self.systemd.show(printable(status))  # after a line break would stand another assignment

    def _told_of(self, error: RelayError) -> float:
        """Tell of the end of a session, if that is news. Return for how many seconds to wait."""
        now = time.monotonic()
        standby = isinstance(error, Standby)
        state = STANDBY if standby else WAITING
        if not standby:
            self.last_error = str(error), time.time()
            self._down_since = now if self._down_since is None else self._down_since
        if not self._has_begun and error.what != self._last:
            self._reported.pop(error.what, None)  # nothing that flaps: a change of state
        self._has_begun, self._last = False, error.what
        self._report_flapping(now)
        if now - self._reported.get(error.what, -math.inf) > REMINDER_INTERVAL:
            calm = isinstance(error, Standby) and not error.alarming
            write = self._log.info if calm else self._log.warning
            told = standby or self._flapping.begins(error.what, now)
            self._flapping.ends(error.what)  # each is told by itself, or counted
            if told:
                write(str(error), state=state)
            if len(self._reported) >= MAX_REPORTED:
                self._reported.clear()
            self._reported[error.what] = now
            self._is_news = self._is_news or told
            self._is_told = self._is_told or (told and not standby)
        # Up for systemd too: a broker that is away at boot must not make systemd kill what only waits.
        self._notify_systemd(f"{state}: {error.what}")
        if isinstance(error, Ousted):
            return OUSTED_SECONDS
        return STANDBY_INTERVAL if standby else self._backoff.next()


def report(error: RelayError) -> None:
    """Tell a person of an error: one line for each problem, with its remedy. No traceback."""
    program = Path(sys.argv[0]).name or "relay"
    problems = error.problems if isinstance(error, ConfigError) else [(error.what, error.remedy)]
    lines = [f"{what} -> {remedy}" if remedy else what for what, remedy in problems]
    for line in lines:
        complain(f"{program}: {line}")
    to_file(program.removesuffix(".py"), lines)
