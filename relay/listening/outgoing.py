"""Events on their way from the window to the exchange, as long as RabbitMQ takes them."""

import time
from collections.abc import Awaitable, Callable

from relay.amqp.session import Session
from relay.errors import Unavailable
from relay.flapping import Flapping
from relay.listening.event import OutboxEvent
from relay.listening.follow import Follow
from relay.listening.publisher import REFUSED, Publisher
from relay.listening.publishers import Publishers
from relay.listening.refusals import Refusals
from relay.listening.tally import Tally
from relay.listening.waiting import Waiting
from relay.listening.window import Window
from relay.log import Log

ALARM = "RabbitMQ's alarm"
CONFIRM_DEADLINE = 60.0  # seconds; a quorum queue without a leader takes messages in and never answers


class Outgoing:
    """Publishes what is ready.

    Args:
        window: what may be published, and what is not confirmed yet.
        refusals: takes what can't be published.
        waiting: is told of it, for what comes after it.
        tally: counts.
        log: for changes of state.
        follow: an event's way, for the log.
        flapping: alarms that come and go.
    """

    def __init__(
        self,
        window: Window,
        refusals: Refusals,
        waiting: Waiting,
        tally: Tally,
        log: Log,
        follow: Follow,
        flapping: Flapping,
    ) -> None:
        self._window = window
        self._refusals = refusals
        self._waiting = waiting
        self._tally = tally
        self._log = log
        self._follow = follow
        self._flapping = flapping
        self._publisher: Publishers | None = None
        self.alarm: tuple[str, float] | None = None  # RabbitMQ reads nothing from us: why, since when (monotonic)

    @property
    def is_set_up(self) -> bool:
        """Is there a channel to publish on?"""
        return self._publisher is not None

    @property
    def unconfirmed(self) -> list[OutboxEvent]:
        """What was sent and is not answered, in the order in which it was sent."""
        return self._publisher.unconfirmed if self._publisher else []

    def begin(self, session: Session, publisher: Publisher, another: Callable[[], Awaitable[Publisher]]) -> None:
        """Everything is set up; `publisher` is on a channel that confirms, and so is each that `another` makes."""
        self._publisher = Publishers(session, publisher, another, lambda: self.alarm is not None)

    def publish(self) -> None:
        """Send what is ready; one at a time while one of them is under suspicion."""
        publisher, suspects = self._publisher, self._refusals.suspects
        while publisher is not None and not self.alarm and self._window.has_ready:
            if suspects and self._window.unconfirmed:
                return
            events = self._window.take(1 if suspects else None)
            if self._follow.on:
                self._follow.published(events)
            for event, reason in publisher.publish(events):
                self._refusals.add(event, reason)
                self._waiting.refuse(event)
                self._window.done(event)

    def confirmed(self, event: OutboxEvent) -> None:
        """The broker has it safe."""
        self._tally.confirmed(event)
        if self._follow.on:
            self._follow.confirmed(event)

    def declined(self, event: OutboxEvent, reason: str) -> None:
        """The broker has nowhere to put it."""
        if reason == REFUSED and self._publisher is not None:
            self._publisher.refused()
        if self._follow.on:
            self._follow.declined(event, reason)

    def refused(self, event: OutboxEvent, reason: str) -> None:
        """The broker will never take it, and it is marked."""
        self._tally.declined(event, reason)

    def blocked(self, why: str) -> None:
        """connection.blocked: the broker has a memory or disk alarm and reads nothing from us."""
        self.alarm = why, time.monotonic()
        if self._flapping.begins(ALARM, time.monotonic()):
            self._warn_of_alarm(why)

    def _warn_of_alarm(self, why: str | None = None) -> None:
        remedy = "free memory or disk on the broker's host"
        self._log.warning("RabbitMQ blocks this connection", reason=why, remedy=remedy)

    def unblocked(self) -> None:
        """connection.unblocked."""
        self.alarm = None
        if self._publisher is not None:
            self._publisher.be_patient()
        if self._flapping.ends(ALARM):
            self._log.info("RabbitMQ no longer blocks this connection")

    def tick(self) -> Unavailable | None:
        """Once a second. Return why to give this broker up; None = it answers."""
        if not self.alarm and self._publisher and self._publisher.silence() > CONFIRM_DEADLINE:
            remedy = "look for a queue without a leader: rabbitmq-queues list_queues name state; restart the broker"
            return Unavailable(f"RabbitMQ has confirmed nothing for {CONFIRM_DEADLINE:g} s", remedy)
        if self._publisher:
            self._publisher.tidy()
        self._report_flapping()
        self._tally.tell(time.monotonic(), len(self._waiting.holds.groups))
        return None

    def _report_flapping(self) -> None:
        now = time.monotonic()
        for what, times, seconds in self._flapping.due(now):
            self._log.warning(f"{what} comes and goes", times=times, in_s=seconds)
        for what in self._flapping.lasting(now):
            if what == ALARM:
                self._warn_of_alarm()
            else:
                self._waiting.report(what)
