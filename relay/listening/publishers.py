"""The channel that is published on; and another one, after a queue has not taken a message.

A channel that publishes into a quorum queue for the first time while that has no leader never gets a message into it:
RabbitMQ goes on asking the leader that was, and nacks each one until that one's node is back, however long there has
been another leader. A new channel asks the new leader (measured on 3.10.8; 4.0.5 does not nack there).

Two channels at once keep the order: of each key one event at most is unconfirmed (window.py).
"""

import time
from collections.abc import Awaitable, Callable, Iterable

from relay.amqp.session import Session
from relay.listening.event import OutboxEvent
from relay.listening.publisher import Publisher

RENEW_EVERY = 5.0  # seconds between two new channels: a full queue nacks as well


class Publishers:
    """A publisher, and those before it until all that they have sent is answered.

    Args:
        session: its tasks and timers.
        first: on an open channel.
        another: makes one on another channel. Raises RelayError.
        is_blocked: does RabbitMQ read nothing from us?
    """

    def __init__(
        self,
        session: Session,
        first: Publisher,
        another: Callable[[], Awaitable[Publisher]],
        is_blocked: Callable[[], bool],
    ) -> None:
        self._session = session
        self._all = [first]  # the last one publishes
        self._another = another
        self._is_blocked = is_blocked
        self._renewed = time.monotonic() - RENEW_EVERY
        self._is_due = False

    def publish(self, events: Iterable[OutboxEvent]) -> list[tuple[OutboxEvent, str]]:
        """As Publisher's."""
        return self._all[-1].publish(events)

    def silence(self) -> float:
        """Return for how many seconds RabbitMQ has answered nothing to what was sent on one of the channels."""
        return max(one.silence() for one in self._all)

    def be_patient(self) -> None:
        """As Publisher's."""
        for one in self._all:
            one.be_patient()

    @property
    def unconfirmed(self) -> list[OutboxEvent]:
        """What was sent and is not answered, in the order in which it was sent."""
        return [event for one in self._all for event in one.unconfirmed]

    def refused(self) -> None:
        """A queue has not taken a message: publish on another channel, soon."""
        if not self._is_due:
            self._is_due = True
            self._renew_in(self._renewed + RENEW_EVERY - time.monotonic())

    def tidy(self) -> None:
        """Close the channels on which nothing is left to be answered. Now and then."""
        done = [one for one in self._all[:-1] if not one.unconfirmed]
        self._all = [one for one in self._all if one not in done]
        for one in done:
            self._session.start(self._session.close_channel(one.channel))

    def _renew_in(self, seconds: float) -> None:
        self._session.call_later(max(0.0, seconds), self._renew)

    def _renew(self) -> None:
        if self._is_blocked():  # it would not answer
            self._renew_in(RENEW_EVERY)
        else:
            self._session.start(self._open())

    async def _open(self) -> None:
        publisher = await self._another()
        self._all.append(publisher)
        self._renewed, self._is_due = time.monotonic(), False
