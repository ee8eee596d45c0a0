"""A restart of RabbitMQ that goes on beside the show and can be called off."""

from __future__ import annotations

import contextlib
import threading
import time

from demo.failed import Failed
from dev.process import ServerError
from dev.rabbitmq import RabbitMQ

_MOMENT = 0.05


class Restart:
    """Stops and starts the broker in a thread. Leaving the block early ends the thread and the broker."""

    def __init__(self, broker: RabbitMQ) -> None:
        self._broker = broker
        self._called_off = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="restart")

    def __enter__(self) -> Restart:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._called_off.set()
        while not self.done():
            with contextlib.suppress(AssertionError):
                self._broker.kill()  # whatever the thread waits for, it waits no longer
            time.sleep(_MOMENT)

    def done(self) -> bool:
        return not self._thread.is_alive()

    def check(self) -> None:
        """Failed if it did not come back."""
        if self._error:
            raise Failed("RabbitMQ did not come back") from self._error

    def _run(self) -> None:
        try:
            self._broker.stop()
            if not self._called_off.is_set():
                self._broker.start()
        except (ServerError, AssertionError, OSError) as error:
            self._error = error
