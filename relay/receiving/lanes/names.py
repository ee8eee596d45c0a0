"""What the lanes of a queue are called in RabbitMQ.

A generation is N queues behind one exchange. To have another N is to make another generation; the queue that has no
lanes is generation 0.
"""

from typing import NamedTuple


def plan_name(base: str) -> str:
    """The durable queue that says which generation is in force. `base`: QUEUE."""
    return f"{base}.lanes"


def lease_name(base: str) -> str:
    """The lease of whoever changes the number of lanes."""
    return f"{base}.lanes.lease"


class Generation(NamedTuple):
    """The queues that are worked on together.

    Args:
        base: QUEUE.
        number: counts the changes; 0 = the queue itself.
        lanes: how many queues there are.
    """

    base: str
    number: int
    lanes: int

    @property
    def exchange(self) -> str:
        """It gives each event to the queue of its key. Generation 0 has none."""
        return f"{self.base}.lanes.{self.number}"

    @property
    def rest(self) -> str:
        """The exchange of what has no slot: other publishers' messages."""
        return f"{self.exchange}.rest"

    def lane_of(self, slot: str) -> int:
        """The lane of a slot; of what has none, the first."""
        return int(slot) % self.lanes if slot else 0

    @property
    def queues(self) -> list[str]:
        """Their names, in the order of the lanes, which is also that of the names."""
        return [f"{self.exchange}.{lane:02}" for lane in range(self.lanes)] if self.number else [self.base]

    @property
    def mark(self) -> str:
        """A queue that is there when a key went to another lane than before."""
        return f"{self.exchange}.broken"

    def __str__(self) -> str:
        if not self.number:
            return f"queue {self.base} without lanes"
        return f"the {self.lanes} lanes of {self.base} (generation {self.number})"
