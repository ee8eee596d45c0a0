"""The parking lot as one session has it: the way in, the way out, and whether it holds what it should."""

from collections.abc import Callable

from relay.config import Receive
from relay.log import Log
from relay.receiving.parking.desk import ParkingDesk
from relay.receiving.parking.park import Park
from relay.receiving.parking.recount import Recount
from relay.receiving.parking.room import Room
from relay.receiving.parking.unpark import Unpark

COUNT_SECONDS = 5.0  # between two looks whether the parking lot holds what it should
COUNT_SOON = 0.25  # the same, while that is in doubt

_log = Log("receiver")


class ParkingLot:
    """Joins the parts of the parking lot.

    Args:
        on_park: called when something was put in, and when something may be started.
        on_change: called when a sweep has something to be started, or has ended.
    """

    def __init__(
        self, config: Receive, room: Room, *, on_park: Callable[[], None], on_change: Callable[[], None]
    ) -> None:
        size = config.prefetch_mb << 20
        self._index = room.index
        self._maximum = config.parked_max
        self._was_full = False
        self._count_at = 0.0  # monotonic seconds
        self.is_used = config.order != "global"
        self.park = Park(room, (config.prefetch, size), on_park, is_lane=config.lane is not None)
        self.recount = Recount(room, self.park)
        self.unpark = Unpark(room, self.park, self.recount, budget=size, on_change=on_change)
        self.desk = ParkingDesk(room.strands, room.index, self.park, self.unpark, config.prefetch)

    @property
    def is_full(self) -> bool:
        """Too much waits for a person: something is wrong that is not one event's."""
        index = self._index
        full = index.dead >= self._maximum or index.is_full or self.recount.is_cut_off
        if full and not self._was_full:
            what = "the parking lot is full, pausing -> receiver.py parked, then replay or discard"
            _log.error(what, refused_keys=index.dead, events=index.events)
        elif self._was_full and not full:
            _log.info("the parking lot has room again", refused_keys=index.dead, events=index.events)
        self._was_full = full
        return full

    def make_room(self, now: float, *, full: bool) -> None:
        """Let strands in trouble that crowd the window go. `full`: others wait outside."""
        if self.is_used:
            self.park.overflow(now, full=full)

    def count_is_due(self, now: float) -> bool:
        """Is it time for `compare`? `now`: monotonic seconds."""
        return self.is_used and now >= self._count_at and not self.unpark.active

    async def compare(self, now: float) -> None:
        """Does it hold what it should? From the main flow. Raises RelayError."""
        await self.recount.compare()
        self._count_at = now + (COUNT_SOON if self.recount.is_doubtful else COUNT_SECONDS)
