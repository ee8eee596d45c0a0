"""Which rows wait for which records, and which of them for each other.

Rows that wait for each other (a department for its manager, who waits for his department; a head who is his own
manager) would wait for ever: such a circle is known as soon as its last row has come in.
"""

import dataclasses
import math
from collections.abc import Callable, Collection, Sequence

from relay.delivery import Event
from relay.targets.odoo.plan import Name


@dataclasses.dataclass(slots=True)
class Record:
    """One that rows wait for."""

    name: Name
    rows: set[Name]
    since: float  # it has been missing
    ask_at: float  # until then we believe that it still is
    has_come: bool = False
    request_at: float = 0.0  # when its row is to be asked for, once more
    requests: int = 0  # made so far
    gone: str = ""  # why it will not come
    gone_until: float = -math.inf  # that is believed


@dataclasses.dataclass(slots=True)
class Row:
    event: Event  # what its strand is known by, and nothing else: there may be a great many
    since: float
    links: tuple[Name, ...] = ()
    circle: frozenset[Name] | None = None  # who waits for it and it for them, itself included; None: to be looked for
    was_bare: bool = False  # it has been tried without the links of its circle


class WaitingRows:
    """Rows and records, by their names."""

    def __init__(self) -> None:
        self.rows: dict[Name, Row] = {}  # those that have waited longest first
        self.records: dict[Name, Record] = {}

    def link(self, name: Name, links: Sequence[Name], now: float) -> list[Record]:
        """A row that is known waits for these records from now on. Return them."""
        row = self.rows[name]
        before, records = row.links, [self._record(link, now) for link in links]
        for record in records:
            record.rows.add(name)
        row.links = tuple(record.name for record in records)
        if set(before) != set(links):
            self._unlink(name, set(before) - set(links))
            self._forget_circle(row)
        if row.circle is None:
            self._find_circle(name, row)
        return records

    def forget(self, name: Name) -> None:
        """This row waits no longer, if it did."""
        row = self.rows.pop(name, None)
        if row is not None:
            self._unlink(name, row.links)
            self._forget_circle(row)

    def _record(self, name: Name, now: float) -> Record:
        record = self.records.get(name)
        if record is None:
            record = self.records[name] = Record(name, set(), now, now, has_come=True)
        return record

    def _find_circle(self, name: Name, row: Row) -> None:
        ahead = self._reach(name, lambda one: self.rows[one].links if one in self.rows else ())
        if name not in ahead:
            row.circle = frozenset()
            return
        circle = frozenset(ahead & self._reach(name, self._waiting_for))
        for one in circle:
            self.rows[one].circle, self.rows[one].was_bare = circle, False

    def _waiting_for(self, name: Name) -> Collection[Name]:
        record = self.records.get(name)
        return record.rows if record is not None else ()

    @staticmethod
    def _reach(name: Name, following: Callable[[Name], Collection[Name]]) -> set[Name]:
        """What is reached by one step or more."""
        found: set[Name] = set()
        open_ = [name]
        while open_:
            new = [one for one in following(open_.pop()) if one not in found]
            found.update(new)
            open_ += new
        return found

    def _unlink(self, name: Name, links: Collection[Name]) -> None:
        """It waits for these no longer."""
        for link in links:
            record = self.records[link]
            record.rows.discard(name)
            if not record.rows:
                del self.records[link]

    def _forget_circle(self, row: Row) -> None:
        """Who was in a circle with it may still be in another."""
        for one in row.circle or ():
            if one in self.rows:
                self.rows[one].circle = None
        row.circle = None
