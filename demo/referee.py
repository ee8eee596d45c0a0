"""The referee: what the writers committed against what arrived, and the table against the endpoint's picture.

It knows nothing of outbox, queue or confirms; only the ledger, the arrivals and the two tables. No sockets.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from demo.ledger import Change

SHOWN = 5  # findings a kind that are quoted


@dataclass(frozen=True)
class Arrival:
    """One POST: when (monotonic ns), the id in its header, and the event."""

    at: int
    id: str
    event: Mapping[str, Any]

    @property
    def change(self) -> Change:
        """The change that the event tells of. KeyError or TypeError if it is none of ours."""
        op = self.event["op"]
        image = self.event["old"] if op == "delete" else self.event["new"]
        return Change(self.event["key"]["icao"], op, image["version"], None if op == "delete" else image["change"])


@dataclass
class Verdict:
    """Counts, and the findings behind them in words."""

    events: int = 0
    delivered: int = 0
    duplicates: int = 0
    lost: list[str] = field(default_factory=list)
    reordered: list[str] = field(default_factory=list)
    invented: list[str] = field(default_factory=list)
    altered: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)

    @property
    def problems(self) -> dict[str, list[str]]:
        """The findings by kind, without the kinds that have none."""
        kinds = {
            "lost": self.lost,
            "reordered": self.reordered,
            "invented": self.invented,
            "altered": self.altered,
            "rows that differ": self.different,
        }
        return {kind: found for kind, found in kinds.items() if found}


def parse(text: str | bytes) -> Any:
    """JSON with every digit kept."""
    return json.loads(text, parse_float=Decimal)


def read_arrivals(text: str | bytes) -> list[Arrival]:
    """The endpoint's answer to GET /arrivals."""
    return [Arrival(one["at"], one["id"], one["event"]) for one in parse(text)]


def read_picture(text: str | bytes) -> dict[str, dict[str, Any]]:
    """The endpoint's answer to GET /picture: rows by key."""
    return {event["key"]["icao"]: event["new"] for event in parse(text)}


def judge(expected: Mapping[str, Sequence[Change]], arrivals: Iterable[Arrival]) -> Verdict:
    """Every committed change arrived, nothing else did, and each key's in order.

    Args:
        expected: each key's changes, in order.
        arrivals: in order of arrival.
    """
    verdict = Verdict(events=sum(len(changes) for changes in expected.values()))
    orders = {key: _Order(key, changes) for key, changes in expected.items()}
    seen: dict[str, Mapping[str, Any]] = {}
    for arrival in arrivals:
        first = arrival.id not in seen
        if first and arrival.event.get("id") != arrival.id:
            verdict.altered.append(f"event {arrival.event.get('id')} came under the id {arrival.id}")
        elif not first and seen[arrival.id] != arrival.event:
            verdict.altered.append(f"event {arrival.id} came again with another content")
        seen.setdefault(arrival.id, arrival.event)
        verdict.duplicates += not first
        _place(arrival, orders, first, verdict)
    verdict.delivered = len(seen)
    for order in orders.values():
        order.end(verdict)
    return verdict


def _place(arrival: Arrival, orders: Mapping[str, _Order], first: bool, verdict: Verdict) -> None:
    try:
        change = arrival.change
        place = orders[change.key].places[change]
    except (KeyError, TypeError):
        verdict.invented.append(f"event {arrival.id} tells of no committed change: {_brief(arrival.event)}")
        return
    if first and place in orders[change.key].arrived:
        verdict.invented.append(f"event {arrival.id} tells a second time of {_brief(arrival.event)}")
    else:
        orders[change.key].take(place, verdict)


class _Order:
    """The order of one key's events. After a crash a tail may be repeated, but from its beginning to its end."""

    def __init__(self, key: str, changes: Sequence[Change]) -> None:
        self._key = key
        self._changes = changes
        self.places = {change: place for place, change in enumerate(changes)}
        self.arrived: set[int] = set()
        self._last = -1
        self._highest = -1

    def take(self, place: int, verdict: Verdict) -> None:
        late = place not in self.arrived and place < self._highest
        skipped = any(n in self.arrived for n in range(self._last + 1, place))
        if late or skipped:
            verdict.reordered.append(f"{self._name(place)} came right after {self._name(self._last)}")
        self.arrived.add(place)
        self._last = place
        self._highest = max(self._highest, place)

    def end(self, verdict: Verdict) -> None:
        """Nothing comes any more."""
        missing = (place for place in range(len(self._changes)) if place not in self.arrived)
        verdict.lost += [f"{self._name(place)} never arrived" for place in missing]
        if self._last != self._highest:
            verdict.reordered.append(f"{self._name(self._last)} came last, after {self._name(self._highest)}")

    def _name(self, place: int) -> str:
        change = self._changes[place] if place >= 0 else None
        return f"{change.op} of {self._key}, version {change.version}," if change else "nothing"


def compare(table: Mapping[str, Mapping[str, object]], picture: Mapping[str, Mapping[str, object]]) -> list[str]:
    """The rows in which the endpoint's picture is not the table, each in words."""
    found = [f"{key} is missing at the endpoint" for key in table.keys() - picture.keys()]
    found += [f"{key} is at the endpoint only" for key in picture.keys() - table.keys()]
    for key in table.keys() & picture.keys():
        ours, theirs = table[key], picture[key]
        for name in ours.keys() | theirs.keys():
            if name not in ours or name not in theirs:
                found.append(f"{key}.{name} is on one side only")
            elif not _same(ours[name], theirs[name]):
                found.append(f"{key}.{name} is {ours[name]!r} in the table, {theirs[name]!r} at the endpoint")
    return sorted(found)


def _same(ours: object, theirs: object) -> bool:
    """Equality of a value of the table and one of JSON: of the same kind, and numbers digit by digit."""
    if isinstance(ours, datetime):
        return isinstance(theirs, str) and datetime.fromisoformat(theirs) == ours
    if isinstance(ours, Decimal):
        # 1.50 is not 1.5: the scale belongs to the value. A whole number comes as an int.
        return isinstance(theirs, Decimal | int) and str(ours) == str(theirs)
    return type(ours) is type(theirs) and ours == theirs


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * round(share * 1000) // 1000) - 1)]


def latencies(committed_at: Mapping[tuple[str, int], int], arrivals: Iterable[Arrival]) -> list[float]:
    """Milliseconds from commit to first arrival, of the changes whose commit was timed."""
    found: dict[tuple[str, int], float] = {}
    for arrival in arrivals:
        change = arrival.change
        place = (change.key, change.rank)
        if place in committed_at:
            found.setdefault(place, (arrival.at - committed_at[place]) / 1e6)
    return list(found.values())


def repeats_before(arrivals: Iterable[Arrival], at: int) -> int:
    """How many events came a second time before `at` (monotonic ns)."""
    seen: set[str] = set()
    repeats = 0
    for arrival in arrivals:
        repeats += arrival.id in seen and arrival.at < at
        seen.add(arrival.id)
    return repeats


def _brief(event: Mapping[str, Any]) -> str:
    image = event.get("new") or event.get("old") or {}
    return f"{event.get('op')} of {event.get('key')}, version {image.get('version')}"
