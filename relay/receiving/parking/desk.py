"""What the dispatcher asks of the parking half: where a refused event goes, and what waits for its next try there."""

import time
from collections.abc import Collection

from relay.log import Log
from relay.receiving.parking.index import ParkedIndex, Why
from relay.receiving.parking.park import Park
from relay.receiving.parking.unpark import Unpark
from relay.receiving.strand import Item, Origin
from relay.receiving.strands import Strands

_log = Log("receiver")


class ParkingDesk:
    """Sends an event the way that its queue asks for.

    Args:
        prefetch: events of the main window; a strand in trouble may hold a quarter.
    """

    def __init__(self, strands: Strands, index: ParkedIndex, park: Park, unpark: Unpark, prefetch: int) -> None:
        self._strands = strands
        self._index = index
        self._park = park
        self._unpark = unpark
        self._prefetch = prefetch

    def give_up(self, item: Item, reason: str, now: float) -> None:
        """Its last attempt has failed."""
        event = item.event
        _log.error(
            "event refused and parked",
            event=event.id or None,
            key=event.key or None,
            table=event.table or None,
            attempts=item.tries.attempts,
            reason=reason,
        )
        if item.strand.origin is Origin.PARKED:
            self._strands.set_aside(item)
            self._unpark.failed(item, Why.DEAD, now)
        else:
            self._park.give_up(item)

    def still_waits(self, item: Item) -> bool:
        """Has nothing become of it since it failed?"""
        strand = item.strand
        if strand.origin is Origin.PARKED:
            return self._unpark.still_waits(item)
        return bool(strand.items) and strand.items[0] is item and not (strand.is_held or strand.is_in_flight)

    def waits(self, item: Item) -> None:
        """It has failed, and waits for its next try."""
        self._index.put_off(item.strand.key, item.tries)  # its request took so long that it went in meanwhile
        if item.receipt is None:
            return
        if item.strand.origin is Origin.PARKED:
            self._unpark.failed(item, Why.OVERFLOW, time.monotonic())
        elif len(item.strand.items) > self._prefetch // 4:
            self._park.overflow(time.monotonic())  # of many small strands the next tick takes care

    def wake(self, strands: Collection[str], now: float) -> None:
        """What they wait for has come."""
        self._unpark.join(self._index.wake(strands, now))
