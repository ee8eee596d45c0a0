"""The events that RabbitMQ can't take: which they are, and their mark in the outbox, so that the others leave."""

import re
from collections.abc import Callable

from relay.amqp.replies import PRECONDITION_FAILED
from relay.amqp.topology import concerns_all
from relay.listening.event import OutboxEvent
from relay.listening.source import Source
from relay.listening.suspects import Suspects
from relay.log import Log

_TOO_LARGE = re.compile(r"message size (\d+) is larger than configured max size (\d+)")


class Refusals:
    """Those that are not marked yet.

    Args:
        source: marks one.
        suspects: carried from session to session.
        log: gets an error for each.
    """

    def __init__(self, source: Source, suspects: Suspects, log: Log) -> None:
        self._source = source
        self._log = log
        self._unmarked: dict[int, tuple[OutboxEvent, str]] = {}  # by seq, with the reason
        self.suspects = suspects

    def __bool__(self) -> bool:
        """Is there something to be marked?"""
        return bool(self._unmarked)

    def __contains__(self, seq: int) -> bool:
        return seq in self._unmarked

    def add(self, event: OutboxEvent, reason: str) -> None:
        """This one can't be published."""
        self._unmarked[event.seq] = event, reason
        self.suspects.cleared(event)

    def closed(self, code: int, text: str, unconfirmed: list[OutboxEvent]) -> bool:
        """RabbitMQ has closed the channel or the connection: add those that it did so for, as far as that is certain.

        Args:
            code, text: its own words; 0 = it has said nothing.
            unconfirmed: what was on its way.

        Returns:
            Whether there are any.
        """
        guilty, reason = self._guilty(code, text, unconfirmed)
        for event in guilty:
            self._unmarked[event.seq] = event, reason
        return bool(guilty)

    def _guilty(self, code: int, text: str, unconfirmed: list[OutboxEvent]) -> tuple[list[OutboxEvent], str]:
        if code == PRECONDITION_FAILED and (found := _TOO_LARGE.search(text)):
            maximum = int(found[2])
            if large := [event for event in unconfirmed if len(event.body) > maximum]:
                return large, f"larger than the broker's max_message_size ({maximum} bytes)"
        if unconfirmed and not concerns_all(code, text) and self.suspects.closed(code, unconfirmed):
            return unconfirmed, f"refused by RabbitMQ: {code} {text}"
        return [], ""

    def mark(self, marked: Callable[[OutboxEvent, str], None]) -> bool:
        """Send the statement that marks one of them; False = there is none.

        `marked`: called with it and the reason, when it is done.
        """
        if not self._unmarked:
            return False
        event, reason = next(iter(self._unmarked.values()))

        def done() -> None:
            del self._unmarked[event.seq]
            self.suspects.cleared(event)
            marked(event, reason)

        self._log.error(
            "event refused by the broker; its key waits", id=event.id, table=event.table, key=event.key, reason=reason,
            remedy=f"listen.py release {event.id} (once the reason is gone) or listen.py drop {event.id}",
        )  # fmt: skip
        self._source.refuse(event.seq, event.id, reason, done)
        return True
