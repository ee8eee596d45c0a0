"""What a polled reader has seen: every number is read once, whatever commits when and whatever is rolled back."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from relay.listening.polled.seen import NEAR, Gaps, PolledSeen

NUMBERS = st.integers(1, 30)


def numbers(gaps: Gaps) -> set[int]:
    return {seq for first, last in zip(gaps.firsts, gaps.lasts, strict=True) for seq in range(first, last + 1)}


@given(st.lists(st.tuples(st.sampled_from(["cut", "open", "end", "add"]), NUMBERS)))
def test_gaps_are_a_set_of_numbers(steps: list[tuple[str, int]]) -> None:
    gaps, model = Gaps([1], [20]), set(range(1, 21))
    for what, seq in steps:
        if what == "cut":
            gaps.cut(seq)
            model.discard(seq)
        elif what == "open":
            gaps.open(seq)
            model.add(seq)
        elif what == "end":
            gaps.end(seq)
            model = {one for one in model if one <= seq}
        elif seq > max(model, default=0):
            gaps.add(seq, seq + 2)
            model |= {seq, seq + 1, seq + 2}
        assert numbers(gaps) == model
        assert {one for one in range(40) if one in gaps} == model
        assert len(gaps) == sum(one - 1 not in model for one in model), "neighbours are one"
        nets = gaps.nets()
        assert all(any(first <= one <= last for first, last in nets) for one in model)
        assert all(other[0] - one[1] > NEAR + 1 for one, other in itertools.pairwise(nets))


def test_a_million_numbers_that_were_rolled_back_are_one_gap() -> None:
    seen = PolledSeen()
    seen.note([1, 1_000_002], whole=True, xmin=0)
    assert seen.ranges() == ([2], [1_000_001])


def test_gaps_join_over_what_has_left() -> None:
    seen = PolledSeen()
    seen.note(range(2, 10_001, 2), whole=True, xmin=0)
    assert len(seen.unseen) == 5000
    seen.forget(range(2, 10_001, 2))
    assert seen.ranges() == ([1], [10_000])


@given(st.sets(NUMBERS), st.sets(NUMBERS))
def test_what_has_left_can_come_again(read: set[int], left: set[int]) -> None:
    """A firm's queue: a row that was marked is set back, under its number."""
    seen = PolledSeen()
    seen.note(sorted(read), whole=True, xmin=0)
    seen.forget(left & read)
    assert {seq for seq in read if seq > seen.high or seq in seen.unseen} == left & read


def test_when_all_is_gone_it_begins_at_the_beginning() -> None:
    seen = PolledSeen()
    seen.note([3, 7], whole=True, xmin=0)
    seen.rewind(1)
    assert (seen.high, seen.ranges()) == (0, ([], []))
