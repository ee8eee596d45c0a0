"""What comes and goes is told a few times, then counted; what stays is told in any case."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.delivery import Outcome, Verdict
from relay.flapping import FEW, LASTS, NAMES_MAX, WINDOW, Flapping
from relay.log import Log
from relay.receiving.breaker import Breaker
from relay.receiving.outage import OutageLog


def test_the_first_few_are_told_the_others_counted_once() -> None:
    subject, told = Flapping(), []
    for n in range(20):
        told.append((subject.begins("x", 1.0 + n), subject.ends("x")))
        assert subject.due(1.0 + n) == []
        assert subject.lasting(1.0 + n) == []
    assert told == [(True, True)] * FEW + [(False, False)] * (20 - FEW)
    assert subject.due(1.0 + WINDOW) == [("x", 20, WINDOW)]
    assert subject.due(1.0 + 2 * WINDOW) == []
    assert subject.begins("x", 2 * WINDOW + 5)


def test_few_are_not_counted_and_forgotten() -> None:
    subject = Flapping()
    for n in range(FEW):
        subject.begins("x", n)
        subject.ends("x")
    assert subject.due(WINDOW) == []
    assert [subject.begins("x", WINDOW + n) for n in range(FEW + 1)] == [True] * FEW + [False]


def test_what_was_not_told_and_stays_is_told_after_a_while() -> None:
    subject = Flapping()
    for n in range(FEW):
        subject.begins("x", n)
        subject.ends("x")
    assert not subject.begins("x", 10.0)
    assert subject.lasting(10.0 + LASTS - 1) == []
    assert subject.lasting(10.0 + LASTS) == ["x"]
    assert subject.lasting(10.0 + LASTS + 1) == []
    assert subject.ends("x"), "as its beginning was"


def test_names_do_not_touch_each_other_and_are_bounded() -> None:
    subject = Flapping()
    for n in range(3 * NAMES_MAX):
        assert subject.begins(str(n), 0.0)
        assert subject.ends(str(n))
    assert not [subject.begins("0", 1.0) for _ in range(FEW)][-1]
    subject.end_all()
    assert subject.due(WINDOW) == [("0", FEW + 1, WINDOW)]
    assert subject.begins("new", WINDOW)


# In 64ths of a second: their sums are exact, and so is what stays for LASTS.
@given(st.lists(st.tuples(st.integers(1, 6400).map(lambda n: n / 64), st.booleans()), max_size=80))
def test_nothing_that_stays_is_kept_back_and_ends_follow_beginnings(steps: list[tuple[float, bool]]) -> None:
    subject, now, there, told = Flapping(), 0.0, False, False
    for step, begin in steps:
        now += step
        subject.due(now)
        if subject.lasting(now):
            assert there and not told  # noqa: PT018
            told = True
        if begin and not there:
            there, told = True, subject.begins("x", now)
        elif there and not begin:
            assert subject.ends("x") is told
            there = False
    if there:
        assert told or subject.lasting(now + LASTS) == ["x"]


def test_an_endpoint_that_comes_and_goes_is_a_few_lines(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    log, breaker, outcome = (
        OutageLog(Log("test"), "http://e"),
        Breaker(streak=3, minimum=1.0),
        Outcome(Verdict.ENDPOINT, "503"),
    )
    for second in range(0, 320, 2):
        breaker.open(outcome, second)
        log.began(outcome, second)
        log.tick(second, breaker)
        breaker.close()
        log.ended(1.0)
        log.tick(second + 1, breaker)
    lines = [message.split(" endpoint=")[0] for message in caplog.messages]
    few = ["endpoint does not work, pausing", "endpoint works again"] * FEW
    assert lines == [*few, "endpoint comes and goes", *few[2:]]
    assert "times=151 in_s=300" in caplog.messages[2 * FEW]
    breaker.open(outcome, 400)
    log.began(outcome, 400)
    log.tick(400 + LASTS, breaker)
    assert caplog.messages[-1].startswith("endpoint does not work, pausing endpoint=http://e reason=503")
