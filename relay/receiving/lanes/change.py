"""`receiver.py lanes --to N`: another number of lanes, while events go on.

Each step can be done once more, and what is in force says which is the next: whoever is killed between two of them is
followed by the next `lanes --to N`.

1. The new queues are made, behind their exchange; nothing goes there yet.
2. The exchange is bound: from now on events go to the old ones and to the new ones.
3. The new ones are in force. The old ones are unbound, and emptied by their receivers.
4. Empty they are to whoever holds all their leases, when RabbitMQ has confirmed a message in each. What was published
   between 2 and 3 is in both: it comes again, in order, as after a crash.
5. What is parked moves, before anybody reads the new queues. The old ones are deleted, and the new lanes begin.
"""

import asyncio
import time
from collections.abc import Callable

from relay.amqp.replies import RESOURCE_LOCKED
from relay.amqp.session import Session
from relay.amqp.topology import exclusive, is_there, sorted_out
from relay.cli import plural
from relay.config import Receive
from relay.errors import ConfigError, Standby
from relay.receiving.fence import Fence
from relay.receiving.lanes import plan as plans
from relay.receiving.lanes import ring
from relay.receiving.lanes.moving import Mover
from relay.receiving.lanes.names import Generation, lease_name, plan_name
from relay.receiving.lanes.plan import Plan
from relay.receiving.lease import fill_name
from relay.receiving.lease import lease_name as lease_of_queue
from relay.receiving.queues import Declared

# A quorum queue whose broker is killed within a second of its making has no leader afterwards, and what was in it is
# lost (3.10 and 4.0; none of 3 was after 5 s).
REGISTERED = 5.0
LOOK_EVERY = 1.0  # seconds between two looks whether the old lanes are empty
TOLD_EVERY = 10.0  # seconds between two words about what is waited for
UNSURE = 60.0  # seconds until "no message says what is in force" is believed: who held it is dead then


class Change:
    """One change.

    Args:
        config: EXCHANGE, QUEUE (without a lane), BINDING_KEYS, QUEUE_TYPE.
        session: of its own: the leases live as long as it.
        tell: says how far it is.
    """

    def __init__(self, config: Receive, session: Session, fence: Fence, tell: Callable[[str], None]) -> None:
        self._config = config
        self._print = tell
        self._session = session
        self._fence = fence
        self._base = config.queue
        self._told_at = 0.0

    async def run(self, total: int) -> None:
        """Have so many lanes. From the main flow.

        Raises:
            Standby: another process changes them.
            ConfigError: something is in the way that only a person can take away.
            RelayError: as `Session.call`.
        """
        if self._config.queue_type == "existing" and total > 1:
            what = "QUEUE_TYPE=existing is of a queue of yours, which would be deleted when its lanes begin"
            raise ConfigError((what, "write QUEUE_TYPE=quorum, if it may be"))
        refused = await exclusive(self._session, lease_name(self._base))
        if refused and refused.code == RESOURCE_LOCKED:
            raise Standby(f"another receiver.py lanes is at work on queue {self._base}", "let it end")
        if refused:
            raise sorted_out(refused, f"queue {lease_name(self._base)}")
        plan = await self._begin()
        if plan.before:
            plan = await self._finish(plan)
        if plan.making and plan.making.lanes != total:
            await ring.remove(self._session, plan.making)
            plan = await self._write(plan.then(making=None))
        if not plan.making and plan.now.lanes == total:
            lost = [one async for one in ring.missing(self._session, plan.now)] if plan.now.number else []
            if not lost:
                self._print(f"{plan.now}: so it is already")
                return
            self._print(f"{lost[0]} is missing: new lanes are made")
        if not plan.making:
            plan = await self._make(plan, total)
        plan = await self._switch(plan)
        plan = await self._finish(plan)
        self._print(f"{plan.now}: in force")

    async def _begin(self) -> Plan:
        """What is in force, which stands somewhere from here on."""
        if not await is_there(self._session, plan_name(self._base)):
            if await is_there(self._session, fill_name(self._base)):
                what = f"queue {self._base} is still to be filled ({fill_name(self._base)})"
                raise ConfigError((what, "let receiver.py end it; without FROM_START, delete that queue"))
            await plans.make(self._session, self._base)
            await asyncio.sleep(REGISTERED)
        else:
            try:
                plan = await plans.read(self._session, self._base, UNSURE)
            except plans.Silent:
                plan = None
            if plan is not None:
                return plan
        return await self._write(Plan(Generation(self._base, 0, 1)))

    async def _write(self, plan: Plan) -> Plan:
        await plans.write(self._session, self._base, plan)
        return plan

    async def _make(self, plan: Plan, total: int) -> Plan:
        number = plan.last + 1 if total > 1 else 0
        making = Generation(self._base, number, total)
        left = [queue for queue in making.queues if number and await is_there(self._session, queue)]
        if left:
            what = f"queue {left[0]} is there, and {plan_name(self._base)} says nothing of it"
            raise ConfigError((what, f"look what is in it, and delete it, and the exchange {making.exchange}"))
        return await self._write(plan.then(making=making, last=max(plan.last, number)))

    async def _switch(self, plan: Plan) -> Plan:
        making = plan.making
        assert making is not None  # noqa: S101
        if problem := await Declared(self._config).exchange(self._session):
            raise problem
        await ring.make(self._session, self._config, making)
        self._print(f"{making}: made")
        await asyncio.sleep(REGISTERED)
        await ring.bind(self._session, self._config, making)
        return await self._write(plan.then(now=making, before=plan.now, making=None))

    async def _finish(self, plan: Plan) -> Plan:
        """Empty what was in force, and let the new lanes begin."""
        before = plan.before
        assert before is not None  # noqa: S101
        await ring.unbind(self._session, self._config, before)
        self._print(f"{before}: unbound, and to be emptied; {plan.now}: waiting for that")
        while not await self._is_empty(before):
            await asyncio.sleep(LOOK_EVERY)
        moved = await Mover(self._session, self._fence, self._config, plan.now).run(before)
        if moved:
            self._print(f"{plural(moved, 'parked event')} moved")
        await ring.remove(self._session, before)
        return await self._write(plan.then(before=None))

    async def _is_empty(self, generation: Generation) -> bool:
        """Is it, with the leases of all in our hands? They are kept then."""
        held = list[str]()
        for queue in generation.queues:
            ready, consumers = await self._count(queue)
            if ready:
                self._tell(f"{plural(ready, 'message')} in {queue}, {_reader(consumers)}")
            if ready or await self._is_at_work(queue):
                break
            held.append(queue)
        else:
            # A receiver that did not know may have bound its queue again, as long as it held the lease.
            await ring.unbind(self._session, self._config, generation)
            there = [queue for queue in held if await is_there(self._session, queue)]
            # One after another: each is asked to confirm a message, and only then its count is believed.
            if not any([await self._fence.await_no_consumer(queue) for queue in there]):
                return True
        for queue in held:
            await ring.no_queue(self._session, lease_of_queue(queue))
        return False

    async def _count(self, queue: str) -> tuple[int, int]:
        """Messages and consumers. One that somebody, or a former try of ours, has deleted has none."""
        return await self._fence.count(queue) if await is_there(self._session, queue) else (0, 0)

    async def _is_at_work(self, queue: str) -> bool:
        """Does a receiver hold its lease? Else we do from here on."""
        refused = await exclusive(self._session, lease_of_queue(queue))
        if refused and refused.code == RESOURCE_LOCKED:
            self._tell(f"the receiver of {queue} has it in hand")
            return True
        if refused:
            raise sorted_out(refused, f"queue {lease_of_queue(queue)}")
        return False

    def _tell(self, what: str) -> None:
        if time.monotonic() - self._told_at > TOLD_EVERY:
            self._told_at = time.monotonic()
            self._print(what)


def _reader(consumers: int) -> str:
    return "being read" if consumers else "and nobody reads it: start its receiver, with LANE as before"
