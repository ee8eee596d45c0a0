"""Settings of a whole table: rows in a request, a table that becomes two models, links that are left empty."""

from __future__ import annotations

from pathlib import Path

import pytest

from dev.doubles.odoo.handle import Odoo
from relay.delivery import DONE, Verdict
from relay.errors import ConfigError
from tests.odoo_rows import PARTNERS, customer, deliver, order, row, target

VERSIONS = pytest.mark.parametrize("odoo", ["17", "19"], indirect=True)
TWICE = """
[table."public.staff"]
model = "res.partner"
id = "%(unique)sperson_{id}"
[table."public.staff".fields]
name = "{name}"
"parent_id/id" = "%(unique)sperson_{boss}"

[table."public.staff as accounts"]
model = "res.partner.bank"
id = "%(unique)saccount_{id}"
delete = "unlink"
when = { paid = true }
[table."public.staff as accounts".fields]
acc_number = "{number}"
"partner_id/id" = "%(unique)sperson_{id}"
"""


def test_a_table_can_have_smaller_requests(odoo: Odoo, tmp_path: Path) -> None:
    made = target(tmp_path, odoo, PARTNERS.replace('customers_{id}"', 'customers_{id}"\nbatch_size = 30', 1))
    rows = [customer(key) for key in range(100)]
    assert set(deliver(made, *rows)) == {DONE}
    assert [one["rows"] for one in odoo.requests(method="load")] == [30, 30, 30, 10]
    odoo.forget_requests()
    assert set(deliver(made, *(customer(key, "delete") for key in range(40)))) == {DONE}
    assert len(odoo.requests(method="action_archive")) == 2
    assert set(deliver(made, *(order(key, 1) for key in range(100)))) == {DONE}
    assert [one["rows"] for one in odoo.requests(method="load")] == [100]


@VERSIONS
def test_a_table_becomes_two_models(odoo: Odoo, tmp_path: Path) -> None:
    made = target(tmp_path, odoo, TWICE)

    def people() -> tuple[list[str], list[str]]:
        partners = odoo.records("res.partner", odoo.unique)
        accounts = odoo.records("res.partner.bank", odoo.unique)
        there = sorted(key.rpartition("_")[2] for key, one in partners.items() if one["active"])
        return there, sorted(key.rpartition("_")[2] for key, one in accounts.items() if one["active"])

    number = odoo.unique  # 14 wants that of an account to be there once, whoever holds it
    rows = [row("staff", key, name=f"n{key}", number=f"{number}{key}", boss=None, paid=key != 2) for key in (1, 2, 3)]
    for _ in range(2):
        assert set(deliver(made, *rows)) == {DONE}
        assert people() == (["1", "2", "3"], ["1", "3"])
    left = row("staff", 3, "update", old={"id": 3, "paid": True}, name="n3", number=f"{number}3", boss=None, paid=False)
    assert set(deliver(made, left, row("staff", 1, "delete"))) == {DONE}
    assert people() == (["2", "3"], [])


@VERSIONS
def test_what_one_of_the_two_refuses_is_the_rows_and_those_that_wait_go_on(odoo: Odoo, tmp_path: Path) -> None:
    made = target(tmp_path, odoo, TWICE)
    number = odoo.unique
    waits = row("staff", 5, name="n5", number=f"{number}5", boss=1, paid=True)
    assert deliver(made, waits)[0].verdict is Verdict.CONFLICT
    rows = [
        row("staff", key, name=f"n{key}", number=own, boss=None, paid=True) for key, own in ((1, number), (2, None))
    ]
    first, second = deliver(made, *rows)
    assert (first.verdict, [event.id for event in first.wakes]) == (Verdict.DONE, [waits.id])
    assert second.verdict is Verdict.MESSAGE
    assert len(odoo.records("res.partner", odoo.unique)) == 2


@VERSIONS
def test_a_link_whose_record_does_not_come_is_left_empty_in_the_end(odoo: Odoo, tmp_path: Path) -> None:
    link = '"%(unique)scustomers_{parent}"'
    text = PARTNERS.replace(link, f'{{ from = {link}, empty_link = "leave empty" }}')
    rows = [customer(1, parent=99), customer(2), customer(3, parent=98, name=None)]
    patient = target(tmp_path, odoo, text)
    verdicts = [one.verdict for one in deliver(patient, *rows)]
    assert verdicts[:2] == [Verdict.CONFLICT, Verdict.DONE]
    hasty = target(tmp_path, odoo, text, ODOO_LINK_WAIT="0")
    outcomes = deliver(hasty, *rows, order(1, customer_id=99))
    assert [one.verdict for one in outcomes] == [Verdict.DONE, Verdict.DONE, Verdict.MESSAGE, Verdict.MESSAGE]
    assert "require a name" in outcomes[2].reason
    assert "no record partner_id/id" in outcomes[3].reason, "of a link that says nothing the row is refused"
    found = odoo.record("res.partner", f"{odoo.unique}customers_1")
    assert found
    assert found["parent_id"] is False
    assert set(deliver(hasty, customer(99), customer(1, "update", parent=99))) == {DONE}


@pytest.mark.parametrize("why", ["a link is left empty", "a circle"])
def test_smaller_requests_stay_small_when_rows_are_loaded_without_links(odoo: Odoo, tmp_path: Path, why: str) -> None:
    link = '"%(unique)scustomers_{parent}"'
    text = PARTNERS.replace(link, f'{{ from = {link}, empty_link = "leave empty" }}')
    text = text.replace('customers_{id}"', 'customers_{id}"\nbatch_size = 3', 1)
    made = target(tmp_path, odoo, text, ODOO_LINK_WAIT="0" if why == "a link is left empty" else "60")
    if why == "a circle":
        rows = [customer(key, parent=key) for key in range(10)]
    else:
        rows = [customer(key, parent=100 + key) for key in range(10)]
    outcomes = deliver(made, *rows)
    assert {one.verdict for one in outcomes} == {Verdict.CONFLICT if why == "a circle" else Verdict.DONE}
    assert len(odoo.records("res.partner", odoo.unique)) == 10
    assert max(one["rows"] for one in odoo.requests(method="load")) <= 3


def test_of_a_list_of_links_only_those_that_do_not_come_are_left_out(odoo: Odoo, tmp_path: Path) -> None:
    text = """
[table."public.customers"]
model = "res.partner"
id = "%(unique)scustomers_{id}"
[table."public.customers".fields]
name = "{name}"
"category_id/id" = { from = "%(unique)stags_{tags}", empty_link = "leave empty" }
[table."public.tags"]
model = "res.partner.category"
id = "%(unique)stags_{id}"
[table."public.tags".fields]
name = "{name}"
"""
    made = target(tmp_path, odoo, text, ODOO_LINK_WAIT="0")
    assert deliver(made, row("tags", 1, name="One")) == [DONE]
    assert [one.verdict for one in deliver(made, customer(1, tags=[1, 7, 8]))] == [Verdict.DONE]
    found = odoo.record("res.partner", f"{odoo.unique}customers_1")
    assert found
    assert found["category_id"] == (f"{odoo.unique}tags_1",)


@pytest.mark.parametrize(
    "wrong", ["order = true", "order = 'first'", "order = 1.5", "batch_size = 0", "batch_size = true"]
)
def test_an_order_and_a_size_are_numbers(odoo: Odoo, tmp_path: Path, wrong: str) -> None:
    with pytest.raises(ConfigError, match=wrong.partition(" ")[0]):
        target(tmp_path, odoo, PARTNERS.replace('customers_{id}"', f'customers_{{id}}"\n{wrong}', 1))


def test_the_order_of_tables_is_that_of_their_groups(odoo: Odoo, tmp_path: Path) -> None:
    made = target(tmp_path, odoo, PARTNERS.replace('customers_{id}"', 'customers_{id}"\norder = 1', 1))
    events = [order(1, 1), customer(1, "delete"), customer(1), row("others", 1)]
    ranks = [made.rank(made.group(event)) for event in events]
    assert ranks[1] == ranks[2] == 1
    assert ranks[0] == ranks[3] > 1
