"""What the receiving half passes around: an event, one delivery of it, and how the delivery went.

Targets are siblings that know nothing but these types; the receiving half knows nothing of HTTP or Odoo.
"""

import dataclasses
import enum
import hashlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from relay.findings import Finding

VALUE = 160  # bytes that a value of JSON takes in Python at most, where there are many: {"": 0}


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Event:
    """One message of the queue.

    Foreign publishers are welcome: every field but `body` and `topic` may be empty, and `body` need not be JSON.
    """

    body: bytes
    topic: str  # the routing key
    id: str = ""
    op: str = ""  # insert update delete truncate snapshot message notify
    key: str = ""  # its order is kept among events of the same key; empty = no order
    table: str = ""  # schema.table; empty for an application's own events
    seq: int = 0  # 0 = not from the outbox
    content_type: str = ""
    content_encoding: str = ""  # of the body, as its publisher wrote it: gzip; or a charset
    timestamp: int = 0  # seconds since the epoch; 0 = unknown
    aside: bytes = b""  # its properties as they came, if they hold more than the above; see relay/receiving/codec.py
    problem: str = ""  # what about it can't be read: it is refused without being sent
    handle: str = ""  # what people call it by, in the parking lot
    redelivered: bool = False  # the broker has handed it out before, to us or to a receiver before us
    slot: str = ""  # of its key, as its publisher wrote it: by that RabbitMQ has chosen the lane
    claimed_id: str | None = None  # not signed as SIGN_EVENTS wants it: the id it came with. None = in order
    values: int = 0  # that its body has, if it is JSON; at most, and only where that is much

    @property
    def is_barrier(self) -> bool:
        """All earlier events of its table go before it, all later ones after it."""
        return self.op == "truncate" and bool(self.table)

    @property
    def size(self) -> int:
        """Bytes it is counted with in the window: the body, and about what the objects of and around it take."""
        return len(self.body) + len(self.aside) + 1500 + VALUE * self.values


STRAND_MAX = 1000  # bytes that a strand's name takes: it travels in a header, beside the key itself


def memory(text: str) -> int:
    """Bytes that a text takes: Python has one, two or four for each of its characters."""
    widest = max(text, default="")
    return len(text) * (1 if widest < "\u0100" else 2 if widest < "\U00010000" else 4)


def cut(text: str, maximum: int) -> str:
    """As much of a text as takes so many bytes."""
    size = memory(text)
    return text if size <= maximum else text[: maximum * len(text) // size]


def strand_name(text: str) -> str:
    """The strand for a key, or of a header that names one."""
    if memory(text) <= STRAND_MAX:
        return text
    return f"\0={hashlib.sha256(text.encode()).hexdigest()}"


def key_name(key: str) -> str:
    """A key as people see it, and name it: a long one is shortened. Any publisher can make many of them."""
    if memory(key) <= STRAND_MAX:
        return key
    return f"{cut(key, STRAND_MAX)}... (sha256 {hashlib.sha256(key.encode()).hexdigest()[:32]})"


@dataclasses.dataclass(slots=True, eq=False)
class Tries:
    """What an event has been through. Its copies (delivered again, or from the parking lot) share it."""

    attempts: int = 0  # that were spent
    failed_tries: int = 0  # whoever was to blame
    reason: str = ""  # of the last one
    not_before: float = 0.0  # monotonic seconds: when its next try may be
    asked: bool = False  # a person asked for this one try, and wants to know how it went
    unclear_at: float = 0.0  # when it last failed so that only evidence could tell why, monotonic seconds
    retry: bool = False  # it has failed by itself: events that have not go first, mostly
    running_until: float = 0.0  # monotonic seconds: its last request may still run on the server until then

    def failed(self, reason: str, *, retry: bool, running_until: float) -> None:
        """It was tried in vain. `retry`: it has failed by itself. `running_until`: the request may still run."""
        self.failed_tries += 1
        self.reason, self.retry, self.running_until = reason, retry, running_until

    def refuse(self, reason: str) -> None:
        """It is refused without having been tried."""
        self.reason = reason

    def spend(self, attempts: int = 1) -> None:
        """It was its own failure."""
        self.attempts += attempts

    def seem_unclear(self, now: float) -> None:
        """Only evidence could tell why it failed."""
        self.unclear_at = now

    def wait_as_own(self, not_before: float) -> None:
        """Its failure has turned out to be its own: it waits for that."""
        self.not_before, self.retry = not_before, True

    def postpone(self, not_before: float, *, spent: bool) -> None:
        """It has failed, and is not tried before this time. `spent`: one of its attempts."""
        self.attempts += spent
        self.not_before = not_before

    def await_end(self, running_until: float) -> None:
        """A request for it may still run on the server until then, monotonic seconds."""
        self.running_until = max(self.running_until, running_until)
        self.not_before = max(self.not_before, self.running_until)

    def ask(self, attempts: int) -> None:
        """A person wants one try, now: so many attempts are spent, and the last one is left."""
        self.attempts, self.not_before = attempts, self.running_until
        self.asked, self.retry = True, False

    def end_wait(self, now: float) -> None:
        """It may be tried at once, and before others; but not beside a request that may still run: that could end
        last, behind later events of the row.
        """
        self.not_before, self.retry = max(now, self.running_until), False


def _never() -> bool:
    return False


@dataclasses.dataclass(frozen=True, slots=True)
class Delivery:
    """One try to deliver an event. `attempt` counts from 1.

    `is_deleted`: has a later event come that deletes the row?
    """

    event: Event
    attempt: int
    is_deleted: Callable[[], bool] = dataclasses.field(default=_never, compare=False)


class Verdict(enum.Enum):
    """How a delivery went, or whose failure it was where the answer itself is a sure sign of that."""

    DONE = "done"
    MESSAGE = "message"  # surely this message's: no other would have failed
    ENDPOINT = "endpoint"  # surely the endpoint's: every other would have failed as well
    UNCLEAR = "unclear"  # evidence must decide: did anything else succeed?
    CONFLICT = "conflict"  # neither's: a lock, a link that has not arrived yet. Again, and no attempt is spent


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one event.

    Args:
        verdict: see there.
        reason: short, printable; never a payload or a secret. It goes into logs and the parking lot.
        wait: seconds that the endpoint asked us to wait (Retry-After); 0 = it did not.
        login: the endpoint does not accept our credentials: knock seldom, or the account is locked.
        running: the request may still run on the server: seconds until it surely does not.
        likely: with ENDPOINT: by all signs, but one event alone may meet it as well; evidence decides.
        final: never again by itself: the endpoint may have done half of it. It is parked at once.
        told: its target has said so already, in one line for all events of a request.
        shows: something about the endpoint. False = it was not asked: that says nothing of whether it works.
        wakes: events that wait for what has happened here: they are tried at once.
    """

    verdict: Verdict
    reason: str = ""
    wait: float = 0.0
    login: bool = False
    running: float = 0.0
    likely: bool = False
    final: bool = False
    shows: bool = True
    told: bool = dataclasses.field(default=False, compare=False)
    wakes: tuple[Event, ...] = dataclasses.field(default=(), compare=False)


DONE = Outcome(Verdict.DONE)
NOT_TRIED = Outcome(Verdict.CONFLICT, "not tried")
"""Nothing was sent for it: it may not be ours to deliver any more."""


def always() -> bool:
    """Whatever is to be sent is ours to send: where nobody else could be at work."""
    return True


class Link(Protocol):
    """A target's connection, owned by one worker: it is asked for one thing after another."""

    async def deliver(self, batch: Sequence[Delivery]) -> Sequence[Outcome]:
        """Deliver up to `batch_size` events of one group, no two of one key. Return an outcome for each, in order.

        Foreseen failures are outcomes; an exception is a defect.
        """
        ...

    async def probe(self) -> Outcome | None:
        """Ask the endpoint whether it works, without delivering anything. None = there is no way to ask."""
        ...

    def close(self) -> None:
        """Close what is open. It may be used again afterwards."""
        ...


@runtime_checkable
class MapsRows(Protocol):
    """A target that makes records of rows, by a mapping."""

    def check_match(self, table: str, rows: Iterable[str]) -> AsyncIterator[Finding]:
        """How many of these rows (each in JSON) are there already, without changing anything."""
        ...

    def check_columns(self, table: str, columns: str) -> AsyncIterator[Finding]:
        """Does the mapping fit a table's columns, as CREATE TABLE has them? Raises ConfigError: they can't be read."""
        ...


class Want(NamedTuple):
    """A row of a watched table: its name, as events have it, and its key, as JSON."""

    table: str
    key: str


@runtime_checkable
class Asks(Protocol):
    """A target whose events may wait for rows that can be asked for."""

    def wants(self) -> Sequence[Want]:
        """The rows to be asked for now; each again later, if it does not come. Quick, never raises."""
        ...

    def heard(self, want: Want, *, is_there: bool) -> Sequence[Event]:
        """It is on its way, or there is no such row. Return the events that need not wait for it any more."""
        ...

    def unheard(self, wants: Sequence[Want]) -> None:
        """There was no answer."""
        ...


@runtime_checkable
class Ranked(Protocol):
    """A target some of whose events go before others, where both are ready."""

    def rank(self, group: str) -> int:
        """Of a group of Target.group; the least goes first. Quick, never raises."""
        ...


class Target(Protocol):
    """Where events go to. Shared by all workers; `open` gives each its own link."""

    batch_size: int

    def group(self, event: Event) -> str:
        """Events of one group may share a request. Quick, never raises."""
        ...

    def open(self, may_begin: Callable[[], bool] = always) -> Link:
        """Called by each worker once.

        Args:
            may_begin: to be asked right before a request is written. If it says no, what is not sent is NOT_TRIED.
        """
        ...

    def describe(self, event: Event) -> Sequence[str]:
        """Lines for a person: what it makes of an event, beside the request. Nobody is asked."""
        ...

    def check(self) -> AsyncIterator[Finding]:
        """Look whether the endpoint and the settings fit each other, without changing anything."""
        ...
