"""Which generation of lanes is in force: a durable message in QUEUE.lanes, which only `receiver.py lanes` writes.

The last one counts: whoever writes may be killed between two steps. Many may read at once: each takes the messages for
a moment and gives them back, so who finds none looks again.
"""

import asyncio
import dataclasses
import json
import shlex
import time
from typing import Any

from pika.spec import Basic, BasicProperties

from relay.amqp import single
from relay.amqp.headers import SLOTS
from relay.amqp.replies import NOT_FOUND, PRECONDITION_FAILED, ChannelRefused
from relay.amqp.session import Session
from relay.amqp.topology import looked, sorted_out
from relay.errors import RelayError, Unavailable
from relay.receiving.lanes.names import Generation, plan_name
from relay.receiving.lease import declared
from relay.receiving.queues import queue_arguments

# Each reading counts as a return: with fewer RabbitMQ would drop the message some day.
DELIVERY_LIMIT = 1_000_000_000
READ_SECONDS, READ_PAUSE = 5.0, 0.05  # for which others may have the message, and between two looks
FINISH = "receiver.py lanes --to {} goes on with it, if it is not at work"
TAKEN_MAX = 100  # messages that are read: there are two at most, others may put more there
BODY_MAX, NUMBER_MAX = 1000, 1_000_000_000  # bytes; a generation's number, or a step: far more than can be reached


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What is in force, and how far a change is.

    Args:
        now: events go there, and are delivered from there unless there is a `before`.
        before: gets no events any more, and is to be emptied before anything of `now` is delivered.
        making: is being made; events may go there already, as well as to `now`.
        step: counts what was written.
        last: the highest number of a generation that was ever made.
    """

    now: Generation
    before: Generation | None = None
    making: Generation | None = None
    step: int = 0
    last: int = 0

    def then(self, **fields: Any) -> "Plan":
        """The next step."""
        return dataclasses.replace(self, step=self.step + 1, **fields)

    def body(self) -> bytes:
        """As it lies in the queue."""
        pairs = {name: one and one[1:] for name, one in
                 (("now", self.now), ("before", self.before), ("making", self.making))}  # fmt: skip
        return json.dumps({**pairs, "step": self.step, "last": self.last}).encode()


def parse(base: str, body: bytes) -> Plan | None:
    """Read a message of QUEUE.lanes; None = somebody else has written it."""

    def generation(given: Any) -> Generation | None:
        if given is None:
            return None
        number, lanes = given
        return Generation(base, counted(number, NUMBER_MAX), counted(lanes, len(SLOTS) if number else 1, 1))

    def counted(given: Any, most: int, least: int = 0) -> int:
        if type(given) is int and least <= given <= most:
            return given
        raise ValueError

    try:
        found = json.loads(body) if len(body) <= BODY_MAX else {}
        now = generation(found["now"])
        others = generation(found["before"]), generation(found["making"])
        numbers = counted(found["step"], NUMBER_MAX), counted(found["last"], NUMBER_MAX)
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
    return None if now is None else Plan(now, *others, *numbers)


class Silent(Unavailable):
    """The queue is there, and no message of ours can be had."""


async def read(session: Session, base: str, patience: float = READ_SECONDS) -> Plan | None:
    """Return what is in force; None = the queue never had lanes. From the main flow.

    Args:
        base: QUEUE.
        patience: seconds for which somebody else may have the message.

    Raises:
        Silent: others have it, or there is none.
        Unavailable: as `Session.call`.
        ConfigError: it can't be seen, or is somebody else's.
    """
    name, until = plan_name(base), time.monotonic() + patience
    refused = await looked(session, name)
    if refused and refused.code == NOT_FOUND:
        return None
    if refused:
        raise sorted_out(refused, f"queue {name}")
    refused = await _declared(session, name)  # it is there: this only compares
    if refused and refused.code == PRECONDITION_FAILED:
        raise _unlike(session, name, refused)
    while True:
        found = await _taken(session, base)
        if found:
            return max(found.values(), key=lambda plan: plan.step)
        if time.monotonic() > until:
            raise Silent(
                f"queue {name} does not say how many lanes {base} has",
                "another program holds its message, or receiver.py lanes --to N was stopped: run that again",
            )
        await asyncio.sleep(READ_PAUSE)


def told(base: str, plan: Plan | None) -> str:
    """What is in force, in words."""
    if plan is None:
        return f"{Generation(base, 0, 1)}"
    more = f"; before them {plan.before} is to be emptied: {FINISH.format(plan.now.lanes)}" if plan.before else ""
    if plan.making:
        more = f"; {plan.making} is being made: {FINISH.format(plan.making.lanes)}"
    return f"{plan.now}{more}"


async def write(session: Session, base: str, plan: Plan) -> None:
    """Put it into force. Only with the lease of the lanes; from the main flow. Raises RelayError."""
    name = plan_name(base)
    properties = BasicProperties(delivery_mode=2, content_type="application/json")
    method = await single.put(session, name, plan.body(), properties, f"writing to {name}")
    if not isinstance(method, Basic.Ack):
        raise Unavailable(f"queue {name} does not take what is in force", "is there a policy for it?")
    # Invariant: an earlier one goes only when this one is safe.
    await _taken(session, base, forget_before=plan.step)


async def make(session: Session, base: str) -> None:
    """Have the queue. Raises RelayError."""
    name = plan_name(base)
    if refused := await _declared(session, name):
        raise _unlike(session, name, refused)


async def _declared(session: Session, name: str) -> ChannelRefused | None:
    return await declared(session, name, queue_arguments("quorum") | {"x-delivery-limit": DELIVERY_LIMIT})


def _unlike(session: Session, name: str, refused: ChannelRefused) -> RelayError:
    remedy = f"look what is in it, then rabbitmqctl delete_queue -p {session.vhost} {shlex.quote(name)}"
    return sorted_out(refused, f"queue {name}", remedy)


async def _taken(session: Session, base: str, forget_before: int = 0) -> dict[int, Plan]:
    """All plans there, by delivery tag; those of earlier steps are taken out."""
    channel, found = await session.open_channel(), dict[int, Plan]()
    for _ in range(TAKEN_MAX):
        message = await single.get(session, channel, plan_name(base))
        if not message:
            break
        if plan := parse(base, message[2]):
            found[message[0].delivery_tag] = plan
    for tag, plan in found.items():
        if plan.step < forget_before:
            channel.basic_ack(tag)
    await session.close_channel(channel)
    return found
