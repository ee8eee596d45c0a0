"""The high-water mark and the gaps: what a reader may forget, and what it must not."""

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from relay.listening.gaps import MOST_RANGES, Gap, Seen


def noted(*seqs: int, whole: bool = True, xmin: int = 0, seen: Seen | None = None) -> Seen:
    seen = seen or Seen()
    seen.note(list(seqs), whole=whole, xmin=xmin)
    return seen


def test_numbers_without_a_hole_leave_no_gap() -> None:
    seen = noted(1, 2, 3)
    assert (seen.high, seen.gaps) == (3, [])


def test_a_missing_number_is_a_gap_until_it_is_seen() -> None:
    seen = noted(1, 2, 5, 6)
    assert seen.gaps == [Gap(3, 4)]
    noted(3, seen=seen)
    assert seen.gaps == [Gap(4, 4)]
    noted(4, seen=seen)
    assert seen.gaps == []


def test_a_gap_is_kept_while_no_transaction_id_was_taken_after_it() -> None:
    seen = noted(2)
    noted(xmin=10**9, seen=seen)
    assert seen.gaps == [Gap(1, 1)]
    assert seen.wants_xid


def test_a_gap_is_kept_while_xmin_is_not_above_our_own_transaction_id() -> None:
    seen = noted(2)
    seen.took_xid(100)
    noted(xmin=100, seen=seen)
    assert seen.gaps == [Gap(1, 1, 100)]
    noted(xmin=101, seen=seen)
    assert seen.gaps == []


def test_rows_found_by_the_read_that_closes_a_gap_are_not_gaps_again() -> None:
    seen = noted(1, 10)
    seen.took_xid(5)
    noted(4, 7, 11, xmin=6, seen=seen)
    assert (seen.gaps, seen.high) == ([], 11)


def test_a_read_cut_off_by_a_limit_closes_only_what_it_looked_at() -> None:
    seen = noted(1, 10, 20)
    seen.took_xid(5)
    noted(4, 6, whole=False, xmin=6, seen=seen)
    assert seen.gaps == [Gap(7, 9, 5), Gap(11, 19, 5)]


def test_a_cut_off_read_within_the_gaps_leaves_the_high_water_mark() -> None:
    seen = noted(1, 10)
    noted(2, 3, whole=False, seen=seen)
    assert (seen.high, seen.gaps) == (10, [Gap(4, 9)])


def test_a_million_rolled_back_numbers_are_one_range() -> None:
    seen = noted(1, 1_000_002)
    assert seen.ranges() == ([2], [1_000_001])


def test_above_the_limit_neighbours_merge_and_nothing_falls_out() -> None:
    odd = list(range(1, 4 * MOST_RANGES, 2))
    seen = noted(*odd)
    assert len(seen.gaps) <= MOST_RANGES
    assert all(any(gap.first <= even <= gap.last for gap in seen.gaps) for even in range(2, odd[-1], 2))


def test_a_merged_gap_without_a_transaction_id_asks_for_one() -> None:
    seen = noted(*range(1, 4 * MOST_RANGES, 2))
    assert all(gap.after is None for gap in seen.gaps)


def test_a_merged_gap_waits_for_the_younger_of_its_transaction_ids() -> None:
    seen = noted(2)
    seen.took_xid(10)
    seen.note(range(4, MOST_RANGES, 2), whole=True, xmin=5)
    seen.took_xid(20)
    seen.note(range(MOST_RANGES, 4 * MOST_RANGES, 2), whole=True, xmin=5)
    assert seen.gaps[0] == Gap(1, 3, 20), "whoever owns 3 may run until 20 has passed"


def test_rewinding_makes_the_rows_new_again() -> None:
    seen = noted(3, 5, 9)
    seen.rewind(5)
    assert (seen.high, seen.gaps) == (4, [Gap(1, 2), Gap(4, 4)])


@dataclass
class Writer:
    """A transaction of the model: took `seqs` while it was running as `xid`."""

    xid: int
    seqs: list[int] = field(default_factory=list)


@given(st.data())
def test_every_committed_number_is_read_once_whatever_the_interleaving(  # noqa: C901 - one model, told in one go
    data: st.DataObject,
) -> None:
    """Writers take an id, then numbers, then commit or roll back in any order; the reader reads with small limits."""
    next_xid, next_seq = 1, 1
    running: list[Writer] = []
    visible: set[int] = set()
    committed: set[int] = set()
    read: list[int] = []
    seen = Seen()

    def do_read(limit: int) -> None:
        nonlocal next_xid
        if seen.wants_xid and data.draw(st.booleans(), label="take an id"):
            seen.took_xid(next_xid)
            next_xid += 1
        xmin = min((w.xid for w in running), default=next_xid)
        wanted = sorted(s for s in visible if s > seen.high or any(g.first <= s <= g.last for g in seen.gaps))
        read.extend(wanted[:limit])
        seen.note(wanted[:limit], whole=len(wanted) < limit, xmin=xmin)

    for _ in range(data.draw(st.integers(1, 60), label="steps")):
        action = data.draw(st.sampled_from(["begin", "insert", "commit", "rollback", "read"]))
        if action == "begin":
            running.append(Writer(next_xid))
            next_xid += 1
        elif action == "read":
            do_read(data.draw(st.integers(1, 5), label="limit"))
        elif running:
            writer = data.draw(st.sampled_from(running))
            if action == "insert":
                writer.seqs.append(next_seq)
                next_seq += 1
            else:
                running.remove(writer)
                if action == "commit":
                    visible.update(writer.seqs)
                    committed.update(writer.seqs)
    while running:
        writer = running.pop()
        visible.update(writer.seqs)
        committed.update(writer.seqs)
    for _ in range(len(committed) + 2):
        do_read(5)
    assert sorted(read) == sorted(committed), "each committed number exactly once"
    # What is left over costs nothing lasting.
    seen.took_xid(next_xid)
    next_xid += 1
    seen.note([], whole=True, xmin=next_xid)
    assert seen.gaps == []
