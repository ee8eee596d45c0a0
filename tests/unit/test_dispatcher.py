"""What becomes of an event that was not delivered: whether it is given up, and how long it waits."""

from __future__ import annotations

import pytest

from relay.delivery import DONE, Outcome, Verdict
from relay.receiving.strand import Item
from tests.unit.test_batches import Bench

REFUSED, LOCKED = Outcome(Verdict.MESSAGE, "HTTP 422"), Outcome(Verdict.CONFLICT, "locked")
DOWN, BROKEN = Outcome(Verdict.ENDPOINT, "HTTP 503"), Outcome(Verdict.UNCLEAR, "the connection broke")


class Trying(Bench):
    """One event that is tried again and again; `tries` and `given_up` count."""

    def __init__(self) -> None:
        super().__init__(batch=1)
        self.given_up: list[Item] = []
        self.tries = 0
        self.dispatcher.desk = self  # type: ignore[assignment]
        self.arrive(1)

    def give_up(self, item: Item, _reason: str, _now: float) -> None:
        self.strands.set_aside(item)
        self.given_up.append(item)

    def waits(self, _item: Item) -> None:
        pass

    def fail(self, outcome: Outcome, *, others: bool = False) -> float:
        """It fails; then, perhaps, another event is delivered. Return the seconds until its next try."""
        self.tries += 1
        failed = self.now
        self.workers.finish(outcome, started=failed)
        self.dispatcher.collect()
        if others and not self.given_up:
            self.now += 0.001
            self.arrive(1, "other")
            self.workers.finish(DONE, started=self.now)
            self.dispatcher.collect()
        while not (self.workers.batches or self.given_up):
            self.sleep()
        return self.now - failed

    def still_waits(self, _item: Item) -> bool:
        return True


@pytest.mark.parametrize(("outcome", "others"), [(REFUSED, False), (REFUSED, True), (BROKEN, True)])
def test_an_event_is_given_up_after_its_own_last_failure_and_not_before(outcome: Outcome, others: bool) -> None:
    one = Trying()
    while not one.given_up and one.tries < 20:
        one.fail(outcome, others=others)
    assert (one.tries, one.given_up[0].tries.attempts) == (8, 8)


@pytest.mark.parametrize(("outcome", "others"), [(LOCKED, False), (LOCKED, True), (DOWN, False), (BROKEN, False)])
def test_what_is_not_its_own_failure_never_gives_an_event_up(outcome: Outcome, others: bool) -> None:
    one = Trying()
    for _ in range(50):
        one.fail(outcome, others=others)
    assert one.given_up == []
    one.workers.finish(DONE, started=one.now)
    assert len(one.dispatcher.collect()) == 1


def test_an_event_waits_longer_and_longer_up_to_the_longest() -> None:
    one = Trying()
    waits = [one.fail(REFUSED) for _ in range(7)]
    assert all(min(60, 2**n) / 2 <= wait <= min(60, 2**n) for n, wait in enumerate(waits))
    one = Trying()
    assert max(one.fail(LOCKED) for _ in range(20)) <= 60


@pytest.mark.parametrize("verdict", [Verdict.MESSAGE, Verdict.UNCLEAR, Verdict.CONFLICT])
@pytest.mark.parametrize("more", [{"wait": 40.0}, {"running": 40.0}])
def test_what_the_endpoint_asks_for_and_what_may_still_run_there_are_waited_for(
    verdict: Verdict, more: dict[str, float]
) -> None:
    assert 40 <= Trying().fail(Outcome(verdict, "HTTP 500", **more)) < 41


def test_an_event_that_fails_by_itself_is_not_the_probe_each_time() -> None:
    """While the endpoint seems down: its unclear failures would keep the others waiting, which it would take."""
    bench = Bench(batch=1, workers=4)
    bench.arrive(4)
    bench.workers.finish(DONE, started=bench.now)
    for _ in range(3):
        bench.workers.finish(DOWN, started=bench.now)
    bench.dispatcher.collect()
    while not bench.breaker.is_open:
        bench.sleep()
        bad = bench.workers.batches[0][0].event.key
        bench.now += 1
        bench.workers.finish(DOWN, started=bench.now)
        bench.dispatcher.collect()
    probes: list[str] = []
    while bench.breaker.is_open:
        bench.sleep()
        if bench.workers.batches:
            batch = bench.workers.batches[0]
            probes += [item.event.key for item in batch]
            bench.workers.finish(BROKEN if batch and batch[0].event.key == bad else DONE, started=bench.now)
            bench.dispatcher.collect()
        assert len(probes) < 4, probes
