"""What a new queue is to be filled with (FROM_START): a durable message in QUEUE.fill, from before the queue is made
until the fill is complete.

The last one counts, and of several the one for the newest queue: a receiver may die between any two steps here. Only
who holds the lease writes one.
"""

import asyncio
import dataclasses
import json
from collections.abc import Sequence

from pika.spec import Basic, BasicProperties

from relay.amqp import single
from relay.amqp.replies import NOT_FOUND
from relay.amqp.session import Session
from relay.amqp.topology import looked, sorted_out
from relay.errors import Unavailable
from relay.receiving.lease import declared, fill_name

BODY_MAX, NUMBER_MAX = 1 << 20, 1 << 53  # bytes; a wish's number: more would not be ours


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """How far the fill with one table is.

    Args:
        table: its name.
        after: the key to go on after, as JSON; None = from the beginning.
        done: all of it is sent.
    """

    table: str
    after: str | None = None
    done: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Wish:
    """What is to be sent to one queue. `number`: of the queue made; another one that is made later has a higher one."""

    number: int
    parts: tuple[Part, ...]

    @property
    def is_done(self) -> bool:
        """Is nothing left?"""
        return all(part.done for part in self.parts)

    def at(self, part: Part) -> "Wish":
        """The same, with one table that has come so far."""
        return dataclasses.replace(
            self, parts=tuple(part if part.table == other.table else other for other in self.parts)
        )

    def body(self) -> bytes:
        """As it lies in the queue."""
        return json.dumps(
            {"number": self.number, "tables": [dataclasses.astuple(part) for part in self.parts]}
        ).encode()


def read(body: bytes) -> Wish | None:
    """Read a message of QUEUE.fill; None = somebody else has written it."""
    try:
        found = json.loads(body) if len(body) <= BODY_MAX else {}
        parts = tuple(Part(str(table), None if after is None else str(after), done is True)
                      for table, after, done in found["tables"])  # fmt: skip
        number = found["number"]
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
    return Wish(number, parts) if isinstance(number, int) and 0 <= number <= NUMBER_MAX else None


class Wishes:
    """Lives as long as the process.

    Args:
        queue: the main one.
        tables: FROM_START.
    """

    def __init__(self, queue: str, tables: Sequence[str]) -> None:
        self._name = fill_name(queue)
        self._tables = tuple(dict.fromkeys(tables))
        self._lock = asyncio.Lock()
        self.current: Wish | None = None
        """What is left to be done; None = nothing."""
        self._wanted = asyncio.Event()

    async def wanted(self) -> Wish:
        """Await that something is left to be done; return it."""
        while self.current is None:
            await self._wanted.wait()
        return self.current

    def _is(self, wish: Wish | None) -> None:
        self.current = None if wish is None or wish.is_done else wish
        if self.current is None:
            self._wanted.clear()
        else:
            self._wanted.set()

    async def note(self, session: Session) -> None:
        """The queue is not there, and will be made: all is wished for. Before it is made. Raises RelayError."""
        if not self._tables:
            return
        async with self._lock:
            # Classic: a new quorum queue does not outlive a broker that is killed within seconds.
            refused = await declared(session, self._name, {"x-queue-type": "classic"})
            if refused:
                raise sorted_out(refused, f"queue {self._name}", "empty it, and delete it: receiver.py makes it")
            last = await self._take(session, keep=True)
            # Of two with one number the later one counts.
            wish = Wish(min(last.number + 1, NUMBER_MAX) if last else 1, tuple(map(Part, self._tables)))
            await self._put(session, wish)
            self._is(wish)

    async def load(self, session: Session) -> None:
        """Learn what an earlier process has left. Raises RelayError."""
        async with self._lock:
            if not self._tables and not self.current:
                return
            refused = await looked(session, self._name)
            if refused and refused.code != NOT_FOUND:
                raise sorted_out(refused, f"queue {self._name}")
            self._is(None if refused else await self._take(session, keep=True))

    async def came(self, session: Session, number: int, part: Part) -> None:
        """One table has come so far. Raises RelayError.

        Args:
            number: of the wish; one for an earlier queue is not asked any more.
        """
        async with self._lock:
            if self.current is None or self.current.number != number:
                return
            wish = self.current.at(part)
            if not wish.is_done:
                await self._put(session, wish)
            # Invariant: a wish goes only when a later one is safe, or all of it is done.
            await self._take(session, keep=not wish.is_done)
            self._is(wish)

    async def _put(self, session: Session, wish: Wish) -> None:
        properties = BasicProperties(delivery_mode=2, content_type="application/json")
        method = await single.put(session, self._name, wish.body(), properties, f"writing to {self._name}")
        if not isinstance(method, Basic.Ack):
            raise Unavailable(f"queue {self._name} does not take what is to be filled in", "is there a policy for it?")

    async def _take(self, session: Session, *, keep: bool) -> Wish | None:
        """Take all messages out, but for the newest if `keep`; return that."""
        channel = await session.open_channel()
        newest, tags, newest_tag = None, list[int](), 0
        while found := await single.get(session, channel, self._name):
            tags.append(found[0].delivery_tag)
            wish = read(found[2])
            if wish is not None and (newest is None or wish.number >= newest.number):
                newest, newest_tag = wish, found[0].delivery_tag
        for tag in tags:
            if not (keep and tag == newest_tag):
                channel.basic_ack(tag)
        await session.close_channel(channel)
        return newest
