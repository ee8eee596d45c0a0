"""What ways to wait for more events have in common: whether to read, and a timer that says so."""

from collections.abc import Callable

from relay.amqp.lifetime import Timer
from relay.amqp.session import Session


class TimedRest:
    """A part of source.Rest.

    Args:
        session: holds the timer.
        go_on: called when it is time to read.
    """

    def __init__(self, session: Session, go_on: Callable[[], None]) -> None:
        self._session = session
        self._go_on = go_on
        self._timer: Timer | None = None
        self.must_read = True

    def wake(self) -> None:
        """There is, or may be, something to read."""
        self.must_read = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def reading(self) -> None:
        """A read is being sent. Whatever wakes us from here on may want rows that it was not asked for."""
        self.must_read = False

    def _come_back(self, delay: float) -> None:
        """Read in so many seconds, if nothing wakes us before."""
        self._timer = self._session.call_later(delay, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self.must_read = True
        self._go_on()
