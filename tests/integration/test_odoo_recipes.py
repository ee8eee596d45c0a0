"""The recipes of docs/odoo.md, as they stand there."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from dev.doubles.odoo.handle import Odoo
from relay.delivery import DONE, Verdict
from relay.findings import Level
from tests.links import findings
from tests.odoo_rows import deliver, row, target

VERSIONS = pytest.mark.parametrize("odoo", ["17", "19"], indirect=True)
PAGE = (Path(__file__).parents[2] / "docs" / "odoo.md").read_text()
OTHERS = """
[table."public.customers"]
model = "res.partner"
id = "customers_{id}"
[table."public.customers".fields]
name = "{name}"

[table."public.products"]
model = "product.product"
id = "products_{id}"
[table."public.products".fields]
name = "{name}"
"""


def recipe(name: str) -> str:
    """The mapping that stands there, with what it links to; external ids are those of the test."""
    (found,) = re.findall(rf"```toml\n# recipe: {name}\n(.*?)```", PAGE, re.DOTALL)
    return re.sub(r'"((?:orders|order_lines|customers|products)_\{)', r'"%(unique)s\1', found + OTHERS)


@VERSIONS
def test_orders_with_their_lines(odoo: Odoo, tmp_path: Path) -> None:
    odoo.needs("sale.order")
    made = target(tmp_path, odoo, recipe("orders with lines"))
    assert [one for one in findings(made) if one.level is not Level.OK] == []

    def order(op: str = "update", state: str = "confirmed", lines: int = 3) -> Verdict:
        event = row("orders", 1, op, customer_id=1, number="A1", state=state, line_count=lines)
        return deliver(made, event)[0].verdict

    def line(key: int, op: str = "insert", quantity: float = 1) -> Verdict:
        event = row("order_lines", key, op, order_id=1, product_id=1, quantity=quantity, price="2.50")
        return deliver(made, event)[0].verdict

    def lines() -> list[tuple[float, float | None]]:
        found = odoo.records("sale.order.line", odoo.unique)
        # Where Odoo computes prices, a line whose quantity alone changes to nothing gets the product's (seen on 19).
        prices = {key: one["price_unit"] if one["product_uom_qty"] else None for key, one in found.items()}
        return [(one["product_uom_qty"], prices[key]) for key, one in sorted(found.items())]

    def state() -> str:
        (found,) = odoo.records("sale.order", odoo.unique).values()
        return str(found["state"])

    assert set(deliver(made, row("customers", 1, name="Ann"))) == {DONE}
    assert set(deliver(made, row("products", 1, name="Tea"))) == {DONE}
    assert line(1) is Verdict.CONFLICT, "before its order it waits"
    assert order("insert") is Verdict.DONE
    assert line(1) is Verdict.DONE
    assert line(2) is Verdict.DONE
    assert state() == "draft", "one line is not there yet"
    assert line(3, quantity=7) is Verdict.DONE
    assert (state(), lines()) == ("sale", [(1, 2.5), (1, 2.5), (7, 2.5)])
    assert {order(), line(2, "update", 5), line(1, "delete"), line(3)} == {Verdict.DONE}
    assert (state(), lines()) == ("sale", [(0, None), (5, 2.5), (1, 2.5)])
    assert order("delete") is Verdict.DONE
    assert state() == "cancel"


@VERSIONS
@pytest.mark.parametrize("turns", [*itertools.permutations(range(3))][1:])
def test_the_lines_may_come_in_any_order(odoo: Odoo, tmp_path: Path, turns: tuple[int, ...]) -> None:
    """The order between them, or last: it is confirmed with what makes it whole."""
    odoo.needs("sale.order")
    made = target(tmp_path, odoo, recipe("orders with lines"))
    deliver(made, row("customers", 1, name="Ann"))
    deliver(made, row("products", 1, name="Tea"))
    rows = [
        row("orders", 1, customer_id=1, number="A1", state="confirmed", line_count=2),
        *(row("order_lines", key, order_id=1, product_id=1, quantity=1, price=1) for key in (1, 2)),
    ]
    waiting = [rows[turn] for turn in turns]
    while waiting:
        waiting = [event for event in waiting if deliver(made, event)[0].verdict is not Verdict.DONE]
    (found,) = odoo.records("sale.order", odoo.unique).values()
    assert found["state"] == "sale"
