"""From the outbox to the exchange: reads, publishes, deletes what was confirmed, sleeps until there is more.

The database works on one statement at a time while RabbitMQ takes in what was read before; `step` picks the next one.
"""

import itertools
from collections.abc import Awaitable, Callable
from typing import Any

from relay.amqp.replies import ACCESS_REFUSED
from relay.amqp.session import Session
from relay.amqp.topology import DEFAULT_EXCHANGE, unexpected
from relay.config import Listen
from relay.daemon import Daemon
from relay.errors import RelayError
from relay.listening import outbox
from relay.listening.carried import Carried
from relay.listening.deletion import Deletion
from relay.listening.event import OutboxEvent
from relay.listening.follow import Follow
from relay.listening.inlet import Inlet
from relay.listening.inspection import Inspection
from relay.listening.outgoing import Outgoing
from relay.listening.publisher import UNROUTABLE, Publisher
from relay.listening.reading import Reading
from relay.listening.refusals import Refusals
from relay.listening.source import Source
from relay.listening.window import Window
from relay.log import Log

DELETE_ROWS = 500  # confirmed events are deleted at the latest when there are so many
HELD_SHOWN = 10  # held tables and topics that `told` names
STOP_GRACE = 10.0  # seconds to wait for confirms when asked to stop


class OutboxRelay:
    """The work of one session.

    First it deletes what earlier ones have left confirmed, or nothing: that proves that it may, and can.

    Args:
        session: its timers and its end.
        source: idle.
        settings: WINDOW_EVENTS, WINDOW_MB.
        log: for changes of state.
        daemon: hears of progress.
        carried: what earlier sessions have left.
    """

    def __init__(
        self, session: Session, source: Source, settings: Listen, log: Log, daemon: Daemon, carried: Carried
    ) -> None:
        self._session = session
        self._source = source
        self._daemon = daemon
        self._sleep = source.rest(self.step)
        self._window = window = Window(settings.window_events, settings.window_mb << 20)
        follow = Follow(log)
        flapping = carried.flapping
        flapping.end_all()
        self._refusals = Refusals(source, carried.suspects, log)
        self._reading = Reading(
            session, source, window, self._sleep, log, follow, flapping, self._is_here, self._have_read, self._go_on
        )
        self._deletion = Deletion(source, carried.confirmed, self._reading.seen, follow, session.fail, self._deleted)
        carried.questions.begin(self.step)
        self._inspection = Inspection(source, carried.backlog, log, carried.questions, self.step)
        self._outgoing = Outgoing(window, self._refusals, self._reading.waiting, carried.tally, log, follow, flapping)
        self._addressees = carried.addressees
        self._inlet = Inlet(self.step)
        self._ready: Callable[[], None] | None = None  # until it is proven that confirmed events can be deleted
        self._gone: RelayError | None = None  # the channel's end, or the connection's
        self._stopping = False

    def start(
        self,
        publisher: Publisher,
        another: Callable[[], Awaitable[Publisher]],
        inlet: Inlet,
        ready: Callable[[], None],
    ) -> None:
        """Begin: everything is set up.

        Args:
            publisher: on a channel that confirms; tells `confirmed` and `declined`.
            another: makes one more, on another channel.
            inlet: where plain notifications arrive.
            ready: called when what is confirmed can be deleted.
        """
        self._outgoing.begin(self._session, publisher, another)
        self._inlet, self._ready = inlet, ready
        self._tick()

    # -- what the servers tell us ------------------------------------------------------------------------------

    def woken(self, _channel: str, payload: str) -> None:
        """A notification of our own channel arrived: a wake-up, or a command's wish for a sweep."""
        if payload == outbox.SWEEP:
            self._reading.sweep()
        self._sleep.wake()
        self.step()

    def confirmed(self, event: OutboxEvent) -> None:
        """The broker has the event safe."""
        self._outgoing.confirmed(event)
        self._leave(event)

    def _leave(self, event: OutboxEvent) -> None:
        self._window.done(event)
        self._deletion.add(event)
        self._refusals.suspects.cleared(event)
        if self._reading.waiting.confirmed(event):
            self._sleep.wake()
        self._go_on()

    def declined(self, event: OutboxEvent, reason: str) -> None:
        """The broker has nowhere to put it: the event stays in the outbox, and its table waits behind it.

        But if it is for one queue, and that is not there: then it goes.
        """
        self._outgoing.declined(event, reason)
        if event.queue is not None and reason == UNROUTABLE:
            self._addressees.lost(event.queue)
            self._leave(event)
            return
        if self._reading.waiting.has_room(event):
            self._refusals.suspects.cleared(event)
            self._reading.waiting.hold(event, reason)
        else:
            self._refusals.add(event, f"{reason}, and so many tables and topics are that no more can wait")
            self._reading.waiting.refuse(event)
        self._window.done(event)
        self._go_on()

    def blocked(self, why: str) -> None:
        """connection.blocked."""
        self._outgoing.blocked(why)

    def unblocked(self) -> None:
        """connection.unblocked."""
        self._outgoing.unblocked()
        self._go_on()

    def closed(self, code: int, text: str) -> RelayError | None:
        """Judge a closed channel or connection: what is refused is marked first, then the session ends."""
        error = unexpected(code, text)
        if self._gone and not self._session.ended:
            return None  # what is to be marked is being marked
        if self._session.ended:
            return error
        self._gone = error
        if code == ACCESS_REFUSED and DEFAULT_EXCHANGE in text:
            self._let_go()
        if not self._refusals.closed(code, text, self._outgoing.unconfirmed) and self._refusals.suspects:
            error.remedy = "one of the events on their way may be the reason: they are sent again, one at a time"
        if not self._refusals:
            return error
        self.step()
        return None

    def _let_go(self) -> None:
        """We may not publish to a single queue. The next session begins by deleting what was for one."""
        self._addressees.bar()
        for event in self._outgoing.unconfirmed:
            if event.queue is not None:
                self._addressees.lost(event.queue)
                self._deletion.add(event)

    def stop(self) -> None:
        """Begin an orderly end: publish nothing more, await the confirms, delete what was confirmed."""
        self._stopping = True
        self._session.call_later(STOP_GRACE, self._session.finish)
        self.step()

    def waiting(self) -> int:
        """How many events are here, on their way or before it."""
        return len(self._window)

    def told(self) -> dict[str, Any]:
        """What only this session knows, for `status`; times as time.monotonic()."""
        holds = self._reading.waiting.holds
        return {
            "alarm": self._outgoing.alarm,
            "wake_up": self._sleep.told,
            "unconfirmed": self._window.unconfirmed,
            "held": [(group, holds.groups[group]) for group in itertools.islice(holds.groups, HELD_SHOWN)],
            "held_groups": len(holds.groups),
            "held_keys": holds.refused_keys,
            "incomplete": self._inspection.incomplete.found,
        }

    # -- the next statement ------------------------------------------------------------------------------------

    def step(self) -> None:
        """Send the most urgent statement, if none is under way."""
        if self._source.busy or self._session.ended or not self._outgoing.is_set_up:
            return
        if self._gone:
            if not self._mark_refused():
                self._session.fail(self._gone)
        elif self._ready:
            self._deletion.send()
        elif not (
            self._mark_refused()
            or self._store_notified()
            or self._delete()
            or self._sleep.unlock()
            or (not self._stopping and self._look_further())
        ):
            self._end_if_stopped()

    def _look_further(self) -> bool:
        return self._probe() or self._inspection.step(len(self._deletion)) or self._reading.step() or self._rest()

    def _go_on(self) -> None:
        if self._window.has_ready and not self._stopping and not self._gone:
            self._outgoing.publish()
        if not self._source.busy:
            self.step()

    def _end_if_stopped(self) -> None:
        if self._stopping and not self._window.unconfirmed and not self._deletion:
            self._session.finish()

    def _rest(self) -> bool:
        if not self._window and not self._deletion:
            self._daemon.calm()
        return self._sleep.step()

    def _mark_refused(self) -> bool:
        """Mark one of the events that can't be published."""

        def marked(event: OutboxEvent, reason: str) -> None:
            self._outgoing.refused(event, reason)
            self._daemon.progress()
            self.step()

        return self._refusals.mark(marked)

    def _store_notified(self) -> bool:
        if not self._inlet.waiting:
            return False
        self._source.store(*self._inlet.take(), self._stored)
        return True

    def _stored(self) -> None:
        self._sleep.wake()
        self.step()

    def _delete(self) -> bool:
        """Delete in batches; at once when no confirm is on its way."""
        if not self._deletion:
            return False
        soon = self._window.unconfirmed or (not self._stopping and self._reading.too_soon())
        if soon and len(self._deletion) < DELETE_ROWS:
            return False
        self._deletion.send()
        return True

    def _deleted(self, count: int) -> None:
        if count:
            self._daemon.progress()
        if self._ready:
            self._ready()
            self._ready = None
        self.step()

    def _probe(self) -> bool:
        return not self._outgoing.alarm and self._reading.waiting.probe(self._deletion.__contains__, self._sleep.wake)

    def _is_here(self, seq: int) -> bool:
        return seq in self._deletion or seq in self._refusals

    def _have_read(self) -> None:
        if suspects := self._refusals.suspects:
            suspects.keep(lambda seq: seq > self._reading.seen.high or seq in self._window)
        self._go_on()

    def _tick(self) -> None:
        """Once a second, whatever was forgotten."""
        self._session.call_later(1.0, self._tick)
        if error := self._outgoing.tick():
            self._session.fail(error)
        else:
            self.step()
