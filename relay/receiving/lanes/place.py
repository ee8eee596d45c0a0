"""What one receiver works on, by its LANE and by what is in force. Pure."""

import dataclasses

from relay.errors import ConfigError, Standby
from relay.receiving.lanes.names import Generation
from relay.receiving.lanes.plan import FINISH, Plan
from relay.values import Lane


class OtherNumber(ConfigError):
    """LANE is of another number of lanes than there are."""


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """A queue of a generation.

    Args:
        number: of the lane.
        ends: the generation is not in force any more: its queues are emptied, and nothing is made again.
    """

    generation: Generation
    number: int = 0
    ends: bool = False

    @property
    def queue(self) -> str:
        """Its name."""
        return self.generation.queues[self.number]

    @property
    def is_lane(self) -> bool:
        """Is it one of several?"""
        return self.generation.number > 0


def find(base: str, lane: Lane | None, plan: Plan | None) -> Place:
    """Return what a receiver works on; what `ends` may be empty already, and then there is nothing to do.

    Args:
        base: QUEUE.
        lane: LANE; None = the queue itself.
        plan: what is in force; None = the queue never had lanes.

    Raises:
        OtherNumber: there are not so many lanes.
        Standby: there will be so many, once those before are empty.
    """
    number, total = (lane.number, lane.total) if lane else (0, 1)
    plan = plan or Plan(Generation(base, 0, 1))
    if plan.before and plan.before.lanes == total:
        return Place(plan.before, number, ends=True)
    if plan.now.lanes != total and plan.making and plan.making.lanes == total:
        raise Standby(f"{plan.making} is being made", FINISH.format(total))
    if plan.now.lanes != total:
        raise OtherNumber(another(base, lane, plan.now.lanes))
    if plan.before:
        raise waits(plan)
    return Place(plan.now, number)


def waits(plan: Plan) -> Standby:
    """What is said where the lanes before must be emptied first."""
    what = f"waiting until all before {plan.now} is delivered: {plan.before}"
    return Standby(what, FINISH.format(plan.now.lanes))


def another(base: str, lane: Lane | None, there: int) -> tuple[str, str]:
    """What is wrong, and what to do. `there`: lanes that there are."""
    if lane is None:
        return (
            f"queue {base} has {there} lanes, and LANE is not set",
            f"write LANE=0/{there}, or: receiver.py lanes --to 1",
        )
    has = f"{there} lanes" if there > 1 else "no lanes"
    instead = f"write LANE={min(lane.number, there - 1)}/{there}" if there > 1 else "remove LANE"
    return f"LANE={lane}, and queue {base} has {has}", f"receiver.py lanes --to {lane.total}, or {instead}"
