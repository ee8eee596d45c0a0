"""Which columns have the events of a watched table? Asked over the command queue, by who makes a mapping.

One question at a time, and seldom: each takes the connection that reads the outbox, for a second at most.
"""

import time
from collections.abc import Callable
from typing import Any

from relay.listening.source import Rows, Source

QUESTION_INTERVAL = 5.0  # seconds from one question to the next

Reply = Callable[[dict[str, Any]], None]


class Questions:
    """Lives as long as the process; one session after another answers."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next_at = 0.0
        self._waiting: tuple[str, Reply] | None = None
        self._go_on: Callable[[], None] | None = None

    def begin(self, go_on: Callable[[], None]) -> None:
        """A session begins; `go_on` has it look what is to be done. Who asked the last one waits no longer."""
        self._waiting, self._go_on = None, go_on

    def ask(self, table: str, reply: Reply) -> None:
        """Which columns? `reply` gets them, in a moment, or why not.

        Args:
            table: its name, as events have it.
        """
        if self._waiting is not None or self._clock() < self._next_at:
            reply({"done": True, "error": f"it was asked a moment ago: ask again in {QUESTION_INTERVAL:g} s"})
            return
        self._waiting, self._next_at = (table, reply), self._clock() + QUESTION_INTERVAL
        if self._go_on is not None:
            self._go_on()

    def step(self, source: Source) -> bool:
        """Send the statement for what was asked; False = nothing was.

        Args:
            source: idle.
        """
        if self._waiting is None:
            return False
        (table, reply), self._waiting = self._waiting, None

        def found(rows: Rows) -> None:
            error = "" if rows else f"no table {table[:200]!r} is watched"
            reply({"done": True, "error": error} if error else {"done": True, "columns": [list(row) for row in rows]})
            self._end()

        def failed(reason: str) -> None:
            reply({"done": True, "error": f"{source.server}: {reason}"})
            self._end()

        source.columns(table, found, failed)
        return True

    def _end(self) -> None:
        if self._go_on is not None:
            self._go_on()
