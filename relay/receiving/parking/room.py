"""What all parts of the parking lot work with."""

import dataclasses

from relay.receiving.ground import Ground
from relay.receiving.parking.codec import ParkedReader
from relay.receiving.parking.index import ParkedIndex


@dataclasses.dataclass(frozen=True, slots=True)
class Room(Ground):
    """Its queue, and what lies there.

    Args:
        index: outlives the session, as the strands do.
    """

    reader: ParkedReader
    index: ParkedIndex
