"""`update = "changed"`: an update writes what it has changed, and the rest of the record is left as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dev.doubles.odoo.handle import Odoo
from relay.delivery import DONE, Event, Verdict
from tests.odoo_rows import deliver, row, target

VERSIONS = pytest.mark.parametrize("odoo", ["14", "17", "19"], indirect=True)
PEOPLE = """
[context]
lang = "en_US"
[table."public.people"]
model = "res.partner"
id = "%(unique)speople_{id}"
update = "changed"
unless = { state = "away" }
[table."public.people".fields]
name = "{name}"
email = "{email}"
type = { from = "{type}", omit = "null" }
"country_id/id" = "base.{country|lower}"
"parent_id/id" = "%(unique)speople_{parent}"
[table."public.people".create]
ref = "{name}"
"""
TAGS = """
[context]
lang = "en_US"
[table."public.tags"]
model = "res.partner.category"
id = "%(unique)stag_{id}"
update = "changed"
[table."public.tags".fields]
name = { en_US = "{name}", de_DE = "{name_de}" }
"""
ORDERS = (
    PEOPLE
    + """
[table."public.products"]
model = "product.product"
id = "%(unique)sproduct_{id}"
[table."public.products".fields]
name = "{name}"
[table."public.orders"]
model = "sale.order"
id = "%(unique)sorder_{id}"
delete = "unlink"
[table."public.orders".fields]
"partner_id/id" = "%(unique)speople_{person}"
[table."public.lines"]
model = "sale.order.line"
id = "%(unique)sline_{id}"
delete = "unlink"
update = "changed"
[table."public.lines".fields]
"order_id/id" = "%(unique)sorder_{order}"
"product_id/id" = "%(unique)sproduct_{product}"
name = "{label}"
"""
)
WHOLE: dict[str, Any] = {
    "name": "Ann", "email": "a@x.example", "type": None, "country": "AT", "parent": None, "state": None,
}  # fmt: skip


def new(key: int = 1, **columns: Any) -> Event:
    return row("people", key, **{**WHOLE, **columns})


def change(key: int = 1, old: dict[str, Any] | None = None, **columns: Any) -> Event:
    """An update of these columns; `old`: what else was different before."""
    before = {"id": key, **WHOLE, **(old or {})}
    return row("people", key, "update", before, **{**WHOLE, **columns})


def person(odoo: Odoo, key: int = 1) -> dict[str, Any]:
    return odoo.records("res.partner", odoo.unique)[f"{odoo.unique}people_{key}"]


def by_hand(odoo: Odoo, key: int = 1, **values: Any) -> None:
    """A person changes the record in Odoo."""
    [found] = odoo.client().call(
        "ir.model.data", "search_read",
        domain=[["name", "=", f"{odoo.unique}people_{key}"], ["model", "=", "res.partner"]], fields=["res_id"],
    )  # fmt: skip
    odoo.client().call("res.partner", "write", [found["res_id"]], vals=values)


@VERSIONS
def test_what_an_update_has_not_changed_stays_as_people_have_made_it(odoo: Odoo, tmp_path: Path) -> None:
    made = target(tmp_path, odoo, PEOPLE)
    assert deliver(made, new()) == [DONE]
    by_hand(odoo, email="theirs@x.example", ref="theirs")
    assert deliver(made, change(name="Anna", country="DE")) == [DONE]
    found = person(odoo)
    assert [found[name] for name in ("name", "email", "ref", "country_id")] == [
        "Anna", "theirs@x.example", "theirs", "base.de",
    ]  # fmt: skip
    assert deliver(made, change(state="busy")) == [DONE], "nothing of it is mapped"
    assert person(odoo)["email"] == "theirs@x.example"
    assert deliver(made, change(email=None)) == [DONE]
    assert person(odoo)["email"] in ("", False, None)
    by_hand(odoo, email="theirs@x.example")
    assert deliver(made, row("people", 1, "snapshot", **WHOLE)) == [DONE]
    assert [person(odoo)[name] for name in ("name", "email", "ref")] == ["Ann", "a@x.example", "theirs"]


@VERSIONS
def test_a_record_that_is_not_there_gets_the_whole_row(odoo: Odoo, tmp_path: Path) -> None:
    made = target(tmp_path, odoo, PEOPLE)
    assert deliver(made, new(2)) == [DONE]
    unknown_before = row("people", 2, "update", **{**WHOLE, "name": "Bob"})  # old rows are not published
    by_hand(odoo, 2, email="theirs@x.example")
    assert deliver(made, change(1, email="b@x.example"), unknown_before) == [DONE, DONE]
    assert [person(odoo)[name] for name in ("name", "email", "ref", "country_id")] == [
        "Ann", "b@x.example", "Ann", "base.at",
    ]  # fmt: skip
    assert [person(odoo, 2)[name] for name in ("name", "email", "ref")] == ["Bob", "a@x.example", "Ann"]


@VERSIONS
def test_a_record_that_went_with_another_s_gets_the_whole_row(odoo: Odoo, tmp_path: Path) -> None:
    odoo.needs("sale.order.line")
    made = target(tmp_path, odoo, ORDERS)
    line = {"order": 1, "product": 1, "label": "A"}
    assert deliver(made, new()) == [DONE]
    assert deliver(made, row("orders", 1, person=1), row("orders", 2, person=1)) == [DONE, DONE]
    assert deliver(made, row("products", 1, name="P")) == [DONE]
    assert deliver(made, row("lines", 1, **line)) == [DONE]
    assert deliver(made, row("orders", 1, "delete")) == [DONE]
    [found] = deliver(made, row("lines", 1, "update", {"id": 1, **line}, **{**line, "label": "B"}))
    assert found.verdict is Verdict.CONFLICT, "its order is gone, for which it waits"
    assert f"order_id/id = {odoo.unique}order_1" in found.reason
    moved = row("lines", 1, "update", {"id": 1, **line, "order": 2, "label": "B"}, **{**line, "order": 2, "label": "C"})
    assert deliver(made, moved) == [DONE]
    [record] = odoo.records("sale.order.line", odoo.unique).values()
    assert (record["order_id"], record["name"]) == (f"{odoo.unique}order_2", "C")


@VERSIONS
def test_a_row_that_meets_the_condition_again_is_written_whole(odoo: Odoo, tmp_path: Path) -> None:
    made = target(tmp_path, odoo, PEOPLE)
    assert deliver(made, new()) == [DONE]
    assert deliver(made, change(state="away", email="new@x.example")) == [DONE]
    assert deliver(made, change(old={"state": "away", "email": "new@x.example"}, email="new@x.example")) == [DONE]
    assert (person(odoo)["active"], person(odoo)["email"]) == (True, "new@x.example")


@VERSIONS
def test_what_was_null_and_left_out_is_written_when_it_is_not(odoo: Odoo, tmp_path: Path) -> None:
    made = target(tmp_path, odoo, PEOPLE.replace('type = { from = "{type}"', 'city = { from = "{type}"'))
    assert deliver(made, new()) == [DONE]
    by_hand(odoo, city="Wien")
    assert deliver(made, change(type="")) == [DONE]
    assert person(odoo)["city"] in ("", False, None)


@VERSIONS
def test_each_language_is_written_where_its_text_has_changed(odoo: Odoo, tmp_path: Path) -> None:
    made = target(tmp_path, odoo, TAGS)
    before = {"id": 1, "name": "Red", "name_de": "Rot"}
    assert deliver(made, row("tags", 1, name="Red", name_de="Rot")) == [DONE]

    def texts() -> list[str]:
        (at,) = odoo.client().call(
            "ir.model.data", "search_read",
            domain=[["name", "=", f"{odoo.unique}tag_1"], ["module", "=", "__import__"]], fields=["res_id"],
        )  # fmt: skip
        read = [
            odoo.client().call(
                "res.partner.category", "read", [at["res_id"]], fields=["name"], context={"lang": lang}
            )
            for lang in ("en_US", "de_DE")
        ]  # fmt: skip
        return [one[0]["name"] for one in read]

    assert deliver(made, row("tags", 1, "update", before, name="Red", name_de="Hellrot")) == [DONE]
    assert texts() == ["Red", "Hellrot"]
    before = {"id": 1, "name": "Red", "name_de": "Hellrot"}
    assert deliver(made, row("tags", 1, "update", before, name="Pink", name_de="Hellrot")) == [DONE]
    assert texts() == ["Pink", "Hellrot"]
