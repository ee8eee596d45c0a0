"""What follows from a failed try: given up or not, an attempt spent or not, and by what the back-off grows."""

from __future__ import annotations

import pytest

from relay.delivery import Outcome, Tries, Verdict
from relay.receiving.breaker import Blame
from relay.receiving.decision import Decision, decide

UNCLEAR, CONFLICT = Outcome(Verdict.UNCLEAR), Outcome(Verdict.CONFLICT)
TOLD, FINAL = Outcome(Verdict.UNCLEAR, told=True), Outcome(Verdict.MESSAGE, final=True)
REFUSED, DOWN = Outcome(Verdict.MESSAGE), Outcome(Verdict.ENDPOINT)
MAX = 3
PARKED, PARKED_UNSPENT = Decision(gives_up=True, spent=True), Decision(gives_up=True, spent=False)
WAITS_FOR_ENDPOINT = Decision(gives_up=False, spent=False)
FAILED_TRIES = 5


def waits(failures: int, *, spent: bool = False) -> Decision:
    return Decision(gives_up=False, spent=spent, failures=failures)


@pytest.mark.parametrize(
    ("blame", "outcome", "attempts", "asked", "decision"),
    [
        # Its own failure: an attempt, and after the last one it is parked.
        (Blame.EVENT, REFUSED, 0, False, waits(1, spent=True)),
        (Blame.EVENT, REFUSED, 1, False, waits(2, spent=True)),
        (Blame.EVENT, REFUSED, 2, False, PARKED),
        (Blame.EVENT, REFUSED, 2, True, PARKED),
        (Blame.EVENT, FINAL, 0, False, PARKED),
        # Nobody knows yet whose: no attempt. Evidence that comes later spends one.
        (Blame.UNDECIDED, UNCLEAR, 0, False, waits(FAILED_TRIES)),
        (Blame.UNDECIDED, UNCLEAR, 2, False, waits(FAILED_TRIES)),
        (Blame.UNDECIDED, CONFLICT, 2, False, waits(FAILED_TRIES)),
        (Blame.UNDECIDED, UNCLEAR, 3, False, PARKED_UNSPENT),  # evidence has spent the last one meanwhile
        # A person asked for this one try, and judges: an unclear failure counts. A conflict does not, nor does one
        # of a request with others.
        (Blame.UNDECIDED, UNCLEAR, 2, True, PARKED),
        (Blame.UNDECIDED, CONFLICT, 2, True, waits(FAILED_TRIES)),
        (Blame.UNDECIDED, TOLD, 2, True, waits(FAILED_TRIES)),
        # The endpoint's: nothing is given up, whatever it says.
        (Blame.ENDPOINT, DOWN, 2, False, WAITS_FOR_ENDPOINT),
        (Blame.ENDPOINT, DOWN, 2, True, WAITS_FOR_ENDPOINT),
        (Blame.ENDPOINT, FINAL, 3, True, WAITS_FOR_ENDPOINT),
    ],
)
def test_what_follows_from_a_failed_try(
    blame: Blame, outcome: Outcome, attempts: int, asked: bool, decision: Decision
) -> None:
    tries = Tries(attempts=attempts, failed_tries=FAILED_TRIES, asked=asked)
    assert decide(tries, outcome, blame, max_attempts=MAX, can_park=True) == decision


@pytest.mark.parametrize(("max_attempts", "can_park"), [(0, True), (MAX, False)])
def test_without_a_last_attempt_or_a_waiting_room_nothing_is_given_up(max_attempts: int, can_park: bool) -> None:
    """A request of a lost session cannot be parked: its message comes again."""
    tries = Tries(attempts=1000)
    decision = decide(tries, REFUSED, Blame.EVENT, max_attempts=max_attempts, can_park=can_park)
    assert decision == waits(1001, spent=True)


@pytest.mark.parametrize(("can_park", "decision"), [(True, PARKED), (False, waits(1, spent=True))])
def test_what_must_not_be_tried_again_is_given_up_where_there_is_a_waiting_room(
    can_park: bool, decision: Decision
) -> None:
    assert decide(Tries(), FINAL, Blame.EVENT, max_attempts=0, can_park=can_park) == decision
