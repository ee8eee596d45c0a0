"""A session of the receiver: the lease, the queue, the parking lot, commands, and the way out.

RabbitMQ's rules that shape it (each was found by breaking it): nothing is ever nacked or cancelled with messages
unacknowledged, because both change their order. To give messages back: stop dispatching, await what is in flight,
acknowledge it, close the channel, await close-ok.
"""

import asyncio
import contextlib
import enum
import functools
import time
from collections.abc import Awaitable, Callable

from relay.amqp import down
from relay.amqp.answers import Answers
from relay.amqp.lifetime import Timer
from relay.amqp.session import Session
from relay.amqp.stream import Connection
from relay.config import FAILOVER, Receive
from relay.daemon import Daemon
from relay.errors import RelayError, Unavailable
from relay.log import Log
from relay.receiving import lease
from relay.receiving.chore import Chore
from relay.receiving.consumer import Consumer
from relay.receiving.control import Control
from relay.receiving.fence import Fence
from relay.receiving.ground import Ground
from relay.receiving.idle import Idle
from relay.receiving.management import Lookout
from relay.receiving.parking.codec import ParkedReader
from relay.receiving.parking.lot import ParkingLot
from relay.receiving.parking.room import Room
from relay.receiving.parts import Parts
from relay.receiving.pulse import Pulse
from relay.receiving.standstill import Standstill
from relay.receiving.upkeep import Upkeep

TICK = 0.25  # seconds between two looks at what only time changes
_log = Log("receiver")


class _Phase(enum.Enum):
    WORKING = "working"
    STOPPING = "stopping"  # in order
    ENDED = "ended"  # the last of what the loop has to tell may still come


class Receiver:
    """The work of one session.

    Args:
        session: entered, with an open connection.
        another: opens one more connection like it.
        parts: shared with the sessions before and after.
        daemon: told when we are at work; its watchdog is fed from this loop.
        lookout: looks at what AMQP does not tell; None = nobody does.
        consume: read the main queue; without it, only the parking lot (for a command without a running receiver).
    """

    def __init__(
        self,
        config: Receive,
        session: Session,
        another: Callable[[], Awaitable[Connection]],
        parts: Parts,
        daemon: Daemon,
        *,
        lookout: Lookout | None = None,
        consume: bool = True,
    ) -> None:
        self._config = config
        self._daemon = daemon
        self._another = another
        self._pulse: Pulse | None = None
        self._consume = consume
        self._timer: Timer | None = None
        self._phase = _Phase.WORKING
        self._awake = asyncio.Event()  # a chore may be due; while it winds up: nothing may be in flight any more
        self.session = session
        self.parts = parts
        self.fence = Fence(session, another, parts.probes, functools.partial(down.ghost, config))
        reader = ParkedReader(config.sign_events)
        room = Room(session, self.fence, lease.parked_name(config.queue), reader, parts.strands, parts.index)
        self.lot = ParkingLot(config, room, on_park=self.go_on, on_change=self._on_change)
        self.consumer = Consumer(
            Ground(session, self.fence, config.queue, reader, parts.strands),
            events=config.prefetch,
            size=config.prefetch_mb << 20,
            widest=lambda: parts.holder.widest,
            park=self.lot.park,
            strays=parts.strays,
            wants=parts.wants,
            on_filter=parts.dispatcher.deliveries.have_filtered,
            is_single=config.queue_type == FAILOVER,
            on_change=self.go_on,
        )
        answers, told = Answers(session, another, _answer_lost), parts.status.document
        self.control = Control(session, config, parts.index, self.lot.unpark, parts.dispatcher, answers, told)
        self._upkeep = Upkeep(session, config.queue, parts.declared, lookout)
        self.chores = self._chores()

    def _chores(self) -> list[Chore]:
        lot, park, unpark, consumer = self.lot, self.lot.park, self.lot.unpark, self.consumer
        idle = Idle(self.fence, self._config.queue, consumer, lambda: not self.parts.strands.events)
        return [
            Chore(lambda _now: unpark.finished, unpark.end),
            Chore(lot.count_is_due, lot.compare),
            Chore(lambda _now: unpark.must_be_read_anew and not consumer.holds_unknown, self._read_anew),
            Chore(lambda now: lot.is_used and unpark.wanted(now), unpark.start),
            Chore(lambda _now: self._consume and not (consumer.is_open or lot.is_full), lambda _now: consumer.open()),
            # What is on its way into the parking lot would come again, and get in twice.
            Chore(lambda _now: consumer.is_open and lot.is_full and not park.pending, consumer.close),
            Chore(lambda now: not park.pending and consumer.renewal_wanted(now), consumer.renew),
            Chore(self._upkeep.is_due, self._upkeep.look),
            Chore(idle.is_due, idle.look),
        ]

    async def run(self, ready: Callable[[], None] = lambda: None) -> None:
        """Work until a stop is asked for.

        Args:
            ready: called when at work.

        Raises:
            RelayError: something breaks.
        """
        parts = self.parts
        self.session.on_stop(self.stop)
        parts.workers.report_to(self._on_finished, self.session.is_up)
        parts.dispatcher.desk = self.lot.desk if self.lot.is_used else None
        parts.dispatcher.paused = True
        try:
            await self._set_up()
            ready()
            self.go_on()  # messages that came while we were not ready yet have asked in vain
            await self._work()
            await self._wind_up()
        finally:
            self._phase = _Phase.ENDED
            self.control.give_up("the receiver's connection to RabbitMQ ended, or it was stopped")
            parts.workers.begin_until = 0.0
            parts.dispatcher.pause()
            parts.dispatcher.desk = None
            parts.workers.report_to(None)
            parts.strands.release(time.monotonic())

    async def _set_up(self) -> None:
        await lease.begin(self.session, self._config.queue)
        await self.parts.declared.begin(self.session)
        # First: while a node of a cluster is down, RabbitMQ 4 takes a minute to say that our mark is on it.
        await self.fence.await_no_consumer(self._config.queue, certain=False)
        # Before anything is read: whatever we deliver, the receiver before us finds our mark and not its own.
        is_first = not await self.parts.holder.claim(self.session, self._config.queue, self._config.prefetch)
        if is_first:
            self.parts.strands.forget()
        if self._config.queue_type == FAILOVER:
            self._pulse = Pulse(self.session, self._another, self.parts.holder.name, is_first=is_first)
        # Nobody reads the queue any more: nobody can put anything into the parking lot any more.
        await self.fence.await_no_consumer(self._config.queue, certain=self._consume)
        if self.lot.is_used:
            await self.lot.recount.load()
        if self._config.control:
            await self.control.open()
        if self._consume:
            await self.consumer.open()
        self.parts.dispatcher.paused = self._phase is not _Phase.WORKING
        _log.info("consuming", queue=self._config.queue, window=self._config.prefetch)
        self._daemon.up()
        self._standstill = Standstill(self._config.heartbeat, time.monotonic(), self.session.received)
        self._upkeep.begin()
        if self._consume:
            self.parts.filling.begin(self.session)
            self.parts.asking.begin(self.session, self.go_on)
        self._tick()

    async def _work(self) -> None:
        """The main flow: one chore after another, whenever one may be due."""
        while self._phase is _Phase.WORKING:
            await self._awake.wait()
            self._awake.clear()
            for chore in self.chores:
                now = time.monotonic()
                if self._phase is _Phase.WORKING and chore.due(now):
                    await chore.do(now)
            self.go_on()

    async def _read_anew(self, now: float) -> None:
        """The parking lot does not hold what it should: with nothing else going on."""
        await self.consumer.close(now)
        why = "the parking lot was changed by somebody else, and has been read anew"
        self.control.give_up(why)  # what was asked is forgotten, and would seem to be refused again
        await self.lot.recount.load()
        self.control.give_up(why)

    async def _wind_up(self) -> None:
        """Await what is in flight, for the grace time at most; acknowledge it; give back the rest in order."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._config.shutdown_grace):
                while self._has_work_in_flight:
                    self._awake.clear()
                    await self._awake.wait()
        now = time.monotonic()
        if self.lot.park.busy:
            await self.lot.unpark.abandon(now)
        else:
            await self.lot.unpark.end(now)
        await self.consumer.close(now)
        await self.consumer.settle()

    @property
    def _has_work_in_flight(self) -> bool:
        return bool(self.parts.workers.busy) or self.lot.park.busy

    def wake(self) -> None:
        """A chore may be due."""
        self._awake.set()

    def go_on(self) -> None:
        """Start what is ready; come back when the next waiting key is."""
        if self._phase is _Phase.ENDED:
            return  # the last of what the loop had to tell
        if self._phase is _Phase.STOPPING:
            self.wake()
            return
        wake = None
        if self.parts.workers.may_begin() and (not self.lot.is_full or self.lot.unpark.active):
            self.parts.dispatcher.start_ready()
            wake = self.parts.dispatcher.next_wake()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if wake is not None:
            self._timer = self.session.call_later(max(wake, 0.001), self._on_wake)

    def _on_change(self) -> None:
        if self.lot.unpark.finished:
            self.wake()
        self.go_on()

    def _on_finished(self) -> None:
        if self._phase is _Phase.ENDED:
            return  # the next session collects it
        with self.session.corked():
            for receipt in self.parts.dispatcher.collect():
                receipt()
        if self.consumer.is_full:  # rows that wait may be all that is here
            self.lot.make_room(time.monotonic(), full=True)
        self.go_on()

    def _on_wake(self) -> None:
        self._timer = None
        self.go_on()

    def stop(self) -> None:
        """Begin the orderly end. From a callback of the loop."""
        if self._phase is not _Phase.WORKING:
            return
        _log.info("stopping", in_flight=self.parts.workers.busy)
        self._phase = _Phase.STOPPING
        self.lot.park.close()
        self.parts.dispatcher.pause()
        self.wake()

    def _tick(self) -> None:
        now = time.monotonic()
        self.session.call_later(TICK, self._tick)
        self._renew_trust(now)
        self.parts.summary.tick(now)
        self._daemon.calm()
        self._daemon.detail(self._detail())
        self.parts.status.tick(now)
        self._daemon.feed_watchdog()
        self.lot.make_room(now, full=self.consumer.is_full)
        self.control.tick(now)
        self._upkeep.tick(now)
        if any(chore.due(now) for chore in self.chores):
            self.wake()

    def _detail(self) -> str:
        """Why nothing is delivered, if nothing is."""
        breaker = self.parts.dispatcher.breaker
        if breaker.is_open:
            return f"waiting for the endpoint: {breaker.reason}"
        return "paused: the parking lot is full" if self.lot.is_full else ""

    def _renew_trust(self, now: float) -> None:
        workers, until = self.parts.workers, self._standstill.begin_until(now, self.session.received)
        if until is None:
            self.session.fail(Unavailable("this process stood still, and may have lost its lease meanwhile"))
            return
        until = min(until, self._pulse.begin_until(now)) if self._pulse else until
        paused, workers.begin_until = not workers.may_begin(), until
        if paused:
            self.go_on()


def _answer_lost(error: RelayError) -> None:
    _log.warning(f"commands can't be answered: {error}")
