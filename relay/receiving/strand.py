"""A strand: the events of one key that are here, oldest first, and what it is doing. Pure; `strands.py` keeps them."""

import collections
import enum
import itertools
from collections.abc import Callable, Iterator

from relay.delivery import Event, Tries

Receipt = Callable[[], None]  # acknowledges the event to RabbitMQ; made by the session, never called here


class Origin(enum.Enum):
    """The queue that a strand's events come from. Of one key there may be a strand of each."""

    MAIN = "main"
    PARKED = "parked"  # they are being delivered from the parking lot


class State(enum.Enum):
    """What a strand is doing."""

    IDLE = "idle"  # nothing: it is about to be listed, or is empty
    READY = "ready"  # for a worker
    WAITING = "waiting"  # for the time of its next try
    BLOCKED = "blocked"  # by a truncate of its table
    IN_FLIGHT = "in flight"  # its first event is with a worker
    HELD = "held"  # somebody else decides when it goes on
    HELD_IN_FLIGHT = "held, in flight"  # its first event is with a worker, and it will be HELD afterwards


class Item:
    """An event in its strand."""

    __slots__ = ("arrived", "event", "number", "proves", "receipt", "since", "strand", "stretch", "tries")

    def __init__(
        self,
        event: Event,
        receipt: Receipt | None,
        strand: "Strand",
        *,
        stretch: int = 0,
        number: int = 0,
        arrived: float = 0.0,
        tries: Tries | None = None,
    ) -> None:
        self.event = event
        self.receipt = receipt  # None: a ghost, its channel is gone, there is nothing to acknowledge
        self.strand = strand
        self.stretch = stretch  # of its table, between two truncates
        self.number = number  # order of arrival
        self.arrived = arrived  # monotonic seconds: when it came from its queue
        self.proves = True  # once delivered, a copy of it need not be: nobody else was at work since it was begun
        self.since = 0.0  # monotonic seconds: when it was given to a worker
        self.tries = tries or Tries()

    @property
    def is_deleted(self) -> bool:
        """Is an event behind it, in its strand, that deletes its row?"""
        return any(one.event.op == "delete" and one.event.key == self.event.key for one in self.strand.behind)

    def take_receipt(self) -> Receipt | None:
        """Whoever else holds the item must not acknowledge it a second time: without a receipt it is a ghost."""
        receipt, self.receipt = self.receipt, None
        return receipt

    def start(self, now: float) -> None:
        """It is given to a worker."""
        self.since = now

    def inherit(self, tries: Tries | None) -> None:
        """What a copy of it has been through; None = nothing is known of one."""
        self.tries = tries or self.tries

    def prove_nothing(self) -> None:
        """Another receiver may be at work on it, too: that it was delivered will not make its copies superfluous."""
        self.proves = False


class Strand:
    """The events of one key.

    Args:
        key: its name: the key, or a made-up one (`Strands.strand_key`).
        origin: the queue that they come from.
    """

    __slots__ = ("items", "key", "origin", "state", "woken")

    def __init__(self, key: str, origin: Origin = Origin.MAIN) -> None:
        self.key = key
        self.origin = origin
        self.items: collections.deque[Item] = collections.deque()
        self.state = State.IDLE
        self.woken = False  # what it would wait for, should this try fail, has come

    @property
    def is_in_flight(self) -> bool:
        """Is its first event with a worker?"""
        return self.state is State.IN_FLIGHT or self.state is State.HELD_IN_FLIGHT

    @property
    def is_held(self) -> bool:
        """Does somebody else decide when it goes on?"""
        return self.state is State.HELD or self.state is State.HELD_IN_FLIGHT

    @property
    def behind(self) -> Iterator[Item]:
        """All but the first."""
        return itertools.islice(self.items, 1, None)

    def hold(self) -> None:
        """It rests from now on, or from the end of its request on."""
        self.state = State.HELD_IN_FLIGHT if self.is_in_flight else State.HELD

    def let_go(self) -> None:
        """It need not rest any more."""
        if self.is_held:
            self.state = State.IN_FLIGHT if self.is_in_flight else State.IDLE

    def land(self) -> None:
        """The request of its first event has ended."""
        if self.is_in_flight:
            self.state = State.HELD if self.is_held else State.IDLE
        self.woken = False

    def wake(self) -> None:
        """What it would wait for has come; that counts for a request under way."""
        self.woken = self.is_in_flight

    def move_to(self, origin: Origin) -> None:
        """What is under way counts as that queue's."""
        self.origin = origin
