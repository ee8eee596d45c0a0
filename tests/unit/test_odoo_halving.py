"""Bad rows among good ones: the good go through, the bad are found, and a broken endpoint is not hammered."""

import asyncio
from collections.abc import Collection, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.delivery import DONE, Outcome, Verdict
from relay.targets.bisection import FUTILE, FUTILE_UNCLEAR, LOCK_TRIES, Limits, Refused, RowsRefused, send_in_parts

BAD = Outcome(Verdict.MESSAGE, "bad")


LOST = Outcome(Verdict.UNCLEAR, "the connection broke")
TOO_LARGE = Outcome(Verdict.MESSAGE, "HTTP 413")


class Odoo:
    """Takes a request if no row of it is bad. `blames_first`: as Odoo does after a UserError.

    `deadly`: rows that kill who works on them. `most`: rows that it can do in its time. `room`: the sum of rows (their
    sizes) that fits.
    """

    def __init__(
        self,
        bad: set[int],
        *,
        blames_first: bool = False,
        names: bool = True,
        deadly: Collection[int] = (),
        most: int = 1000,
        room: int = 10**6,
    ) -> None:
        self.bad, self.blames_first, self.names = bad, blames_first, names
        self.deadly, self.most, self.room = deadly, most, room
        self.requests: list[list[int]] = []
        self.taken: list[int] = []

    async def send(self, rows: Sequence[int]) -> None:
        self.requests.append(list(rows))
        if sum(rows) > self.room:
            raise Refused(TOO_LARGE, splits=True, too_large=True)
        if len(rows) > self.most or any(row in self.deadly for row in rows):
            raise Refused(LOST, lost=True)
        wrong = [at for at, row in enumerate(rows) if row in self.bad]
        if not wrong:
            self.taken += rows
        elif self.names:
            raise RowsRefused(BAD, {}, 0 if self.blames_first else wrong[0])
        else:
            raise Refused(BAD, splits=True)


@given(st.sets(st.integers(0, 39), max_size=14), st.booleans(), st.booleans())
def test_exactly_the_bad_rows_are_refused_and_each_good_one_goes_through_once(
    bad: set[int], blames_first: bool, names: bool
) -> None:
    odoo = Odoo(bad, blames_first=blames_first, names=names)
    outcomes = asyncio.run(send_in_parts(range(40), odoo.send))
    tried = [at for at, outcome in enumerate(outcomes) if outcome.verdict is not Verdict.CONFLICT]
    assert all((outcomes[at] == BAD) == (at in bad) for at in tried if outcomes[at].verdict is not Verdict.UNCLEAR)
    assert sorted(odoo.taken) == [at for at, outcome in enumerate(outcomes) if outcome is DONE]
    if len(bad) <= 4:
        assert len(tried) == 40
        assert all(outcome in (BAD, DONE) for outcome in outcomes)


def test_one_bad_row_of_a_hundred_costs_few_requests() -> None:
    odoo = Odoo({63})
    asyncio.run(send_in_parts(range(100), odoo.send))
    assert len(odoo.requests) == 4
    blamed = Odoo({63}, blames_first=True)
    asyncio.run(send_in_parts(range(100), blamed.send))
    assert len(blamed.requests) <= 25


def test_an_endpoint_that_refuses_everything_without_a_clear_sign_is_not_hammered() -> None:
    requests = []

    async def send(rows: Sequence[int]) -> None:
        requests.append(rows)
        raise Refused(Outcome(Verdict.UNCLEAR, "HTTP 500"), splits=True)

    outcomes = asyncio.run(send_in_parts(range(100), send))
    assert len(requests) == FUTILE_UNCLEAR + 1
    assert {outcome.verdict for outcome in outcomes} == {Verdict.UNCLEAR}


def test_when_the_endpoint_goes_away_in_between_what_was_taken_stays_taken() -> None:
    odoo, away = Odoo({1}), Outcome(Verdict.ENDPOINT, "no connection")

    async def send(rows: Sequence[int]) -> None:
        if len(odoo.requests) == 3:
            raise Refused(away)
        await odoo.send(rows)

    outcomes = asyncio.run(send_in_parts(range(8), send))
    assert outcomes.count(away) + outcomes.count(DONE) + outcomes.count(BAD) == 8
    assert outcomes[1] == BAD
    assert [at for at, outcome in enumerate(outcomes) if outcome is DONE] == sorted(odoo.taken)
    assert away in outcomes


@pytest.mark.parametrize("lasts", [1, LOCK_TRIES - 1, LOCK_TRIES])
def test_a_lock_is_waited_for_whole_and_spends_nothing(lasts: int) -> None:
    waits: list[float] = []
    tries = 0

    async def wait(seconds: float) -> None:
        waits.append(seconds)

    async def send(rows: Sequence[int]) -> None:
        nonlocal tries
        tries += 1
        assert len(rows) == 10
        if tries <= lasts:
            raise Refused(Outcome(Verdict.CONFLICT, "could not serialize access"))

    outcomes = asyncio.run(send_in_parts(range(10), send, wait))
    assert {one.verdict for one in outcomes} == {Verdict.CONFLICT if lasts == LOCK_TRIES else Verdict.DONE}
    assert len(waits) == min(lasts, LOCK_TRIES - 1)


def test_rows_whose_links_lead_nowhere_yet_do_not_hold_up_the_others() -> None:
    requests: list[list[int]] = []
    waiting = Outcome(Verdict.CONFLICT, "no record yet")

    async def send(rows: Sequence[int]) -> None:
        requests.append(list(rows))
        orphans = {at: waiting for at, row in enumerate(rows) if row % 3 == 0}
        if orphans:
            raise RowsRefused(BAD, orphans, 0)

    outcomes = asyncio.run(send_in_parts(range(90), send))
    assert len(requests) == 2
    assert [outcome is DONE for outcome in outcomes] == [at % 3 != 0 for at in range(90)]


@given(st.lists(st.integers(1, 100), min_size=1, max_size=60), st.integers(1, 400))
def test_what_is_too_large_together_goes_in_smaller_requests(sizes: list[int], room: int) -> None:
    """Only a row that is too large alone is refused for it; and one that is not is sent once."""
    odoo = Odoo(set(), room=room)
    outcomes = asyncio.run(send_in_parts(sizes, odoo.send))
    if sum(size > room for size in sizes) < FUTILE:
        assert [one is DONE for one in outcomes] == [size <= room for size in sizes]
    assert all(one in (DONE, TOO_LARGE) or one.verdict is Verdict.CONFLICT for one in outcomes)
    assert sorted(odoo.taken) == sorted(size for size, one in zip(sizes, outcomes, strict=True) if one is DONE)


def test_a_batch_that_is_far_too_large_costs_a_request_for_each_halving() -> None:
    odoo = Odoo(set(), room=200)
    assert asyncio.run(send_in_parts([10] * 500, odoo.send)) == [DONE] * 500
    assert [len(request) for request in odoo.requests[:6]] == [500, 250, 125, 62, 31, 15]
    assert len(odoo.requests) < 60, "not each part anew: what is larger than what was refused is cut unsent"


@settings(max_examples=50)
@given(st.sets(st.integers(0, 39), max_size=3), st.sets(st.integers(0, 39), max_size=3), st.integers(1, 40))
def test_rows_of_a_lost_request_are_halved_from_try_to_try(deadly: set[int], bad: set[int], most: int) -> None:
    """Until the deadly ones are alone, and all good ones are through: no row is ever judged for another."""
    odoo, limits = Odoo(bad - deadly, deadly=deadly, most=most), Limits()
    left, judged = set(range(40)), set[int]()
    for _ in range(100):
        rows = sorted(left - judged or left)  # what was judged waits for a while; the others need not
        outcomes = dict(zip(rows, asyncio.run(limits.send(rows, rows, odoo.send)), strict=True))
        judged |= {row for row, one in outcomes.items() if one is LOST or one is BAD}
        assert judged <= deadly | bad, "alone in its request"
        left -= {row for row, one in outcomes.items() if one is DONE}
        if left == deadly | bad:
            break
    assert left == deadly | bad
    assert sorted(odoo.taken) == sorted(set(range(40)) - deadly - bad)
    assert set(limits._most) <= left


def test_a_lost_request_is_said_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    limits = Limits()
    outcomes = asyncio.run(limits.send(range(100), range(100), Odoo(set(), deadly=[7]).send))
    assert [record.getMessage() for record in caplog.records if record.name != "asyncio"] == [
        'a request of several rows got lost, they go in smaller ones rows=100 reason="the connection broke"'
    ]
    assert all(outcome.told and outcome.verdict is Verdict.UNCLEAR for outcome in outcomes)
