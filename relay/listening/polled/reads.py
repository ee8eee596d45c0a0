"""How a polled outbox is read: what is new, what commits late between rows that were read, what only waits.

One statement reads what is new and looks into all gaps: it sees a row's change only together with those before it.
Where gaps are too many for that, they are looked at after what is new was read, the highest first. So whatever stands
before a row that was found is found as well: it was committed before that one was written, and is looked for later.
"""

import itertools
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from relay.database_url import SQLITE
from relay.listening.event import OutboxEvent
from relay.listening.polled.expressions import Sizes
from relay.listening.polled.message import Messages, lenient, number
from relay.listening.polled.seen import MOST_RANGES, Gaps
from relay.listening.polled.statements import CHUNK, Statement, Statements, padded
from relay.listening.source import Passed, Read, Rows, Skipped, Waits, Wanted

PAGE = 10_000  # numbers of one look into gaps
SKIP_ROWS = 10_000  # most rows passed by one statement: with the longest names they are 30 MB

Driver = Any
"""A DB-API connection that commits by itself."""

_NOTHING = Read(0, [], [], [], whole=True)


class Asked(NamedTuple):
    """A read: what is wanted, above which number, and in which gaps below it."""

    wanted: Wanted
    high: int
    gaps: Gaps


class Reads:
    """Called in the thread that owns the connection.

    Args:
        kind: of PolledUrl.
        statements: of the table.
        messages: made of its rows.
    """

    def __init__(self, kind: str, statements: Statements, messages: Messages) -> None:
        self._kind = kind
        self._statements = statements
        self._messages = messages
        self._quiet: tuple[int, Asked] | None = None  # SQLite: as what was asked for, and nothing was found, last
        self._nets: tuple[Gaps, list[tuple[int, int]]] | None = None  # of the last gaps that were many
        self.cost = 0.0
        """Seconds that the last read took."""

    def read(self, driver: Driver, asked: Asked) -> tuple[Read, bool]:
        """What was found, and whether the outbox is empty, if it matters."""
        began = time.monotonic()
        try:
            if self._kind == SQLITE and self._is_quiet(driver, asked):
                return _NOTHING, False
            found = self._few(driver, asked) if len(asked.gaps) <= MOST_RANGES else self._many(driver, asked)
            if found.seqs or not found.whole:
                self._quiet = None
                return found, False
            return found, bool(asked.gaps) and not fetch(driver, self._statements.any, {})[0]
        finally:
            self.cost = time.monotonic() - began

    def _is_quiet(self, driver: Driver, asked: Asked) -> bool:
        """SQLite: has nobody written since a read like this one found nothing?"""
        ((version,),) = driver.execute("pragma data_version").fetchall()
        if self._quiet == (version, asked):
            return True
        self._quiet = version, asked  # taken back if something is found
        return False

    def _few(self, driver: Driver, asked: Asked) -> Read:
        ranges, given = padded("first", asked.gaps.firsts)
        return self._found(driver, asked, Sizes(ranges=ranges), given | padded("last", asked.gaps.lasts)[1])

    def _many(self, driver: Driver, asked: Asked) -> Read:
        """What commits late comes by itself, the lowest first: it ends, for no gap is made meanwhile."""
        found = self._found(driver, asked, Sizes(), {})
        if late := self._late(driver, asked.gaps):
            size, given = padded("seq", late)
            found = self._found(driver, asked, Sizes(seqs=size), given)._replace(whole=False)
        return found

    def _late(self, driver: Driver, gaps: Gaps) -> list[int]:
        """The lowest rows in gaps, their numbers only."""
        looked_at = itertools.chain.from_iterable(self._pages(driver, gaps))
        return list(reversed(deque(gaps.among(looked_at), CHUNK)))

    def _pages(self, driver: Driver, gaps: Gaps) -> Iterator[list[int]]:
        """The numbers of all rows in gaps, and of some that were read, from the highest on."""
        if self._nets is None or self._nets[0] != gaps:
            self._nets = gaps, gaps.nets()
        nets = list(self._nets[1])
        while nets:
            size, given = padded("first", [first for first, _last in nets[-MOST_RANGES:]])
            given |= padded("last", [last for _first, last in nets[-MOST_RANGES:]])[1] | {"most": PAGE}
            rows = fetch(driver, self._statements.late(size), given)[0]
            seqs = [seq if type(seq) is int else number(seq) for (seq,) in rows]
            yield seqs
            if len(seqs) < PAGE:
                del nets[-MOST_RANGES:]
            else:
                nets = [(first, min(last, seqs[-1] - 1)) for first, last in nets if first < seqs[-1]]

    def _found(self, driver: Driver, asked: Asked, sizes: Sizes, given: dict[str, Any]) -> Read:
        wanted = asked.wanted
        keys, of_keys = padded("key", wanted.keys)
        tables, of_tables = padded("table", wanted.tables)
        topics, of_topics = padded("topic", wanted.topics)
        given |= of_keys | of_tables | of_topics
        given |= {"high": asked.high, "most": wanted.most, "bytes": wanted.most_bytes}
        sizes = sizes._replace(keys=keys, tables=tables, topics=topics)
        ((total, fit, upto, heavy),) = fetch(driver, self._statements.upto(sizes), given)[0]
        if upto is None:
            return _NOTHING
        sizes = sizes._replace(has_heavy=bool(heavy))
        rows, names = fetch(driver, self._statements.read(sizes), {**given, "upto": upto})
        found = [self._messages.of(row, names) for row in rows]
        events = [one for one in found if isinstance(one, OutboxEvent)]
        held = [one for one in found if not isinstance(one, OutboxEvent)]
        whole = total < wanted.most and total == fit
        return Read(0, [one.seq for one in found], events, held, whole)

    def skip(self, driver: Driver, high: int, waits: Waits) -> Skipped:
        """See how far all rows above `high` wait; what is marked is for `read` to tell."""
        rows, _names = fetch(driver, self._statements.skip, {"high": high, "most": SKIP_ROWS})
        return skipped(rows, waits, SKIP_ROWS)


def skipped(rows: Sequence[Sequence[Any]], waits: Waits, most: int) -> Skipped:
    """Take the answer to Statements.skip apart, which could have as many rows as `most`."""
    keys, tables, topics = map(frozenset, waits)
    seqs, passed = list[int](), dict[tuple[str | None, str | None, bool], int]()
    for row in rows:
        seq = number(row[0])
        table, topic, key = map(lenient, row[2:])
        group = table if table in tables else None, topic if topic in topics else None, key in keys
        if row[1] or group == (None, None, False):
            break
        seqs.append(seq)
        passed.setdefault(group, seq)
    return Skipped(seqs, [Passed(seq, *group) for group, seq in passed.items()], full=len(seqs) == most)


def fetch(driver: Driver, statement: Statement, given: Mapping[str, Any]) -> tuple[Rows, list[str]]:
    """Run a statement; return its rows and the names of their columns."""
    cursor = driver.cursor()
    try:
        cursor.execute(statement.text, statement.values(given))
        return list(cursor.fetchall()), [column[0] for column in cursor.description]
    finally:
        cursor.close()
