"""Which lanes crowd the window, and what moves into the parking lot together."""

from __future__ import annotations

import pytest

from relay.delivery import Event, Tries
from relay.receiving.lane import Item, Lane, Origin
from relay.receiving.lanes import Lanes
from relay.receiving.parking.park import LONG_REQUEST, crowding

WINDOW = (40, 1 << 20)
NOW = 1000.0


def filled(lanes: Lanes, key: str, events: int, tries: Tries | None = None, body: bytes = b"") -> Lane:
    for n in range(events):
        lane = lanes.add(Event(body, "t", key=key), lambda: None, NOW, tries=None if n else tries).lane
    return lane


def waiting(seconds: float = 60.0) -> Tries:
    return Tries(attempts=1, failed_tries=1, not_before=NOW + seconds)


def keys(lanes: Lanes, *, full: bool = False, window: tuple[int, int] = WINDOW) -> list[str]:
    return [lane.key for lane in crowding(lanes.of(Origin.MAIN), window, NOW, full=full)]


def test_a_lane_in_trouble_gets_a_quarter_of_the_window() -> None:
    lanes = Lanes()
    filled(lanes, "well", 30)
    filled(lanes, "a quarter", 10, waiting())
    assert keys(lanes) == []
    filled(lanes, "a quarter", 1)
    assert keys(lanes) == ["a quarter"]


def test_and_a_quarter_of_its_bytes() -> None:
    lanes = Lanes()
    filled(lanes, "large", 1, waiting(), b"x" * (WINDOW[1] // 4))
    assert keys(lanes) == ["large"]


def test_all_together_get_half_of_it_and_go_until_they_hold_a_quarter_those_that_wait_longest_first() -> None:
    lanes = Lanes()
    for n in range(20):
        filled(lanes, f"{n}", 1, waiting(n + 1))
    assert keys(lanes) == []
    filled(lanes, "20", 1, waiting(21))
    assert keys(lanes) == [f"{n}" for n in range(20, 9, -1)]


@pytest.mark.parametrize("trouble", ["waits", "has failed by itself", "takes long"])
def test_trouble_is_a_wait_a_failure_of_its_own_or_a_long_request(trouble: str) -> None:
    lanes = Lanes()
    if trouble == "waits":
        filled(lanes, "a", 20, waiting())
    elif trouble == "has failed by itself":
        filled(lanes, "a", 20, Tries(retry=True))
    else:
        filled(lanes, "a", 20)
        [item] = lanes.take(NOW - LONG_REQUEST)
        assert keys(lanes) == []
        item.start(NOW - LONG_REQUEST - 1)
    assert keys(lanes) == ["a"]


def test_what_has_failed_and_fills_the_window_goes_when_others_wait_outside() -> None:
    lanes = Lanes()
    filled(lanes, "large", 1, Tries(failed_tries=1), b"x" * (WINDOW[1] // 4))
    assert (keys(lanes), keys(lanes, full=True)) == ([], ["large"])
    small = Lanes()
    filled(small, "a", 2, Tries(failed_tries=1))
    assert keys(small, full=True, window=(4, 1 << 20)) == []
    assert keys(small, full=True, window=(3, 1 << 20)) == ["a"]


def test_what_is_on_its_way_already_or_a_ghost_does_not_go() -> None:
    lanes = Lanes()
    lanes.hold(filled(lanes, "held", 20, waiting()))
    ghosts = filled(lanes, "ghost", 20, Tries(retry=True))
    for item in ghosts.items:
        item.take_receipt()
    assert keys(lanes) == []


def row(lanes: Lanes, key: str, table: str = "t", op: str = "update", origin: Origin = Origin.MAIN) -> Item:
    return lanes.add(Event(b"", "t", op=op, key=key, table=table), lambda: None, NOW, origin=origin)


@pytest.mark.parametrize("key", ["t", "all of t", ""])
def test_with_a_truncate_its_whole_table_goes_whatever_its_key(key: str) -> None:
    """Without its table the truncate would change places with the rows that stay."""
    lanes = Lanes()
    first, second = row(lanes, "t 1"), row(lanes, "t 2")
    row(lanes, "u 1", "u")
    truncate, behind = row(lanes, key, op="truncate"), row(lanes, "t 1")
    for one in (first, second, truncate, behind):
        assert lanes.together(one) == [first, second, truncate, behind]


def test_without_a_truncate_a_lane_goes_alone() -> None:
    lanes = Lanes()
    first = row(lanes, "t 1")
    row(lanes, "t 2")
    again = row(lanes, "t 1")
    assert lanes.together(first) == [first, again]
    row(lanes, "t", op="truncate", origin=Origin.PARKED)
    assert lanes.together(first) == [first, again], "that one is in the parking lot already"
    assert Lanes("none").together(first) == [first, again]
