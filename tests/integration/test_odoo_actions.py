"""Methods that are called for records once their rows, and those of their lines, are there: `actions`."""

from __future__ import annotations

import asyncio
import logging
import random
from pathlib import Path
from typing import Any

import pytest

from dev.doubles.odoo.handle import Odoo
from relay.delivery import DONE, Delivery, Event, Outcome, Verdict
from tests.links import findings
from tests.odoo_rows import deliver, row, target

VERSIONS = pytest.mark.parametrize("odoo", ["17", "19"], indirect=True)
SHOP = """
[table."public.customers"]
model = "res.partner"
id = "%(unique)scustomer_{id}"
[table."public.customers".fields]
name = "{name}"

[table."public.products"]
model = "product.product"
id = "%(unique)sproduct_{id}"
[table."public.products".fields]
name = "Product {id}"

[table."public.orders"]
model = "sale.order"
id = "%(unique)sorder_{id}"
delete = "ignore"
[table."public.orders".fields]
"partner_id/id" = "%(unique)scustomer_1"
client_order_ref = "{id}"
[[table."public.orders".actions]]
when = { state = "confirmed" }
method = "action_confirm"
unless_record = { state = ["sale", "done"] }
after = { "public.lines" = "line_count" }

[table."public.lines"]
model = "sale.order.line"
id = "%(unique)sline_{id}"
delete = "unlink"
[table."public.lines".fields]
"order_id/id" = "%(unique)sorder_{order}"
"product_id/id" = "%(unique)sproduct_1"
product_uom_qty = 1
"""
AT_ONCE = SHOP.replace('after = { "public.lines" = "line_count" }', "")


def order(key: int, state: str = "confirmed", lines: object = 0, op: str = "insert") -> Event:
    return row("orders", key, op, state=state, line_count=lines)


def line(key: int, order: int) -> Event:
    return row("lines", key, order=order)


def begun(odoo: Odoo, directory: Path, text: str = SHOP, **more: str) -> Any:
    odoo.needs("sale.order", "sale.order.line")
    made = target(directory, odoo, text, **more)
    assert deliver(made, row("customers", 1, name="Customer"), row("products", 1)) == [DONE, DONE]
    return made


def states(odoo: Odoo) -> dict[str, Any]:
    return {key.rpartition("_")[2]: one["state"] for key, one in odoo.records("sale.order", odoo.unique).items()}


def marks(odoo: Odoo) -> int:
    domain = [["module", "=", "__relay_waits__"], ["name", "like", odoo.unique]]
    return int(odoo.client().call("ir.model.data", "search_count", domain=domain))


@VERSIONS
def test_a_method_is_called_once_for_the_records_that_need_it(odoo: Odoo, tmp_path: Path) -> None:
    made = begun(odoo, tmp_path, AT_ONCE)
    rows = [order(1), order(2, "draft"), order(3)]
    for _ in range(2):
        assert set(deliver(made, *rows)) == {DONE}, "called again, it would be refused"
        assert states(odoo) == {"1": "sale", "2": "draft", "3": "sale"}
    assert deliver(made, order(2, op="update")) == [DONE]
    assert states(odoo)["2"] == "sale"


@VERSIONS
def test_it_waits_for_the_lines_also_over_a_restart(odoo: Odoo, tmp_path: Path) -> None:
    made = begun(odoo, tmp_path)
    assert set(deliver(made, order(1, lines=3), order(2, lines=1), order(3, lines=0))) == {DONE}
    assert states(odoo) == {"1": "draft", "2": "draft", "3": "sale"}
    assert marks(odoo) == 2
    assert set(deliver(made, line(1, 1), line(2, 2), line(3, 1))) == {DONE}
    assert states(odoo) == {"1": "draft", "2": "sale", "3": "sale"}
    assert set(deliver(made, order(1, lines=3, op="update"), line(3, 1))) == {DONE}
    made = target(tmp_path, odoo, SHOP)
    assert set(deliver(made, line(4, 1))) == {DONE}
    assert states(odoo)["1"] == "sale"
    assert marks(odoo) == 0
    assert set(deliver(made, order(1, lines=3, op="update"), line(4, 1))) == {DONE}


@VERSIONS
def test_lines_before_their_header_wait_for_it_and_complete_it(odoo: Odoo, tmp_path: Path) -> None:
    made = begun(odoo, tmp_path)
    lines = [line(1, 1), line(2, 1)]
    assert {one.verdict for one in deliver(made, *lines)} == {Verdict.CONFLICT}
    assert deliver(made, order(1, lines=2)) == [DONE]
    assert set(deliver(made, *lines)) == {DONE}
    assert states(odoo) == {"1": "sale"}


@VERSIONS
def test_a_row_that_no_longer_wants_it_takes_its_mark_along(odoo: Odoo, tmp_path: Path) -> None:
    made = begun(odoo, tmp_path)
    deliver(made, order(1, lines=1), order(2, lines=1))
    assert deliver(made, order(1, "draft", lines=1, op="update"), order(2, lines=2, op="update")) == [DONE, DONE]
    assert marks(odoo) == 1
    deliver(made, line(1, 1), line(2, 2))
    assert states(odoo) == {"1": "draft", "2": "draft"}
    deliver(made, line(3, 2))
    assert states(odoo) == {"1": "draft", "2": "sale"}


@VERSIONS
def test_lines_that_are_not_rows_do_not_count(odoo: Odoo, tmp_path: Path) -> None:
    made = begun(odoo, tmp_path)
    deliver(made, order(1, lines=2))
    names = [f"{odoo.unique}order_1", f"{odoo.unique}product_1"]
    data = {"domain": [["name", "in", names]], "fields": ["res_id", "name"]}
    known = {one["name"]: one["res_id"] for one in odoo.client().call("ir.model.data", "search_read", **data)}
    by_hand = {"order_id": known[names[0]], "product_id": known[names[1]], "name": "By hand"}
    odoo.client().call("sale.order.line", "create", vals_list=[by_hand])
    deliver(made, line(1, 1))
    assert states(odoo) == {"1": "draft"}
    deliver(made, line(2, 1))
    assert states(odoo) == {"1": "sale"}


@VERSIONS
def test_what_refuses_is_told_of_the_row_that_was_last_and_the_others_are_done(odoo: Odoo, tmp_path: Path) -> None:
    made = begun(odoo, tmp_path, AT_ONCE.replace('= "{id}"\n[[', '= "{id}"\nstate = "{set}"\n[['))
    rows = [row("orders", key, state="confirmed", set="cancel" if key == 2 else "draft") for key in range(1, 5)]
    outcomes = deliver(made, *rows)
    assert [one.verdict for one in outcomes] == [Verdict.DONE, Verdict.MESSAGE, Verdict.DONE, Verdict.DONE]
    assert outcomes[1].reason.startswith(f"action_confirm of {odoo.unique}order_2: ")
    before_17 = "not allowed to confirm an order in the following states"
    assert (before_17 if int(odoo.version) < 17 else "not in a state requiring confirmation") in outcomes[1].reason
    assert states(odoo) == {"1": "sale", "2": "cancel", "3": "sale", "4": "sale"}


def test_a_window_instead_of_the_work_is_refused_by_name(odoo: Odoo, tmp_path: Path) -> None:
    made = begun(odoo, tmp_path)
    deliver(made, order(1, lines=1))
    odoo.break_("action", model="sale.order", method="action_confirm")
    [outcome] = deliver(made, line(1, 1))
    assert outcome.verdict is Verdict.MESSAGE
    assert "action_confirm answered with ir.actions.act_window some.wizard" in outcome.reason
    assert marks(odoo) == 1
    odoo.mend()
    assert deliver(made, line(1, 1)) == [DONE]
    assert (states(odoo), marks(odoo)) == ({"1": "sale"}, 0)


def test_a_number_of_lines_that_is_none_is_refused(odoo: Odoo, tmp_path: Path) -> None:
    made = begun(odoo, tmp_path)
    for number in (None, "²", "9" * 5000, -1, 1.5, True, "", [1], {}):
        outcomes = deliver(made, order(1, lines=number), order(2), order(3, "draft", lines=number))
        assert [one.verdict for one in outcomes] == [Verdict.MESSAGE, Verdict.DONE, Verdict.DONE], number
        assert outcomes[0].reason == "actions: action_confirm: column line_count is no number of rows"


@pytest.mark.parametrize("seed", range(6))
def test_workers_at_the_same_time_call_it_once_and_for_all(odoo: Odoo, tmp_path: Path, seed: int) -> None:
    made, rng = begun(odoo, tmp_path), random.Random(seed)
    counts = {key: rng.randrange(4) for key in range(8)}
    rows: list[Event] = [order(key, lines=count) for key, count in counts.items()]
    rows += [line(10 * key + number, key) for key, count in counts.items() for number in range(count)]
    rng.shuffle(rows)

    async def work(link: Any, left: list[Event]) -> None:
        while left:
            table = left[0].table
            batch = [one for one in left if one.table == table][: rng.randrange(1, 4)]
            for one in batch:
                left.remove(one)
            outcomes: list[Outcome] = await link.deliver([Delivery(one, 1) for one in batch])
            left += [one for one, outcome in zip(batch, outcomes, strict=True) if outcome.verdict is Verdict.CONFLICT]
            assert {outcome.verdict for outcome in outcomes} <= {Verdict.DONE, Verdict.CONFLICT}, outcomes

    async def all_of_them() -> None:
        links = [made.open() for _ in range(4)]
        await asyncio.gather(*(work(link, rows) for link in links))
        for link in links:
            link.close()

    odoo.pace(0.002, 0.0)
    asyncio.run(all_of_them())
    assert set(states(odoo).values()) == {"sale"}
    assert marks(odoo) == 0


def test_what_it_costs_in_requests(odoo: Odoo, tmp_path: Path) -> None:
    made = begun(odoo, tmp_path)

    def asked(*rows: Event) -> list[str]:
        odoo.forget_requests()
        assert set(deliver(made, *rows)) == {DONE}
        return [f"{one['model']} {one['method']}" for one in odoo.requests() if one["model"]]

    deliver(made, order(99, "draft"), row("customers", 2, name="x"))
    assert asked(row("customers", 3, name="x")) == ["res.partner load"]
    look = "ir.model.data search_read"
    assert asked(*(order(key, "draft") for key in range(1, 9))) == ["sale.order load", look]
    lines = "sale.order.line search_read"
    assert asked(order(11, lines=1), order(12, lines=1)) == [
        "sale.order load", look, "sale.order read", lines, "ir.model.data create",
    ]  # fmt: skip
    deliver(made, line(98, 99))
    assert asked(line(1, 1)) == ["sale.order.line load", look, look]
    assert asked(line(11, 11), line(12, 12)) == [
        *("sale.order.line load", look, look, "sale.order read", lines, look),
        *("sale.order action_confirm", "ir.model.data unlink"),
    ]


@VERSIONS
def test_check_looks_at_the_records_conditions(odoo: Odoo, tmp_path: Path) -> None:
    odoo.needs("sale.order")

    def told(text: str) -> list[str]:
        found = findings(target(tmp_path, odoo, text))
        return [f"{one.level.word}: {one.detail}" for one in found if one.name.endswith("action_confirm")]

    fine = "ok: called unless state says it was"
    assert told(SHOP) == [fine if int(odoo.version) < 17 else "WARN: state knows no value done"]
    assert told(SHOP.replace('["sale", "done"]', '"sale"')) == [fine]
    assert told(SHOP.replace('["sale", "done"]', '["sold"]'))[0].startswith("FAILED: state knows no value sold")
    assert told(SHOP.replace("{ state = [", "{ stat = [")) == ["FAILED: stat: sale.order has no such field"]


def test_what_has_not_come_after_all_that_time_is_told_once(
    odoo: Odoo, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "receiver")
    made = begun(odoo, tmp_path, ODOO_LINK_WAIT="0")
    deliver(made, order(1, lines=1), order(2, lines=0))
    deliver(made, order(3, lines=0))
    [said] = [record.getMessage() for record in caplog.records if "an action was not called" in record.getMessage()]
    assert f"record={odoo.unique}order_1 method=action_confirm" in said
    deliver(made, line(1, 1))
    assert states(odoo)["1"] == "sale", "it may come later still"
