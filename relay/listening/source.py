"""What the relay of the outbox asks of a database: the seam between it and PostgreSQL, or a polled source.

Every call but `seen` and `rest` sends one statement, only when none is under way, and is answered on the loop. What a
statement that the database refuses means is the source's matter: mostly it ends the session.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from relay.listening.event import OutboxEvent, Row, group
from relay.listening.gaps import NOTHING, Seen
from relay.listening.inlet import Inlet, Text

Rows = list[tuple[Any, ...]]


class Held(NamedTuple):
    """A row that was not to be published when it was read: no body came with it."""

    seq: int
    table: str | None
    key: str | None
    topic: str
    error: str | None

    @property
    def group(self) -> str:
        """As `OutboxEvent.group`."""
        return group(self.table, self.topic)


class Read(NamedTuple):
    """What one read found."""

    xmin: int
    """Every transaction below it has ended; 0 of a source that does not tell."""
    seqs: list[int]
    events: list[OutboxEvent]
    held: list[Held]
    whole: bool
    """No limit cut anything off."""
    snapshot: str = NOTHING
    """Whose rows it could see, as pg_snapshot; nobody's, of a source that does not tell."""


class Passed(NamedTuple):
    """Rows of one group that wait, passed together."""

    seq: int
    """The lowest one's."""
    table: str | None
    topic: str | None
    is_behind: bool
    """Their keys wait as well: behind events that were refused."""

    @property
    def group(self) -> str:
        """As `OutboxEvent.group`."""
        return group(self.table, self.topic or "")


class Skipped(NamedTuple):
    """Rows that wait, one after the other, up to the first that does not."""

    seqs: list[int]
    passed: list[Passed]
    full: bool
    """There were as many as could be passed at a time."""


class Waits(NamedTuple):
    """Rows of these keys, tables, topics wait."""

    keys: list[str]
    tables: list[str]
    topics: list[str]


class Wanted(NamedTuple):
    """What a read is to find: rows not seen yet, in their order. Held ones come without their bodies."""

    most: int
    most_bytes: int
    keys: list[str]
    tables: list[str]
    topics: list[str]


class Deleted(NamedTuple):
    """What became of rows that were to be deleted.

    Args:
        xid: a transaction id of this statement's; 0 = none.
        mine: was it still this session's turn? If not, nothing was deleted.
        gone: how many rows there were.
    """

    xid: int
    mine: bool
    gone: int


class Rest(Protocol):
    """When to read, and how to wait for more."""

    must_read: bool

    @property
    def told(self) -> str:
        """How it is woken, for `status`."""

    def wake(self) -> None:
        """There is, or may be, something to read."""

    def reading(self) -> None:
        """A read is being sent."""

    def have_read(self, *, found: int, whole: bool, xmin: int) -> None:
        """A read has been taken in, of so many rows. `whole`: nothing is left that it has not come to."""

    def unlock(self) -> bool:
        """Before work: return True if a statement was sent."""

    def step(self) -> bool:
        """Nothing to read: take the next step towards sleep; return True if a statement was sent."""


class Source(Protocol):
    """An open database whose outbox is relayed."""

    @property
    def busy(self) -> bool:
        """Is a statement under way?"""

    @property
    def server(self) -> str:
        """What a person calls it, PostgreSQL for example."""

    @property
    def most(self) -> int:
        """How many rows a read may ask for, just now."""

    def begin(self, again: Callable[[], None]) -> None:
        """A session begins; `again`: called when reading is to be tried again."""

    def seen(self) -> Seen:
        """What a session that begins has seen: nothing."""

    def rest(self, go_on: Callable[[], None]) -> Rest:
        """How it waits. `go_on`: called when there is something to do."""

    def ask_ahead(self, seen: Seen, done: Callable[[], None]) -> bool:
        """Send what must come before the next read; False = nothing must."""

    def read(self, seen: Seen, wanted: Wanted, done: Callable[[Read], None]) -> None:
        """Read what is not seen yet."""

    def skip(self, high: int, waits: Waits, done: Callable[[Skipped], None]) -> bool:
        """See how far all rows above `high` wait; False = this source can't."""

    def probe(self, waiting: str, low: int, keys: list[str], done: Callable[[OutboxEvent | None], None]) -> None:
        """Find the oldest event of a group that waits (`OutboxEvent.group`), from seq `low` on and of no held key."""

    def delete(self, turn: int, batch: Mapping[int, Row], done: Callable[[Deleted], None]) -> None:
        """Delete these rows, which were confirmed; of nothing, it proves that we may, and can."""

    def left(self, batch: Mapping[int, Row], done: Callable[[int], None]) -> None:
        """Count which of them are still there."""

    def refuse(self, seq: int, event_id: str, reason: str, done: Callable[[], None]) -> None:
        """Mark an event that can't be published."""

    def measure(self, most: int, done: Callable[[Rows], None], failed: Callable[[str], None]) -> None:
        """See what waits: rows as of outbox.MEASURE, of at most so many events; or why not."""

    def incomplete(self, done: Callable[[Rows], None], failed: Callable[[str], None]) -> None:
        """Which tables are not, or not all, captured: table, note, remedy; or why that can't be seen."""

    def columns(self, table: str, done: Callable[[Rows], None], failed: Callable[[str], None]) -> None:
        """Of a watched table: name, type, is it never null, is it of the key; or why that can't be seen."""

    def store(self, channels: Sequence[Text], payloads: Sequence[Text], done: Callable[[], None]) -> None:
        """Put plain notifications into the outbox."""


class Opened(Protocol):
    """A source and what surrounds a session's work: whose turn it is, and who else is there."""

    @property
    def name(self) -> str:
        """What tells this source from others."""

    @property
    def source(self) -> Source:
        """What is relayed."""

    async def others(self) -> tuple[bool, int, str | None]:
        """For a standby: does anything wait, a number that changes when something leaves, who else is here."""

    async def take(self, confirmed: "Confirming") -> None:
        """Make it our turn, and end what an earlier session has under way.

        Raises:
            Unavailable: it does not end.
        """

    async def listen(self, inlet: Inlet) -> None:
        """Hear what wakes us; and plain notifications, which go into the inlet."""

    def close(self) -> None:
        """Give everything back; nothing is called any more."""


class Confirming(Protocol):
    """What `take` needs of confirmed.Confirmed."""

    turn: int
    step: int
    last: dict[int, Row]

    def took(self, turn: int) -> None:
        """This is our turn now."""

    def void(self) -> None:
        """What was confirmed is not to be deleted."""
