"""What strangers ask for has a share of the loop's time, however much it is."""

from __future__ import annotations

from relay.amqp.pace import SHARE, TURN, Share


class Time:
    """A clock that stands still, and a processor's."""

    def __init__(self) -> None:
        self.now = 100.0
        self.spent = 5.0
        self.share = Share(lambda: SHARE, lambda: self.now, lambda: self.spent)

    def work(self, seconds: float) -> None:
        self.now += seconds
        self.spent += seconds


def test_what_is_asked_in_quiet_times_does_not_wait() -> None:
    time = Time()
    assert time.share.wait == 0
    with time.share.turn():
        time.work(TURN / 5)
        assert not time.share.is_over
    time.now += 1
    assert time.share.wait == 0


def test_of_the_time_that_goes_by_it_has_its_share() -> None:
    time = Time()
    worked = 0.0
    while time.now < 110:
        with time.share.turn():
            while not time.share.is_over:
                time.work(0.001)
                worked += 0.001
        time.now += time.share.wait
    assert 0.8 * SHARE < worked / 10 <= SHARE + TURN


def test_one_step_that_takes_long_is_paid_for() -> None:
    time = Time()
    with time.share.turn():
        time.work(0.5)
    assert 0.5 / SHARE - 1 < time.share.wait <= 0.5 / SHARE


def test_what_was_spent_elsewhere_counts_once() -> None:
    time = Time()
    time.share.charge(TURN)
    with time.share.turn():
        assert time.share.is_over
    assert abs(time.share.wait - TURN / SHARE) < 1e-6
    time.now += 1
    with time.share.turn():
        assert not time.share.is_over
    assert time.share.wait == 0
