"""What the log says of an endpoint that does not work: that it began, that it lasts, that it is over; or how often."""

from relay.delivery import Outcome
from relay.flapping import Flapping
from relay.log import Log
from relay.receiving.breaker import Breaker

REMIND_EVERY = 300.0  # seconds between two reminders of an outage
NAME = "endpoint"
HELD = "nothing is lost; deliveries go on by themselves when it works again; receiver.py check says what is wrong"


class OutageLog:
    """Lives as long as the process.

    Args:
        where: the endpoint, as it may be shown.
    """

    def __init__(self, log: Log, where: str) -> None:
        self._log = log
        self._where = where or None
        self._flapping = Flapping()
        self._reminded_at = 0.0

    def began(self, outcome: Outcome, now: float) -> None:
        """The breaker has opened; `now` as time.monotonic()."""
        if self._flapping.begins(NAME, now):
            remedy = "correct the credentials in the settings, then restart" if outcome.login else HELD
            self._warn(outcome.reason, remedy, outcome.wait)

    def ended(self, after: float) -> None:
        """It has closed, after so many seconds."""
        if self._flapping.ends(NAME):
            self._log.info("endpoint works again", endpoint=self._where, after_s=after)

    def tick(self, now: float, breaker: Breaker) -> None:
        """Write what is due. Often called."""
        for _, times, seconds in self._flapping.due(now):
            self._log.warning("endpoint comes and goes", endpoint=self._where, times=times, in_s=seconds)
        if self._flapping.lasting(now):
            self._warn(breaker.reason, HELD)
        if breaker.opened_at is None:
            self._reminded_at = 0.0
        elif now - max(breaker.opened_at, self._reminded_at) >= REMIND_EVERY:
            self._reminded_at = now
            self._log.warning("endpoint still does not work", since_s=now - breaker.opened_at, reason=breaker.reason)

    def _warn(self, reason: str, remedy: str, wait: float = 0.0) -> None:
        self._log.warning(
            "endpoint does not work, pausing", endpoint=self._where, reason=reason, wait_s=wait or None, remedy=remedy
        )
