"""One stretch of work on an event loop: from open handles to the first failure, or to a stop.

pika turns an exception raised in one of its callbacks into a lost connection, so callbacks report here instead of
raising: `fail` keeps the first error and ends the loop, and whoever runs the loop raises it.
"""

from collections.abc import Callable

from pika.adapters.select_connection import IOLoop

from relay.daemon import Stop
from relay.errors import RelayError, Unavailable


class Session:
    """The loop, the wish to stop, and the first error.

    Args:
        loop: belongs to this session alone; not running.
        stop: makes `ask` give up, and calls `on_stop` during `run`.
    """

    def __init__(self, loop: IOLoop, stop: Stop) -> None:
        self.loop = loop
        self.stop = stop
        self.ended = False
        self._turning = False
        self._error: RelayError | None = None

    def fail(self, error: RelayError) -> None:
        """End the session with this error, if it is the first one."""
        self._error = self._error or error
        self.finish()

    def finish(self) -> None:
        """End the session: all is done."""
        self.ended = True
        self._halt()

    def run(self, on_stop: Callable[[], None]) -> None:
        """Run the loop until `finish` or `fail`. When a stop is asked for, `on_stop` begins an orderly end.

        Raises:
            RelayError: what `fail` was given.
        """
        if not self.ended:
            self._turn(on_stop)
        if self._error:
            raise self._error

    def ask(self, what: str, start: Callable[[Callable[[], None]], None], timeout: float) -> None:
        """Set-up, step by step: call `start` with a function to be called when the answer is there; wait for that.

        Args:
            what: names the step in an error.
            timeout: seconds.

        Raises:
            RelayError: what `fail` was given meanwhile.
            Unavailable: no answer in time, or asked to stop.
        """
        answered: list[bool] = []

        def done() -> None:
            answered.append(True)
            self._halt()

        timer = self.loop.call_later(timeout, self._halt)
        start(done)
        if not answered and not self._error:
            self._turn(self._halt)
        self.loop.remove_timeout(timer)
        if self._error:
            raise self._error
        if not answered:
            raise Unavailable(f"no answer to: {what}", f"waited {timeout:g} s")

    def _halt(self) -> None:
        # pika keeps a stop() of a loop that is not running, and ends the next start() at once.
        if self._turning:
            self.loop.stop()

    def _turn(self, on_stop: Callable[[], None]) -> None:
        def stopping(fd: int, _events: int) -> None:
            self.loop.remove_handler(fd)  # it stays readable
            watched.clear()
            on_stop()

        watched = [self.stop.fileno()]
        self.loop.add_handler(watched[0], stopping, self.loop.READ)
        self._turning = True
        try:
            self.loop.start()
        finally:
            self._turning = False
            for fd in watched:
                self.loop.remove_handler(fd)
