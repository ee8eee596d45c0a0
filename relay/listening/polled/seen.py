"""Which rows of a polled outbox a session has read: gaps.py without an end to gaps, for no such source tells one.

Reading is from the beginning, leaving out what was read: `seq > high` alone loses what commits late (1,499 of 16,370,
measured). A number that a rolled-back transaction took stays a gap, until all is read anew.
"""

import bisect
from array import array
from collections.abc import Iterable, Iterator, Sequence

from relay.listening.gaps import Seen

MOST_RANGES = 100  # as many gaps are looked at by the statement that reads what is new: its text has them all
NEAR = 10  # to read so many numbers takes MariaDB and PyMySQL no longer than one more range


class Gaps:
    """Ranges of numbers, ascending, none next to another: 16 bytes each, for each row that stays can have its own."""

    def __init__(self, firsts: Iterable[int] = (), lasts: Iterable[int] = ()) -> None:
        self.firsts, self.lasts = array("q", firsts), array("q", lasts)

    def __len__(self) -> int:
        return len(self.firsts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Gaps) and self.firsts == other.firsts and self.lasts == other.lasts

    __hash__ = None  # type: ignore[assignment]

    def copy(self) -> "Gaps":
        """As they are now."""
        return Gaps(self.firsts, self.lasts)

    def __contains__(self, seq: int) -> bool:
        at = bisect.bisect_right(self.firsts, seq)
        return at > 0 and seq <= self.lasts[at - 1]

    def add(self, first: int, last: int) -> None:
        """One above all others."""
        if self.lasts and self.lasts[-1] == first - 1:
            self.lasts[-1] = last
            return
        self.firsts.append(first)
        self.lasts.append(last)

    def cut(self, seq: int) -> None:
        """This number is in none of them any more."""
        at = bisect.bisect_right(self.firsts, seq) - 1
        if at < 0 or seq > self.lasts[at]:
            return
        first, last = self.firsts[at], self.lasts[at]
        del self.firsts[at], self.lasts[at]
        for part_first, part_last in ((seq + 1, last), (first, seq - 1)):
            if part_first <= part_last:
                self.firsts.insert(at, part_first)
                self.lasts.insert(at, part_last)

    def open(self, seq: int) -> None:
        """This number is in one of them."""
        if seq in self:
            return
        at = bisect.bisect_right(self.firsts, seq)
        first = last = seq
        if at < len(self) and self.firsts[at] == seq + 1:
            last = self.lasts[at]
            del self.firsts[at], self.lasts[at]
        if at and self.lasts[at - 1] == seq - 1:
            self.lasts[at - 1] = last
        else:
            self.firsts.insert(at, first)
            self.lasts.insert(at, last)

    def end(self, last: int) -> None:
        """None goes further than this number."""
        at = bisect.bisect_right(self.firsts, last)
        del self.firsts[at:], self.lasts[at:]
        if at:
            self.lasts[-1] = min(self.lasts[-1], last)

    def among(self, seqs: Iterable[int]) -> Iterator[int]:
        """Which of these numbers are in one of them. Both in descending order, 0.1 us for each."""
        firsts, lasts = self.firsts.tolist(), self.lasts.tolist()
        at = len(firsts) - 1
        for seq in seqs:
            while at >= 0 and firsts[at] > seq:
                at -= 1
            if at >= 0 and seq <= lasts[at]:
                yield seq

    def nets(self) -> list[tuple[int, int]]:
        """Ranges that hold all of them, and between them at most `NEAR` numbers each: fewer, where gaps are dense."""
        found: list[tuple[int, int]] = []
        for first, last in zip(self.firsts, self.lasts, strict=True):
            if found and first - found[-1][1] <= NEAR + 1:
                found[-1] = (found[-1][0], last)
            else:
                found.append((first, last))
        return found


class PolledSeen(Seen):
    """See gaps.Seen.

    Invariant: every number up to `high` is either read, or in `unseen`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.unseen = Gaps()
        """Its gaps. They never merge over what was read: that would come again, and fill each read."""

    def ranges(self) -> tuple[list[int], list[int]]:
        """See Seen."""
        return list(self.unseen.firsts), list(self.unseen.lasts)

    def _shrink(self, seqs: Sequence[int], _looked_at: int | None, _xmin: int) -> None:
        for seq in seqs:
            self.unseen.cut(seq)

    def _missing(self, first: int, last: int) -> None:
        self.unseen.add(first, last)

    def rewind(self, seq: int) -> None:
        """See Seen."""
        super().rewind(seq)
        self.unseen.end(self.high)

    def forget(self, seqs: Iterable[int]) -> None:
        """These rows have left: gaps join over them. In a firm's queue one may come again, under the same number."""
        for seq in seqs:
            if seq <= self.high:
                self.unseen.open(seq)
