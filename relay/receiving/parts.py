"""What outlives a session of the receiver: a request does, and so must what knows about it."""

import collections
import dataclasses

from relay.receiving import lease, queues
from relay.receiving.dispatcher import Dispatcher
from relay.receiving.lanes import Lanes
from relay.receiving.parking.index import ParkedIndex
from relay.receiving.status import Status
from relay.receiving.summary import Summary
from relay.receiving.topics import Strays
from relay.receiving.workers import Workers


@dataclasses.dataclass
class Parts:
    """One of each, for the life of the process."""

    lanes: Lanes
    dispatcher: Dispatcher
    workers: Workers
    index: ParkedIndex
    declared: queues.Declared
    strays: Strays
    summary: Summary
    status: Status
    probes: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    holder: lease.Holder = dataclasses.field(default_factory=lease.Holder)
