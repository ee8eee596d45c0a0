"""What follows from a failed try: is the event given up, is one of its attempts spent, how long does it wait? Pure.

| whose failure | attempt | then, unless it is the last attempt, or final |
| --- | --- | --- |
| the event's | spent | a back-off that grows with the attempts |
| undecided | none; or spent, as the one try that a person asked for | one that grows with the tries |
| the endpoint's | none | when the endpoint works again: nothing is given up |
"""

import dataclasses

from relay.delivery import Outcome, Tries, Verdict
from relay.receiving.breaker import Blame


@dataclasses.dataclass(frozen=True, slots=True)
class Decision:
    """What follows."""

    gives_up: bool  # it is parked, for a person
    spent: bool  # one of its attempts
    failures: int = 0  # with which its back-off grows; 0 = there is none


def is_last(attempts: int, max_attempts: int) -> bool:
    """Has an event spent all its attempts? `max_attempts`: 0 = there is no last one."""
    return bool(max_attempts and attempts >= max_attempts)


def decide(tries: Tries, outcome: Outcome, blame: Blame, *, max_attempts: int, can_park: bool) -> Decision:
    """Decide about a failed try.

    Args:
        tries: what the event has been through, with this try, but without its attempt.
        max_attempts: an event's own failures until it is given up; 0 = never.
        can_park: false: there is no parking lot, or its message is not with us any more and comes again.
    """
    if blame is Blame.ENDPOINT:
        return Decision(gives_up=False, spent=False)
    # One try was asked for: whoever asked judges an unclear failure, and need not wait for evidence.
    judged = outcome.verdict is not Verdict.CONFLICT and not outcome.told
    own = blame is Blame.EVENT or (tries.asked and judged)
    attempts = tries.attempts + own
    if can_park and (outcome.final or is_last(attempts, max_attempts)):
        return Decision(gives_up=True, spent=own)
    if blame is Blame.EVENT:
        return Decision(gives_up=False, spent=True, failures=attempts)
    return Decision(gives_up=False, spent=False, failures=tries.failed_tries)
