"""The high-water mark and the gaps: what a reader may forget, and what it must not."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from relay.listening import gaps
from relay.listening.gaps import MOST_RANGES, Gap, Seen
from tests import snapshots


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


def test_what_is_passed_leaves_holes_and_the_gaps_below_as_they_are() -> None:
    seen = noted(1, 4)
    seen.took_xid(7)
    seen.reading()
    seen.passed([5, 6, 9])
    assert (seen.high, seen.gaps) == (9, [Gap(2, 3, 7), Gap(7, 8)])
    seen.passed([])
    assert seen.high == 9


def test_what_is_passed_while_reading_is_set_back_is_new_again() -> None:
    seen = noted(1, 2, 3)
    for back, high in ((2, 1), (5, 4), (9, 6)):
        seen.high = 3
        seen.reading()
        seen.rewind(back)
        seen.passed([4, 5, 6])
        assert seen.high == high


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


class Outbox:
    """PostgreSQL as the gaps see it: snapshots, and rows that leave or stay."""

    def __init__(self) -> None:
        self.next_xid, self.next_seq = 10, 1
        self.running: dict[int, list[int]] = {}
        self.rows: dict[int, int] = {}  # visible ones: seq, xid

    def begin(self) -> int:
        self.next_xid += 1
        self.running[self.next_xid] = []
        return self.next_xid

    def write(self, xid: int, count: int = 1) -> None:
        for _ in range(count):
            self.running[xid].append(self.next_seq)
            self.next_seq += 1

    def write_with_holes(self, count: int) -> int:
        """Two write in turns; the later one commits, the other one is open."""
        late, soon = self.begin(), self.begin()
        for _ in range(count):
            self.write(late)
            self.write(soon)
        self.commit(soon)
        return late

    def commit(self, xid: int) -> None:
        self.rows |= dict.fromkeys(self.running.pop(xid), xid)

    @property
    def xmin(self) -> int:
        return snapshots.xmin(self.running, self.next_xid)

    @property
    def snapshot(self) -> str:
        return snapshots.snapshot(self.running, self.next_xid)

    def read(self, seen: Seen, limit: int) -> tuple[list[int], bool]:
        """As outbox.READ."""
        found = sorted(seq for seq in self.rows if seq > seen.high or self._is_unseen(seq, seen))
        return found[:limit], len(found) < limit

    def _is_unseen(self, seq: int, seen: Seen) -> bool:
        shown = snapshots.shows(seen.near if seq <= seen.upto else seen.far, self.rows[seq])
        return not shown and any(gap.first <= seq <= gap.last for gap in seen.gaps)


class Reader:
    """Reads an outbox; what has been read stays there, as what is held does."""

    def __init__(self, outbox: Outbox, limit: int) -> None:
        self.outbox, self.limit = outbox, limit
        self.seen = Seen()
        self.read: set[int] = set()
        self.fell_back = False  # a cut-off read has ended before the one before it, by what was committed in between

    def __call__(self, *, rewind: int | None = None) -> list[int]:
        """Read; `rewind`: reading is set back while the read is under way."""
        outbox, seen = self.outbox, self.seen
        seen.reading()
        seqs, whole = outbox.read(seen, self.limit)
        xmin, snapshot = outbox.xmin, outbox.snapshot
        assert self.fell_back or not self.read & set(seqs), "rows that were read come again"
        self.fell_back = not whole and seqs[-1] <= seen.high and (self.fell_back or seqs[-1] < seen.upto)
        if rewind is not None:
            seen.rewind(rewind)
        seen.note(seqs, whole=whole, xmin=xmin, snapshot=snapshot)
        self.read.update(seqs)
        upto = outbox.next_seq if whole else seqs[-1]
        missed = [seq for seq in outbox.rows if seq <= upto and seq not in self.read]
        assert not missed, "a later number came before them: a row's order is gone"
        return seqs


def test_a_read_cut_off_within_merged_gaps_is_gone_on_with_where_it_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gaps, "MOST_RANGES", 1)
    outbox = Outbox()
    read = Reader(outbox, 10)
    late = outbox.write_with_holes(5)
    assert read() == [2, 4, 6, 8, 10]
    outbox.commit(late)
    read.limit = 2
    assert [read() for _ in range(4)] == [[1, 3], [5, 7], [9], []]


def test_what_commits_below_a_cut_off_reads_end_is_read_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gaps, "MOST_RANGES", 1)
    outbox = Outbox()
    read = Reader(outbox, 10)
    first, second = outbox.begin(), outbox.begin()
    outbox.write(first)
    outbox.write(second, 5)
    outbox.write(outbox.write_with_holes(1))
    read()
    outbox.commit(second)
    read.limit = 2
    assert read() == [2, 3]
    outbox.commit(first)
    assert [read() for _ in range(3)] == [[1, 4], [5, 6], []]


def test_what_a_read_finds_that_was_under_way_when_reading_was_set_back_comes_again() -> None:
    outbox = Outbox()
    read = Reader(outbox, 10)
    outbox.write_with_holes(3)
    assert read() == [2, 4, 6]
    outbox.write_with_holes(1)
    assert read(rewind=4) == [8]
    read.read -= {4, 6, 8}
    assert read() == [4, 6, 8]


class Gaps(RuleBasedStateMachine):
    """One transaction is open all the time; rows leave or stay; reading is set back, and cut off by small limits."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(gaps, "MOST_RANGES", 2)
        self.outbox = Outbox()
        self.reader = Reader(self.outbox, 2)
        self.forever = self.outbox.begin()

    def teardown(self) -> None:
        self.patch.undo()

    @rule()
    def somebody_begins(self) -> None:
        self.outbox.begin()

    @rule(data=st.data(), count=st.integers(1, 5))
    def somebody_writes(self, data: st.DataObject, count: int) -> None:
        self.outbox.write(data.draw(st.sampled_from(list(self.outbox.running))), count)

    @rule(count=st.integers(1, 6))
    def rows_and_holes(self, count: int) -> None:
        self.outbox.write_with_holes(count)

    @precondition(lambda self: len(self.outbox.running) > 1)
    @rule(data=st.data(), commits=st.booleans())
    def somebody_ends(self, data: st.DataObject, commits: bool) -> None:
        xid = data.draw(st.sampled_from([xid for xid in self.outbox.running if xid != self.forever]))
        if commits:
            self.outbox.commit(xid)
        else:
            del self.outbox.running[xid]

    @precondition(lambda self: self.reader.seen.wants_xid)
    @rule()
    def take_an_id(self) -> None:
        self.outbox.next_xid += 1
        self.reader.seen.took_xid(self.outbox.next_xid)

    @rule()
    def reads(self) -> None:
        self.reader()

    @rule(data=st.data())
    def some_leave(self, data: st.DataObject) -> None:
        read = sorted(self.reader.read & self.outbox.rows.keys())
        for seq in data.draw(st.lists(st.sampled_from(read))) if read else []:
            self.outbox.rows.pop(seq, None)

    @rule(data=st.data(), under_way=st.booleans())
    def set_back(self, data: st.DataObject, under_way: bool) -> None:
        seq = data.draw(st.integers(1, self.outbox.next_seq))
        if under_way:
            self.reader(rewind=seq)
        else:
            self.reader.seen.rewind(seq)
        again = [row for row in self.outbox.rows if row >= seq]
        self.reader.read.difference_update(again)

    @invariant()
    def few_gaps(self) -> None:
        assert len(self.reader.seen.gaps) <= 2

    @invariant()
    def all_is_read_soon(self) -> None:
        """From here on nobody commits: each row comes once."""
        reader, fell_back = self.reader, self.reader.fell_back
        before = vars(reader.seen).copy() | {"gaps": [Gap(g.first, g.last, g.after) for g in reader.seen.gaps]}
        read = reader.read.copy()
        unread, found = self.outbox.rows.keys() - read, list[int]()
        while seqs := reader():
            found += seqs
            assert len(found) == len(set(found)), "the same rows come for ever"
        assert set(found) == unread if not fell_back else set(found) >= unread
        vars(reader.seen).update(before)
        reader.read, reader.fell_back = read, fell_back


def test_whatever_is_held_and_whoever_is_open_each_row_comes_soon_once_and_in_order() -> None:
    run_state_machine_as_test(Gaps, settings=settings(max_examples=50, stateful_step_count=25))
