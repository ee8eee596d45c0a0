"""Where a receiver works, from one session to the next: it is looked up, and looked at again while it works."""

import dataclasses
from collections.abc import Awaitable, Callable

from pika.channel import Channel

from relay.amqp.replies import NOT_FOUND
from relay.amqp.session import Session
from relay.amqp.stream import Connection
from relay.amqp.topology import is_held, is_there, sorted_out
from relay.config import Receive
from relay.daemon import EX_CONFIG, Stop, report
from relay.errors import Standby
from relay.receiving.chore import Chore
from relay.receiving.lanes import place as places
from relay.receiving.lanes import plan as plans
from relay.receiving.lanes import ring
from relay.receiving.lanes.declared import LaneDeclared, LaneStrays
from relay.receiving.lanes.names import Generation, lease_name
from relay.receiving.lanes.place import OtherNumber, Place
from relay.receiving.lanes.plan import Plan
from relay.receiving.lease import lease_name as lease_of_queue
from relay.receiving.queues import Declared
from relay.receiving.receiver import Receiver
from relay.receiving.topics import Strays
from relay.values import Lane

LOOK_EVERY = 5.0  # seconds between two looks whether somebody changes the number of lanes
TAKEN, MOVED = -1, -2  # what ends the daemon's loop, and not the process: there is a place; it is another one


class Seat:
    """The place of one process.

    Args:
        config: QUEUE, LANE.
        open_one: opens a connection to RabbitMQ. Raises RelayError.
        rights: of a session's remedies.
    """

    def __init__(self, config: Receive, open_one: Callable[[], Awaitable[Connection]], rights: str) -> None:
        self._config = config
        self._open_one = open_one
        self._rights = rights
        self.place = Place(Generation(config.queue, 0, 1))
        self.is_over = False  # the place, so that another one is to be looked up
        self._look_at = 0.0  # monotonic seconds
        self._is_broken = False

    @property
    def config(self) -> Receive:
        """The settings, with the queue that is worked on."""
        return dataclasses.replace(self._config, queue=self.place.queue)

    async def find(self, stop: Stop) -> int:
        """Look up the place, on a connection of its own. Return TAKEN, or the process's exit status.

        Raises:
            Standby: there will be one.
            RelayError: as `plan.read`.
        """
        try:
            async with Session(stop, self._rights) as session:
                session.attach(await self._open_one())
                self.place = await self._look(session)
                self.is_over = self._is_broken = False
        except OtherNumber as error:
            report(error)
            return EX_CONFIG
        return TAKEN

    def declared(self) -> Declared:
        """What makes sure of what the receiver needs in RabbitMQ."""
        if self.place.is_lane or self.place.ends:
            return LaneDeclared(self.config, self.place)
        return Declared(self.config)

    def strays(self) -> Strays:
        """What is shown each message."""
        return LaneStrays(self.config, self.place) if self.place.is_lane else Strays(self.config)

    async def work(self, receiver: Receiver) -> int | None:
        """Have a receiver work, if it is still the place. Return MOVED if it is not; else None, at the end.

        Raises:
            ConfigError: a lane is missing.
            RelayError: as `Receiver.run`.
        """
        if await self._is_kept(receiver.session):
            self._watch(receiver)
            await receiver.run()
        else:
            self.is_over = True
        return MOVED if self.is_over else None

    async def _is_kept(self, session: Session) -> bool:
        try:
            is_kept = await self._look(session) == self.place
        except (OtherNumber, Standby):
            return False
        if is_kept and self.place.is_lane and not self.place.ends:
            if self._is_broken:
                await ring.mark(session, self.place.generation)
            async for lost in ring.missing(session, self.place.generation):
                raise ring.broken(self.place.generation, lost)
        return is_kept

    async def _look(self, session: Session) -> Place:
        """Where there is work. Raises as `find`."""
        found, plan = await self._in_force(session)
        if found.ends and plan is not None and not await _has_work(session, found):
            raise places.waits(plan)
        return found

    async def _in_force(self, session: Session) -> tuple[Place, Plan | None]:
        plan = await plans.read(session, self._config.queue)
        return places.find(self._config.queue, self._config.lane, plan), plan

    def _watch(self, receiver: Receiver) -> None:
        """Have the receiver leave when the place is not what it was."""
        strays = receiver.parts.strays
        if isinstance(strays, LaneStrays):
            strays.on_lost = lambda: self._lost(receiver)
        receiver.chores.append(Chore(lambda now: now >= self._look_at, lambda now: self._look_again(receiver, now)))
        if self.place.ends:
            receiver.chores.append(Chore(lambda _now: _is_idle(receiver), lambda _now: self._leave_empty(receiver)))

    def _lost(self, receiver: Receiver) -> None:
        """A binding was, and a key went to another lane than before. It is not delivered."""
        self._is_broken = True
        receiver.parts.dispatcher.pause()
        receiver.session.fail(ring.broken(self.place.generation, "a binding"))

    async def _look_again(self, receiver: Receiver, now: float) -> None:
        """Somebody who changes the number of lanes holds a lease meanwhile, and only then the plan is read."""
        self._look_at = now + LOOK_EVERY
        if not await is_held(receiver.session, lease_name(self._config.queue)):
            return
        try:
            found, _plan = await self._in_force(receiver.session)  # what is in our hands is not counted there
            is_kept = found == self.place
        except (OtherNumber, Standby):
            is_kept = False
        if not is_kept:
            self._leave(receiver)

    async def _leave_empty(self, receiver: Receiver) -> None:
        if (await receiver.fence.count(self.place.queue))[0]:
            return
        await receiver.consumer.catch_up()  # "none are left" may be here before the last ones
        if not receiver.parts.strands.events:
            self._leave(receiver)

    def _leave(self, receiver: Receiver) -> None:
        if not self.is_over:
            self.is_over = True
            receiver.stop()


async def _has_work(session: Session, place: Place) -> bool:
    """Is there something to be emptied? Raises Unavailable as `Session.asked`."""
    if not await _waiting(session, place.queue):
        return False
    if place.number or not place.is_lane or not await is_there(session, place.generation.mark):
        return True
    # The first lane has events of keys whose earlier ones are in others: after those.
    others = place.generation.queues[1:]
    return not any([await _waiting(session, one) or await is_held(session, lease_of_queue(one)) for one in others])


async def _waiting(session: Session, queue: str) -> int:
    """Messages ready in a queue; one that was deleted has none. Raises Unavailable as `Session.asked`."""
    frame, refused = await session.asked(f"counting {queue}", Channel.queue_declare, queue, passive=True)
    if refused and refused.code != NOT_FOUND:
        raise sorted_out(refused, f"queue {queue}")
    return 0 if refused else int(frame.method.message_count)


def _is_idle(receiver: Receiver) -> bool:
    """Has everything that is here been seen to? What is parked waits for the next lanes."""
    is_seen = receiver.consumer.is_open or receiver.lot.is_full
    return is_seen and not receiver.parts.strands.events and not receiver.lot.unpark.active


@dataclasses.dataclass(frozen=True)
class At:
    """Where a command looks.

    Args:
        config: the settings, with QUEUE as it is written, and the lane.
        place: whose queue it is.
    """

    config: Receive
    place: Place

    @property
    def here(self) -> Receive:
        """The settings, with the queue that is worked on."""
        return dataclasses.replace(self.config, queue=self.place.queue)


def of_command(config: Receive, plan: Plan | None, *, changes: bool) -> list[At]:
    """Where a command looks: the lane of LANE; without it, all that there are.

    Args:
        plan: what is in force.
        changes: it does something to what is parked, and so waits until that has moved.

    Raises:
        OtherNumber: there are not so many lanes.
        Standby: they are being changed.
    """
    plan = plan or Plan(Generation(config.queue, 0, 1))
    if changes and plan.before:
        raise places.waits(plan)
    if config.lane is not None:
        at_before = plan.before is not None and plan.before.lanes == config.lane.total
        one = plan.before if at_before and plan.before else plan.now
        if one.lanes != config.lane.total:
            raise OtherNumber(places.another(config.queue, config.lane, plan.now.lanes))
        return [At(config, Place(one, config.lane.number))]
    one = plan.before or plan.now
    if not one.number:
        return [At(config, Place(one))]
    lanes = [Lane(number, one.lanes) for number in range(one.lanes)]
    return [At(dataclasses.replace(config, lane=lane), Place(one, lane.number)) for lane in lanes]


def of_receiver(config: Receive, found: list[At]) -> At:
    """Of what `of_command` has found, where a receiver with these settings works. Raises OtherNumber: nowhere."""
    if config.lane is None and found[0].place.is_lane:
        raise OtherNumber(places.another(config.queue, None, found[0].place.generation.lanes))
    return found[0]
