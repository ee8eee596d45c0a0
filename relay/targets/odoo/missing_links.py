"""Rows whose links lead to records that are not there yet: they wait without an attempt, but not for ever unseen.

They wait by the external ids that they miss. A record that is known to be missing is not asked for by each row that
links to it: such a row waits without a request (`lacking`). Once we have loaded the record, the rows that miss nothing
else are tried at once. That it was made by somebody else is found out by asking now and then, for all that is missing
together (`to_ask`); one row comes by for that, the others rest.
"""

import collections
import itertools
import math
import time
from collections.abc import Callable, Collection, Iterable, Sequence

from relay.delivery import Event, Outcome, Verdict
from relay.log import Log
from relay.targets.odoo.plan import Name, qualified
from relay.targets.odoo.waiting_rows import Record, Row, WaitingRows

REMEMBERED = 200_000  # rows; more than the parking lot and the window hold
RECENT = 10_000  # loaded rows that are remembered, for those that ask for them at the same time
REMINDER = 60.0  # seconds between two log lines
REST = 600.0  # seconds that a row rests at most while another one comes by to ask
EACH_SECOND = 1000  # rows that wait: to find one among a great many costs RabbitMQ much
ASKED = 1000  # records that are asked for in one go
REQUEST_LEAST, REQUEST_MOST = 10.0, 600.0  # seconds until a row that does not come is asked for again; doubling
GONE_SECONDS = 60.0  # that a row which does not exist is believed not to

Link = tuple[str, str]  # path and external id

_log = Log("receiver")


class Orphans:
    """Shared by all workers of a target.

    Args:
        patience: seconds until a missing record counts as the row's own failure.
        waits: (least, most) seconds until the next try; it grows with the time that has passed.
    """

    def __init__(
        self, patience: float, waits: tuple[float, float], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._patience = patience
        self._waits = waits
        self._clock = clock
        self._waiting = WaitingRows()
        self._rows, self._records = self._waiting.rows, self._waiting.records
        self._recent: collections.OrderedDict[Name, float] = collections.OrderedDict()
        self._told = -REMINDER
        self._next_look = -math.inf  # when the row comes by that asks for what is missing
        self._looks: Name | None = None  # that row
        self._in_order = set[str]()  # tables whose rows come after what they link to, lately
        self.asks_for_all = True  # Odoo can be asked for all that is missing in one go

    def is_idle(self, table: str) -> bool:
        """Does nobody wait, and need nothing be asked before rows of this table are sent?"""
        return not self._rows and (table in self._in_order or not self.asks_for_all)

    def lacking(self, links: Sequence[Link]) -> list[Link]:
        """Those of these links whose record is known not to be there."""
        known = ((link, self._records.get(qualified(link[1]))) for link in links)
        return [link for link, record in known if record is not None and not record.has_come]

    def to_ask(self, table: str, names: Collection[Name]) -> list[Name]:
        """What Odoo is to be asked for before rows that link to these records are sent; nobody else asks meanwhile.

        Records that are known to be missing, if that was found out long ago; and those that nothing is known of, while
        rows of the table come before what they link to. Where Odoo can be asked for all together, others as well that
        it is time for.
        """
        now, found = self._clock(), dict[Name, None]()
        asks = self.asks_for_all and table not in self._in_order
        for name in names:
            record = self._records.get(name)
            if record is None:
                if asks and name not in self._recent:
                    found[name] = None
            elif not record.has_come and record.ask_at <= now:
                found[name] = None
        if self.asks_for_all and any(name in self._records for name in found):
            others = (name for name, one in self._records.items() if one.ask_at <= now and not one.has_come)
            found |= dict.fromkeys(itertools.islice(others, ASKED))
        for name in found.keys() & self._records.keys():
            self._asked(self._records[name], now)
        return list(found)

    def all_there(self, table: str) -> None:
        """Rows of this table do not come before what they link to, until one is found to miss something."""
        self._in_order.add(table)

    def missing(self, event: Event, own: str, links: Sequence[Link], asked: float | None = None) -> Outcome:
        """What this row links to is not there.

        Args:
            own: its external id.
            links: those that lead nowhere.
            asked: when the request began that has shown it, monotonic seconds; None = it was known.
        """
        now, names = self._clock(), tuple(dict.fromkeys(qualified(link) for _, link in links))
        what = " and ".join(f"{path} = {link}" for path, link in links)
        since = self._enter(qualified(own), event, names, now, asked)
        if asked is not None:
            self._in_order.discard(event.table)
        if now - self._told >= REMINDER:
            self._told = now
            _log.warning("rows wait for records they link to", rows=len(self._rows), table=event.table, example=what)
        # It has come in while we asked: nobody will come by again to say so.
        come = all(self._records[name].has_come for name in names)
        age = now - since
        for name in () if come else names:
            if (record := self._records[name]).gone_until > now:
                return Outcome(Verdict.MESSAGE, f"no record {what}: {record.gone}", final=True)
        if age >= self._patience and not come:
            return Outcome(Verdict.MESSAGE, f"no record {what}, after {age:.0f} s")
        wait = self._wait(qualified(own), age, now)
        return Outcome(Verdict.CONFLICT, f"no record {what} yet", wait=wait, wakes=(event,) if come else ())

    def arrived(self, own: Collection[str]) -> tuple[Event, ...]:
        """These rows were delivered. Return the events that have waited for them, and miss nothing else."""
        now, names = self._clock(), [qualified(one) for one in own]
        woken = self._have_come(names, now)
        if self._rows:
            for name in names:
                self._forget(name)
            if not self._rows:
                self._told = -REMINDER
                _log.info("all rows have found the records they link to")
            elif self._looks is None:  # somebody must come by
                woken.append(next(iter(self._rows.values())).event)
        return tuple(woken)

    def passed_over(self, own: str) -> tuple[Event, ...]:
        """This row is not loaded at all. Return the event that must come by in its place, if one must."""
        self._forget(qualified(own))
        return (next(iter(self._rows.values())).event,) if self._rows and self._looks is None else ()

    def there(self, names: Collection[Name]) -> tuple[Event, ...]:
        """Odoo has these records, whoever made them. Return the events that have waited for them."""
        return tuple(self._have_come(names, self._clock()))

    def given_up(self, own: str) -> Collection[Name]:
        """The links that this row has waited for as long as it may."""
        row, now = self._rows.get(qualified(own)), self._clock()
        if row is None:
            return ()
        gone = any(self._records[link].gone_until > now for link in row.links)
        return row.links if gone or now - row.since >= self._patience else ()

    def overdue(self, after: float, maximum: int) -> list[Name]:
        """The records that have been missing for `after` seconds: their rows are asked for, again with back-off."""
        now, found = self._clock(), list[Name]()
        for name, record in self._records.items():
            if record.has_come or now - record.since < after or now < record.request_at or record.gone_until > now:
                continue
            if name in self._rows and now - self._rows[name].since < REQUEST_MOST:
                continue  # it has come, and waits itself; later, a person may have discarded it
            if len(found) == maximum:
                break
            record.requests += 1
            self._request_later(record, now)
            found.append(name)
        return found

    def is_coming(self, name: Name) -> None:
        """The row of this record was asked for, and is on its way."""
        if record := self._records.get(name):
            self._request_later(record, self._clock())

    @staticmethod
    def _request_later(record: Record, now: float) -> None:
        record.request_at = now + min(REQUEST_LEAST * 2.0 ** min(record.requests - 1, 20), REQUEST_MOST)

    def is_gone(self, name: Name, why: str) -> tuple[Event, ...]:
        """The row of this record does not exist. Return the events that have waited for it."""
        record = self._records.get(name)
        if record is None or record.has_come:
            return ()
        record.gone, record.gone_until = why, self._clock() + GONE_SECONDS
        return tuple(self._rows[one].event for one in record.rows)

    def circle(self, own: str) -> Collection[Name]:
        """The links that this row can't be loaded with, since those rows wait for it."""
        row = self._rows.get(qualified(own))
        return (row.circle or frozenset()).intersection(row.links) if row else ()

    def tried_bare(self, own: str, *, loaded: bool) -> tuple[Event, ...]:
        """It was tried without the links of its circle. Return the events that go on now.

        Those that wait for it; or, if it can't be without its links, the others of the circle. Only once: they would
        chase each other.
        """
        name, now = qualified(own), self._clock()
        row = self._rows.get(name)
        waiting = self._have_come([name], now) if loaded else []
        if row is None or row.was_bare:
            return ()
        row.was_bare = True
        return tuple(waiting if loaded else (self._rows[one].event for one in (row.circle or frozenset()) - {name}))

    def _enter(self, name: Name, event: Event, links: Sequence[Name], now: float, asked: float | None) -> float:
        """Remember a row; return since when it waits."""
        row = self._rows.get(name)
        if row is None or row.event.id != event.id:
            self._forget(name)
            known_by = Event(b"", "", id=event.id, key=event.key, seq=event.seq, claimed_id=event.claimed_id)
            row = self._rows[name] = Row(known_by, now)
            if len(self._rows) > REMEMBERED:
                self._forget(next(iter(self._rows)))
        for record in self._waiting.link(name, links, now):
            if asked is not None:
                if record.has_come and self._recent.get(record.name, asked) <= asked:
                    record.has_come, record.since = False, now
                self._asked(record, now)
        return row.since

    def _asked(self, record: Record, now: float) -> None:
        least, most = self._waits
        record.ask_at = now + min(max(now - record.since, least), most)

    def _wait(self, name: Name, age: float, now: float) -> float:
        """How long a row waits that nobody wakes."""
        least, most = self._waits
        wait = min(max(age, least), max(most, len(self._rows) / EACH_SECOND) if self.asks_for_all else most)
        if self.asks_for_all and now < self._next_look and self._looks != name:
            return max(wait, min(REST, self._patience - age))
        self._looks, self._next_look = name, now + wait
        return wait

    def _have_come(self, names: Iterable[Name], now: float) -> list[Event]:
        """They are there. Return the events of the rows that have waited for them, and miss nothing else."""
        found: dict[Name, Row] = {}
        for name in names:
            self._recent[name] = now
            self._recent.move_to_end(name)
            if len(self._recent) > RECENT:
                self._recent.popitem(last=False)
            record = self._records.get(name)
            if record is not None:
                record.has_come = True
                found |= {one: self._rows[one] for one in record.rows}
        return [row.event for row in found.values() if all(self._records[link].has_come for link in row.links)]

    def _forget(self, name: Name) -> None:
        self._waiting.forget(name)
        if name == self._looks:
            self._looks, self._next_look = None, -math.inf
