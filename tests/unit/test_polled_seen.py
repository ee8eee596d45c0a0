"""What a polled reader has seen: every number is read once, whatever commits when and whatever is rolled back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relay.listening.polled.seen import MOST_RANGES, PolledSeen


class Outbox:
    """Numbers are taken in order, and committed, or not, in any."""

    def __init__(self) -> None:
        self.rows: set[int] = set()

    def read(self, seen: PolledSeen, most: int) -> tuple[list[int], bool]:
        """As Statements.read: of the ranges and above the highest, at most so many."""
        firsts, lasts = seen.ranges()
        wanted = [
            row
            for row in sorted(self.rows)
            if row > seen.high or any(first <= row <= last for first, last in zip(firsts, lasts, strict=True))
        ]
        return wanted[:most], len(wanted) < most


@given(st.permutations(range(1, 16)), st.sets(st.integers(1, 15)), st.integers(1, 6), st.data())
def test_every_committed_number_is_read_once(
    order: list[int], rolled_back: set[int], most: int, data: st.DataObject
) -> None:
    seen, outbox, found = PolledSeen(), Outbox(), list[int]()
    waiting = [number for number in order if number not in rolled_back]
    while waiting or outbox.rows - set(found):
        for _ in range(data.draw(st.integers(1, 5))):
            if waiting:
                outbox.rows.add(waiting.pop(0))
        seqs, whole = outbox.read(seen, most)
        seen.note(seqs, whole=whole, xmin=0)
        found += seqs
        if not waiting and not seqs:
            break
    assert sorted(found) == sorted(set(order) - rolled_back)


def test_many_gaps_merge_and_what_is_in_them_is_still_found() -> None:
    seen, outbox = PolledSeen(), Outbox()
    outbox.rows = set(range(2, 1001, 2))
    seqs, whole = outbox.read(seen, 1000)
    seen.note(seqs, whole=whole, xmin=0)
    assert len(seen.gaps) <= MOST_RANGES
    assert seen.is_merged
    outbox.rows = {501}
    assert outbox.read(seen, 10)[0] == [501]


@given(st.sets(st.integers(1, 30)), st.sets(st.integers(1, 30)))
def test_what_has_left_can_come_again(read: set[int], left: set[int]) -> None:
    """A firm's queue: a row that was marked is set back, under its number."""
    seen, outbox = PolledSeen(), Outbox()
    outbox.rows = set(read)
    seen.note(sorted(read), whole=True, xmin=0)
    seen.forget(left & read)
    assert set(outbox.read(seen, 100)[0]) == left & read
    assert [gap.first for gap in seen.gaps] == sorted(gap.first for gap in seen.gaps)
    assert all(one.last < other.first for one, other in zip(seen.gaps, seen.gaps[1:], strict=False))


def test_when_all_is_gone_it_begins_at_the_beginning() -> None:
    seen = PolledSeen()
    seen.note([3, 7], whole=True, xmin=0)
    seen.rewind(1)
    assert (seen.high, seen.gaps, seen.is_merged) == (0, [], False)
