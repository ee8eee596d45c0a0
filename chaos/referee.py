"""The referee: what was committed against what the endpoint completed, and why anything came twice.

It knows the audit table, the endpoint's record and the times of the faults; nothing of outbox, queue or confirms. Pure.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

AFTERMATH = 8.0  # seconds that a fault is felt after it was mended: reconnecting, heartbeats, messages given back
AT_ONCE = 1.0  # seconds: how exactly we know when a fault struck, on a busy machine


@dataclass(frozen=True, slots=True)
class Change:
    """A committed change. `number`: of the row's version it made (delete: that it ended; truncate: transaction)."""

    table: str
    key: str
    op: str
    number: int
    at: float = field(default=0.0, compare=False)  # seconds since the epoch
    images: str = field(default="", compare=False)

    def __str__(self) -> str:
        return f"{self.op} of {self.table} {self.key} (change {self.number})"


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request that the endpoint completed: the event's id, what it tells of, which process sent it, when."""

    id: str
    change: Change
    sender: str = ""
    began: float = 0.0  # seconds since the epoch: when the request came
    at: float = 0.0  # when its work was done, answered or not


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault as it struck: from its beginning until it was mended.

    Args:
        repeats: may an event be delivered twice because of it?
        severs: does it take the receiver's connection away, so that another receiver may take over?
        known: seconds: how exactly we know when it did.
    """

    name: str
    begin: float
    end: float
    repeats: bool = True
    severs: bool = False
    known: float = AT_ONCE


@dataclass
class Verdict:
    """Counts, and the findings behind them in words."""

    committed: int = 0
    delivered: int = 0
    duplicates: Counter[str] = field(default_factory=Counter)
    """By the last fault before the repetition that could have caused it."""
    late: int = 0
    """Repetitions out of order: requests that were under way when their receiver was cut off (docs/delivery.md)."""
    lost: list[str] = field(default_factory=list)
    invented: list[str] = field(default_factory=list)
    altered: list[str] = field(default_factory=list)
    reordered: list[str] = field(default_factory=list)
    unexplained: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)

    @property
    def problems(self) -> dict[str, list[str]]:
        """The findings by kind, without the kinds that have none."""
        kinds = ("lost", "invented", "altered", "reordered", "unexplained", "stuck")
        return {kind: found for kind in kinds if (found := getattr(self, kind))}


def canonical(value: Any) -> str:
    """JSON in one way only, every digit kept."""
    return json.dumps(value, sort_keys=True, default=str)


def parse(text: str | bytes) -> Any:
    """JSON with every digit kept."""
    return json.loads(text, parse_float=Decimal)


def committed(rows: Iterable[tuple[float, int, str, str, Any, Any]]) -> list[Change]:
    """What the audit table tells, as the changes that must arrive; of each key in its order.

    Args:
        rows: (at, xid, table, op, old, new), in the order in which they were written; images as parsed JSON.
    """
    found: list[Change] = []
    was: dict[Change, int] = {}  # the number of the version that a change ended
    for at, xid, table, op, old, new in rows:
        if op == "truncate":
            found.append(Change(table, "", op, xid, at))
            continue
        if op == "update" and _key(old) != _key(new):
            # A new key: the row under its old key ends, and one under the new key begins.
            found.append(Change(table, _key(old), "delete", old["change"], at, canonical([old, None])))
            was[found[-1]] = old["change"]
            op, told_old = "insert", None
        else:
            told_old = old
        image = old if op == "delete" else new
        found.append(Change(table, _key(image), op, image["change"], at, canonical([told_old, new])))
        if told_old is not None:
            was[found[-1]] = told_old["change"]
    return _by_version(found, was)


def _by_version(changes: Sequence[Change], was: Mapping[Change, int]) -> list[Change]:
    """Each key's changes in the order of its versions.

    The order of the audit's rows is not that: a trigger that changes another row of its own statement again is told of
    before the statement's own change of that row.
    """
    places: dict[tuple[str, str], list[int]] = defaultdict(list)
    for place, change in enumerate(changes):
        places[change.table, change.key].append(place)
    found = list(changes)
    for own in places.values():
        made = {changes[p].number for p in own if changes[p].op != "delete"}
        after = {was[changes[p]]: changes[p] for p in own if changes[p] in was}
        begins = [changes[p] for p in own if was.get(changes[p]) not in made]
        chains = []
        for change in begins:
            chain = [change]
            while chain[-1].op != "delete" and chain[-1].number in after:
                chain.append(after[chain[-1].number])
            chains.append(chain)
        earliest = {changes[p]: p for p in reversed(own)}
        chains.sort(key=lambda chain: min(earliest[change] for change in chain))
        for place, change in zip(own, (change for chain in chains for change in chain), strict=True):
            found[place] = change
    return found


def told(event: Mapping[str, Any]) -> Change:
    """The change that a delivered event tells of. KeyError or TypeError if it is none of ours."""
    table, op = event["table"], event["op"]
    if op == "truncate":
        return Change(table, "", op, event["xid"])
    old, new = event["old"], event["new"]
    image = old if op == "delete" else new
    return Change(table, canonical(event["key"]), op, image["change"], images=canonical([old, new]))


def _key(image: Mapping[str, Any]) -> str:
    return canonical({"id": image["id"]})


def judge(changes: Sequence[Change], arrivals: Iterable[Arrival], faults: Sequence[Fault] = ()) -> Verdict:
    """Compare.

    Args:
        changes: what was committed; of each key in its order.
        arrivals: what the endpoint completed, in the order of completion.
        faults: what struck.
    """
    verdict = Verdict(committed=len(changes))
    keys: dict[tuple[str, str], list[Change]] = defaultdict(list)
    for change in changes:
        keys[change.table, change.key].append(change)
    orders = {name: _Order(each, verdict) for name, each in keys.items()}
    tables = _Tables(changes, verdict)
    seen = _Identities(verdict)
    for arrival in arrivals:
        change = arrival.change
        order = orders.get((change.table, change.key))
        place = order.places.get(change) if order else None
        if order is None or place is None:
            verdict.invented.append(f"event {arrival.id}: {change} was never committed")
            continue
        known = order.changes[place]
        first = seen.take(arrival, known)
        if not first:
            _explain(arrival, known, faults, verdict)
        elif change.table in tables.truncated:
            tables.take(known)
        if not first and place < order.last and order.last_sender != arrival.sender and _was_cut_off(arrival, faults):
            verdict.late += 1
        else:
            order.take(place, arrival, first=first, resumed=_was_resumed(order.last_at, arrival, faults))
    verdict.delivered = len(seen.ids)
    for order in orders.values():
        order.end()
    return verdict


def _was_cut_off(arrival: Arrival, faults: Sequence[Fault]) -> bool:
    """Was the request under way when its receiver lost its connection? Its successor can't know of it."""
    return any(f.severs and arrival.began <= f.begin + f.known and f.begin <= arrival.at for f in faults)


def _was_resumed(last_at: float, arrival: Arrival, faults: Sequence[Fault]) -> bool:
    """Did a receiver lose its connection since `last_at`? The queue goes on from what was not acknowledged."""
    return any(f.severs and f.begin <= arrival.at and last_at <= f.end + AFTERMATH for f in faults)


def _explain(arrival: Arrival, change: Change, faults: Sequence[Fault], verdict: Verdict) -> None:
    """Which fault may have made this event come again? The last to begin, between its commit and now."""
    able = [f for f in faults if f.repeats and f.begin <= arrival.at and f.end + AFTERMATH >= change.at]
    if able:
        verdict.duplicates[max(able, key=lambda fault: fault.begin).name] += 1
    else:
        verdict.duplicates["unexplained"] += 1
        verdict.unexplained.append(f"event {arrival.id}, {change}, came again although no fault was near")


class _Identities:
    """One id for each change, one change for each id, the same content each time."""

    def __init__(self, verdict: Verdict) -> None:
        self._verdict = verdict
        self.ids: dict[str, Change] = {}
        self._changes: dict[Change, str] = {}

    def take(self, arrival: Arrival, known: Change) -> bool:
        """True if it comes for the first time."""
        if arrival.change.images != known.images:
            what = f"{arrival.change.images} instead of {known.images}"
            self._verdict.altered.append(f"event {arrival.id}, {known}: {what}")
        told_by = self._changes.setdefault(known, arrival.id)
        if told_by != arrival.id:
            self._verdict.invented.append(f"event {arrival.id} tells of {known}, as {told_by} did")
        first = arrival.id not in self.ids
        if self.ids.setdefault(arrival.id, known) != known:
            self._verdict.altered.append(f"event {arrival.id} tells of {known}, and told of {self.ids[arrival.id]}")
        return first


class _Order:
    """The order of one key's events. A tail may be repeated, from any place on, but then to its end.

    A receiver that is cut off in the middle of a tail that a listener has sent again goes on from what it had not
    acknowledged: that may be something behind the hole, still from the first time. The tail comes after it.
    """

    def __init__(self, changes: Sequence[Change], verdict: Verdict) -> None:
        self.changes = changes
        self.places = {change: place for place, change in enumerate(changes)}
        self.last = -1
        self.last_sender = ""
        self.last_at = 0.0
        self._highest = -1
        self._arrived: set[int] = set()
        self._verdict = verdict

    def take(self, place: int, arrival: Arrival, *, first: bool, resumed: bool) -> None:
        if first and place < self._highest:
            self._report(f"{self.changes[place]} came after {self.changes[self._highest]}")
        elif (first or not resumed) and any(n in self._arrived for n in range(self.last + 1, place)):
            self._report(f"{self.changes[place]} came right after {self.changes[self.last]}, a repetition with a hole")
        self._arrived.add(place)
        self.last, self.last_sender, self.last_at = place, arrival.sender, arrival.at
        self._highest = max(self._highest, place)

    def end(self) -> None:
        """Nothing comes any more."""
        lost = [change for place, change in enumerate(self.changes) if place not in self._arrived]
        self._verdict.lost += [f"{change} never arrived" for change in lost]
        if self.last != self._highest:
            self._report(f"{self.changes[self.last]} came last, after {self.changes[self._highest]}")

    def _report(self, text: str) -> None:
        self._verdict.reordered.append(text)


class _Tables:
    """A TRUNCATE comes after everything of its table before it, and before everything after it."""

    def __init__(self, changes: Sequence[Change], verdict: Verdict) -> None:
        self._verdict = verdict
        self.truncated = {change.table for change in changes if change.op == "truncate"}
        self._before: dict[Change, int] = {}  # truncates of the table before a change
        self._arrived: Counter[str] = Counter()
        count: Counter[str] = Counter()
        for change in changes:
            if change.table in self.truncated:
                self._before[change] = count[change.table]
                count[change.table] += change.op == "truncate"

    def take(self, change: Change) -> None:
        """It has come for the first time."""
        came, before = self._arrived[change.table], self._before[change]
        if came != before:
            self._verdict.reordered.append(f"{change} came after {came} truncates of its table instead of {before}")
        self._arrived[change.table] += change.op == "truncate"
