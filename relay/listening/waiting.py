"""What waits in the outbox while the rest flows, and how it comes to flow again: `holds.py` put to work."""

import time
from collections.abc import Callable

from relay.amqp.lifetime import Timer
from relay.amqp.session import Session
from relay.flapping import Flapping
from relay.listening.event import OutboxEvent
from relay.listening.gaps import Seen
from relay.listening.holds import Holds
from relay.listening.publisher import REFUSED
from relay.listening.source import Held, Passed, Source
from relay.listening.window import Window
from relay.log import Log

BEHIND_REFUSED = "a refused event of this table comes before its TRUNCATE"

_REMEDIES = {
    "unroutable": "bind a queue for this routing key (start its receiver)",
    # Anybody's who may bind one; RabbitMQ does not say whose.
    REFUSED: "which? rabbitmqctl list_bindings; rabbitmqctl list_queues name messages arguments policy",
}
_ONE_REFUSES = "this one, for which somebody has asked: make room in it, or delete it, and what is for it is let go"


class Waiting:
    """Holds tables and keys, probes for the tables, and has them read again.

    Args:
        session: holds the timer of the next probe.
        source: finds the probe.
        window: what is held is dropped from it.
        seen: is set back to where a released table is to be read again.
        log: gets a line when a table begins to wait, and when it flows again.
        go_on: called when a probe is in the window, and when one is due.
        flapping: what it says of a table that comes and goes.
    """

    def __init__(
        self, session: Session, source: Source, window: Window, seen: Seen, log: Log, go_on: Callable[[], None],
        flapping: Flapping,
    ) -> None:  # fmt: skip
        self._session = session
        self._source = source
        self._window = window
        self._seen = seen
        self._log = log
        self._go_on = go_on
        self._flapping = flapping
        self._probing: dict[int, str] = {}  # seq of a probe: its group
        self._timer: Timer | None = None
        self._timer_at = 0.0
        self._relearns = self._relearning = False  # from the next read on; until one has come to the end
        self._has_probed = False  # by the last statement
        self._released: dict[str, int] = {}  # groups, since the last read was sent: reading is set back to this event
        self.holds = Holds()

    def relearn(self) -> None:
        """All is read anew, for marks in the outbox have changed.

        What is known of them is forgotten when the next read is sent: by it the answer to a statement that is under way
        is still judged. And nothing is probed until they are known again: a probe would take an event past one that is
        before it.
        """
        self._relearns = self._relearning = True

    def reading(self) -> None:
        """A read, or a pass, is about to be sent; one that was under way when `relearn` was called does not count."""
        self._released.clear()
        if self._relearns:
            self.holds.forget_refused()
            self._relearns = False

    def have_read(self, *, whole: bool) -> None:
        """A read was taken in. `whole`: nothing is left that it has not come to."""
        if whole and not self._relearns:
            self._relearning = False

    def may_go(self, event: OutboxEvent) -> bool:
        """May an event just read go into the window? If not it waits in the outbox, and is remembered here."""
        if event.seq >= self._released.get(event.group, event.seq + 1):  # it comes again, behind what waited
            return False
        if not self.holds:
            return True
        now = time.monotonic()
        if event.is_barrier and self.holds.refused_before(event):
            self.hold(event, BEHIND_REFUSED)
        elif event.group in self.holds.groups:  # held while the read was under way
            self.holds.hold(event.group, event.seq, self.holds.groups[event.group].reason, now)
        return not self.holds.holds(event)

    def left_out(self, held: list[Held]) -> None:
        """Take in the rows that a read returned without their bodies, because they were to wait when it was sent.

        If they need not wait any more, released while the read was under way, reading goes back to the first of them.
        """
        again = []
        for row in held:
            if row.error is not None:
                self.holds.refuse(row.key, row.seq, row.table)
            elif not self._waits(row.group, row.seq, is_behind=self.holds.is_behind_refused(row.key, row.table)):
                again.append(row.seq)
        if again:
            self._seen.rewind(min(again))

    def passed(self, passed: list[Passed]) -> None:
        """As `left_out`, of rows that were passed."""
        again = []
        for row in passed:
            is_behind = row.is_behind or self.holds.is_behind_refused(None, row.table)
            if not self._waits(row.group, row.seq, is_behind=is_behind):
                again.append(row.seq)
        if again:
            self._seen.rewind(min(again))

    def _waits(self, group: str, seq: int, *, is_behind: bool) -> bool:
        """Does this row wait still? Its group is told that it has it."""
        if group in self.holds.groups:
            self.holds.extend(group, seq, eligible=not is_behind)
            return True
        return is_behind

    def hold(self, event: OutboxEvent, reason: str) -> None:
        """Let an event's whole table wait, from this event on."""
        self._probing.pop(event.seq, None)
        group = event.group
        # Of a group that is held nothing new comes into the window: it is looked through once, not for each return.
        dropped = [] if group in self.holds.groups else self._window.drop(lambda waiting: waiting.group == group)
        low = min([event.seq, *(waiting.seq for waiting in dropped)])
        if self.holds.hold(group, low, reason, time.monotonic()):
            self._arm()
            if self._flapping.begins(group, time.monotonic()):
                self._warn(group, reason, event)

    def _warn(self, group: str, reason: str, event: OutboxEvent | None = None) -> None:
        queue = event and event.queue
        self._log.warning(
            f"{group} waits", reason=reason, queue=queue, routing_key=event and event.topic, oldest=event and event.id,
            remedy=_ONE_REFUSES if queue and reason == REFUSED else _REMEDIES.get(reason),
        )  # fmt: skip

    def report(self, group: str) -> None:
        """A table that was not told of, for it came and went, waits for a while now."""
        if group in self.holds.groups:
            self._warn(group, self.holds.groups[group].reason)

    def has_room(self, event: OutboxEvent) -> bool:
        """May this event's group wait, too?"""
        return event.group in self.holds.groups or not self.holds.is_full(event.group)

    def refuse(self, event: OutboxEvent) -> None:
        """An event that was taken from the window can't be published: its key waits, and a TRUNCATE of its table."""
        self._probing.pop(event.seq, None)
        self.holds.refuse(event.key, event.seq, event.table)
        if event.key is None:
            return
        self._window.drop(lambda waiting: self.holds.is_behind_refused(waiting.key, waiting.table))
        if barrier := self._window.barrier(event.table):
            self.hold(barrier, BEHIND_REFUSED)

    def confirmed(self, event: OutboxEvent) -> bool:
        """If this event was the probe of a table, release the table; return True if there is more to read."""
        group = self._probing.pop(event.seq, None)
        if group is None or group not in self.holds.groups:  # one that was dropped, and came again when all flowed
            return False
        self._release(group)
        return True

    def _release(self, group: str) -> None:
        hold = self.holds.release(group)
        self._released[group] = hold.low
        if self._flapping.ends(group):
            self._log.info(f"{group} flows again", after_s=time.monotonic() - hold.since)
        self._seen.rewind(hold.low)

    def probe(self, is_confirmed: Callable[[int], bool], woken: Callable[[], None]) -> bool:
        """As `_probe`, but not twice running: in turns with all that comes after it.

        However many tables can't be routed, the others are read, and the listener can go to sleep, without which nobody
        notifies.
        """
        self._has_probed = not self._has_probed and self._probe(is_confirmed, woken)
        if not self._has_probed:
            self._arm()
        return self._has_probed

    def _probe(self, is_confirmed: Callable[[int], bool], woken: Callable[[], None]) -> bool:
        """If a table's probe is due, look for its oldest event; return True if a statement was sent.

        Args:
            is_confirmed: was the event of this seq confirmed, and only not deleted yet?
            woken: called when reading has been set back.
        """
        while not self._relearning and (due := self.holds.due(time.monotonic())):
            group, hold = due
            if not self._window.has_unconfirmed(group):
                found = self._probed(group, is_confirmed, woken)
                self._source.probe(group, hold.probe_from, self.holds.keys, found)
                return True
        return False

    def _arm(self) -> None:
        """Have `go_on` called when the next probe is due."""
        at = self.holds.next_probe
        if at is None or (self._timer is not None and self._timer_at <= at):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._session.call_later(max(0.0, at - time.monotonic()), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._go_on()

    def _probed(
        self, group: str, is_confirmed: Callable[[int], bool], woken: Callable[[], None]
    ) -> Callable[[OutboxEvent | None], None]:
        def found(event: OutboxEvent | None) -> None:
            if group in self.holds.groups:
                if event is None or is_confirmed(event.seq):  # nothing of it is left, or the broker took it after all
                    self._release(group)
                    woken()
                elif self.holds.is_behind_refused(event.key, event.table):
                    hold = self.holds.groups[group]
                    hold.probe_from = event.seq + 1
                    self.holds.probe(group, hold, time.monotonic())
                elif event.seq in self._window:
                    pass  # the last probe: it waits for another topic's event of its key
                elif not (event.is_barrier and self.holds.refused_before(event)):
                    self._probing[event.seq] = group
                    self._window.add(event)
            self._go_on()

        return found
