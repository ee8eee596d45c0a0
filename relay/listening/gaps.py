"""Which outbox numbers have been seen: a high-water mark, and the gaps below it that may still fill. Pure.

A sequence number is taken before its transaction commits, so a low number can become visible after a high one. Reading
`seq > high` alone would lose it. A gap is forgotten only when every transaction that could own one of its numbers
has ended: the listener takes a transaction id X of its own *after* it noticed the gap, and a read whose snapshot's
xmin is above X proves it. (The snapshot's xmax would not do: younger transactions may be running.)

So any open transaction keeps all gaps, and what is held stays in the outbox between them. Gaps that had to be merged
lie over such rows; in a gap a read finds only what an earlier read's snapshot does not show. So whatever is held and
whoever is open, what is read next is what was not seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass

MOST_RANGES = 1000
"""Above this many gaps, neighbours merge: a merged gap is only a wider net, it finds the same rows."""

NOTHING = "1:1:"
"""A pg_snapshot that shows no transaction's rows."""


@dataclass(slots=True)
class Gap:
    """Numbers `first` to `last`, none of them seen. `after`: the X that must have passed; None = not taken yet."""

    first: int
    last: int
    after: int | None = None


class Seen:
    """What a reader of relay.outbox has seen.

    Invariant: every number up to `high` is either seen, or in a gap, or owned by nobody who could still commit. Of a
    row in a gap: it is seen if the snapshot for its number (`upto`, `near`, `far`) shows its transaction.
    """

    def __init__(self) -> None:
        self.high = 0
        self.gaps: list[Gap] = []
        self.upto = 0
        """Where a read that was cut off within the gaps has ended."""
        self.near = self.far = NOTHING
        """Snapshots: of the last read, for numbers up to `upto`; of the last one that came further, for those above."""
        self._again: int | None = None  # reading was set back to this number while a read was under way

    def ranges(self) -> tuple[list[int], list[int]]:
        """Return the gaps as two arrays, firsts and lasts, for the SQL statement."""
        return [gap.first for gap in self.gaps], [gap.last for gap in self.gaps]

    @property
    def wants_xid(self) -> bool:
        """Is there a gap for which no transaction id has been taken yet?"""
        return any(gap.after is None for gap in self.gaps)

    def took_xid(self, xid: int) -> None:
        """A transaction id was given to us by a statement sent after the gaps now known had been noticed."""
        for gap in self.gaps:
            if gap.after is None:
                gap.after = xid

    def reading(self) -> None:
        """A read is sent."""
        self._again = None

    def note(self, seqs: Sequence[int], *, whole: bool, xmin: int, snapshot: str = NOTHING) -> None:
        """Take in the result of one read of `seq > high` and the gaps, made with one snapshot.

        Args:
            seqs: numbers found, ascending.
            whole: nothing was cut off by a limit; otherwise only numbers up to the last one were looked at.
            xmin: the snapshot's: every transaction below it has ended.
            snapshot: as pg_snapshot; that which shows nothing, of a source that does not tell.
        """
        looked_at = seqs[-1] if seqs and not whole else None
        if self._again is not None:  # all from there on is to come once more
            looked_at = self._again - 1 if looked_at is None else min(looked_at, self._again - 1)
            seqs = [seq for seq in seqs if seq < self._again]
        if looked_at is None or looked_at >= self.high:
            self.upto, self.far = 0, snapshot
        else:
            self.upto, self.near = looked_at, snapshot
        self._shrink(seqs, looked_at, xmin)
        self._advance(seqs)
        self._merge()

    def passed(self, seqs: Sequence[int]) -> None:
        """Rows above `high` were looked at, all up to the last of these, and nothing in the gaps.

        Rows that were committed since the last read, which has told its snapshot, may come again from merged gaps.
        """
        if self._again is not None:
            seqs = [seq for seq in seqs if seq < self._again]
        self._advance(seqs)
        self._merge()

    def _merge(self) -> None:
        while len(self.gaps) > MOST_RANGES:
            self.gaps = [_merged(self.gaps[i : i + 2]) for i in range(0, len(self.gaps), 2)]

    def _shrink(self, seqs: Sequence[int], looked_at: int | None, xmin: int) -> None:
        """Cut what was found out of the gaps, and drop what nobody can fill any more."""
        left: list[Gap] = []
        at = 0
        for gap in self.gaps:
            first = gap.first
            while at < len(seqs) and seqs[at] < first:
                at += 1
            closed = gap.after is not None and gap.after < xmin
            while at < len(seqs) and seqs[at] <= gap.last:
                if seqs[at] > first and not closed:
                    left.append(Gap(first, seqs[at] - 1, gap.after))
                first = seqs[at] + 1
                at += 1
            if closed:
                first = gap.last + 1 if looked_at is None else max(first, min(looked_at, gap.last) + 1)
            if first <= gap.last:
                left.append(Gap(first, gap.last, gap.after))
        self.gaps = left

    def _advance(self, seqs: Sequence[int]) -> None:
        if not seqs or seqs[-1] <= self.high:
            return
        high = self.high
        new = seqs if seqs[0] > high else [seq for seq in seqs if seq > high]
        if new[-1] - high != len(new):  # otherwise they follow one another without a gap
            for seq in new:
                if seq > high + 1:
                    self._missing(high + 1, seq - 1)
                high = seq
        self.high = new[-1]

    def _missing(self, first: int, last: int) -> None:
        self.gaps.append(Gap(first, last))

    def rewind(self, seq: int) -> None:
        """See the rows from `seq` on once more: something below `high` may be there again."""
        self._again = seq if self._again is None else min(seq, self._again)
        if seq <= self.high:
            self.high = seq - 1
            self.gaps = [Gap(g.first, min(g.last, self.high), g.after) for g in self.gaps if g.first <= self.high]


def _merged(pair: Sequence[Gap]) -> Gap:
    afters = [gap.after for gap in pair]
    known = [after for after in afters if after is not None]
    return Gap(pair[0].first, pair[-1].last, max(known) if len(known) == len(afters) else None)
