"""A function that computes for seconds is named in the log: while Python's interpreter works for it, nothing else does.

By the processor time of its thread. While a piece of C (a regular expression, sum() of a long range) keeps the
interpreter, this thread stands still as well: then it is told when that is over; and what never ends, by faulthandler,
which needs no interpreter, on standard error.
"""

import contextlib
import dataclasses
import faulthandler
import itertools
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from relay.log import Log
from relay.targets.python.threads import Coroutines

LONG = 2.0  # seconds of computing that are worth a line
STUCK = 30.0  # seconds without this thread's turn, after which faulthandler shows where all threads are
EVERY = 0.5
_OURS = Path(__file__).parent
_log = Log("receiver")


@dataclasses.dataclass(slots=True, eq=False)
class Watched:
    """A function that runs.

    Args:
        thread: its ident; 0 = it has returned (what it has begun may go on).
        cpu: seconds of processor time that the thread had used before.
        is_named: the log has a line about how long it computes.
    """

    function: str
    event: str
    thread: int
    cpu: float
    is_named: bool = False


class Watchdog:
    """Looks at what runs, in a thread of its own."""

    def __init__(self, coroutines: Coroutines) -> None:
        self._coroutines = coroutines
        self._running: dict[int, Watched] = {}  # by thread
        self._thread: threading.Thread | None = None
        self._beat_at = time.monotonic()
        self._is_blocked = False  # the log has a line about the coroutines' loop

    def begin(self) -> None:
        """Before anything is called."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="handlers' watchdog", daemon=True)
            self._thread.start()

    @contextlib.contextmanager
    def watch(self, function: str, event: str) -> Iterator[Watched]:
        """While it runs; in its thread."""
        one = Watched(function, event, threading.get_ident(), time.thread_time())
        self._running[one.thread] = one
        try:
            yield one
        finally:
            self._running.pop(one.thread, None)
            spent, one.thread = time.thread_time() - one.cpu, 0
            if spent >= LONG:
                self._name(one, spent, None)

    def place(self, one: Watched | None) -> str:
        """Where it is now, or else the coroutines are; empty = nowhere in Python."""
        loop = self._coroutines.thread
        return where(sys._current_frames().get((one.thread if one else 0) or (loop.ident if loop else 0) or 0))

    def _watch(self) -> None:
        while True:
            self._arm()
            time.sleep(EVERY)
            for ident, one in list(self._running.items()):
                with contextlib.suppress(OSError):
                    spent = time.clock_gettime(time.pthread_getcpuclockid(ident)) - one.cpu
                    if spent >= LONG and self._running.get(ident) is one:
                        self._name(one, spent, sys._current_frames().get(ident))
            self._look_at_loop(time.monotonic())

    @staticmethod
    def _arm() -> None:
        with contextlib.suppress(AttributeError, OSError, ValueError, RuntimeError):  # standard error may be closed
            faulthandler.dump_traceback_later(STUCK, file=sys.__stderr__ or sys.stderr)

    @staticmethod
    def _name(one: Watched, spent: float, frame: FrameType | None) -> None:
        if one.is_named:
            return
        one.is_named = True
        _log.warning(
            "function computes for seconds, all others wait for it",
            function=one.function,
            event=one.event or None,
            cpu_s=spent,
            at=where(frame) or None,
        )

    def _look_at_loop(self, now: float) -> None:
        """Does a coroutine keep the others from their turns, computing or not?"""
        thread = self._coroutines.thread
        if thread is None:
            self._beat_at = now
            return
        if now - self._beat_at > LONG and not self._is_blocked:
            self._is_blocked = True
            at = where(sys._current_frames().get(thread.ident or 0))
            _log.warning("an async function blocks, all other async ones wait for it", at=at or None)
        elif now - self._beat_at <= LONG:
            self._is_blocked = False
        self._coroutines.beat(self._beat)

    def _beat(self) -> None:
        self._beat_at = time.monotonic()


def where(frame: FrameType | None) -> str:
    """The innermost lines of a thread, innermost first."""
    if frame is None:
        return ""
    frames = itertools.takewhile(
        lambda one: Path(one[0].f_code.co_filename).parent != _OURS, traceback.walk_stack(frame)
    )
    found = [(one.f_code.co_filename, line) for one, line in itertools.islice(frames, 3)]
    return " < ".join(f"{Path(name).name}:{line}" for name, line in found)
