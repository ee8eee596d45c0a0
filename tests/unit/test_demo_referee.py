"""The referee of the demo sees every kind of fault, and none where there is none."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from demo import referee
from demo.ledger import Change, Ledger
from demo.referee import Arrival, Verdict

LIFE = [
    Change("LSZH", "insert", 1, 11),
    Change("LSZH", "update", 2, 12),
    Change("LSZH", "update", 3, 13),
    Change("LSZH", "delete", 3),
    Change("LSZH", "insert", 4, 14),
]


def event(change: Change, name: str = "Zürich", number: int | None = None) -> dict[str, Any]:
    image = {"icao": change.key, "name": name, "version": change.version, "change": number or change.number or 0}
    old, new = (image, None) if change.op == "delete" else (None, image)
    return {"id": f"id-{change.rank}", "op": change.op, "key": {"icao": change.key}, "old": old, "new": new}


def arrivals(places: Sequence[int]) -> list[Arrival]:
    """The events of LIFE, in the order of these places."""
    return [Arrival(n, f"id-{LIFE[place].rank}", event(LIFE[place])) for n, place in enumerate(places)]


def judged(places: Sequence[int]) -> Verdict:
    return referee.judge({"LSZH": LIFE}, arrivals(places))


@pytest.mark.parametrize(
    ("places", "duplicates"),
    [
        ([0, 1, 2, 3, 4], 0),
        ([0, 1, 2, 2, 3, 4], 1),
        ([0, 1, 2, 1, 2, 3, 4], 2),
        ([0, 1, 2, 3, 4, 2, 3, 4], 3),
        ([0, 1, 2, 0, 1, 0, 1, 2, 3, 4], 5),  # crashed again while it repeated
    ],
)
def test_a_repeated_tail_is_counted_and_no_fault(places: list[int], duplicates: int) -> None:
    verdict = judged(places)
    assert verdict.problems == {}
    assert (verdict.events, verdict.delivered, verdict.duplicates) == (5, 5, duplicates)


@pytest.mark.parametrize("missing", range(5))
def test_an_event_that_never_came_is_lost_and_nothing_else(missing: int) -> None:
    verdict = judged([place for place in range(5) if place != missing])
    assert list(verdict.problems) == ["lost"]
    assert len(verdict.lost) == 1
    assert verdict.delivered == 4


@pytest.mark.parametrize(
    "places",
    [
        [1, 0, 2, 3, 4],
        [0, 1, 3, 2, 4],
        [0, 1, 2, 1, 3, 4],  # a tail repeated, but not to its end
        [0, 1, 2, 3, 4, 2],  # the last thing the endpoint heard is old
        [0, 1, 2, 3, 4, 0, 2, 3, 4],  # a tail repeated with a hole
    ],
)
def test_an_order_that_a_row_never_had_is_seen(places: list[int]) -> None:
    verdict = judged(places)
    assert verdict.reordered
    assert not verdict.lost


def test_the_event_of_a_rolled_back_change_is_invented() -> None:
    rolled_back = Change("LSZH", "update", 3, 99)  # the same version was committed later, by another change
    posts = arrivals([0, 1, 2, 3, 4])
    posts.insert(2, Arrival(9, "id-99", event(rolled_back) | {"id": "id-99"}))
    assert list(referee.judge({"LSZH": LIFE}, posts).problems) == ["invented"]


def test_two_events_of_one_change_are_one_too_many() -> None:
    posts = arrivals([0, 1, 2, 3, 4])
    posts.insert(4, Arrival(9, "other", event(LIFE[3]) | {"id": "other"}))
    assert list(referee.judge({"LSZH": LIFE}, posts).problems) == ["invented"]


def test_an_event_of_an_unknown_key_and_a_body_that_is_none_of_ours_are_invented() -> None:
    posts = [Arrival(1, "a", event(Change("XXXX", "insert", 1, 1)) | {"id": "a"}), Arrival(2, "b", {"id": "b"})]
    assert len(referee.judge({}, posts).invented) == 2


def test_a_repetition_with_another_content_is_seen() -> None:
    posts = [*arrivals([0]), Arrival(9, "id-2", event(LIFE[0], name="Zuerich"))]
    assert list(referee.judge({"LSZH": LIFE[:1]}, posts).problems) == ["altered"]


def test_an_id_that_is_not_the_events_own_is_seen() -> None:
    posts = [Arrival(1, "another", event(LIFE[0]))]
    assert list(referee.judge({"LSZH": LIFE[:1]}, posts).problems) == ["altered"]


ROW = {
    "icao": "LSZH",
    "name": 'Zürich "x"\n',
    "city": None,
    "lat": Decimal("47.10"),
    "elevation": Decimal("0.100000000000000005551115123125782702"),
    "change": 4 * 10**18 + 1,
    "changed_at": datetime(2026, 11, 22, 16, 0, 0, 123456, tzinfo=UTC),
}
TEXT = """{"icao": "LSZH", "name": "Zürich \\"x\\"\\n", "city": null, "lat": 47.10,
    "elevation": 0.100000000000000005551115123125782702, "change": 4000000000000000001,
    "changed_at": "2026-11-22T17:00:00.123456+01:00"}"""


def test_equal_rows_differ_in_nothing() -> None:
    assert referee.compare({"LSZH": ROW}, {"LSZH": referee.parse(TEXT)}) == []


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        ("47.10", "47.1"),
        ("0.100000000000000005551115123125782702", "0.1"),
        ("4000000000000000001", "4000000000000000000"),
        ("4000000000000000001", '"4000000000000000001"'),
        ("null", '""'),
        ("Zürich", "Zurich"),
        ("123456+01:00", "123457+01:00"),
        ('"city": null,', ""),
        ('"city": null,', '"city": null, "more": null,'),
    ],
)
def test_the_smallest_difference_of_a_field_is_seen(was: str, becomes: str) -> None:
    assert was in TEXT
    assert len(referee.compare({"LSZH": ROW}, {"LSZH": referee.parse(TEXT.replace(was, becomes))})) == 1


def test_rows_on_one_side_only_are_seen() -> None:
    found = referee.compare({"A": {}, "B": {}}, {"B": {}, "C": {}})
    assert found == ["A is missing at the endpoint", "C is at the endpoint only"]


def test_a_key_that_is_used_again_keeps_its_order_in_the_ledger() -> None:
    ledger = Ledger()
    ledger.commit(reversed(LIFE))  # as writers may come to write it down
    assert ledger.expected() == {"LSZH": LIFE}
    assert ledger.events == 5


def test_latency_is_from_commit_to_the_first_arrival() -> None:
    posts = [Arrival(5_000_000, "id-2", event(LIFE[0])), Arrival(9_000_000, "id-2", event(LIFE[0]))]
    assert referee.latencies({("LSZH", LIFE[0].rank): 2_000_000}, posts) == [3.0]


@pytest.mark.parametrize(("count", "p50", "p99"), [(1, 1, 1), (2, 1, 2), (100, 50, 99), (1000, 500, 990)])
def test_percentiles_are_values_that_occurred(count: int, p50: float, p99: float) -> None:
    values = list(range(count, 0, -1))
    assert (referee.percentile(values, 0.5), referee.percentile(values, 0.99)) == (p50, p99)


def test_the_answers_of_the_endpoint_are_read_without_floats() -> None:
    body = json.dumps(event(LIFE[0])).replace('"change": 11', '"lat": 1.10')
    (arrival,) = referee.read_arrivals(f'[{{"at": 1, "id": "x", "event": {body}}}]')
    assert str(arrival.event["new"]["lat"]) == "1.10"
    assert str(referee.read_picture(f"[{body}]")["LSZH"]["lat"]) == "1.10"
