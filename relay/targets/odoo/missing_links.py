"""Rows whose links lead to records that are not there yet: they wait without an attempt, but not for ever unseen.

Two things end the wait before its time. A record that somebody waits for has been loaded: the rows that wait for it are
tried at once. And rows that wait for each other (a department for its manager, who waits for his department; a head who
is his own manager) would wait for ever: such a circle is known as soon as its last row has come in.
"""

import collections
import dataclasses
import time
from collections.abc import Callable, Collection, Sequence

from relay.delivery import Event, Outcome, Verdict
from relay.log import Log
from relay.targets.odoo.plan import Name, qualified

REMEMBERED = 100_000  # rows; more than the parking lot holds
RECENT = 10_000  # loaded rows that are remembered, for those that ask for them at the same time
REMINDER = 60.0  # seconds between two log lines

Link = tuple[str, str]  # path and external id

_log = Log("receiver")


@dataclasses.dataclass(slots=True)
class _Row:
    event: Event  # without its body
    since: float
    links: frozenset[Name] = frozenset()
    circle: frozenset[Name] | None = None  # who waits for it and it for them, itself included; None: to be looked for
    was_bare: bool = False  # it has been tried without the links of its circle


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
        self._rows: collections.OrderedDict[Name, _Row] = collections.OrderedDict()
        self._waiting: dict[Name, set[Name]] = {}  # by the record that they wait for
        self._recent: collections.OrderedDict[Name, float] = collections.OrderedDict()
        self._told = -REMINDER

    def missing(self, event: Event, own: str, links: Sequence[Link], asked: float) -> Outcome:
        """What this row links to is not there.

        Args:
            own: its external id.
            links: those that lead nowhere.
            asked: when the request began, monotonic seconds.
        """
        now, names = self._clock(), frozenset(qualified(link) for _, link in links)
        what = " and ".join(f"{path} = {link}" for path, link in links)
        since = self._enter(qualified(own), event, names, now)
        if now - self._told >= REMINDER:
            self._told = now
            _log.warning("rows wait for records they link to", rows=len(self._rows), table=event.table, example=what)
        # It has come in while we asked: nobody will come by again to say so.
        come = any(self._recent.get(name, asked) > asked for name in names)
        age = now - since
        if age >= self._patience and not come:
            return Outcome(Verdict.MESSAGE, f"no record {what}, after {age:.0f} s")
        least, most = self._waits
        wait = min(max(age, least), most)
        return Outcome(Verdict.CONFLICT, f"no record {what} yet", wait=wait, wakes=(event,) if come else ())

    def arrived(self, own: Collection[str]) -> tuple[Event, ...]:
        """These rows were delivered. Return the events that wait for them."""
        now, names = self._clock(), [qualified(one) for one in own]
        woken = [event for name in names for event in self._loaded(name, now)]
        if self._rows:
            for name in names:
                self._forget(name)
            if not self._rows:
                self._told = -REMINDER
                _log.info("all rows have found the records they link to")
        return tuple(woken)

    def given_up(self, own: str) -> Collection[Name]:
        """The links that this row has waited for as long as it may."""
        row = self._rows.get(qualified(own))
        return row.links if row is not None and self._clock() - row.since >= self._patience else ()

    def circle(self, own: str) -> Collection[Name]:
        """The links that this row can't be loaded with, since those rows wait for it."""
        row = self._rows.get(qualified(own))
        return (row.circle or frozenset()) & row.links if row else ()

    def tried_bare(self, own: str, *, loaded: bool) -> tuple[Event, ...]:
        """It was tried without the links of its circle. Return the events that go on now.

        Those that wait for it; or, if it can't be without its links, the others of the circle. Only once: they would
        chase each other.
        """
        name, now = qualified(own), self._clock()
        row = self._rows.get(name)
        waiting = self._loaded(name, now) if loaded else []
        if row is None or row.was_bare:
            return ()
        row.was_bare = True
        return tuple(waiting if loaded else (self._rows[one].event for one in (row.circle or frozenset()) - {name}))

    def _enter(self, name: Name, event: Event, links: frozenset[Name], now: float) -> float:
        """Remember a row; return since when it waits."""
        row = self._rows.get(name)
        if row is None or row.event.id != event.id:
            self._forget(name)
            row = self._rows[name] = _Row(dataclasses.replace(event, body=b"", aside=b""), now)
            if len(self._rows) > REMEMBERED:
                self._forget(next(iter(self._rows)))
        if row.links != links:
            self._unlink(name, row)
            row.links = links
            for link in links:
                self._waiting.setdefault(link, set()).add(name)
        if row.circle is None:
            self._find_circle(name, row)
        return row.since

    def _find_circle(self, name: Name, row: _Row) -> None:
        ahead = self._reach(name, lambda one: self._rows[one].links if one in self._rows else ())
        if name not in ahead:
            row.circle = frozenset()
            return
        circle = frozenset(ahead & self._reach(name, lambda one: self._waiting.get(one, ())))
        for one in circle:
            self._rows[one].circle, self._rows[one].was_bare = circle, False

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

    def _loaded(self, name: Name, now: float) -> list[Event]:
        """It is there. Return the events of the rows that wait for it."""
        self._recent[name] = now
        self._recent.move_to_end(name)
        if len(self._recent) > RECENT:
            self._recent.popitem(last=False)
        return [self._rows[one].event for one in self._waiting.get(name, ())]

    def _forget(self, name: Name) -> None:
        row = self._rows.pop(name, None)
        if row is not None:
            self._unlink(name, row)

    def _unlink(self, name: Name, row: _Row) -> None:
        """It waits for nothing any more; who was in a circle with it may still be in another."""
        for link in row.links:
            self._waiting[link].discard(name)
            if not self._waiting[link]:
                del self._waiting[link]
        for one in row.circle or ():
            if one in self._rows:
                self._rows[one].circle = None
        row.circle = None
