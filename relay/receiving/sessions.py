"""What a receiver's process does: one session after another, each at the place that there is for it."""

import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager

from pika.adapters.blocking_connection import BlockingConnection

from relay import alert_command, log, transport
from relay.amqp import management_api, rights
from relay.amqp.lifetime import Lifetime
from relay.amqp.session import Session
from relay.amqp.stream import Connection
from relay.backoff import Backoff
from relay.config import Receive
from relay.daemon import Daemon, Stop, in_thread
from relay.delivery import Event, Target
from relay.errors import RelayError, Standby
from relay.receiving import harm, parts
from relay.receiving.holder import Holder
from relay.receiving.lanes.seat import MOVED, TAKEN, Seat
from relay.receiving.management import Lookout
from relay.receiving.parts import Parts
from relay.receiving.receiver import Receiver
from relay.status.show import shown

_log = log.Log("receiver")


class Sessions:
    """Of one process. Nothing is opened before `run` or `once`.

    Args:
        config: the settings, with QUEUE as it is written, and the lane.
        make_target: makes where events go to; anew for another place. Raises ConfigError.
        wants: is an event asked for?
        open_one: opens a connection to RabbitMQ, by its name, on the running loop. Raises RelayError.
        open_now: the same, a blocking one.
    """

    def __init__(
        self,
        config: Receive,
        make_target: Callable[[], Target],
        wants: Callable[[Event], bool],
        open_one: Callable[[str], Awaitable[Connection]],
        open_now: Callable[[str], AbstractContextManager[BlockingConnection]],
    ) -> None:
        self._config = config
        self._make_target = make_target
        self._target = make_target()
        self._asked_for = wants
        self._open_one = open_one
        self._open_now = open_now

    async def run(self) -> int:
        """Deliver until a stop is asked for. Return the process's exit status."""
        daemon, seat = self._begin()
        while True:
            if self._config.lane is not None or seat.is_over:
                status = await daemon.run(functools.partial(seat.find, daemon.stop))
                if status != TAKEN:
                    return status
            status = await self._work(seat, daemon)
            if status != MOVED:
                return status
            self._target = self._make_target()

    async def once(self, do: Callable[[Receive, Receiver], Awaitable[int]], *, consume: bool) -> int:
        """Do something in one session. Return the process's exit status. Raises RelayError: as a session does.

        Args:
            do: is given the settings with the queue that is worked on.
            consume: see Receiver.
        """
        daemon, seat = self._begin()
        status = await seat.find(daemon.stop)
        if status != TAKEN:
            return status
        made = self.parts(seat)
        try:
            async with self.opened(seat.config, made, daemon, consume=consume) as receiver:
                return await do(seat.config, receiver)
        finally:
            await made.workers.end()

    def _begin(self) -> tuple[Daemon, Seat]:
        stop = Stop()
        stop.install(on_hangup=log.reopen)
        return Daemon(stop, _log, Backoff(self._config.reconnect_min, self._config.reconnect_max)), self.seat()

    def seat(self) -> Seat:
        """A place, which is to be found."""
        open_one = functools.partial(self._open_one, f"relay receiver {self._config.queue}, lanes")
        return Seat(self._config, open_one, rights.command(self._config))

    def parts(self, seat: Seat) -> Parts:
        """What outlives a session at this place."""
        open_now = functools.partial(self._open_now, f"relay receiver {seat.config.queue}, fill")
        return parts.make(seat.config, self._target, seat.declared(), self._wants, open_now, _log, seat.strays())

    def _wants(self, event: Event) -> bool:
        ignores = self._config.lane is not None and self._config.lanes_truncate == "ignore"
        return self._asked_for(event) and not (ignores and event.is_barrier)

    async def _work(self, seat: Seat, daemon: Daemon) -> int:
        """Deliver, until a stop is asked for, or something else is to be worked on."""
        config = seat.config
        made = self.parts(seat)
        made.status.follow(lambda: (daemon.state, daemon.state_since))
        _log.info("starting", queue=config.queue, target=config.target, workers=config.workers)
        transport.warn(config, _log)
        holder, learnt = Holder(config), made.declared.learnt
        ask = functools.partial(management_api.ask, config)
        lookout = None if seat.place.ends else Lookout(ask, config, lambda: harm.ours(config, learnt))

        async def session() -> int | None:
            try:
                async with self.opened(config, made, daemon, lookout=lookout) as receiver:
                    return await seat.work(receiver)
            except Standby as standby:
                if not seat.is_over:
                    await self._look_at(holder, config, daemon.stop)
                    raise holder.said(standby) from None
                raise

        try:
            async with (
                shown(made.status, config, _log),
                alert_command.alerting(config, daemon, f"receiver of {config.queue}", made.status.troubles, _log),
            ):
                return await daemon.run(session)
        finally:
            await made.workers.end()

    @contextlib.asynccontextmanager
    async def opened(
        self, config: Receive, made: Parts, daemon: Daemon, *, lookout: Lookout | None = None, consume: bool = True
    ) -> AsyncIterator[Receiver]:
        """A session with its connection. Arguments as of Receiver."""
        name = f"relay receiver {config.queue}"
        another = functools.partial(self._open_one, f"{name}, probe")
        async with Session(daemon.stop, rights.command(config)) as session:
            session.attach(await self._open_one(name))
            yield Receiver(config, session, another, made, daemon, lookout=lookout, consume=consume)

    async def _look_at(self, holder: Holder, config: Receive, stop: Stop) -> None:
        """What can't be looked at now will be soon; the standby goes on, whatever becomes of that."""

        def look() -> None:
            with self._open_now(f"relay receiver {config.queue}, standby") as handle:
                holder.look(handle)

        if holder.wants_to_look:
            with contextlib.suppress(RelayError):
                async with Lifetime(stop):
                    await in_thread(look)
