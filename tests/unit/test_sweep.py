"""One pass of the parking lot: what is taken, what stays, and when it has nothing more to hope for."""

from __future__ import annotations

import pytest

from relay.delivery import Event
from relay.receiving.parking.sweep import Sweep


def event(key: str, table: str = "t", op: str = "update", handle: str = "") -> Event:
    return Event(b"", "t", op=op, key=key, table=table, handle=handle)


TRUNCATE = event("t", op="truncate")


def stays(sweep: Sweep, one: Event, *, fits: bool = True) -> bool:
    sweep.read(0.0)
    left = sweep.stays(one, one.key, barrier=one.is_barrier, fits=fits)
    if not left:
        sweep.give_out()
    return left


def test_what_is_not_due_stays() -> None:
    sweep = Sweep(2, 0.0, {"t 1"})
    assert (stays(sweep, event("t 2")), stays(sweep, event("t 1"))) == (True, False)
    assert sweep.immovable() == [], "nothing of a lane that was not due was hoped for"


def test_once_a_lane_has_stopped_the_rest_of_it_stays() -> None:
    sweep = Sweep(9, 0.0, {"t 1", "t 2"})
    assert not stays(sweep, event("t 1"))
    sweep.stop("t 1")
    assert stays(sweep, event("t 1"))
    assert not stays(sweep, event("t 2"))


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


def test_a_lane_that_was_left_after_it_had_moved_is_not_immovable() -> None:
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
    sweep.read(11.0)
    sweep.give_out()
    sweep.read(12.0)
    assert (sweep.is_whole, sweep.seconds) == (False, 2.0)
    sweep.acknowledged("t 1")
    assert sweep.is_whole
    sweep.read(20.0)  # what came in behind
    assert sweep.seconds == 2.0, "the time that reading took: what comes in behind is none of it"


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
    assert not Sweep(1000, 0.0, (), discard_handles={"handle"}).has_failed, "or it is to be discarded"


def test_the_first_events_of_a_lane_and_single_ones_are_discarded() -> None:
    sweep = Sweep(9, 0.0, {"t 1", "t 2"}, discarding={"t 1"}, discard_handles={"h"})
    assert [sweep.is_discarded(event("t 1"), "t 1", wanted) for wanted in (2, 1, 0)] == [True, True, False]
    assert not sweep.is_discarded(event("t 2"), "t 2", 1), "asked for since: this pass may be past its first one"
    one = event("t 2", handle="h")
    assert [sweep.is_discarded(one, "t 2", 0), sweep.is_discarded(one, "t 2", 0)] == [True, False]
    assert sweep.discard_handles == {"h"}, "what it began with"


def test_what_follows_the_discarded_events_of_a_lane_is_delivered() -> None:
    sweep = Sweep(2, 0.0, {"t 1"}, discarding={"t 1"})
    assert sweep.is_discarded(event("t 1"), "t 1", 1)
    sweep.give_out()
    sweep.acknowledged("t 1")
    assert not stays(sweep, event("t 1"))
