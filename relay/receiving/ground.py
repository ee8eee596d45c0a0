"""What everything that reads one of our queues works with."""

import dataclasses

from relay.amqp.session import Session
from relay.receiving.codec import Reader
from relay.receiving.fence import Fence
from relay.receiving.strands import Strands


@dataclasses.dataclass(frozen=True, slots=True)
class Ground:
    """For one session.

    Args:
        queue: its name.
        reader: makes events of its messages.
        strands: what is here of it; they outlive the session.
    """

    session: Session
    fence: Fence
    queue: str
    reader: Reader
    strands: Strands
