"""A session of the receiver: the lease, the queue, the parking lot, commands, and the way out.

RabbitMQ's rules that shape it (each was found by breaking it): nothing is ever nacked or cancelled with messages
unacknowledged, because both change their order. To give messages back: stop dispatching, await what is in flight,
acknowledge it, close the channel, await close-ok.
"""

import asyncio
import collections
import contextlib
import dataclasses
import time
from collections.abc import Awaitable, Callable

from relay.amqp.answers import Answers
from relay.amqp.lifetime import Timer
from relay.amqp.session import Session
from relay.amqp.stream import Connection
from relay.config import Receive
from relay.daemon import Daemon
from relay.errors import RelayError, Unavailable
from relay.log import Log
from relay.receiving import lease, queues
from relay.receiving.consumer import Consumer
from relay.receiving.control import Control
from relay.receiving.dispatcher import Dispatcher
from relay.receiving.fence import Fence
from relay.receiving.lanes import Lanes
from relay.receiving.management import Lookout
from relay.receiving.parking.codec import ParkedReader
from relay.receiving.parking.desk import ParkingDesk
from relay.receiving.parking.index import ROOM_MAX, ParkedIndex
from relay.receiving.parking.park import Park
from relay.receiving.parking.recount import Recount
from relay.receiving.parking.unpark import Unpark
from relay.receiving.standstill import Standstill
from relay.receiving.status import Status
from relay.receiving.summary import Summary
from relay.receiving.topics import Strays
from relay.receiving.workers import Workers

TICK = 0.25  # seconds between two looks at what only time changes
LOOK_SECONDS = 60.0  # between two looks whether the lease, the exchange, the queues and bindings are still there
COUNT_SECONDS = 5.0  # between two looks whether the parking lot holds what it should

_log = Log("receiver")


@dataclasses.dataclass
class Parts:
    """What outlives a session: a request does, and so must what knows about it."""

    lanes: Lanes
    dispatcher: Dispatcher
    workers: Workers
    index: ParkedIndex
    declared: queues.Declared
    strays: Strays
    summary: Summary
    status: Status
    probes: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    holder: lease.Holder = dataclasses.field(default_factory=lease.Holder)


@dataclasses.dataclass(frozen=True, slots=True)
class Chore:
    """What has to await RabbitMQ's answers, and so is done in the main flow, one after another."""

    due: Callable[[float], bool]  # by monotonic seconds
    do: Callable[[float], Awaitable[None]]


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
        self._lookout = lookout
        self._look_at = 0.0  # monotonic seconds
        self._looking_out = False
        self._count_at = 0.0  # monotonic seconds
        self.session = session
        self.fence = Fence(session, another, parts.probes)
        self.parts = parts
        self._daemon = daemon
        self._consume = consume
        self._timer: Timer | None = None
        self._fed = 0.0
        self._stopping = self._ended = False
        self._shouted = False
        self._awake = asyncio.Event()  # a chore may be due
        self._idle = asyncio.Event()  # asked to stop, and nothing is in flight
        size = config.prefetch_mb << 20
        window = (config.prefetch, size)
        room_queue = lease.parked_name(config.queue)
        self._has_room = config.order != "global"
        self.park = Park(session, room_queue, parts.lanes, parts.index, window, self.go_on)
        reader = ParkedReader(config.sign_events)
        self.recount = Recount(session, self.fence, room_queue, reader, parts.lanes, parts.index, self.park)
        self.unpark = Unpark(
            session,
            self.fence,
            room_queue,
            reader,
            parts.lanes,
            parts.index,
            self.park,
            self.recount,
            budget=size,
            on_change=self._on_change,
        )
        self._desk = ParkingDesk(parts.lanes, parts.index, self.park, self.unpark, config.prefetch)
        self.consumer = Consumer(
            session,
            self.fence,
            config.queue,
            reader,
            parts.lanes,
            events=config.prefetch,
            size=size,
            park=self.park,
            strays=parts.strays,
            on_change=self.go_on,
        )
        answers = Answers(session, another, _answer_lost)
        self.control = Control(
            session, config, parts.index, self.unpark, parts.dispatcher, answers, parts.status.document
        )
        self.chores = [
            Chore(lambda _now: self.unpark.finished, self.unpark.end),
            Chore(self._count_is_due, self._compare),
            Chore(lambda _now: self.unpark.must_be_read_anew and not self.consumer.holds_unknown, self._read_anew),
            Chore(lambda now: self._has_room and self.unpark.wanted(now), self.unpark.start),
            Chore(lambda _now: self._consume and not self.consumer.is_open and not self.is_full, self._open),
            # What is on its way into the parking lot would come again, and get in twice.
            Chore(lambda _now: self.consumer.is_open and self.is_full and not self.park.pending, self.consumer.close),
            Chore(lambda now: not self.park.pending and self.consumer.renewal_wanted(now), self.consumer.renew),
            Chore(self._look_is_due, self._look),
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
        parts.workers.report_to(self._on_finished)
        parts.dispatcher.desk = self._desk if self._has_room else None
        parts.dispatcher.paused = True
        try:
            await self._set_up()
            ready()
            self.go_on()  # messages that came while we were not ready yet have asked in vain
            await self._work()
            await self._wind_up()
        finally:
            self._ended = True
            self.control.give_up("the receiver's connection to RabbitMQ ended, or it was stopped")
            parts.workers.begin_until = 0.0
            parts.dispatcher.pause()
            parts.dispatcher.desk = None
            parts.workers.report_to(None)
            parts.lanes.release(time.monotonic())

    async def _set_up(self) -> None:
        await lease.take(self.session, self._config.queue)
        await self.parts.declared.begin(self.session)
        # Before anything is read: whatever we deliver, the receiver before us finds our mark and not its own.
        if not await self.parts.holder.claim(self.session, self._config.queue):
            self.parts.lanes.forget()
        # Nobody reads the queue any more: nobody can put anything into the parking lot any more.
        await self.fence.await_no_consumer(self._config.queue, certain=self._consume)
        if self._has_room:
            await self.recount.load()
        if self._config.control:
            await self.control.open()
        if self._consume:
            await self.consumer.open()
        self.parts.dispatcher.paused = self._stopping
        _log.info("consuming", queue=self._config.queue, window=self._config.prefetch)
        self._daemon.up()
        self._standstill = Standstill(self._config.heartbeat, time.monotonic(), self.session.received)
        self._look_later(time.monotonic())
        if self._lookout is not None:
            self._lookout.tell_arguments(self.session.version)
            self._lookout.begin()
        self._tick()

    async def _work(self) -> None:
        """The main flow: one chore after another, whenever one may be due."""
        while not self._stopping:
            await self._awake.wait()
            self._awake.clear()
            for chore in self.chores:
                now = time.monotonic()
                if not self._stopping and chore.due(now):
                    await chore.do(now)
            self.go_on()

    def wake(self) -> None:
        """A chore may be due."""
        self._awake.set()

    async def _open(self, _now: float) -> None:
        await self.consumer.open()

    async def _compare(self, now: float) -> None:
        """Does the parking lot hold what it should?"""
        await self.recount.compare()
        self._count_at = now + (TICK if self.recount.is_doubtful else COUNT_SECONDS)

    async def _read_anew(self, now: float) -> None:
        """The parking lot does not hold what it should: with nothing else going on."""
        await self.consumer.close(now)
        await self.recount.load()
        self.control.give_up("the parking lot was changed by somebody else, and has been read anew")

    def _count_is_due(self, now: float) -> bool:
        return self._has_room and now >= self._count_at and not self.unpark.active

    async def _look(self, _now: float) -> None:
        """Are the lease, the exchange, the queues and the bindings still there?"""
        await lease.take(self.session, self._config.queue)
        await self.parts.declared.look(self.session)
        self._look_later(time.monotonic())

    def _look_is_due(self, now: float) -> bool:
        """Not before the lookout has seen what is missing: it could not tell afterwards."""
        return now >= self._look_at and (self._lookout is None or (self._looking_out and not self._lookout.busy))

    def _look_later(self, now: float) -> None:
        self._look_at, self._looking_out = now + LOOK_SECONDS, False

    def _look_out(self, now: float) -> None:
        if self._lookout is not None and now >= self._look_at and not self._looking_out:
            self._looking_out = True
            self._lookout.begin()

    async def _wind_up(self) -> None:
        """Await what is in flight, for the grace time at most; acknowledge it; give back the rest in order."""
        if self.parts.workers.busy or self.park.busy:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._config.shutdown_grace):
                    await self._idle.wait()
        now = time.monotonic()
        if self.park.busy:
            await self.unpark.abandon(now)
        else:
            await self.unpark.end(now)
        await self.consumer.close(now)
        await self.consumer.settle()

    @property
    def is_full(self) -> bool:
        """Too much waits for a person: something is wrong that is not one event's."""
        index = self.parts.index
        full = index.dead >= self._config.parked_max or index.events >= ROOM_MAX
        if full != self._shouted:
            write, detail = (
                _log.error,
                "the parking lot is full, pausing -> receiver.py parked, then replay or discard",
            )
            if not full:
                write, detail = _log.info, "the parking lot has room again"
            write(detail, refused_keys=index.dead, events=index.events)
        self._shouted = full
        return full

    def go_on(self) -> None:
        """Start what is ready; come back when the next waiting key is."""
        if self._ended:
            return  # the last of what the loop had to tell
        if self._stopping:
            if not self.parts.workers.busy and not self.park.busy:
                self._idle.set()
            return
        wake = None
        if self.parts.workers.may_begin() and (not self.is_full or self.unpark.active):
            self.parts.dispatcher.start_ready()
            wake = self.parts.dispatcher.next_wake()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if wake is not None:
            self._timer = self.session.call_later(max(wake, 0.001), self._on_wake)

    def _on_change(self) -> None:
        if self.unpark.finished:
            self.wake()
        self.go_on()

    def _on_finished(self) -> None:
        if self._ended:
            return  # the next session collects it
        for receipt in self.parts.dispatcher.collect():
            receipt()
        self.go_on()

    def _on_wake(self) -> None:
        self._timer = None
        self.go_on()

    def stop(self) -> None:
        """Begin the orderly end. From a callback of the loop."""
        if not self._stopping:
            _log.info("stopping", in_flight=self.parts.workers.busy)
        self._stopping = True
        self.park.close()
        self.parts.dispatcher.pause()
        self.wake()

    def _tick(self) -> None:
        now = time.monotonic()
        self.session.call_later(TICK, self._tick)
        self._renew_trust(now)
        self.parts.summary.tick(now)
        self.parts.status.tick(now)
        interval = self._daemon.systemd.watchdog_interval
        if interval and now - self._fed >= interval / 2:
            self._fed = now
            self._daemon.feed_watchdog()
        if self._has_room:
            self.park.overflow(now, full=self.consumer.is_full)
        self.control.tick(now)
        self._look_out(now)
        if any(chore.due(now) for chore in self.chores):
            self.wake()

    def _renew_trust(self, now: float) -> None:
        workers, until = self.parts.workers, self._standstill.begin_until(now, self.session.received)
        if until is None:
            self.session.fail(Unavailable("this process stood still, and may have lost its lease meanwhile"))
            return
        paused, workers.begin_until = not workers.may_begin(), until
        if paused:
            self.go_on()


def _answer_lost(error: RelayError) -> None:
    _log.warning(f"commands can't be answered: {error}")
