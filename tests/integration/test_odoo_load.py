"""TARGET=odoo-load against an Odoo: what becomes of rows, bad ones among good ones, links, deletes, TRUNCATE."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from dev.doubles.odoo.handle import Odoo
from relay.delivery import DONE, Delivery, Verdict
from tests.links import Link
from tests.odoo_rows import PARTNERS, customer, deliver, order, row, target

VERSIONS = pytest.mark.parametrize("odoo", ["17", "19"], indirect=True)
# With the external ids of the customers.
TAGS_ALIKE = """
[table."public.tags"]
model = "res.partner.category"
id = "%(unique)scustomers_{id}"
[table."public.tags".fields]
name = "%(unique)s{id}"
"""


def names(odoo: Odoo) -> dict[str, str]:
    """The contacts' names by external id, archived ones in brackets."""
    found = odoo.records("res.partner", odoo.unique)
    return {
        key.removeprefix(odoo.unique): one["name"] if one["active"] else f"({one['name']})"
        for key, one in found.items()
    }


@VERSIONS
def test_rows_become_records_and_again_changes_nothing(odoo: Odoo, tmp_path: Path) -> None:
    made = target(tmp_path, odoo)
    events = [customer(1, name="Ä & Co."), customer(2, parent=1, email=None), order(1, 2)]
    assert set(deliver(made, *events)) == {DONE}
    first = (odoo.records("res.partner", odoo.unique), odoo.records("res.partner.bank", odoo.unique))
    assert set(deliver(made, *events)) == {DONE}
    assert (odoo.records("res.partner", odoo.unique), odoo.records("res.partner.bank", odoo.unique)) == first
    second = first[0][f"{odoo.unique}customers_2"]
    assert (second["parent_id"], second["email"]) == (f"{odoo.unique}customers_1", False)
    assert first[1][f"{odoo.unique}orders_1"]["partner_id"] == f"{odoo.unique}customers_2"


@VERSIONS
def test_bad_rows_are_refused_with_their_reason_and_the_good_ones_go_through(odoo: Odoo, tmp_path: Path) -> None:
    bad = {7, 20, 63}
    events = [customer(key, name=None if key in bad else f"N{key}") for key in range(80)]
    outcomes = deliver(target(tmp_path, odoo), *events)
    assert {at for at, outcome in enumerate(outcomes) if outcome.verdict is Verdict.MESSAGE} == bad
    assert {outcome.verdict for outcome in outcomes} == {Verdict.MESSAGE, Verdict.DONE}
    assert all("require a name" in outcomes[at].reason for at in bad)
    assert len(names(odoo)) == 77


@VERSIONS
def test_a_link_whose_record_has_not_arrived_waits_and_costs_one_request(odoo: Odoo, tmp_path: Path) -> None:
    made = target(tmp_path, odoo)
    assert set(deliver(made, customer(1))) == {DONE}
    orders = [order(key, customer_id=1 if key % 2 else 99) for key in range(40)]
    outcomes = deliver(made, *orders)
    waiting = [at for at, outcome in enumerate(outcomes) if outcome.verdict is Verdict.CONFLICT]
    assert waiting == list(range(0, 40, 2))
    assert "customers_99" in outcomes[0].reason
    assert set(deliver(made, customer(99))) == {DONE}
    assert set(deliver(made, *(orders[at] for at in waiting))) == {DONE}
    assert len(odoo.records("res.partner.bank", odoo.unique)) == 40


@pytest.mark.parametrize(
    ("delete", "verdict"),
    [
        ('"unlink"', Verdict.DONE),
        ('"archive"', Verdict.DONE),
        ('"ignore"', Verdict.CONFLICT),
        ('[{ when = { acc_number = "%(unique)sN1" }, do = "ignore" }, { do = "unlink" }]', Verdict.CONFLICT),
    ],
)
def test_a_row_that_waits_is_passed_over_if_it_is_deleted_and_that_leaves_no_record(
    odoo: Odoo, tmp_path: Path, delete: str, verdict: Verdict
) -> None:
    head, _, tail = PARTNERS.rpartition('delete = "unlink"')
    made = target(tmp_path, odoo, f"{head}delete = {delete}{tail}")
    with contextlib.closing(Link(made)) as link:
        gone = Delivery(order(1, customer_id=99), 1, lambda: True)
        for _ in range(2):  # found out, and known
            outcomes = link.deliver([gone, Delivery(order(2, customer_id=99), 1)])
            assert [one.verdict for one in outcomes] == [verdict, Verdict.CONFLICT]
    assert deliver(made, customer(99))[0].wakes, "those that wait for it go on"


def test_orphans_cost_one_search_and_are_not_sent(odoo: Odoo, tmp_path: Path) -> None:
    made = target(tmp_path, odoo)
    deliver(made, customer(1))
    odoo.forget_requests()
    outcomes = deliver(made, *(order(key, customer_id=1 if key % 2 else 99) for key in range(100)))
    assert [one.verdict for one in outcomes] == [Verdict.CONFLICT, Verdict.DONE] * 50
    assert [one["rows"] for one in odoo.requests(method="load")] == [50]
    assert len(odoo.requests(model="ir.model.data", method="search_read")) == 1


@VERSIONS
def test_a_child_before_its_parent_in_one_batch_arrives_with_it(odoo: Odoo, tmp_path: Path) -> None:
    made = target(tmp_path, odoo)
    assert deliver(made, customer(2, parent=1), customer(1)) == [DONE, DONE]


@VERSIONS
def test_a_row_that_links_to_a_bad_row_of_its_batch_is_not_refused_for_it(odoo: Odoo, tmp_path: Path) -> None:
    outcomes = deliver(target(tmp_path, odoo), customer(1, name=None), customer(2, parent=1), customer(3))
    assert [one.verdict for one in outcomes] == [Verdict.MESSAGE, Verdict.CONFLICT, Verdict.DONE]


def test_a_link_that_never_arrives_becomes_the_rows_own_failure(odoo: Odoo, tmp_path: Path) -> None:
    made = target(tmp_path, odoo, ODOO_LINK_WAIT="0")
    [outcome] = deliver(made, order(1, customer_id=99))
    assert outcome.verdict is Verdict.MESSAGE
    assert "no record partner_id/id" in outcome.reason


@VERSIONS
def test_deletes_archive_unlink_and_repeat_without_harm(odoo: Odoo, tmp_path: Path) -> None:
    made = target(tmp_path, odoo)
    deliver(made, customer(1), customer(2), order(1, 2), order(2, 2))
    gone = [customer(1, "delete"), customer(404, "delete"), order(1, 2, "delete"), order(404, 2, "delete")]
    for _ in range(2):
        assert set(deliver(made, *gone)) == {DONE}
        assert names(odoo) == {"customers_1": "(Customer 1)", "customers_2": "Customer 2"}
        # From 19 Odoo archives a bank account that it is asked to unlink.
        accounts = odoo.records("res.partner.bank", odoo.unique).items()
        assert [key for key, one in accounts if one["active"]] == [f"{odoo.unique}orders_2"]
    assert deliver(made, customer(1, "update")) == [DONE]
    assert names(odoo)["customers_1"] == "(Customer 1)", "an update does not undo what a person may have archived"
    assert deliver(made, customer(1)) == [DONE]
    assert names(odoo)["customers_1"] == "Customer 1", "a new row with the old key brings the record back"


@VERSIONS
def test_a_delete_can_call_a_method_or_do_nothing(odoo: Odoo, tmp_path: Path) -> None:
    made = target(tmp_path, odoo, PARTNERS.replace('customers_{id}"', 'customers_{id}"\ndelete = "action_archive"', 1))
    deliver(made, customer(1))
    assert deliver(made, customer(1, "delete")) == [DONE]
    assert names(odoo) == {"customers_1": "(Customer 1)"}
    made = target(tmp_path, odoo, PARTNERS.replace('customers_{id}"', 'customers_{id}"\ndelete = "ignore"', 1))
    deliver(made, customer(2))
    assert deliver(made, customer(2, "delete")) == [DONE]
    assert names(odoo)["customers_2"] == "Customer 2"


@VERSIONS
def test_a_truncate_removes_this_tables_records_and_no_others(odoo: Odoo, tmp_path: Path) -> None:
    others = PARTNERS.partition('[table."public.orders"]')[0].replace("public.customers", "public.suppliers")
    others = others.replace("customers_{id}", "customersX_{id}")
    made = target(tmp_path, odoo, PARTNERS + others)
    supplier = row("suppliers", 1, name="Supplier", email=None, parent=None)
    deliver(made, customer(1), customer(2), supplier)
    empty = row("customers", 0, "truncate")
    assert deliver(made, empty) == [DONE]
    assert names(odoo) == {
        "customers_1": "(Customer 1)",
        "customers_2": "(Customer 2)",
        "customersX_1": "Supplier",
    }


@pytest.mark.parametrize("odoo", ["14", "17", "19"], indirect=True)
def test_a_row_whose_external_id_is_another_models_is_refused_and_writes_over_nothing(
    odoo: Odoo, tmp_path: Path
) -> None:
    """By itself 14 would write over the contact that has the tag's number, and the tag would lose its external id."""
    made = target(tmp_path, odoo, PARTNERS + TAGS_ALIKE)
    assert deliver(made, row("tags", 1)) == [DONE]
    one = f"{odoo.unique}customers_1"
    domain = [["model", "=", "res.partner.category"], ["name", "=", one]]
    [tag] = odoo.client().call("ir.model.data", "search_read", domain=domain, fields=["res_id"])

    def of_the_same_number() -> object:
        return odoo.client().call("res.partner", "read", [tag["res_id"]], fields=["name", "email"])

    before = of_the_same_number()
    refused, done = deliver(made, customer(1), customer(2))
    assert (refused.verdict, done) == (Verdict.MESSAGE, DONE)
    assert one in refused.reason
    assert "res.partner.category" in refused.reason
    assert of_the_same_number() == before
    assert odoo.records("res.partner.category", one)
    assert set(names(odoo)) == {"customers_2"}


@pytest.mark.parametrize("odoo", ["14"], indirect=True)
def test_without_the_right_to_read_external_ids_they_are_looked_up_one_by_one_on_14(odoo: Odoo, tmp_path: Path) -> None:
    made = target(tmp_path, odoo, PARTNERS + TAGS_ALIKE)
    assert deliver(made, row("tags", 1)) == [DONE]
    odoo.break_("access", model="ir.model.data")
    refused, done = deliver(made, customer(1), customer(2))
    assert (refused.verdict, done) == (Verdict.MESSAGE, DONE)
    assert "res.partner.category" in refused.reason
    assert deliver(made, customer(2)) == [DONE]


@VERSIONS
def test_fields_set_on_creation_are_not_overwritten_later(odoo: Odoo, tmp_path: Path) -> None:
    text = PARTNERS.replace(
        '[table."public.orders"]', '[table."public.customers".create]\nref = "{ref}"\n[table."public.orders"]'
    )
    made = target(tmp_path, odoo, text)
    for ref, name in (("first", "A"), ("second", "B")):
        assert set(deliver(made, customer(1, name=name, ref=ref), customer(2, "update", ref=ref))) == {DONE}
        found = odoo.records("res.partner", odoo.unique)
        assert [one["ref"] for one in found.values()] == ["first", "first"]
        assert found[f"{odoo.unique}customers_1"]["name"] == name
    assert deliver(made, customer(3, name=None, ref="x"))[0].verdict is Verdict.MESSAGE


@VERSIONS
def test_values_arrive_exactly(odoo: Odoo, tmp_path: Path) -> None:
    text = """
[context]
tracking_disable = true
[table."public.products"]
model = "product.pricelist.item"
id = "%(unique)sitem_{id}"
delete = "unlink"
[table."public.products".fields]
"pricelist_id/id" = "%(unique)slist_{id}"
fixed_price = "{price}"
date_start = "{since}"
[table."public.lists"]
model = "product.pricelist"
id = "%(unique)slist_{id}"
[table."public.lists".fields]
name = "{name}"
"""
    made = target(tmp_path, odoo, text)
    assert deliver(made, row("lists", 1, name="List")) == [DONE]
    item = row("products", 1, price=12345678.25, since="2024-05-01T04:15:00.5+05:30")
    assert deliver(made, item) == [DONE]
    found = odoo.records("product.pricelist.item", odoo.unique)[f"{odoo.unique}item_1"]
    assert (found["fixed_price"], found["date_start"]) == (12345678.25, "2024-04-30 22:45:00")


def test_times_are_utc_whatever_the_users_zone_is(odoo: Odoo, tmp_path: Path) -> None:
    odoo.zone("Asia/Tokyo")
    text = """
[table."public.orders"]
model = "sale.order"
id = "%(unique)ssale_{id}"
delete = "unlink"
[table."public.orders".fields]
"partner_id/id" = "%(unique)scustomers_1"
date_order = "{at}"
"""
    deliver(target(tmp_path, odoo), customer(1))
    made = target(tmp_path, odoo, text)
    assert deliver(made, row("orders", 1, at="2024-05-01T04:15:00+00:00")) == [DONE]
    found = odoo.records("sale.order", odoo.unique)[f"{odoo.unique}sale_1"]
    assert found["date_order"] == "2024-05-01 04:15:00"


def test_a_user_that_may_not_read_external_ids_can_delete_all_the_same(odoo: Odoo, tmp_path: Path) -> None:
    made = target(tmp_path, odoo)
    deliver(made, customer(1), customer(2))
    odoo.break_("access", model="ir.model.data")
    gone = [customer(1, "delete"), customer(2, "delete"), customer(404, "delete")]
    assert set(deliver(made, *gone)) == {DONE}
    [outcome] = deliver(made, row("customers", 0, "truncate"))
    assert outcome.verdict is Verdict.MESSAGE
    assert "may not read ir.model.data" in outcome.reason
    odoo.mend()
    assert set(names(odoo).values()) == {"(Customer 1)", "(Customer 2)"}
