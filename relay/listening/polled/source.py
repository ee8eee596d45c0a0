"""A polled database as the source: each call is one visit of the thread that owns the connection."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from relay.amqp.session import Session
from relay.database_url import SQLITE, PolledUrl
from relay.listening.event import OutboxEvent, Row
from relay.listening.gaps import Seen
from relay.listening.inlet import Text
from relay.listening.polled import look
from relay.listening.polled.expressions import Sizes
from relay.listening.polled.message import Messages
from relay.listening.polled.outbox_table import OutboxTable
from relay.listening.polled.poll import Poll
from relay.listening.polled.reads import Asked, Driver, Reads, fetch
from relay.listening.polled.seen import MOST_RANGES, PolledSeen
from relay.listening.polled.statements import CHUNK, Statements, padded
from relay.listening.polled.unreachable import of_driver
from relay.listening.polled.worker import Worker
from relay.listening.source import Deleted, Read, Rows, Skipped, Waits, Wanted

READ_ROWS = 1000  # most rows of one read


class Polled:
    """See source.Source.

    Args:
        session: its timers and its end.
        url: for what is said of an error.
        worker: owns the connection.
        statements: of the table.
        table: what is relayed.
        name: of the source.
        poll_interval: POLL_INTERVAL, the longest wait.
    """

    most = READ_ROWS

    def __init__(
        self, session: Session, url: PolledUrl, worker: Worker, statements: Statements, table: OutboxTable, name: str,
        poll_interval: float,
    ) -> None:  # fmt: skip
        self._session = session
        self._url = url
        self._worker = worker
        self._statements = statements
        self._table = table
        self._messages = Messages(table, name, in_bytes=url.kind == SQLITE)
        self._reads = Reads(url.kind, statements, self._messages)
        self._poll_interval = poll_interval
        self._seen = PolledSeen()

    @property
    def server(self) -> str:
        """See Source."""
        return self._url.product

    @property
    def busy(self) -> bool:
        """See Source."""
        return self._worker.busy

    def begin(self, again: Callable[[], None]) -> None:
        """See Source. A row that can't be read is one event with a flaw: no read is tried again for it."""

    def seen(self) -> Seen:
        """See Source."""
        self._seen = PolledSeen()
        return self._seen

    def rest(self, go_on: Callable[[], None]) -> Poll:
        """See Source."""
        return Poll(self._session, self._poll_interval, lambda: self._reads.cost, go_on)

    def ask_ahead(self, seen: Seen, done: Callable[[], None]) -> bool:  # noqa: ARG002 - as Source
        """See Source."""
        return False

    # -- reading -----------------------------------------------------------------------------------------------

    def read(self, seen: Seen, wanted: Wanted, done: Callable[[Read], None]) -> None:
        """See Source."""
        asked = Asked(wanted, seen.high, self._seen.unseen.copy())

        def have_read(answer: tuple[Read, bool]) -> None:
            found, is_empty = answer
            if is_empty:
                seen.rewind(1)  # from the beginning: whatever comes was not read
            done(found)

        self._run(lambda driver: self._reads.read(driver, asked), have_read)

    def skip(self, high: int, waits: Waits, done: Callable[[Skipped], None]) -> bool:
        """See Source."""
        self._run(lambda driver: self._reads.skip(driver, high, waits), done)
        return True

    def probe(self, waiting: str, low: int, keys: list[str], done: Callable[[OutboxEvent | None], None]) -> None:
        """See Source."""
        kind, _, group = waiting.partition(" ")
        size, given = padded("key", keys)
        given |= {"low": low, "group": group}
        statement = self._statements.probe(Sizes(keys=size), of_table=kind == "table")

        def probe(driver: Driver) -> OutboxEvent | None:
            first, names = fetch(driver, statement, given)
            found = self._messages.of(first[0], names) if first else None
            return found if isinstance(found, OutboxEvent) else None

        self._run(probe, done)

    # -- what is done to rows ----------------------------------------------------------------------------------

    def delete(self, turn: int, batch: Mapping[int, Row], done: Callable[[Deleted], None]) -> None:
        """See Source."""
        if not self._table.is_own or len(self._seen.unseen) > MOST_RANGES:
            self._seen.forget(batch)

        def delete(driver: Driver) -> Deleted:
            chunks = list(_chunks(batch)) or [{0: Row("", 0, 0)}]  # of nothing: may we, and can we?
            gone = sum(self._delete(driver, turn, chunk) for chunk in chunks)
            mine = gone == len(batch) > 0 or self._is_mine(driver, turn)
            return Deleted(0, mine, gone)

        self._run(delete, done)

    def _delete(self, driver: Driver, turn: int, batch: Mapping[int, Row]) -> int:
        return execute(driver, *self._statements.deletion(batch, turn))

    def _is_mine(self, driver: Driver, turn: int) -> bool:
        if not self._table.is_own:
            return True  # whoever takes the lock ends our session
        ((now,),) = rows(driver, look.turn(self._url))
        return bool(now == turn)

    def left(self, batch: Mapping[int, Row], done: Callable[[int], None]) -> None:
        """See Source."""

        def left(driver: Driver) -> int:
            found = 0
            for chunk in _chunks(batch):
                size, given = padded("seq", list(chunk))
                given |= padded("id", [row.id for row in chunk.values()])[1]
                found += int(fetch(driver, self._statements.left(size), given)[0][0][0])
            return found

        self._run(left, done)

    def refuse(self, seq: int, event_id: str, reason: str, done: Callable[[], None]) -> None:
        """See Source."""
        statement = self._statements.refuse

        def refuse(driver: Driver) -> None:
            if statement is not None:
                execute(driver, statement.text, statement.values({"seq0": seq, "id0": event_id, "reason": reason}))

        self._run(refuse, lambda _nothing: done())

    # -- looking -----------------------------------------------------------------------------------------------

    def measure(self, most: int, done: Callable[[Rows], None], failed: Callable[[str], None]) -> None:
        """See Source."""

        def measure(driver: Driver) -> Rows:
            counted, _names = fetch(driver, self._statements.measure, {"most": most})
            return look.measured(counted, rows(driver, look.now(self._url)))

        self._run(measure, done, failed)

    def incomplete(self, done: Callable[[Rows], None], failed: Callable[[str], None]) -> None:
        """See Source."""
        self._run(lambda driver: look.incomplete(self._url, self._table, driver), done, failed)

    def columns(self, table: str, done: Callable[[Rows], None], failed: Callable[[str], None]) -> None:  # noqa: ARG002
        """See Source."""
        answer = failed
        answer(f"{self.server} is not asked for columns: write the mapping by hand (docs/odoo.md)")

    def store(self, channels: Sequence[Text], payloads: Sequence[Text], done: Callable[[], None]) -> None:  # noqa: ARG002
        """See Source. No polled source notifies."""
        done()

    def _run(
        self, call: Callable[[Driver], Any], done: Callable[[Any], None], failed: Callable[[str], None] | None = None
    ) -> None:
        def answered(result: Any, error: BaseException | None) -> None:
            if error is None:
                done(result)
                return
            found = of_driver(self._url, error)
            if failed is not None and not look.is_lost(error):
                failed(found.what)
            else:
                self._session.fail(found)

        self._worker.run(call, answered)


def _chunks(batch: Mapping[int, Row]) -> list[dict[int, Row]]:
    rows = list(batch.items())
    return [dict(rows[at : at + CHUNK]) for at in range(0, len(rows), CHUNK)]


def execute(driver: Driver, text: str, values: Any) -> int:
    """Run a statement; return how many rows it has met."""
    cursor = driver.cursor()
    try:
        cursor.execute(text, values) if values else cursor.execute(text)
        return int(cursor.rowcount)
    finally:
        cursor.close()


def rows(driver: Driver, sql: str) -> Rows:
    """Run a text; return its rows."""
    cursor = driver.cursor()
    try:
        cursor.execute(sql)
        return list(cursor.fetchall())
    finally:
        cursor.close()
