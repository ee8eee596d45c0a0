"""A session of the receiver: the lease, the queue, the waiting room, commands, and the way out.

RabbitMQ's rules that shape it (each was found by breaking it): nothing is ever nacked or cancelled with messages
unacknowledged, because both change their order. To give messages back: stop dispatching, await what is in flight,
acknowledge it, close the channel, await close-ok.
"""

import collections
import dataclasses
import time
from collections.abc import Callable
from typing import Any

from pika.adapters.select_connection import IOLoop, SelectConnection

from relay.amqp import rights
from relay.amqp.wire import Wire
from relay.config import Receive
from relay.daemon import BlockingDaemon
from relay.errors import Unavailable
from relay.log import Log
from relay.receiving import lease, queues
from relay.receiving.consumer import Consumer
from relay.receiving.control import Control
from relay.receiving.dispatcher import Dispatcher
from relay.receiving.lanes import Lanes
from relay.receiving.management import Lookout
from relay.receiving.parking.codec import ParkedReader
from relay.receiving.parking.desk import ParkingDesk
from relay.receiving.parking.index import ROOM_MAX, ParkedIndex
from relay.receiving.parking.park import Park
from relay.receiving.parking.recount import Recount
from relay.receiving.parking.unpark import Unpark
from relay.receiving.standstill import Standstill
from relay.receiving.summary import Summary
from relay.receiving.topics import Strays
from relay.receiving.workers import Workers

TICK = 0.25  # seconds between two looks at what only time changes
LOOK_SECONDS = 60.0  # between two looks whether the lease, the exchange, the queues and bindings are still there
COUNT_SECONDS = 5.0  # between two looks whether the waiting room holds what it should
# Seconds between two looks at what has finished, while something has at each: a thread that wakes the loop for every
# request of 735 a second costs the receiver an eighth of its processor time, and the broker a fifth.
PACE = 0.002

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
    probes: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    holder: lease.Holder = dataclasses.field(default_factory=lease.Holder)


class Session:
    """One connection's life.

    Args:
        connection: open, on `loop`.
        another: opens one more like it.
        parts: shared with the sessions before and after.
        daemon: told when we are at work; its watchdog is fed from this loop.
        lookout: looks at what AMQP does not tell; None = nobody does.
        consume: read the main queue; without it, only the waiting room (for a command without a running receiver).
    """

    def __init__(
        self,
        config: Receive,
        connection: SelectConnection,
        another: Callable[[], SelectConnection],
        loop: IOLoop,
        parts: Parts,
        daemon: BlockingDaemon,
        *,
        lookout: Lookout | None = None,
        consume: bool = True,
    ) -> None:
        self._config = config
        self._lookout = lookout
        self._look_at = 0.0  # monotonic seconds
        self._looking_out = False
        self._count_at = 0.0  # monotonic seconds
        self.wire = Wire(connection, loop, another, rights.command(config), parts.probes)
        self._loop = loop
        self.parts = parts
        self._daemon = daemon
        self._consume = consume
        self._timer: Any = None
        self._fed = 0.0
        self._stopping = False
        self._looking = False  # at what has finished, in a moment
        self._shouted = False
        self.on_ready: Callable[[], None] = lambda: None  # called once, when at work
        self.on_chores: Callable[[], None] = lambda: None  # called in the main flow, whenever the loop was interrupted
        size = config.prefetch_mb << 20
        window = (config.prefetch, size)
        room_queue = lease.parked_name(config.queue)
        self._has_room = config.order != "global"
        self.park = Park(self.wire, room_queue, parts.lanes, parts.index, window, self.go_on)
        reader = ParkedReader(config.sign_events)
        self.recount = Recount(self.wire, room_queue, reader, parts.lanes, parts.index, self.park)
        self.unpark = Unpark(
            self.wire,
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
            self.wire,
            config.queue,
            reader,
            parts.lanes,
            events=config.prefetch,
            size=size,
            park=self.park,
            strays=parts.strays,
            on_change=self.go_on,
        )
        self.control = Control(self.wire, config, parts.index, self.unpark, parts.dispatcher)

    def run(self) -> None:
        """Work until a stop is asked for (then return) or something breaks (then raise a RelayError)."""
        parts, stop = self.parts, self._daemon.blocking_stop
        self._loop.add_handler(stop.fileno(), self._on_stop, self._loop.READ)
        parts.workers.wake_with(lambda: self._loop.add_callback_threadsafe(self._on_finished))
        parts.dispatcher.desk = self._desk if self._has_room else None
        parts.dispatcher.paused = True
        try:
            self._set_up()
            self._work()
            self._wind_up()
        finally:
            self.control.give_up("the receiver's connection to RabbitMQ ended, or it was stopped")
            parts.workers.begin_until = 0.0
            parts.dispatcher.pause()
            parts.dispatcher.desk = None
            parts.workers.wake_with(None)
            parts.lanes.release(time.monotonic())
            self.wire.close()

    def _set_up(self) -> None:
        lease.take(self.wire, self._config.queue)
        self.parts.declared.begin(self.wire)
        # Before anything is read: whatever we deliver, the receiver before us finds our mark and not its own.
        if not self.parts.holder.claim(self.wire, self._config.queue):
            self.parts.lanes.forget()
        # Nobody reads the queue any more: nobody can put anything into the waiting room any more.
        self.wire.await_no_consumer(self._config.queue, certain=self._consume)
        if self._has_room:
            self.recount.load()
        if self._config.control:
            self.control.open()
        if self._consume:
            self.consumer.open()
        self.parts.dispatcher.paused = self._stopping
        _log.info("connected", queue=self._config.queue, window=self._config.prefetch)
        self._daemon.up()
        self._standstill = Standstill(self._config.heartbeat, time.monotonic(), self.wire.received)
        self._look_later(time.monotonic())
        if self._lookout is not None:
            self._lookout.tell_arguments(self.wire.version)
            self._lookout.begin()
        self._tick()
        self.on_ready()
        self.go_on()  # messages that came while we were not ready yet have asked in vain

    def _work(self) -> None:
        """The main flow: whatever has to await an answer of the broker is done here, between two turns of the loop."""
        while not self._stopping:
            self.wire.run()
            if not self._is_working():
                break
            now = time.monotonic()
            if self.unpark.finished:
                self.unpark.end(now)
            self._compare(now)
            if self._has_room and self.unpark.wanted(now):
                self.unpark.start(now)
            self._tend_consumer(now)
            self._look(now)
            self.on_chores()
            self.go_on()

    def _tend_consumer(self, now: float) -> None:
        if self._consume and not self.consumer.is_open and not self.is_full:
            self.consumer.open()
        elif self.park.pending:
            return  # what is on its way into the room would come again, and get in twice
        elif self.consumer.is_open and self.is_full:
            self.consumer.close(now)
        elif self.consumer.renewal_wanted(now):
            self.consumer.renew(now)

    def _compare(self, now: float) -> None:
        """Does the waiting room hold what it should? If not, read it anew, with nothing else going on."""
        if self._count_is_due(now):
            self.recount.compare()
            self._count_at = now + (TICK if self.recount.is_doubtful else COUNT_SECONDS)
        if self.unpark.must_be_read_anew and not self.consumer.holds_unknown:
            self.consumer.close(now)
            self.recount.load()
            self.control.give_up("the waiting room was changed by somebody else, and has been read anew")

    def _count_is_due(self, now: float) -> bool:
        return self._has_room and now >= self._count_at and not self.unpark.active

    def _look(self, now: float) -> None:
        """Are the lease, the exchange, the queues and the bindings still there?"""
        if self._look_is_due(now):
            lease.take(self.wire, self._config.queue)
            self.parts.declared.look(self.wire)
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

    def _is_working(self) -> bool:
        return not self._stopping  # a callback may have changed it

    def _wind_up(self) -> None:
        """Await what is in flight, for the grace time at most; acknowledge it; give back the rest in order."""
        if self.parts.workers.busy or self.park.busy:
            timer = self._loop.call_later(self._config.shutdown_grace, self.wire.interrupt)
            self.wire.run()
            self._loop.remove_timeout(timer)
        now = time.monotonic()
        if self.park.busy:
            self.unpark.abandon(now)
        else:
            self.unpark.end(now)
        self.consumer.close(now)
        self.consumer.settle()

    @property
    def is_full(self) -> bool:
        """Too much waits for a person: something is wrong that is not one event's."""
        index = self.parts.index
        full = index.dead >= self._config.parked_max or index.events >= ROOM_MAX
        if full != self._shouted:
            write, said = (
                _log.error,
                "the waiting room is full, pausing -> receiver.py parked, then replay or discard",
            )
            if not full:
                write, said = _log.info, "the waiting room has room again"
            write(said, refused_keys=index.dead, events=index.events)
        self._shouted = full
        return full

    def go_on(self) -> None:
        """Start what is ready; come back when the next waiting key is."""
        if self._stopping:
            if not self.parts.workers.busy and not self.park.busy:
                self.wire.interrupt()
            return
        wake = None
        if self.parts.workers.may_begin() and (not self.is_full or self.unpark.active):
            self.parts.dispatcher.start_ready()
            wake = self.parts.dispatcher.next_wake()
        if self._timer is not None:
            self._loop.remove_timeout(self._timer)
            self._timer = None
        if wake is not None:
            self._timer = self._loop.call_later(max(wake, 0.001), self._on_wake)

    def _on_change(self) -> None:
        if self.unpark.finished:
            self.wire.interrupt()
        self.go_on()

    def _on_finished(self) -> None:
        for receipt in self.parts.dispatcher.collect():
            receipt()
        if self.parts.workers.is_awake and not self._looking:
            self._looking = True
            self._loop.call_later(PACE, self._look_again)
        self.go_on()

    def _look_again(self) -> None:
        self._looking = False
        self._on_finished()

    def _on_wake(self) -> None:
        self._timer = None
        self.go_on()

    def _on_stop(self, fd: int, _events: int) -> None:
        self._loop.remove_handler(fd)  # it stays readable
        self.stop()

    def stop(self) -> None:
        """Begin the orderly end. From a callback of the loop."""
        if not self._stopping:
            _log.info("stopping", in_flight=self.parts.workers.busy)
        self._stopping = True
        self.park.close()
        self.parts.dispatcher.pause()
        self.wire.interrupt()

    def _tick(self) -> None:
        now = time.monotonic()
        self._loop.call_later(TICK, self._tick)
        self._renew_trust(now)
        self.parts.summary.tick(now)
        interval = self._daemon.systemd.watchdog_interval
        if interval and now - self._fed >= interval / 2:
            self._fed = now
            self._daemon.feed_watchdog()
        if self._has_room:
            self.park.overflow(now, full=self.consumer.is_full)
        self.control.tick(now)
        self._look_out(now)
        if self._has_chores(now):
            self.wire.interrupt()

    def _renew_trust(self, now: float) -> None:
        workers, until = self.parts.workers, self._standstill.begin_until(now, self.wire.received)
        if until is None:
            self.wire.fail(Unavailable("this process stood still, and may have lost its lease meanwhile"))
            return
        paused, workers.begin_until = not workers.may_begin(), until
        if paused:
            self.go_on()

    def _has_chores(self, now: float) -> bool:
        return (
            self.unpark.finished
            or self._look_is_due(now)
            or self._count_is_due(now)
            or self.unpark.must_be_read_anew
            or (self._has_room and self.unpark.wanted(now))
            or (self._consume and self.consumer.is_open == self.is_full)
            or (not self.park.pending and self.consumer.renewal_wanted(now))
        )
