"""Messages wait, RabbitMQ delivers none, and nothing tells why: then a new session is begun.

Seen where the nodes of a cluster had been parted, with cluster_partition_handling = ignore.
"""

from collections.abc import Callable

from relay.errors import Unavailable
from relay.receiving.consumer import Consumer
from relay.receiving.fence import Fence

IDLE_SECONDS = 60.0  # so long
LOOK_EVERY = 10.0  # seconds between two looks


class Idle:
    """Watches over one session's reading.

    Args:
        is_empty: is nothing here, to be delivered or under way?
    """

    def __init__(self, fence: Fence, queue: str, consumer: Consumer, is_empty: Callable[[], bool]) -> None:
        self._fence = fence
        self._queue = queue
        self._consumer = consumer
        self._is_empty = is_empty
        self._read = -1  # messages of this channel, at the look before
        self._since = self._look_at = 0.0  # monotonic seconds

    def is_due(self, now: float) -> bool:
        """Is it time for a look? `now`: monotonic seconds."""
        if self._consumer.read != self._read or not (self._consumer.is_open and self._is_empty()):
            self._read, self._since, self._look_at = self._consumer.read, now, now + LOOK_EVERY
        return now >= self._look_at

    async def look(self, now: float) -> None:
        """From the main flow. Raises RelayError."""
        self._look_at = now + LOOK_EVERY
        ready, _consumers = await self._fence.count(self._queue)
        if not ready:
            self._since = now
        elif now - self._since >= IDLE_SECONDS:
            what = (
                f"{ready} messages are ready in {self._queue}, and RabbitMQ has delivered none for {IDLE_SECONDS:g} s"
            )
            raise Unavailable(what, "a new session is begun; if that does not help: rabbitmqctl cluster_status")
