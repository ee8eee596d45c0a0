"""Rows of one header share no two requests that run at the same time."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from dev.doubles.odoo.handle import Odoo
from relay.delivery import Delivery, Event, Verdict
from relay.targets.odoo.load import OdooLoadTarget
from tests.integration.test_odoo_actions import begun, line, order, states
from tests.odoo_rows import customer, deliver, row, target

LINES, WORKERS, BATCH = 200, 4, 10


def at_once(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return bool(one["started"] < other["started"] + other["took"] and other["started"] < one["started"] + one["took"])


def delivered(made: OdooLoadTarget, rows: list[Event]) -> tuple[set[str], set[str]]:
    """Deliver all of them, some workers at once. Return the ids of those that were put off, and of the woken."""
    put_off, woken = set[str](), set[str]()

    async def work() -> None:
        link = made.open()
        while rows:
            batch = [rows.pop(0) for _ in range(min(BATCH, len(rows)))]
            outcomes = await link.deliver([Delivery(event, 1) for event in batch])
            assert {one.verdict for one in outcomes} <= {Verdict.DONE, Verdict.CONFLICT}
            late = [event for event, one in zip(batch, outcomes, strict=True) if one.verdict is Verdict.CONFLICT]
            put_off.update(event.id for event in late)
            rows.extend(late)
            woken.update(event.id for one in outcomes for event in one.wakes)
        link.close()

    async def all_of_them() -> None:
        await asyncio.gather(*(work() for _ in range(WORKERS)))

    asyncio.run(all_of_them())
    return put_off, woken


@pytest.mark.parametrize("orders", [100, 1])
def test_no_two_requests_at_once_have_lines_of_one_order(odoo: Odoo, tmp_path: Path, orders: int) -> None:
    made, rng = begun(odoo, tmp_path), random.Random(1)
    owners = {n: n % orders for n in range(LINES)}
    rows = [line(n, owner) for n, owner in owners.items()]
    rng.shuffle(rows)
    deliver(made, *(order(key, lines=LINES // orders) for key in range(orders)))
    odoo.forget_requests()
    odoo.pace(0.1, 0.0)
    put_off, woken = delivered(made, rows)
    assert set(states(odoo).values()) == {"sale"}
    loads = odoo.requests(model="sale.order.line", method="load")
    assert sum(one["rows"] for one in loads) == LINES
    for one, other in itertools.combinations(loads, 2):
        if at_once(one, other):
            mine, others = ({owners[int(name.rpartition("_")[2])] for name in each["firsts"]} for each in (one, other))
            assert not mine & others
    assert any(at_once(*two) for two in itertools.combinations(loads, 2)) is (orders > 1)
    assert woken == put_off
    assert bool(woken) is (orders > 1), "where all would be put off, they are awaited"


def test_lines_of_one_order_are_not_removed_while_others_are_loaded(odoo: Odoo, tmp_path: Path) -> None:
    made, rng = begun(odoo, tmp_path), random.Random(1)
    deliver(made, order(0, lines=LINES), *(line(n, 0) for n in range(LINES)))
    gone = [row("lines", n, "delete", {"id": n, "order": 0}) for n in range(0, LINES, 2)]
    rows = [*gone, *(line(n, 0) for n in range(1, LINES, 2))]
    rng.shuffle(rows)
    odoo.forget_requests()
    odoo.pace(0.1, 0.0)
    delivered(made, rows)
    loads, unlinks = (odoo.requests(model="sale.order.line", method=method) for method in ("load", "unlink"))
    assert len(odoo.records("sale.order.line", odoo.unique)) == LINES // 2
    assert not any(at_once(*two) for two in itertools.product(loads, unlinks))


@pytest.mark.parametrize("families", [40, 1])
def test_no_two_requests_at_once_have_a_row_and_its_parent(odoo: Odoo, tmp_path: Path, families: int) -> None:
    made, rng = target(tmp_path, odoo), random.Random(1)
    parents = {n: n % families for n in range(families, LINES)}
    rows = [customer(n, parent=parents.get(n)) for n in range(LINES)]
    deliver(made, *rows)
    rng.shuffle(rows)
    odoo.forget_requests()
    odoo.pace(0.1, 0.0)
    put_off, woken = delivered(made, rows)
    loads = odoo.requests(model="res.partner", method="load")
    assert sum(one["rows"] for one in loads) == LINES
    together = [two for two in itertools.combinations(loads, 2) if at_once(*two)]
    assert together, "siblings do not keep each other off"
    for two in together:
        mine, others = ({int(name.rpartition("_")[2]) for name in each["firsts"]} for each in two)
        assert not mine & {parents.get(n) for n in others}
        assert not others & {parents.get(n) for n in mine}
    assert woken == put_off
