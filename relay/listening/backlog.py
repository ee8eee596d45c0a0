"""What is said of the outbox's length, of the age of its oldest event, and of events that RabbitMQ has refused."""

import time

from relay.alerts import AGE, REFUSED
from relay.cli import duration, plural
from relay.config import Listen
from relay.listening import outbox
from relay.listening.database import Rows
from relay.log import Log

MEASURE_INTERVAL = 30.0  # seconds between two looks


class Backlog:
    """Counted only as far as it matters.

    Args:
        settings: OUTBOX_WARN, ALERT_COMMAND, ALERT_AGE.
        log: is told when it becomes long, and when it is short again.
        troubles: of which a person is alerted, by cause.
    """

    def __init__(self, settings: Listen, log: Log, troubles: dict[str, str]) -> None:
        self._warn_at, self._alert_age = settings.outbox_warn, settings.alert_age
        self._statement = outbox.LENGTH_AND_AGE if settings.alert_command else outbox.LENGTH
        self._is_wanted = bool(settings.outbox_warn or settings.alert_command)
        self._log = log
        self._troubles = troubles
        self._at = time.monotonic()
        self._is_long = False

    def due(self, now: float) -> tuple[str, tuple[int]] | None:
        """The statement that is to be run, and its parameters; None = not yet. `now` as time.monotonic()."""
        if not self._is_wanted or now < self._at:
            return None
        self._at = now + MEASURE_INTERVAL
        return self._statement, (self._warn_at + 1,)

    def note(self, rows: Rows) -> None:
        """Its answer."""
        ((count, age, refused),) = rows
        is_old = bool(self._alert_age) and age > self._alert_age
        self._troubles[AGE] = f"the oldest event in the outbox has waited for {duration(age)}" if is_old else ""
        self._troubles[REFUSED] = f"RabbitMQ refused {plural(refused, 'event')}: listen.py status" if refused else ""
        is_long = bool(self._warn_at) and count > self._warn_at
        if is_long and not self._is_long:
            remedy = "is the broker taking them? listen.py status shows what waits"
            self._log.warning("the outbox is long", events=f">{self._warn_at}", remedy=remedy)
        elif self._is_long and not is_long:
            self._log.info("the outbox is short again")
        self._is_long = is_long
