"""Rows that wait are sent no more often than they must: what is missing is asked for, once for all that wait for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from dev.doubles.odoo.handle import Odoo
from dev.process import wait_until
from relay.delivery import DONE, Event, Outcome, Verdict
from relay.targets.odoo.holding import parents_first
from tests.odoo_rows import customer, deliver, order, row, target

VERSIONS = pytest.mark.parametrize("odoo", ["17", "19"], indirect=True)
RETRIES = {"RETRY_MIN": "0.1", "RETRY_MAX": "600"}


def verdicts(outcomes: Sequence[Outcome]) -> set[Verdict]:
    return {one.verdict for one in outcomes}


def asked(odoo: Odoo) -> list[str]:
    """What Odoo was asked since the last call, but for its fields and its version."""
    found = [one["method"] for one in odoo.requests() if one["method"] not in (None, "fields_get", "authenticate")]
    odoo.forget_requests()
    return found


@VERSIONS
def test_a_batch_that_comes_too_early_costs_one_request_and_the_next_one_none(odoo: Odoo, tmp_path: Path) -> None:
    made = target(tmp_path, odoo, **RETRIES)
    early = [order(key, customer_id=key % 5) for key in range(30)]
    assert verdicts(deliver(made, *early[:20])) == {Verdict.CONFLICT}
    assert asked(odoo) == ["search_read"]
    assert verdicts(deliver(made, *early[20:])) == {Verdict.CONFLICT}
    assert asked(odoo) == []
    woken = [event.id for one in deliver(made, *(customer(key) for key in range(5))) for event in one.wakes]
    assert sorted(woken) == sorted(one.id for one in early)
    asked(odoo)
    assert set(deliver(made, *early)) == {DONE}
    assert asked(odoo) == ["load"]


@VERSIONS
def test_who_links_to_what_is_there_is_asked_about_once(odoo: Odoo, tmp_path: Path) -> None:
    assert set(deliver(target(tmp_path, odoo), *(customer(key) for key in range(9)))) == {DONE}
    made = target(tmp_path, odoo)
    asked(odoo)
    for key in range(3):
        assert deliver(made, order(key, customer_id=key)) == [DONE]
    assert asked(odoo) == ["search_read", "load", "load", "load"]


@VERSIONS
def test_what_somebody_else_has_made_is_found_by_one_row_for_all(odoo: Odoo, tmp_path: Path) -> None:
    made = target(tmp_path, odoo, RETRY_MIN="0.01", RETRY_MAX="0.01")
    early = [order(key, customer_id=key % 5) for key in range(20)]
    assert verdicts(deliver(made, *early)) == {Verdict.CONFLICT}
    assert set(deliver(target(tmp_path, odoo), *(customer(key) for key in range(4)))) == {DONE}  # another receiver
    asked(odoo)
    found = DONE

    def is_there() -> bool:
        nonlocal found
        [found] = deliver(made, early[0])
        return found.verdict is Verdict.DONE

    wait_until(is_there, 5, "the next time that it is asked for, 10 ms later")
    assert asked(odoo) == ["search_read", "load"]
    others = {one.id for one in early[1:] if int(one.key.rpartition(":")[2].rstrip("}")) % 5 != 4}
    assert others <= {event.id for event in found.wakes}


@VERSIONS
def test_a_user_who_may_not_read_external_ids_sends_one_row_for_each_that_is_missing(
    odoo: Odoo, tmp_path: Path
) -> None:
    odoo.break_("access", model="ir.model.data")
    made = target(tmp_path, odoo, RETRY_MIN="0.01", RETRY_MAX="600")
    early = [order(key, customer_id=key % 5) for key in range(20)]
    assert verdicts(deliver(made, *early)) == {Verdict.CONFLICT}
    asked(odoo)
    assert verdicts(deliver(made, *early)) == {Verdict.CONFLICT}
    assert sum(one["rows"] for one in odoo.requests(method="load")) <= 5
    assert set(deliver(made, *(customer(key) for key in range(5)))) == {DONE}
    assert set(deliver(made, *early)) == {DONE}


@pytest.mark.parametrize("seed", range(3))
@VERSIONS
def test_a_tree_is_loaded_in_one_request_whatever_its_order(odoo: Odoo, tmp_path: Path, seed: int) -> None:
    rows = [customer(key, parent=(key - 1) // 2 if key else None) for key in range(40)]
    rows = rows[::-1] if not seed else [rows[(at * (7 if seed == 1 else 27)) % 40] for at in range(40)]
    made = target(tmp_path, odoo)
    assert set(deliver(made, *rows)) == {DONE}
    assert asked(odoo).count("load") == 1
    found = odoo.records("res.partner", odoo.unique)
    assert len(found) == 40
    assert found[f"{odoo.unique}customers_39"]["parent_id"] == f"{odoo.unique}customers_19"


def test_parents_go_first_and_a_circle_goes_somehow(odoo: Odoo, tmp_path: Path) -> None:
    table = target(tmp_path, odoo).shared.mapping.tables["public.customers"]

    def ordered(*links: tuple[str, str]) -> list[str]:
        rows = [(at, [own, "name", "email", parent]) for at, (own, parent) in enumerate(links)]
        return [cells[0] for _, cells in parents_first(table, rows)]

    assert ordered(("a", "b"), ("b", "c"), ("c", "")) == ["c", "b", "a"]
    assert ordered(("a", "x"), ("b", "a"), ("c", "x")) == ["a", "b", "c"], "the others stay where they are"
    assert sorted(ordered(("a", "b"), ("b", "c"), ("c", "a"), ("d", "d"), ("e", "a"))) == ["a", "b", "c", "d", "e"]
    assert ordered(("a", "__import__.b"), ("b", "")) == ["b", "a"]


@VERSIONS
def test_a_bad_parent_is_its_own_failure_and_its_children_wait(odoo: Odoo, tmp_path: Path) -> None:
    made = target(tmp_path, odoo)
    rows: list[Event] = [customer(2, parent=1), customer(3, parent=2), customer(1, name=None), customer(4)]
    outcomes = deliver(made, *rows)
    assert [one.verdict for one in outcomes] == [Verdict.CONFLICT, Verdict.CONFLICT, Verdict.MESSAGE, Verdict.DONE]
    [mended] = deliver(made, row("customers", 1, "update", name="Mended", email="", parent=None))
    assert rows[0].id in {event.id for event in mended.wakes}
    [second] = deliver(made, rows[0])
    assert rows[1].id in {event.id for event in second.wakes}
    assert deliver(made, rows[1]) == [DONE]
