"""One pass of the parking lot: what is taken, what stays, and when it has nothing more to hope for."""

from __future__ import annotations

from typing import Any

import pytest

from relay.delivery import Event
from relay.receiving.parking.pace import OUTWEIGHED, REST, Pace
from relay.receiving.parking.sweep import Sweep


def event(key: str, table: str = "t", op: str = "update", handle: str = "") -> Event:
    return Event(b"", "t", op=op, key=key, table=table, handle=handle)


TRUNCATE = event("t", op="truncate")


def stays(sweep: Sweep, one: Event, *, fits: bool = True, waits: bool = False) -> bool:
    sweep.read()
    left = sweep.stays(one, one.key, barrier=one.is_barrier, fits=fits, waits=waits)
    if not left:
        sweep.give_out()
    return left


def test_what_is_not_due_stays() -> None:
    sweep = Sweep(2, 0.0, {"t 1"})
    assert (stays(sweep, event("t 2")), stays(sweep, event("t 1"))) == (True, False)
    assert sweep.immovable() == [], "nothing of a strand that was not due was hoped for"


def test_once_a_strand_has_stopped_the_rest_of_it_stays() -> None:
    sweep = Sweep(9, 0.0, {"t 1", "t 2"})
    assert not stays(sweep, event("t 1"))
    sweep.stop("t 1")
    assert stays(sweep, event("t 1"))
    assert not stays(sweep, event("t 2"))


def test_what_may_not_be_tried_yet_stays_with_all_of_its_strand() -> None:
    sweep = Sweep(9, 0.0, {"t 1", "t"})
    assert (stays(sweep, event("t 1"), waits=True), stays(sweep, event("t 1"))) == (True, True)
    assert stays(sweep, TRUNCATE), "a row of its table is before it"
    assert not sweep.is_starved
    assert sweep.join(["t 1"]) == 0, "once woken, it needs another pass"


@pytest.mark.parametrize(
    ("first", "second", "table_is_shut"),
    [
        (event("x"), TRUNCATE, True),  # a row stays: the truncate behind it must, and all that is behind that
        (TRUNCATE, event("t 1"), True),
        (event("x"), event("t 1"), False),
        (event("u", "u", "truncate"), event("t 1"), False),
        (event("u 9", "u"), TRUNCATE, False),
    ],
)
def test_nothing_passes_a_truncate_that_stays_nor_does_it_pass_a_row(
    first: Event, second: Event, table_is_shut: bool
) -> None:
    sweep = Sweep(9, 0.0, {"t 1", "t 2", *([] if first is TRUNCATE else ["t"])})
    assert stays(sweep, first), "it was not due"
    assert stays(sweep, second) is table_is_shut
    assert stays(sweep, event("t 2")) is table_is_shut
    assert set(sweep.immovable()) == ({second.key, "t 2"} if table_is_shut else set())


def test_a_strand_that_was_left_after_it_had_moved_is_not_immovable() -> None:
    sweep = Sweep(9, 0.0, {"t 1", "t 2"})
    assert not stays(sweep, event("t 1"))
    sweep.acknowledged("t 1")
    sweep.bar("t")
    assert stays(sweep, event("t 1"))
    assert stays(sweep, event("t 2"))
    assert sweep.immovable() == ["t 2"]
    sweep.stop("t 2")
    assert sweep.immovable() == []


def test_what_does_not_fit_waits_for_the_next_pass_unless_it_is_alone() -> None:
    sweep = Sweep(9, 0.0, {"t 1", "t 2"})
    assert not stays(sweep, event("t 1"), fits=False), "else it would never go"
    assert stays(sweep, event("t 2"), fits=False)
    assert stays(sweep, event("t 2"), fits=True), "nothing passes it"
    assert sweep.immovable() == [], "the next pass may follow at once"


def test_it_is_whole_when_all_was_read_and_what_was_given_out_has_gone() -> None:
    sweep = Sweep(2, 10.0, {"t 1"})
    sweep.read()
    sweep.give_out()
    assert not sweep.has_read_all
    sweep.read()
    assert (sweep.has_read_all, sweep.is_whole) == (True, False)
    sweep.acknowledged("t 1")
    assert sweep.is_whole
    sweep.read()  # what came in behind
    assert (sweep.is_whole, sweep.has_read) == (True, 3)


def test_it_need_not_read_on_when_all_that_was_chosen_has_gone_unless_more_of_it_comes() -> None:
    sweep = Sweep(1000, 0.0, {"t 1"})
    assert not stays(sweep, event("t 1"))
    sweep.acknowledged("t 1", was_last=True)
    assert sweep.has_failed
    assert not stays(sweep, event("t 1")), "it came in meanwhile"
    assert not sweep.has_failed
    sweep.acknowledged("t 1")
    assert not sweep.has_failed, "there is more of it"


def test_what_becomes_due_joins_if_nothing_of_it_was_left_yet() -> None:
    sweep = Sweep(1000, 0.0, {"t 1"})
    assert stays(sweep, event("t 2"))
    assert sweep.join(["t 1", "t 2", "t 3"]) == 1, "t 1 is there, and of t 2 the first event is behind us"
    assert (stays(sweep, event("t 2")), stays(sweep, event("t 3"))) == (True, False)
    sweep.stop("t 1")
    assert sweep.join(["t 1"]) == 0
    assert stays(sweep, event("t 1"))


def test_it_has_failed_when_nothing_that_was_chosen_can_go_any_more() -> None:
    sweep = Sweep(1000, 0.0, {"t 1", "t 2"})
    sweep.give_out()
    sweep.stop("t 1")
    sweep.stop("t 2")
    assert not sweep.has_failed, "one is still with a worker"
    sweep.take_back()
    assert sweep.has_failed
    assert not Sweep(1000, 0.0, {"t 1"}).has_failed
    assert not Sweep(1000, 0.0, (), sought={"handle"}).has_failed, "somebody wants to see an event"
    assert not Sweep(1000, 0.0, (), to_discard={("strand", "handle")}).has_failed, "or it is to be discarded"


def test_the_first_events_of_a_strand_and_single_ones_are_discarded() -> None:
    sweep = Sweep(9, 0.0, {"t 1", "t 2"}, discarding={"t 1"}, to_discard={("t 2", "h")})
    assert [sweep.is_discarded(event("t 1"), "t 1", wanted) for wanted in (2, 1, 0)] == [True, True, False]
    assert not sweep.is_discarded(event("t 2"), "t 2", 1), "asked for since: this pass may be past its first one"
    one = event("t 2", handle="h")
    assert not sweep.is_discarded(event("t 3", handle="h"), "t 3", 0), "a stranger's, that is called the same"
    assert [sweep.is_discarded(one, "t 2", 0), sweep.is_discarded(one, "t 2", 0)] == [True, False]
    assert sweep.to_discard == {("t 2", "h")}, "what it began with"


def test_what_follows_the_discarded_events_of_a_strand_is_delivered() -> None:
    sweep = Sweep(2, 0.0, {"t 1"}, discarding={"t 1"})
    assert sweep.is_discarded(event("t 1"), "t 1", 1)
    sweep.give_out()
    sweep.acknowledged("t 1")
    assert not stays(sweep, event("t 1"))


def test_it_ends_when_rabbitmq_hands_out_no_more_and_nothing_is_under_way() -> None:
    sweep = Sweep(9, 0.0, {"t 1", "t 9"}, reach=2)
    assert not stays(sweep, event("t 1"))
    assert stays(sweep, event("t 2"))
    assert not sweep.is_starved, "one may still be acknowledged"
    sweep.acknowledged("t 1")
    assert (sweep.held, sweep.is_starved) == (1, False)
    assert stays(sweep, event("t 3"))
    assert sweep.is_starved
    assert not Sweep(9, 0.0, {"t 1"}).is_starved, "all is handed out"


@pytest.mark.parametrize(("moved", "vain"), [(0, True), (1, True), (2, False)])
def test_a_pass_that_has_moved_next_to_nothing_was_in_vain(moved: int, vain: bool) -> None:
    sweep = Sweep(500, 0.0, {"t 0", "t 1"}, reach=100)
    assert not sweep.was_in_vain, "it has just begun"
    for n in range(moved):
        assert not stays(sweep, event(f"t {n}"))
        sweep.acknowledged(f"t {n}")
    for n in range(100):
        assert stays(sweep, event(f"s {n}"))
    assert sweep.is_starved
    assert sweep.was_in_vain is vain


def test_it_goes_on_until_what_rabbitmq_has_forgotten_has_come() -> None:
    sweep = Sweep(9, 0.0, (), forgotten=1)
    assert not sweep.has_failed
    sweep.read()
    sweep.found_forgotten()
    assert (sweep.held, sweep.has_failed) == (0, True)


@pytest.mark.parametrize(
    ("reach", "woken", "outweighed"),
    [(4, 2 * OUTWEIGHED, True), (4, 2 * OUTWEIGHED - 1, False), (0, 1000, False)],
)
def test_it_does_not_trickle_out_while_many_more_wait_for_the_next_one(
    reach: int, woken: int, outweighed: bool
) -> None:
    sweep, pace = Sweep(9, 0.0, {"t 1", "t 2"}, reach=reach), Pace()
    stays(sweep, event("t 1"))
    stays(sweep, event("t 9"))
    stays(sweep, event("t 8"))
    pace.wake(woken)
    assert not pace.is_outweighed(sweep, 9.0), "more will come at once"
    stays(sweep, event("t 2"))
    assert pace.is_outweighed(sweep, 9.0) is outweighed
    assert not pace.is_outweighed(sweep, 0.0), "to read it took longer"
    pace.begin()
    assert not pace.is_outweighed(sweep, 9.0), "it has taken them along"


@pytest.mark.parametrize("wishes", [{"to_discard": {("t 9", "h")}}, {"sought": {"h"}}, {"forgotten": 1}])
def test_what_it_is_looking_for_keeps_it_from_ending_early(wishes: dict[str, Any]) -> None:
    sweep, pace = Sweep(9, 0.0, {"t 1"}, reach=1, **wishes), Pace()
    stays(sweep, event("t 1"))
    pace.wake(1000)
    assert not pace.is_outweighed(sweep, 9.0)


def test_a_pass_that_was_asked_for_rests_as_well_from_the_one_before_it() -> None:
    """Twenty commands a second, each for an event that is not there, had pass follow pass."""
    pace = Pace()
    assert pace.may_begin(0.0, 900, asked=True)
    sweep = Sweep(900, 0.0, set(), sought={"h"})
    for _ in range(900):
        stays(sweep, event("t 1"))
    pace.end(sweep, 1.0, large=False)
    pace.wake(900)
    assert not pace.may_begin(1.0, 900, asked=True)
    assert pace.may_begin(1.0, 900, asked=False), "what many wait for has come"
    assert pace.may_begin(1.0 + 900 * REST, 900, asked=True)
    pace.end(sweep, 2.0, large=True)
    assert pace.may_begin(2.0 + 900 * REST, 900, asked=True)
    assert not pace.may_begin(2.0 + 900 * REST, 900, asked=False), "the window has its turn"
