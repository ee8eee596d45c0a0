"""Which strands crowd the window, and what moves into the parking lot together."""

from __future__ import annotations

import pytest

from relay.delivery import Event, Tries
from relay.receiving.parking.park import LONG_REQUEST, crowding
from relay.receiving.strand import Item, Origin, Strand
from relay.receiving.strands import Strands

WINDOW = (40, 1 << 20)
NOW = 1000.0


def filled(strands: Strands, key: str, events: int, tries: Tries | None = None, body: bytes = b"") -> Strand:
    for n in range(events):
        strand = strands.add(Event(body, "t", key=key), lambda: None, NOW, tries=None if n else tries).strand
    return strand


def waiting(seconds: float = 60.0) -> Tries:
    return Tries(attempts=1, failed_tries=1, not_before=NOW + seconds)


def keys(strands: Strands, *, full: bool = False, window: tuple[int, int] = WINDOW) -> list[str]:
    return [strand.key for strand in crowding(strands.of(Origin.MAIN), window, NOW, full=full)]


def test_a_strand_in_trouble_gets_a_quarter_of_the_window() -> None:
    strands = Strands()
    filled(strands, "well", 30)
    filled(strands, "a quarter", 10, waiting())
    assert keys(strands) == []
    filled(strands, "a quarter", 1)
    assert keys(strands) == ["a quarter"]


def test_and_a_quarter_of_its_bytes() -> None:
    strands = Strands()
    filled(strands, "large", 1, waiting(), b"x" * (WINDOW[1] // 4))
    assert keys(strands) == ["large"]


def test_all_together_get_half_of_it_and_go_until_they_hold_a_quarter_those_that_wait_longest_first() -> None:
    strands = Strands()
    for n in range(20):
        filled(strands, f"{n}", 1, waiting(n + 1))
    assert keys(strands) == []
    filled(strands, "20", 1, waiting(21))
    assert keys(strands) == [f"{n}" for n in range(20, 9, -1)]


@pytest.mark.parametrize("trouble", ["waits", "has failed by itself", "takes long"])
def test_trouble_is_a_wait_a_failure_of_its_own_or_a_long_request(trouble: str) -> None:
    strands = Strands()
    if trouble == "waits":
        filled(strands, "a", 20, waiting())
    elif trouble == "has failed by itself":
        filled(strands, "a", 20, Tries(retry=True))
    else:
        filled(strands, "a", 20)
        [item] = strands.take(NOW - LONG_REQUEST)
        assert keys(strands) == []
        item.start(NOW - LONG_REQUEST - 1)
    assert keys(strands) == ["a"]


def test_what_has_failed_and_fills_the_window_goes_when_others_wait_outside() -> None:
    strands = Strands()
    filled(strands, "large", 1, Tries(failed_tries=1), b"x" * (WINDOW[1] // 4))
    assert (keys(strands), keys(strands, full=True)) == ([], ["large"])
    small = Strands()
    filled(small, "a", 2, Tries(failed_tries=1))
    assert keys(small, full=True, window=(4, 1 << 20)) == []
    assert keys(small, full=True, window=(3, 1 << 20)) == ["a"]


def test_what_is_on_its_way_already_or_a_ghost_does_not_go() -> None:
    strands = Strands()
    strands.hold(filled(strands, "held", 20, waiting()))
    ghosts = filled(strands, "ghost", 20, Tries(retry=True))
    for item in ghosts.items:
        item.take_receipt()
    assert keys(strands) == []


def row(strands: Strands, key: str, table: str = "t", op: str = "update", origin: Origin = Origin.MAIN) -> Item:
    return strands.add(Event(b"", "t", op=op, key=key, table=table), lambda: None, NOW, origin=origin)


@pytest.mark.parametrize("key", ["t", "all of t", ""])
def test_with_a_truncate_its_whole_table_goes_whatever_its_key(key: str) -> None:
    """Without its table the truncate would change places with the rows that stay."""
    strands = Strands()
    first, second = row(strands, "t 1"), row(strands, "t 2")
    row(strands, "u 1", "u")
    truncate, behind = row(strands, key, op="truncate"), row(strands, "t 1")
    for one in (first, second, truncate, behind):
        assert strands.together(one) == [first, second, truncate, behind]


def test_without_a_truncate_a_strand_goes_alone() -> None:
    strands = Strands()
    first = row(strands, "t 1")
    row(strands, "t 2")
    again = row(strands, "t 1")
    assert strands.together(first) == [first, again]
    row(strands, "t", op="truncate", origin=Origin.PARKED)
    assert strands.together(first) == [first, again], "that one is in the parking lot already"
    assert Strands("none").together(first) == [first, again]
