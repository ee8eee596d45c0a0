"""An event's way through the listener, by its id, at LOG_LEVEL=debug."""

from collections.abc import Iterable

from relay.listening.event import OutboxEvent
from relay.log import Log


class Follow:
    """Lines at level debug, one an event and step. To be called only if `on`: each call costs a little.

    Args:
        log: whose level says whether it is on.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self.on = log.debugs

    def read(self, events: Iterable[OutboxEvent]) -> None:
        """They were read from the outbox."""
        for event in events:
            self._log.debug("event read", id=event.id, seq=event.seq, topic=event.topic, key=event.key)

    def published(self, events: Iterable[OutboxEvent]) -> None:
        """They were sent to RabbitMQ."""
        for event in events:
            self._log.debug("event published", id=event.id)

    def confirmed(self, event: OutboxEvent) -> None:
        """RabbitMQ has it safe."""
        self._log.debug("event confirmed", id=event.id)

    def declined(self, event: OutboxEvent, reason: str) -> None:
        """RabbitMQ has not taken it."""
        self._log.debug("event declined", id=event.id, reason=reason)

    def deleted(self, ids: Iterable[str]) -> None:
        """They are gone from the outbox."""
        for event_id in ids:
            self._log.debug("event deleted", id=event_id)
