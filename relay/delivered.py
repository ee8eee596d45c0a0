"""Which events this process has delivered: a copy of one need only be acknowledged. Pure."""

import collections
import dataclasses
import itertools

from relay.delivery import Event


@dataclasses.dataclass(frozen=True, slots=True)
class _Known:
    lane: str
    table: str
    barrier: bool

    def has_order_with(self, other: "_Known") -> bool:
        same_table = bool(self.table) and self.table == other.table
        return self.lane == other.lane or (same_table and (self.barrier or other.barrier))


class Delivered:
    """The ids of the newest ones, `most` at most."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: collections.OrderedDict[str, _Known] = collections.OrderedDict()

    def __contains__(self, event_id: str) -> bool:
        return event_id in self._known

    def add(self, event: Event, lane: str) -> None:
        """It was delivered just now.

        If it was before, too, then it came as a new message of a listener that had crashed, and what followed it comes
        again as well. That must be delivered again, or the target would be left with the older state.
        """
        mine = _Known(lane, event.table, event.is_barrier)
        if event.id in self._known:
            later = itertools.takewhile(lambda each: each[0] != event.id, reversed(self._known.items()))
            for event_id in [event_id for event_id, known in later if known.has_order_with(mine)]:
                del self._known[event_id]
            self._known.move_to_end(event.id)
        self._known[event.id] = mine
        if len(self._known) > self._most:
            self._known.popitem(last=False)
