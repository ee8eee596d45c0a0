"""Which event makes RabbitMQ close the channel or the connection? Pure.

It closes for one message, and does not say for which: all that were on their way are sent again, in the next session,
and with them the one that is to blame. So they go one at a time, each confirmed before the next. An event is guilty
only by RabbitMQ's own word, a code, that came twice while nothing else was on its way.
"""

from collections.abc import Callable, Sequence

from relay.listening.event import OutboxEvent

CLOSES = 2  # with a code, while the event was alone
SILENT_CLOSES = 3  # without one (the end of TCP), in a row, without a confirm: from then on it may be an event, too


class Suspects:
    """The events that were on their way when RabbitMQ closed for no reason that is known."""

    def __init__(self) -> None:
        self._seqs: dict[str, int] = {}  # by id
        self._closes: dict[str, int] = {}  # by id: while it was alone
        self._silent = 0

    def __bool__(self) -> bool:
        """Must events go one at a time?"""
        return bool(self._seqs)

    def closed(self, code: int, unconfirmed: Sequence[OutboxEvent]) -> bool:
        """RabbitMQ has closed, and the reason may be one of these events.

        Args:
            code: its own; 0 = the connection has just ended.
            unconfirmed: what was on its way.

        Returns:
            Whether it is the only one of them for certain.
        """
        if not code:
            self._silent += 1
            if self._silent < SILENT_CLOSES:
                return False
        self._seqs |= {event.id: event.seq for event in unconfirmed}
        if not code or len(unconfirmed) != 1:
            return False
        alone = unconfirmed[0].id
        self._closes[alone] = self._closes.get(alone, 0) + 1
        return self._closes[alone] >= CLOSES

    def cleared(self, event: OutboxEvent) -> None:
        """It is not on its way any more, and the channel still open; or it is marked."""
        self._silent = 0
        self._seqs.pop(event.id, None)
        self._closes.pop(event.id, None)

    def keep(self, may_come: Callable[[int], bool]) -> None:
        """Forget those whose number can't come any more: dropped, sent by another listener, held for another reason."""
        for event_id in [event_id for event_id, seq in self._seqs.items() if not may_come(seq)]:
            del self._seqs[event_id]
            self._closes.pop(event_id, None)
