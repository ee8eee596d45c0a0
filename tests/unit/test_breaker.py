"""Whose failure is it? The message's or the endpoint's, by what the answer says and what else succeeded."""

import itertools
import random

import pytest

from relay.delivery import Event, Outcome, Verdict
from relay.receiving.breaker import LOGIN_INTERVAL, PROBE_MAX, Blame, Breaker
from relay.receiving.strand import Item
from relay.receiving.strands import Strands

UNCLEAR = Outcome(Verdict.UNCLEAR, "HTTP 500")
ENDPOINT = Outcome(Verdict.ENDPOINT, "refused")
MESSAGE = Outcome(Verdict.MESSAGE, "HTTP 422")


def item(key: str) -> Item:
    made = Strands().add(Event(b"", "t", key=key), lambda: None, 0)
    assert made is not None
    return made


def breaker(streak: int = 4) -> Breaker:
    return Breaker(streak=streak, minimum=1.0, rng=random.Random(1))


def test_what_is_surely_the_messages_spends_an_attempt_without_evidence() -> None:
    assert breaker().failed(item("a"), MESSAGE, 0, 1) is Blame.EVENT


def test_what_is_surely_the_endpoints_opens_the_breaker_at_once() -> None:
    tested = breaker()
    assert tested.failed(item("a"), ENDPOINT, 0, 1) is Blame.ENDPOINT
    assert tested.is_open
    assert not tested.may_start(1.5)
    assert tested.may_start(2.0)


def test_a_reset_while_another_key_succeeds_does_not_open_the_breaker() -> None:
    tested = breaker()
    tested.succeeded("b", 0.0, 0.9)
    assert tested.failed(item("a"), ENDPOINT, 0.5, 1) is Blame.UNDECIDED
    assert not tested.is_open


def test_an_unclear_failure_is_the_messages_once_another_key_succeeds_after_it() -> None:
    tested, poison = breaker(), item("a")
    assert tested.failed(poison, UNCLEAR, 0, 1) is Blame.UNDECIDED
    assert poison.tries.attempts == 0
    tested.succeeded("a", 1.5, 2)
    tested.succeeded("b", 0.5, 2)
    assert poison.tries.attempts == 0, "its own key, and a request that began before, prove nothing"
    tested.succeeded("b", 1.5, 2)
    assert poison.tries.attempts == 1


def test_a_streak_of_unclear_failures_is_the_endpoints_and_spends_nothing() -> None:
    tested, items = breaker(streak=3), [item(key) for key in "abc"]
    assert [tested.failed(one, UNCLEAR, 0, 1) for one in items] == [Blame.UNDECIDED, Blame.UNDECIDED, Blame.ENDPOINT]
    tested.succeeded("d", 5, 6)
    assert not tested.is_open
    assert [one.tries.attempts for one in items] == [0, 0, 0]


def test_probes_come_less_than_twice_a_second_and_at_least_every_four() -> None:
    tested = Breaker(streak=3, minimum=0.01, rng=random.Random(1))
    tested.failed(item("a"), ENDPOINT, 0, 0)
    now, probes = 0.0, []
    while now < 60:
        now += 0.01
        if tested.may_start(now):
            tested.probe_started(now)
            tested.probe_ended()
            probes.append(now)
    gaps = [later - earlier for earlier, later in itertools.pairwise(probes)]
    assert min(gaps) > 0.5
    assert max(gaps) <= PROBE_MAX + 0.01


def test_one_probe_at_a_time_even_if_it_hangs() -> None:
    tested = breaker()
    tested.failed(item("a"), ENDPOINT, 0, 1)
    tested.probe_started(2)
    assert not tested.may_start(100)
    assert tested.next_probe() is None
    tested.probe_ended()
    assert tested.may_start(100)


def test_a_probe_that_hangs_since_an_earlier_outage_holds_up_no_other() -> None:
    tested = breaker()
    tested.failed(item("a"), ENDPOINT, 0, 1)
    tested.probe_started(2)
    tested.close()
    tested.failed(item("a"), ENDPOINT, 3, 4)
    assert tested.may_start(5)


@pytest.mark.parametrize(
    ("outcome", "wait"),
    [
        (Outcome(Verdict.ENDPOINT, "HTTP 429", wait=7), 7),
        (Outcome(Verdict.ENDPOINT, "HTTP 401", login=True), LOGIN_INTERVAL),
    ],
)
def test_retry_after_and_a_refused_login_are_honoured_whoever_else_succeeds(outcome: Outcome, wait: float) -> None:
    tested = breaker()
    tested.succeeded("b", 0.0, 0.9)
    tested.failed(item("a"), outcome, 0.5, 1)
    assert not tested.may_start(wait + 0.9)
    assert tested.may_start(wait + 1)


def test_a_request_from_before_the_outage_does_not_end_it() -> None:
    tested = breaker()
    tested.failed(item("a"), ENDPOINT, 9, 10)
    tested.succeeded("b", 9.9, 11)
    tested.failed(item("c"), Outcome(Verdict.MESSAGE, "HTTP 422"), 9.9, 11)
    assert tested.is_open
    tested.succeeded("b", 10, 12)
    assert not tested.is_open


def test_a_conflict_is_nobodys_failure() -> None:
    tested = breaker(streak=1)
    assert tested.failed(item("a"), Outcome(Verdict.CONFLICT), 0, 1) is Blame.UNDECIDED
    assert not tested.is_open


def test_what_fails_at_the_beginning_of_an_outage_is_excused_once() -> None:
    """An event that takes the whole server down, over and over: each time an outage, and others after it succeed."""
    tested, killer = breaker(), item("a")
    for n in range(4):
        at = 10.0 * n
        tested.failed(killer, UNCLEAR, at, at + 1)
        tested.failed(item("b"), UNCLEAR, at, at + 1)
        tested.failed(item("c"), ENDPOINT, at, at + 2)
        assert tested.is_open
        tested.failed(item("d"), ENDPOINT, at + 3, at + 4)
        proven = tested.succeeded("e", at + 5, at + 6)
        assert proven == ([killer] if n else [])
    assert killer.tries.attempts == 3


def test_in_one_long_outage_nothing_is_spent_however_often_an_event_fails() -> None:
    tested, items = breaker(), [item(key) for key in "abc"]
    tested.succeeded("z", 0.5, 0.6)
    for at in range(1, 100):
        tested.failed(items[at % 3], UNCLEAR, at, at + 0.5)
    tested.succeeded("z", 200, 201)
    assert [one.tries.attempts for one in items] == [0, 0, 0]


def test_the_targets_own_probe_is_evidence_against_what_fails_again() -> None:
    """Nothing else is sent: without a probe such an event would kill a worker for ever."""
    tested, killer, spent = breaker(streak=3), item("a"), []
    for n in range(8):
        at = 10.0 * n
        tested.failed(killer, UNCLEAR, at, at + 1)
        if tested.is_open:
            tested.probed(at + 2)
        spent.append(killer.tries.attempts)
    assert spent == [0, 0, 0, 1, 2, 3, 4, 5]


def test_a_probe_after_a_short_outage_convicts_nobody() -> None:
    tested, items = breaker(streak=3), [item(key) for key in "abc"]
    for one in items:
        tested.failed(one, UNCLEAR, 0, 1)
    assert tested.is_open
    assert tested.probed(2) == []
    assert not tested.is_open


def test_a_likely_failure_of_the_endpoint_opens_the_breaker_and_becomes_the_events_if_others_succeed() -> None:
    tested, page = breaker(), Outcome(Verdict.ENDPOINT, "a web page", likely=True)
    one = item("a")
    assert tested.failed(one, page, 0, 1) is Blame.ENDPOINT
    assert tested.is_open
    tested.succeeded("b", 2, 3)
    assert (tested.is_open, one.tries.attempts) == (False, 0)
    assert tested.failed(one, page, 2.5, 4) is Blame.UNDECIDED, "another one has succeeded while it ran"
    assert tested.succeeded("b", 5, 6) == [one]


@pytest.mark.parametrize("failures", [1, 3])
def test_a_connection_that_could_not_be_made_is_never_an_events_failure(failures: int) -> None:
    tested, one = breaker(), item("a")
    for n in range(failures):
        tested.failed(one, ENDPOINT, 10 * n, 10 * n + 1)
        assert tested.succeeded("b", 10 * n + 2, 10 * n + 3) == []
