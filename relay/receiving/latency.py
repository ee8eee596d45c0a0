"""How long events take: from the queue, and from their commit, to the endpoint's success. Lives with the process."""

import datetime
import re
import time

from relay.delivery import Event
from relay.receiving.strand import Item
from relay.status.histogram import Histogram

# How the body of a row's event begins (sql/functions/event_body.sql): there its time has microseconds.
_AT = re.compile(rb'\{"id":"[0-9a-f-]{36}","at":"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?\+00:00)"')


class Latency:
    """Counts what was delivered."""

    def __init__(self) -> None:
        self.from_queue = Histogram()  # since RabbitMQ gave it to this receiver
        self.from_commit = Histogram()

    def delivered(self, item: Item, now: float) -> None:
        """The endpoint has it; `now` in seconds of the dispatcher's clock."""
        self.from_queue.observe(now - item.arrived)
        if at := written(item.event):
            self.from_commit.observe(time.time() - at)


def written(event: Event) -> float:
    """When its row was written: seconds of the epoch, whole ones where only the message says it; 0 = unknown."""
    found = _AT.match(event.body)
    try:
        return datetime.datetime.fromisoformat(found[1].decode()).timestamp() if found else float(event.timestamp)
    except (ValueError, OverflowError):  # the 31st of June
        return float(event.timestamp)
