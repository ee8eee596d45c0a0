"""From the outbox to the exchange: reads, publishes, deletes what was confirmed, sleeps until there is more.

PostgreSQL works on one statement at a time while RabbitMQ takes in what was read before; `step` picks the next one.
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import psycopg2

from relay.alerts import CAPTURE
from relay.amqp.lifetime import Timer
from relay.amqp.replies import PRECONDITION_FAILED
from relay.amqp.session import Session
from relay.amqp.topology import concerns_all, unexpected
from relay.config import Listen
from relay.daemon import Daemon
from relay.errors import RelayError, Unavailable
from relay.flapping import Flapping
from relay.listening import outbox
from relay.listening.backlog import Backlog
from relay.listening.confirmed import Confirmed
from relay.listening.database import Database, Rows, first_line
from relay.listening.event import OutboxEvent
from relay.listening.follow import Follow
from relay.listening.gaps import Seen
from relay.listening.incomplete import Incomplete
from relay.listening.inlet import Inlet
from relay.listening.publisher import Publisher
from relay.listening.sleep import Sleep
from relay.listening.suspects import Suspects
from relay.listening.unread import Unread
from relay.listening.waiting import Waiting
from relay.listening.window import Window
from relay.log import Log

READ_ROWS = 1000  # most rows of one read; 200 to 5,000 make no difference to the rate, 2,000 took 3 MB more than 1,000
DELETE_ROWS = 500  # confirmed events are deleted at the latest when there are so many
# Seconds between two reads while writers trickle, for each event that the last one found, and at most: a statement for
# 30 events costs hardly more than one for 3. Processor time an event, 16 writers: with 10 ms listener 95 -> 42 us and
# broker 125 -> 76 us, with 25 ms the listener another fifth less; at 100 events a second it changes nothing.
PACE_EACH, PACE_MOST = 0.005, 0.025
SWEEP_INTERVAL = 60.0  # seconds between two reads from the beginning, when idle
STATS_INTERVAL = 60.0  # seconds between two log lines with counts
INSPECT_INTERVAL = 60.0  # seconds between two looks whether the triggers are as relay.watch left them
CONFIRM_DEADLINE = 60.0  # seconds; a quorum queue without a leader takes messages in and never answers
STOP_GRACE = 10.0  # seconds to wait for confirms when asked to stop

ALARM = "RabbitMQ's alarm"
TAKEN_OVER = "another listener has taken the outbox over"
TAKEN_OVER_REMEDY = "if it comes again and again: two listeners of one database need one RabbitMQ and one SOURCE"
KEPT_REMEDY = "look for triggers, rules and policies of others: \\d relay.outbox"
_TOO_LARGE = re.compile(r"message size (\d+) is larger than configured max size (\d+)")


@dataclass
class Counts:
    """Since the last log line."""

    published: int = 0
    since: float = field(default_factory=time.monotonic)


class Carried:
    """What one process remembers from session to session."""

    def __init__(self) -> None:
        self.confirmed = Confirmed()
        self.suspects = Suspects()
        self.flapping = Flapping()
        self.troubles: dict[str, str] = {}  # of which a person is alerted, as alerts.Alerts.look takes them


class OutboxRelay:
    """The work of one session.

    First it deletes what earlier ones have left confirmed, or nothing: that proves that it may, and can.

    Args:
        session: its timers and its end.
        database: idle.
        key: the advisory lock of the waking protocol.
        settings: WINDOW_EVENTS, WINDOW_MB, POLL_INTERVAL, NOTIFY, OUTBOX_WARN, ALERT_COMMAND, ALERT_AGE.
        log: for changes of state.
        daemon: hears of progress.
        carried: what earlier sessions have left.
    """

    def __init__(
        self,
        session: Session,
        database: Database,
        key: int,
        settings: Listen,
        log: Log,
        daemon: Daemon,
        carried: Carried,
    ) -> None:
        self._session = session
        self._db = database
        self._sleep = Sleep(
            session, database, key, settings.poll_interval, notify=settings.notify, log=log, go_on=self.step
        )
        self._window = window = Window(settings.window_events, settings.window_mb << 20)
        self._log = log
        self._follow = Follow(log)
        self._backlog = Backlog(settings, log, carried.troubles)
        self._seen = Seen()
        self._unread = Unread(database, log, session.fail, self._read_again, READ_ROWS)
        self._waiting = Waiting(session, database, window, self._seen, log, self._go_on, self._unread, carried.flapping)
        self._daemon = daemon
        self._confirmed, self._suspects = carried.confirmed, carried.suspects
        self._troubles, self._flapping = carried.troubles, carried.flapping
        self._flapping.end_all()
        self._ready: Callable[[], None] | None = None  # until it is proven that confirmed events can be deleted
        self._inlet = Inlet(self.step)
        self._incomplete = Incomplete(log)
        self._inspect_at = 0.0
        self._refused: dict[int, tuple[OutboxEvent, str]] = {}  # by seq, with the reason; not yet marked
        self._swept_at = time.monotonic()
        self._pace = 0.0  # seconds; 0 = the last read found more than it could take, or at most one event
        self._read_at = 0.0
        self._pacing: Timer | None = None
        self._publishing = True
        self._probed = False  # by the last statement
        self._channel_gone: RelayError | None = None
        self._stopping = False
        self._counts = Counts()
        self._publisher: Publisher | None = None  # until everything is set up

    def start(self, publisher: Publisher, inlet: Inlet, ready: Callable[[], None]) -> None:
        """Begin: everything is set up.

        Args:
            publisher: on a channel that confirms; tells `confirmed` and `declined`.
            inlet: where plain notifications arrive.
            ready: called when what is confirmed can be deleted.
        """
        self._publisher, self._inlet, self._ready = publisher, inlet, ready
        self._tick()

    # -- what the servers tell us ------------------------------------------------------------------------------

    def woken(self, _channel: str, payload: str) -> None:
        """A notification of our own channel arrived: a wake-up, or a command's wish for a sweep."""
        if payload == outbox.SWEEP:
            self._sweep()
        self._sleep.wake()
        self.step()

    def confirmed(self, event: OutboxEvent) -> None:
        """The broker has the event safe."""
        self._window.done(event)
        # Invariant: only what was confirmed is ever deleted from the outbox.
        self._confirmed.add(event)
        self._suspects.cleared(event)
        if self._follow.on:
            self._follow.confirmed(event)
        self._counts.published += 1
        if self._waiting.confirmed(event):
            self._sleep.wake()
        self._go_on()

    def declined(self, event: OutboxEvent, reason: str) -> None:
        """The broker has nowhere to put it: the event stays in the outbox, and its table waits behind it."""
        if self._follow.on:
            self._follow.declined(event, reason)
        self._suspects.cleared(event)
        if self._waiting.has_room(event):
            self._waiting.hold(event, reason)
        else:
            self._refused[event.seq] = event, f"{reason}, and so many tables and topics are that no more can wait"
            self._waiting.refuse(event)
        self._window.done(event)
        self._go_on()

    def blocked(self, why: str) -> None:
        """connection.blocked: the broker has a memory or disk alarm and reads nothing from us."""
        self._publishing = False
        if self._flapping.begins(ALARM, time.monotonic()):
            self._warn_of_alarm(why)

    def _warn_of_alarm(self, why: str | None = None) -> None:
        remedy = "free memory or disk on the broker's host"
        self._log.warning("RabbitMQ blocks this connection", reason=why, remedy=remedy)

    def unblocked(self) -> None:
        """connection.unblocked."""
        self._publishing = True
        if self._publisher is not None:
            self._publisher.be_patient()
        if self._flapping.ends(ALARM):
            self._log.info("RabbitMQ no longer blocks this connection")
        self._go_on()

    def closed(self, code: int, text: str) -> RelayError | None:
        """Judge a closed channel or connection: what is refused is marked first, then the session ends."""
        error = unexpected(code, text)
        if self._channel_gone and not self._session.ended:
            return None  # what is to be marked is being marked
        if self._session.ended:
            return error
        self._channel_gone = error
        guilty, reason = self._guilty(code, text)
        for event in guilty:
            self._refused[event.seq] = event, reason
        if not guilty and self._suspects:
            error.remedy = "one of the events on their way may be the reason: they are sent again, one at a time"
        if not self._refused:
            return error
        self.step()
        return None

    def _guilty(self, code: int, text: str) -> tuple[list[OutboxEvent], str]:
        """The events that RabbitMQ has closed the channel or the connection for, as far as that is certain; and why."""
        unconfirmed = self._publisher.unconfirmed if self._publisher else []
        if code == PRECONDITION_FAILED and (found := _TOO_LARGE.search(text)):
            maximum = int(found[2])
            if large := [event for event in unconfirmed if len(event.body) > maximum]:
                return large, f"larger than the broker's max_message_size ({maximum} bytes)"
        if unconfirmed and not concerns_all(code, text) and self._suspects.closed(code, unconfirmed):
            return unconfirmed, f"refused by RabbitMQ: {code} {text}"
        return [], ""

    def stop(self) -> None:
        """Begin an orderly end: publish nothing more, await the confirms, delete what was confirmed."""
        self._stopping = True
        self._session.call_later(STOP_GRACE, self._session.finish)
        self.step()

    # -- the next statement ------------------------------------------------------------------------------------

    def step(self) -> None:
        """Send the most urgent statement, if none is under way."""
        if self._db.busy or self._session.ended or self._publisher is None:
            return
        sleep = self._sleep
        if self._channel_gone:
            if not self._mark_refused():
                self._session.fail(self._channel_gone)
        elif self._ready:
            self._forget()
        elif not any(
            job()
            for job in (
                self._mark_refused,
                self._store_notified,
                self._delete,
                sleep.unlock,
                self._probe,
                self._measure,
                self._inspect,
                self._read,
                self._rest,
            )
        ):
            self._end_if_stopped()

    def _go_on(self) -> None:
        if self._window.has_ready:
            self._publish()
        if not self._db.busy:
            self.step()

    def _publish(self) -> None:
        publisher = self._publisher
        while self._publishing and not self._stopping and not self._channel_gone and self._window.has_ready:
            if publisher is None or (self._suspects and self._window.unconfirmed):
                return
            events = self._window.take(1 if self._suspects else None)
            if self._follow.on:
                self._follow.published(events)
            for event, reason in publisher.publish(events):
                self._refused[event.seq] = event, reason
                self._suspects.cleared(event)
                self._waiting.refuse(event)
                self._window.done(event)

    def _end_if_stopped(self) -> None:
        if self._stopping and not self._window.unconfirmed and not self._confirmed:
            self._session.finish()

    def _rest(self) -> bool:
        if not self._window and not self._confirmed:
            self._daemon.calm()
        return not self._stopping and self._sleep.step()

    def _mark_refused(self) -> bool:
        """Mark one of the events that can't be published."""
        if not self._refused:
            return False
        event, reason = next(iter(self._refused.values()))

        def marked(_rows: Rows) -> None:
            del self._refused[event.seq]
            self._suspects.cleared(event)
            self._daemon.progress()
            self.step()

        self._log.error(
            "event refused by the broker; its key waits", id=event.id, table=event.table, key=event.key, reason=reason,
            remedy=f"listen.py release {event.id} (once the reason is gone) or listen.py drop {event.id}",
        )  # fmt: skip
        self._db.run(outbox.REFUSE, (reason, event.seq, event.id), marked)
        return True

    def _store_notified(self) -> bool:
        if not self._inlet.waiting:
            return False
        channels, payloads = self._inlet.take()
        self._db.run(outbox.NOTIFIED, (channels, payloads), self._stored)
        return True

    def _stored(self, _rows: Rows) -> None:
        self._sleep.wake()
        self.step()

    def _delete(self) -> bool:
        """Delete in batches; at once when no confirm is on its way."""
        if not self._confirmed:
            return False
        if len(self._confirmed) < DELETE_ROWS and (self._window.unconfirmed or self._too_soon()):
            return False
        self._forget()
        return True

    def _forget(self) -> None:
        """Delete what is confirmed, and see that it is gone."""
        batch = self._confirmed.batch()
        rows = outbox.array(batch), outbox.array(batch.values())

        def deleted(answer: Rows) -> None:
            xid, mine, count, _ = answer[0]
            if not mine:
                self._session.fail(Unavailable(TAKEN_OVER, TAKEN_OVER_REMEDY))
                return
            self._seen.took_xid(xid)
            if count < len(batch):
                self._db.run(outbox.LEFT, rows, lambda left: gone(left[0][0]))
            else:
                gone(0)

        def gone(left: int) -> None:
            if left:
                problem = f"PostgreSQL has kept {left} events in the outbox that were to be deleted"
                self._session.fail(Unavailable(problem, KEPT_REMEDY))
                return
            self._confirmed.deleted(batch)
            if self._follow.on:
                self._follow.deleted(batch.values())
            if batch:
                self._daemon.progress()
            if self._ready:
                self._ready()
                self._ready = None
            self.step()

        self._db.run(outbox.DELETE, (self._confirmed.turn, *rows), deleted)

    def _read(self) -> bool:
        if self._stopping or not self._sleep.must_read or self._too_soon():
            return False
        maximum, max_bytes = self._window.room()
        if not maximum:
            return False
        if self._seen.wants_xid:
            self._db.run(outbox.XID, (), self._took_xid)
            return True
        maximum = min(maximum, self._unread.maximum)
        firsts, lasts = self._seen.ranges()
        holds = self._waiting.holds
        params = {
            "firsts": firsts, "lasts": lasts, "high": self._seen.high, "most": maximum, "bytes": max_bytes,
            "keys": holds.keys, "tables": holds.tables, "topics": holds.topics,
        }  # fmt: skip
        self._sleep.reading()
        self._waiting.reading()
        self._read_at = time.monotonic()
        self._db.run(
            outbox.READ, params, lambda rows: self._take_in(outbox.read(rows, maximum, max_bytes)),
            lambda error: self._unread.met(error, outbox.ALONE, params, maximum),
        )  # fmt: skip
        return True

    def _read_again(self) -> None:
        self._read_at = 0.0
        self._sleep.wake()
        self.step()

    def _too_soon(self) -> bool:
        """Wait for more, and come back then?"""
        wait = self._read_at + self._pace - time.monotonic()
        if not self._pace or self._stopping or wait <= 0:
            return False
        if self._pacing is None:
            self._pacing = self._session.call_later(wait, self._paced)
        return True

    def _paced(self) -> None:
        self._pacing = None
        self.step()

    def _took_xid(self, rows: Rows) -> None:
        self._seen.took_xid(rows[0][0])
        self.step()

    def _take_in(self, read: outbox.Read) -> None:
        self._unread.succeeded()
        found = len(read.seqs)
        self._pace = min(PACE_EACH * found, PACE_MOST) if read.whole and found > 1 else 0.0
        self._seen.note(read.seqs, whole=read.whole, xmin=read.xmin)
        self._waiting.left_out(read.held)
        self._waiting.have_read(whole=read.whole)
        if self._follow.on:
            self._follow.read(read.events)
        for event in read.events:
            seq = event.seq
            known = seq in self._window or seq in self._confirmed or seq in self._refused  # read once more by a sweep
            if not known and self._waiting.may_go(event):
                self._window.add(event)
        if self._suspects:
            self._suspects.keep(lambda seq: seq > self._seen.high or seq in self._window)
        self._sleep.have_read(found=bool(read.seqs), whole=read.whole, xmin=read.xmin)
        if not read.seqs and time.monotonic() - self._swept_at > SWEEP_INTERVAL:
            self._sweep()
        self._go_on()

    def _probe(self) -> bool:
        if self._stopping or not self._publishing:
            return False
        # In turns with all that comes after it: however many tables can't be routed, the others are read, and it can go
        # to sleep, without which nobody notifies.
        self._probed = not self._probed and self._waiting.probe(self._confirmed.__contains__, self._sleep.wake)
        if not self._probed:
            self._waiting.arm()
        return self._probed

    def _measure(self) -> bool:
        """Now and then: is the outbox long, or its oldest event old?"""
        due = None if self._stopping else self._backlog.due(time.monotonic())
        if due is None:
            return False

        def measured(rows: Rows) -> None:
            self._backlog.note(rows)
            self.step()

        self._db.run(*due, measured)
        return True

    def _inspect(self) -> bool:
        """Now and then: are the triggers as relay.watch left them?"""
        if self._stopping or time.monotonic() < self._inspect_at:
            return False
        self._inspect_at = time.monotonic() + INSPECT_INTERVAL

        def inspected(rows: Rows) -> None:
            self._incomplete.note(rows)
            self._troubles[CAPTURE] = self._incomplete.summary
            self.step()

        def failed(error: psycopg2.Error) -> None:
            # The owners of the tables decide what is read there: it must not end anything.
            remedy = "select * from relay.watched; if it takes long: whose are the tables, and their triggers?"
            self._log.warning("can't see whether all is captured", reason=first_line(error), remedy=remedy)
            self.step()

        self._db.run(outbox.INCOMPLETE, (), inspected, failed)
        return True

    def _sweep(self) -> None:
        """Read everything once more: the outbox is the truth, and a command or a restore may have changed it."""
        self._swept_at = time.monotonic()
        self._waiting.relearn()
        self._seen.rewind(1)
        self._sleep.wake()

    def _tick(self) -> None:
        """Once a second, whatever was forgotten; and a line with counts now and then."""
        self._session.call_later(1.0, self._tick)
        now = time.monotonic()
        if self._publishing and self._publisher and self._publisher.silence() > CONFIRM_DEADLINE:
            remedy = "look for a queue without a leader: rabbitmq-queues list_queues name state; restart the broker"
            self._session.fail(Unavailable(f"RabbitMQ has confirmed nothing for {CONFIRM_DEADLINE:g} s", remedy))
            return
        self._report_flapping(now)
        if now - self._counts.since > STATS_INTERVAL:
            if self._counts.published:
                self._log.info("relayed", events=self._counts.published, seconds=now - self._counts.since,
                               waiting_groups=len(self._waiting.holds.groups) or None)  # fmt: skip
            self._counts = Counts()
        self.step()

    def _report_flapping(self, now: float) -> None:
        for what, times, seconds in self._flapping.due(now):
            self._log.warning(f"{what} comes and goes", times=times, in_s=seconds)
        for what in self._flapping.lasting(now):
            if what == ALARM:
                self._warn_of_alarm()
            else:
                self._waiting.report(what)
