"""A shop into an Odoo that was filled by hand: adopted, ordered worst first, through kills of the receiver."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from dev.doubles.odoo.handle import Odoo
from dev.process import wait_until
from dev.script import Script
from dev.vhost import Vhost
from relay.delivery import Event
from tests.odoo_rows import declare, publish, row, settings

Make = Callable[..., Script]
SHOP = """
[context]
lang = "en_US"
[table."public.customers"]
model = "res.partner"
id = "customer_{id}"
match = ["ref"]
order = 1
[table."public.customers".fields]
name = "{name}"
ref = "C{id}"
city = { from = "{city}", default = "Nowhere" }
"category_id/id" = { from = "tag_{tags}", many = "add" }

[table."public.tags"]
model = "res.partner.category"
id = "tag_{id}"
match = ["name"]
[table."public.tags".fields.name]
en_US = "Tag {id}"
de_DE = "Schild {id}"

[table."public.products"]
model = "product.product"
id = "product_{id}"
match = ["default_code"]
[table."public.products".fields]
name = "Product {id}"
default_code = "P{id}"

[table."public.orders"]
model = "sale.order"
id = "order_{id}"
delete = "ignore"
[table."public.orders".fields]
"partner_id/id" = "customer_{customer}"
currency_id = { from = "{currency}", by = "name" }
[[table."public.orders".actions]]
when = { state = "confirmed" }
method = "action_confirm"
unless_record = { state = "sale" }
after = { "public.lines" = "line_count" }

[table."public.lines"]
model = "sale.order.line"
id = "line_{id}"
delete = "unlink"
[table."public.lines".fields]
"order_id/id" = "order_{order}"
"product_id/id" = "product_{product}"
product_uom_qty = "{quantity}"
"""
CUSTOMERS, ORDERS, TAGS = 120, 150, 6


def shop() -> tuple[list[Event], dict[int, int]]:
    """The rows, in the worst order: lines, orders, customers, products, tags; and how many lines an order has."""
    rng = random.Random(7)
    lines_of = {key: rng.randrange(4) for key in range(ORDERS)}
    lines = [
        row("lines", 10 * key + n, order=key, product=rng.randrange(30), quantity=n + 1)
        for key, count in lines_of.items()
        for n in range(count)
    ]
    orders = [
        row(
            "orders", key, customer=rng.randrange(CUSTOMERS), currency=rng.choice(["EUR", "USD"]),
            state="confirmed" if key % 3 else "new", line_count=lines_of[key],
        )
        for key in range(ORDERS)
    ]  # fmt: skip
    people = [
        row("customers", key, name=f"N{key}", city="X" if key % 2 else None, tags=[key % TAGS])
        for key in range(CUSTOMERS)
    ]
    goods = [row("products", key) for key in range(30)]
    tags = [row("tags", key) for key in range(TAGS)]
    for some in (lines, orders, people):
        rng.shuffle(some)
    return [*lines, *orders, *people, *goods, *tags], lines_of


@pytest.mark.parametrize("odoo", ["17", "19"], indirect=True)
def test_a_filled_odoo_is_adopted_and_its_orders_confirmed_once_through_kills(
    vhost: Vhost, script: Make, tmp_path: Path, odoo: Odoo
) -> None:
    client = odoo.client()
    by_hand = [{"name": "By hand", "ref": f"C{n}"} for n in range(0, CUSTOMERS, 2)]
    client.call("res.partner", "create", vals_list=by_hand)
    client.call("res.partner.category", "create", vals_list=[{"name": f"Tag {n}"} for n in range(0, TAGS, 2)])
    client.call("product.product", "create", vals_list=[{"name": "x", "default_code": f"P{n}"} for n in range(15)])
    odoo.pace(0.01, 0.0005)
    events, lines_of = shop()
    declare(vhost)
    publish(vhost, events)
    receiver = script("receiver.py", settings(vhost, odoo, tmp_path, SHOP, WORKERS=4, BATCH_SIZE=20))
    for records in (60, 150, 300):
        receiver.start()
        wait_until(partial(has, odoo, "__import__", records), 60, f"{records} external ids")
        receiver.kill()
    receiver.start()
    wait_until(partial(has, odoo, "__import__", len(events)), 120, "all external ids")
    wait_until(lambda: not has(odoo, "__relay_waits__", 1), 30, "all actions")
    receiver.terminate()
    receiver.wait()
    assert "event refused" not in receiver.log()
    assert len(client.call("res.partner", "search", domain=[["ref", "like", "C"]])) == CUSTOMERS
    assert len(client.call("res.partner.category", "search", domain=[])) == TAGS
    assert len(client.call("product.product", "search", domain=[])) == 30
    people = odoo.records("res.partner", "customer_")
    shown = {key: (one["name"], one["city"], one["category_id"]) for key, one in people.items()}
    assert shown == {
        f"customer_{key}": (f"N{key}", "X" if key % 2 else "Nowhere", (f"tag_{key % TAGS}",))
        for key in range(CUSTOMERS)
    }
    states = {key: one["state"] for key, one in odoo.records("sale.order", "order_").items()}
    assert states == {f"order_{key}": "sale" if key % 3 else "draft" for key in range(ORDERS)}
    assert len(odoo.records("sale.order.line", "line_")) == sum(lines_of.values())


def has(odoo: Odoo, module: str, count: int) -> bool:
    """Are there so many external ids of a module?"""
    return int(odoo.client().call("ir.model.data", "search_count", domain=[["module", "=", module]])) >= count
