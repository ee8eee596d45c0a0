"""Acknowledgements on one channel, given together: a frame for many costs the broker what one costs."""

import asyncio
import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager

from pika.channel import Channel

# While others of the channel are being worked on, acknowledgements wait for each other: so long (seconds), or until
# they are so many, or this share of all that is open on the channel. A crash meanwhile repeats them, no more.
HOLD = 0.003
MOST = 64
SHARE = 0.25


class Acks:
    """Of a channel whose messages are all acknowledged here, if they are. On the running loop.

    Args:
        channel: open, and new: RabbitMQ numbers what it delivers on a channel from 1.
        together: what is sent inside is written in one piece.
    """

    def __init__(
        self, channel: Channel, together: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext
    ) -> None:
        self._channel = channel
        self._together = together
        self._loop = asyncio.get_running_loop()
        self._done = 0  # all up to this tag are acknowledged
        self._above: set[int] = set()  # acknowledged, while one below is not
        self._ready: list[int] = []  # to be given
        self._looks = False  # at the end of this turn of the loop
        self._timer: asyncio.TimerHandle | None = None  # until they are given
        self.last = 0  # the tag that RabbitMQ has delivered last; if nobody says, nothing waits

    def give(self, tag: int) -> None:
        """Acknowledge a message, together with others of this moment. On a closed channel nothing happens."""
        self._ready.append(tag)
        if not self._looks:
            self._looks = True
            self._loop.call_soon(self._look)

    def _look(self) -> None:
        self._looks = False
        open_ones = self.last - self._done - len(self._above)
        if len(self._ready) >= min(MOST, open_ones * SHARE):
            self.flush()
        elif self._timer is None:
            self._timer = self._loop.call_later(HOLD, self.flush)

    def flush(self) -> None:
        """Now, before the channel is closed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        ready, self._ready = sorted(self._ready), []
        if not ready or not self._channel.is_open:
            return
        known = self._above.union(ready)
        done = self._done
        while done + 1 in known:
            done += 1
            known.discard(done)
        # "Up to this tag" may be said only where nothing below waits; and of a tag that is still open: RabbitMQ closes
        # the channel for one that it does not know.
        below = [tag for tag in ready if tag <= done]
        with self._together():
            if below:
                self._channel.basic_ack(below[-1], multiple=len(below) > 1)
            for tag in ready[len(below) :]:
                self._channel.basic_ack(tag)
        self._done, self._above = done, known
