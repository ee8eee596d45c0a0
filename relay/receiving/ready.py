"""Whose turn is it? Of the strands that may be delivered, and of those that wait for the time of their next try. Pure.

Strands are in groups: events of one group may share a batch. Groups take turns; those of events that have failed by
themselves get one turn of RETRY_TURN while others are ready, and never all workers: thousands of such events must not
take the workers from those that nothing is wrong with.
"""

import collections
import heapq
import itertools
from collections.abc import Callable

from relay.receiving.strand import Origin, State, Strand

RETRY_TURN = 20  # one of so many batches is of events that have failed before, while others are ready, too
SLACK = 100  # entries of the heap that may be of strands that do not wait any more, beside as many as there are

Patience = tuple[float, float]  # seconds since a batch last grew, and since its first event was ready
_Group = tuple[bool, str]  # has the strands' first event failed before? And: what may share a batch


def _ripe(times: tuple[float, float], patience: Patience) -> float:
    return min(times[1] + patience[0], times[0] + patience[1])


class Ready:
    """Strands that are READY or WAITING.

    Args:
        retries: batches of events that have failed before that may be with workers, before the others go first.
        rank: of a group: the least goes first, but for one batch in RETRY_TURN; None = all are alike.
    """

    def __init__(self, retries: int = 1, rank: Callable[[str], int] | None = None) -> None:
        self._rank = rank
        self._taken = 0  # batches
        self._groups: dict[_Group, collections.OrderedDict[Strand, None]] = {}
        self._group_of: dict[Strand, _Group] = {}
        self._times: dict[_Group, tuple[float, float]] = {}  # when its first strand came, and its last
        self._since_retry = 0  # batches that were taken since the last one of events that have failed before
        self._retrying: set[Strand] = set()  # in flight, with an event that has failed before
        self._max_retries = retries
        self._heap: list[tuple[float, int, Strand]] = []
        self._tickets: dict[
            Strand, int
        ] = {}  # of those that wait: the number of its entry in the heap; others are stale
        self._count = itertools.count()

    def add(self, strand: Strand, group: str, now: float) -> None:
        """It may be delivered, with others of its group."""
        strand.state = State.READY
        key = (strand.items[0].tries.retry, group)
        self._group_of[strand] = key
        strands = self._groups.get(key)
        if strands is None:
            strands = self._groups[key] = collections.OrderedDict()
            self._times[key] = (now, now)
        else:
            self._times[key] = (self._times[key][0], now)
        strands[strand] = None

    def wait(self, strand: Strand) -> None:
        """It may not be delivered before the time of its first event's next try."""
        strand.state = State.WAITING
        number = self._tickets[strand] = next(self._count)
        heapq.heappush(self._heap, (strand.items[0].tries.not_before, number, strand))
        if len(self._heap) > 2 * len(self._tickets) + SLACK:
            self._heap = [entry for entry in self._heap if self._tickets.get(entry[2]) == entry[1]]
            heapq.heapify(self._heap)

    def remove(self, strand: Strand) -> None:
        """It is neither ready nor waiting any more, if it was."""
        if strand.state is State.WAITING:
            del self._tickets[strand]
        elif strand.state is State.READY:
            group = self._group_of.pop(strand)
            del self._groups[group][strand]
            if not self._groups[group]:
                del self._groups[group], self._times[group]
        else:
            return
        strand.state = State.IDLE

    def due(self, now: float) -> list[Strand]:
        """Strands whose wait has ended; they are IDLE now."""
        found = []
        while (at := self.next_wake()) is not None and at <= now:
            strand = self._heap[0][2]
            self.remove(strand)
            found.append(strand)
        return found

    def take(self, now: float, maximum: int = 1, minimum: int = 1, patience: Patience = (0.0, 0.0)) -> list[Strand]:
        """The next batch: strands of one group, at most `maximum`; they are IN_FLIGHT now. Empty = none is ready.

        A group of fewer than `minimum` is left to grow, while it does and as long as `patience` says.
        """
        for group in self._in_turn(maximum):
            if len(self._groups[group]) < minimum and now < _ripe(self._times[group], patience):
                continue
            strands = self._groups.pop(group)
            batch: list[Strand] = []
            while strands and len(batch) < maximum:
                strand, _ = strands.popitem(last=False)
                del self._group_of[strand]
                first = strand.items[0]
                if first.tries.not_before > now:  # its failure has turned out to be its own meanwhile
                    self.wait(strand)
                    continue
                strand.state = State.IN_FLIGHT
                first.start(now)
                if first.tries.retry:
                    self._retrying.add(strand)
                batch.append(strand)
            if strands:
                self._groups[group] = strands  # behind the other groups: they take turns
                self._times[group] = (now, now)
            else:
                del self._times[group]
            if batch:
                self._taken += 1
                self._since_retry = 0 if group[0] else self._since_retry + 1
                return batch
        return []

    def _in_turn(self, maximum: int) -> list[_Group]:
        """Groups take turns; those of events that have failed before come last, but now and then first."""
        retries_first = self._since_retry >= RETRY_TURN - 1 and len(self._retrying) < self._max_retries * maximum
        rank = self._rank
        if rank is None or self._taken % RETRY_TURN == RETRY_TURN - 1:
            return sorted(self._groups, key=lambda group: group[0] != retries_first)
        return sorted(self._groups, key=lambda group: (group[0] != retries_first, rank(group[1])))

    def landed(self, strand: Strand) -> None:
        """Its request has ended."""
        self._retrying.discard(strand)

    def next_ripe(self, patience: Patience) -> float | None:
        """When the first group need not grow any more; None = there is nothing to `take`."""
        return min((_ripe(times, patience) for times in self._times.values()), default=None)

    def next_wake(self) -> float | None:
        """When the first waiting strand becomes ready; None = none waits."""
        while self._heap and self._tickets.get(self._heap[0][2]) != self._heap[0][1]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def has_ready(self, now: float, origin: Origin | None = None) -> bool:
        """Is there anything to `take`, of this origin? (A wait that has ended counts, whatever it leads to.)"""
        wake = self.next_wake()
        ready = any(origin in (None, strand.origin) for strands in self._groups.values() for strand in strands)
        return ready or (wake is not None and wake <= now)
