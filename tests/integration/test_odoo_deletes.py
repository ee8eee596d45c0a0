"""What becomes of records whose rows are gone, by rules: `delete` of the mapping that looks at the record's state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dev.doubles.odoo.handle import Odoo
from relay.delivery import DONE, Event, Verdict
from tests.links import findings
from tests.odoo_rows import PARTNERS, customer, deliver, row, target

VERSIONS = pytest.mark.parametrize("odoo", ["17", "19"], indirect=True)
QUIETLY = "{ disable_cancel_warning = true }"  # else 17 asks a person
ORDERS = (
    PARTNERS.partition('[table."public.orders"]')[0]
    + """
[table."public.sales"]
model = "sale.order"
id = "%(unique)ssale_{id}"
delete = [
    { when = { state = "draft" }, do = "unlink" },
    { when = { state = "sale", client_order_ref = { null = false } }, do = "ignore" },
    { when = { state = ["sale", "sent"] }, do = "method", method = "action_cancel", context = QUIETLY },
    { when = { state = "cancel", client_order_ref = { null = true } }, do = "ignore" },
]
[table."public.sales".fields]
"partner_id/id" = "%(unique)scustomers_1"
client_order_ref = "{ref}"
state = "{state}"
[table."public.lines"]
model = "res.partner.bank"
id = "%(unique)sline_{id}"
delete = { set = { acc_number = "gone", active = true } }
[table."public.lines".fields]
"partner_id/id" = "%(unique)scustomers_1"
acc_number = "{number}"
"""
).replace("QUIETLY", QUIETLY)


def sale(key: int, op: str = "insert", state: str = "draft", ref: str | None = None) -> Event:
    return row("sales", key, op, state=state, ref=ref)


def states(odoo: Odoo) -> dict[str, Any]:
    return {key.rpartition("_")[2]: one["state"] for key, one in odoo.records("sale.order", odoo.unique).items()}


@VERSIONS
def test_a_record_goes_by_the_first_rule_that_its_state_meets(odoo: Odoo, tmp_path: Path) -> None:
    odoo.needs("sale.order")
    made = target(tmp_path, odoo, ORDERS)
    rows = [sale(1), sale(2, state="sale"), sale(3, state="sale", ref="keep"), sale(4, state="cancel"), sale(5)]
    deliver(made, customer(1))
    assert set(deliver(made, *rows)) == {DONE}
    gone = [sale(key, "delete") for key in (1, 2, 3, 4, 404)]
    for _ in range(2):
        assert set(deliver(made, *gone)) == {DONE}
        assert states(odoo) == {"2": "cancel", "3": "sale", "4": "cancel", "5": "draft"}


@VERSIONS
def test_a_record_that_no_rule_is_for_is_refused_by_name_and_the_others_go(odoo: Odoo, tmp_path: Path) -> None:
    odoo.needs("sale.order")
    made = target(tmp_path, odoo, ORDERS)
    deliver(made, customer(1))
    deliver(made, sale(1), sale(2, state="cancel", ref="x"), sale(3))
    outcomes = deliver(made, *(sale(key, "delete") for key in (1, 2, 3)))
    assert [one.verdict for one in outcomes] == [Verdict.DONE, Verdict.MESSAGE, Verdict.DONE]
    assert outcomes[1].reason.startswith("delete: no rule in the mapping of public.sales is for sale.order ")
    assert states(odoo) == {"2": "cancel"}


@VERSIONS
def test_a_delete_can_set_fields_and_a_new_row_sets_them_anew(odoo: Odoo, tmp_path: Path) -> None:
    made = target(tmp_path, odoo, ORDERS)
    deliver(made, customer(1))
    line = row("lines", 1, number=f"{odoo.unique}7")
    assert deliver(made, line) == [DONE]
    assert deliver(made, row("lines", 1, "delete")) == [DONE]
    found = odoo.record("res.partner.bank", f"{odoo.unique}line_1")
    assert found
    assert (found["acc_number"], found["active"]) == ("gone", True)
    deliver(made, line)
    found = odoo.record("res.partner.bank", f"{odoo.unique}line_1")
    assert found
    assert found["acc_number"] == f"{odoo.unique}7"


@VERSIONS
def test_a_truncate_goes_by_the_rules_as_well(odoo: Odoo, tmp_path: Path) -> None:
    odoo.needs("sale.order")
    made = target(tmp_path, odoo, ORDERS)
    deliver(made, customer(1))
    deliver(made, sale(1), sale(2, state="sale"), sale(3, state="sale", ref="keep"))
    assert deliver(made, row("sales", 0, "truncate")) == [DONE]
    assert states(odoo) == {"2": "cancel", "3": "sale"}


def test_rules_without_a_condition_cost_no_request_more(odoo: Odoo, tmp_path: Path) -> None:
    made = target(tmp_path, odoo, ORDERS)
    deliver(made, customer(1), *(sale(key) for key in range(3)))
    deliver(made, row("lines", 1, number="7"))
    odoo.forget_requests()
    deliver(made, row("lines", 1, "delete"), *(sale(key, "delete") for key in range(3)))
    assert sorted(one["method"] for one in odoo.requests()) == ["read", "search_read", "search_read", "unlink", "write"]


@VERSIONS
def test_check_names_what_a_rule_says_wrong(odoo: Odoo, tmp_path: Path) -> None:
    odoo.needs("sale.order")

    def told(text: str) -> list[str]:
        found = findings(target(tmp_path, odoo, text))
        return [one.detail for one in found if not one.ok and one.name.endswith("delete")]

    assert told(ORDERS) == []
    assert told(ORDERS.replace('{ state = "draft" }', '{ state = "drafted" }'))[0].startswith("state knows no value")
    assert told(ORDERS.replace("active = true", "actve = true")) == ["actve: res.partner.bank has no such field"]
    assert told(ORDERS.replace("active = true", 'active = "perhaps"'))[0].startswith("active is of type boolean")


def test_read_leaves_out_what_is_not_there(odoo: Odoo) -> None:
    client = odoo.client()
    first, second = client.call("res.partner", "create", vals_list=[{"name": "a"}, {"name": "b"}])
    client.call("res.partner", "unlink", [first])
    found = client.call("res.partner", "read", [first, second], fields=["name"])
    assert [one["name"] for one in found] == ["b"]
