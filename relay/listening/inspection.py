"""What is looked at now and then: how much waits, are the triggers as relay.watch left them, does anybody ask?"""

import time
from collections.abc import Callable

from relay.listening.backlog import Backlog
from relay.listening.incomplete import Incomplete
from relay.listening.questions import Questions
from relay.listening.source import Rows, Source
from relay.log import Log

INSPECT_INTERVAL = 60.0  # seconds between two looks at the triggers


class Inspection:
    """Looks, and says in the log what it finds.

    Args:
        source: what is looked at.
        backlog: what is found of the outbox.
        log: for what is found of the triggers.
        questions: of who makes a mapping.
        go_on: called after each look.
    """

    def __init__(
        self, source: Source, backlog: Backlog, log: Log, questions: Questions, go_on: Callable[[], None]
    ) -> None:
        self._source = source
        self._backlog = backlog
        self._log = log
        self._questions = questions
        self._go_on = go_on
        self._inspect_at = 0.0
        self.incomplete = Incomplete(log)

    def step(self, undeleted: int) -> bool:
        """Send the statement of the look that is due; False = none is.

        Args:
            undeleted: events that have been published and are still in the outbox.
        """
        return (
            self._backlog.measure(self._source, undeleted, self._go_on)
            or self._inspect()
            or self._questions.step(self._source)
        )

    def _inspect(self) -> bool:
        """Are the triggers as relay.watch left them?"""
        if time.monotonic() < self._inspect_at:
            return False
        self._inspect_at = time.monotonic() + INSPECT_INTERVAL
        self._source.incomplete(self._inspected, self._failed)
        return True

    def _inspected(self, rows: Rows) -> None:
        self.incomplete.note(rows)
        self._go_on()

    def _failed(self, reason: str) -> None:
        # The owners of the tables decide what is read there: it must not end anything.
        remedy = "select * from relay.watched; if it takes long: whose are the tables, and their triggers?"
        self._log.warning("can't see whether all is captured", reason=reason, remedy=remedy)
        self._go_on()
