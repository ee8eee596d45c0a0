"""Acknowledgements on one channel, given together: a frame for many costs the broker what one costs."""

import asyncio

from pika.channel import Channel


class Acks:
    """Of a channel whose messages are all acknowledged here, if they are. On the running loop.

    Args:
        channel: open, and new: RabbitMQ numbers what it delivers on a channel from 1.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._loop = asyncio.get_running_loop()
        self._done = 0  # all up to this tag are acknowledged
        self._above: set[int] = set()  # acknowledged, while one below is not
        self._ready: list[int] = []  # to be given in this turn of the loop

    def give(self, tag: int) -> None:
        """Acknowledge a message, together with others of this turn. On a closed channel nothing happens."""
        if not self._ready:
            self._loop.call_soon(self.flush)
        self._ready.append(tag)

    def flush(self) -> None:
        """Now, before the channel is closed."""
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
        if below:
            self._channel.basic_ack(below[-1], multiple=len(below) > 1)
        for tag in ready[len(below) :]:
            self._channel.basic_ack(tag)
        self._done, self._above = done, known
