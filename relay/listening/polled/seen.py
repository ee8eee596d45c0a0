"""Which rows of a polled outbox a session has read: gaps.py without an end to gaps, for no such source tells one.

Reading is from the beginning, leaving out what was read: `seq > high` alone loses what commits late (1,499 of 16,370,
measured). A number that a rolled-back transaction took stays a gap, until all is read and gone.
"""

from collections.abc import Iterable, Sequence

from relay.listening.gaps import NOTHING, Gap, Seen

MOST_RANGES = 100  # above it neighbours merge: the text of a statement has them all


class PolledSeen(Seen):
    """See gaps.Seen.

    Invariant: every number up to `high` is either read, or in a gap.
    """

    def __init__(self) -> None:
        super().__init__()
        self.is_merged = False
        """May gaps hold numbers that were read?"""

    @property
    def wants_xid(self) -> bool:
        """Never: no transaction's number says that a gap is closed."""
        return False

    def took_xid(self, xid: int) -> None:
        """As `wants_xid`."""

    def note(self, seqs: Sequence[int], *, whole: bool, xmin: int, snapshot: str = NOTHING) -> None:
        """See Seen."""
        super().note(seqs, whole=whole, xmin=xmin, snapshot=snapshot)
        self._limit()

    def _limit(self) -> None:
        while len(self.gaps) > MOST_RANGES:
            pairs = [self.gaps[i : i + 2] for i in range(0, len(self.gaps), 2)]
            self.gaps = [Gap(pair[0].first, pair[-1].last) for pair in pairs]
            self.is_merged = True

    def rewind(self, seq: int) -> None:
        """See Seen."""
        super().rewind(seq)
        self.is_merged = self.is_merged and bool(self.gaps)

    def forget(self, seqs: Iterable[int]) -> None:
        """These rows have left; in a firm's queue one may come again, under the same number."""
        for seq in sorted(seqs):
            if seq <= self.high:
                self._open(seq)
        self._limit()

    def _open(self, seq: int) -> None:
        before = [gap for gap in self.gaps if gap.last < seq]
        if len(before) < len(self.gaps) and self.gaps[len(before)].first <= seq:
            return
        joined = Gap(seq, seq)
        if before and before[-1].last == seq - 1:
            joined.first = before.pop().first
        after = [gap for gap in self.gaps if gap.first > seq]
        if after and after[0].first == seq + 1:
            joined.last = after.pop(0).last
        self.gaps = [*before, joined, *after]
