"""What is looked at now and then: is the outbox long, and are the triggers as relay.watch left them?"""

import time
from collections.abc import Callable

import psycopg2

from relay.alerts import AGE, CAPTURE, REFUSED
from relay.cli import duration, plural
from relay.config import Listen
from relay.listening import outbox
from relay.listening.database import Database, Rows, first_line
from relay.listening.incomplete import Incomplete
from relay.log import Log

MEASURE_INTERVAL = 30.0  # seconds between two looks at the outbox's length
INSPECT_INTERVAL = 60.0  # seconds between two looks at the triggers


class Inspection:
    """Looks, and says in the log what it finds.

    Args:
        database: runs the statements.
        settings: OUTBOX_WARN, ALERT_COMMAND, ALERT_AGE.
        troubles: of which a person is alerted, as alerts.Alerts.look takes them.
        log: for what is found.
        go_on: called after each look.
    """

    def __init__(
        self, database: Database, settings: Listen, troubles: dict[str, str], log: Log, go_on: Callable[[], None]
    ) -> None:
        self._db = database
        self._warn_at = settings.outbox_warn
        self._alerts, self._alert_age = bool(settings.alert_command), settings.alert_age
        self._troubles = troubles
        self._log = log
        self._go_on = go_on
        self._incomplete = Incomplete(log)
        self._measure_at = time.monotonic()
        self._inspect_at = 0.0
        self._long = False

    def step(self) -> bool:
        """Send the statement of the look that is due; False = none is."""
        return self._measure() or self._inspect()

    def _measure(self) -> bool:
        """Is the outbox long, or its oldest event old? Counted only as far as it matters."""
        if not (self._warn_at or self._alerts) or time.monotonic() < self._measure_at:
            return False
        self._measure_at = time.monotonic() + MEASURE_INTERVAL
        self._db.run(outbox.LENGTH, (self._warn_at + 1,), self._measured)
        return True

    def _measured(self, rows: Rows) -> None:
        ((count, age, refused),) = rows
        old = bool(self._alert_age) and age > self._alert_age
        self._troubles[AGE] = f"the oldest event in the outbox has waited for {duration(age)}" if old else ""
        self._troubles[REFUSED] = f"RabbitMQ refused {plural(refused, 'event')}: listen.py status" if refused else ""
        long = bool(self._warn_at) and count > self._warn_at
        if long and not self._long:
            remedy = "is the broker taking them? listen.py status shows what waits"
            self._log.warning("the outbox is long", events=f">{self._warn_at}", remedy=remedy)
        elif self._long and not long:
            self._log.info("the outbox is short again")
        self._long = long
        self._go_on()

    def _inspect(self) -> bool:
        """Are the triggers as relay.watch left them?"""
        if time.monotonic() < self._inspect_at:
            return False
        self._inspect_at = time.monotonic() + INSPECT_INTERVAL
        self._db.run(outbox.INCOMPLETE, (), self._inspected, self._failed)
        return True

    def _inspected(self, rows: Rows) -> None:
        self._incomplete.note(rows)
        self._troubles[CAPTURE] = self._incomplete.summary
        self._go_on()

    def _failed(self, error: psycopg2.Error) -> None:
        # The owners of the tables decide what is read there: it must not end anything.
        remedy = "select * from relay.watched; if it takes long: whose are the tables, and their triggers?"
        self._log.warning("can't see whether all is captured", reason=first_line(error), remedy=remedy)
        self._go_on()
