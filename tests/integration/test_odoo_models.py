"""What models are like: fields that come later, methods that answer with a window, archives, files of new records."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from dev.doubles.odoo.handle import Odoo
from relay.delivery import DONE, Event, Verdict
from relay.targets.odoo.external_ids import FIELDS_SECONDS, UNKNOWN_SECONDS, Records
from relay.targets.odoo.load import OdooLoadTarget
from tests.odoo_rows import PARTNERS, customer, deliver, row, target

VERSIONS = pytest.mark.parametrize("odoo", ["17", "19"], indirect=True)
ORDERS = """
[table."public.sales"]
model = "sale.order"
id = "%(unique)ssale_{id}"
delete = "action_cancel"
[table."public.sales".fields]
"partner_id/id" = "%(unique)scustomers_1"
state = "{state}"
"""
VARIANTS = """
[table."public.products"]
model = "product.product"
id = "%(unique)sproduct_{id}"
[table."public.products".fields]
name = "{name}"
image_1920 = "{image}"
"""
TAXED = """
[table."public.taxes"]
model = "account.tax"
id = "%(unique)stax_{id}"
[table."public.taxes".fields]
name = "{name}"
amount = 1
"""
TAXED += VARIANTS + '"taxes_id/id" = "%(unique)stax_{taxes}"\n'
GIF = "\\x47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b"


def product(key: int, op: str = "insert", image: str | None = GIF) -> Event:
    return row("products", key, op, name=f"Product {key}", image=image)


def products(odoo: Odoo) -> dict[str, dict[str, Any]]:
    return {key.rpartition("_")[2]: one for key, one in odoo.records("product.product", odoo.unique).items()}


@VERSIONS
def test_a_field_that_is_added_later_is_known_without_a_restart(odoo: Odoo, tmp_path: Path) -> None:
    now = 0.0
    made = target(tmp_path, odoo, PARTNERS.replace('name = "{name}"', 'name = "{name}"\nx_later = "{email}"'))
    made.shared = dataclasses.replace(made.shared, records=Records(lambda: now))
    [outcome] = deliver(made, customer(1))
    assert outcome.verdict is Verdict.MESSAGE
    assert "res.partner has no field x_later" in outcome.reason
    odoo.add_field("res.partner", "x_later", "char")
    now += UNKNOWN_SECONDS
    assert deliver(made, customer(1)) == [DONE]


def test_fields_are_asked_for_now_and_then(odoo: Odoo, tmp_path: Path) -> None:
    """Their types may change; and an unknown one does not cost a request a row."""
    now = 0.0
    made = target(tmp_path, odoo, PARTNERS.replace('name = "{name}"', 'name = "{name}"\nx_no = "{email}"'))
    made.shared = dataclasses.replace(made.shared, records=Records(lambda: now))
    asked = []
    for wait in (0.0, UNKNOWN_SECONDS / 2, UNKNOWN_SECONDS / 2):
        now += wait
        deliver(made, customer(1), customer(2))
        asked.append(len(odoo.requests(method="fields_get")))
    assert asked == [1, 1, 2]
    made = target(tmp_path, odoo)
    made.shared = dataclasses.replace(made.shared, records=Records(lambda: now))
    odoo.forget_requests()
    asked = []
    for wait in (0.0, FIELDS_SECONDS - 1, 1.0):
        now += wait
        deliver(made, customer(1))
        asked.append(len(odoo.requests(method="fields_get")))
    assert asked == [1, 1, 2]


def test_when_no_answer_comes_to_that_one_row_says_so(odoo: Odoo, tmp_path: Path) -> None:
    made = target(tmp_path, odoo)
    odoo.break_("reset", method="fields_get", times=1)
    outcomes = deliver(made, *(customer(key) for key in range(5)))
    assert [one.verdict is Verdict.CONFLICT for one in outcomes] == [False, True, True, True, True]
    assert not any(one.wakes for one in outcomes), "nothing to halve"
    assert set(deliver(made, customer(1))) == {DONE}


def sale(key: int, op: str = "insert", state: str = "draft") -> Event:
    return row("sales", key, op, state=state)


def states(odoo: Odoo) -> list[str]:
    return [one["state"] for _, one in sorted(odoo.records("sale.order", odoo.unique).items())]


def sales(odoo: Odoo, directory: Path, text: str = ORDERS) -> OdooLoadTarget:
    """Three orders, the second of them confirmed."""
    odoo.needs("sale.order")
    deliver(target(directory, odoo), customer(1))
    made = target(directory, odoo, text)
    assert set(deliver(made, sale(1), sale(2, state="sale"), sale(3))) == {DONE}
    return made


@pytest.mark.parametrize("odoo", ["14", "17", "19"], indirect=True)
def test_a_delete_that_is_answered_with_a_window_is_refused_and_no_other(odoo: Odoo, tmp_path: Path) -> None:
    made = sales(odoo, tmp_path)
    outcomes = deliver(made, *(sale(key, "delete") for key in (1, 2, 3)))
    if odoo.like == "17" and odoo.version not in ("14", "15"):  # they ask where an invoice is a draft
        assert [one.verdict for one in outcomes] == [Verdict.DONE, Verdict.MESSAGE, Verdict.DONE]
        assert "sale.order.action_cancel answered with ir.actions.act_window sale.order.cancel" in outcomes[1].reason
        assert states(odoo) == ["cancel", "sale", "cancel"]
    else:
        assert set(outcomes) == {DONE}
        assert states(odoo) == ["cancel"] * 3


@VERSIONS
def test_a_context_can_answer_the_window(odoo: Odoo, tmp_path: Path) -> None:
    asked = "context = { disable_cancel_warning = true }\ndelete ="
    made = sales(odoo, tmp_path, ORDERS.replace("delete =", asked))
    assert set(deliver(made, *(sale(key, "delete") for key in (1, 2, 3)))) == {DONE}
    assert states(odoo) == ["cancel"] * 3


def templates(odoo: Odoo) -> list[bool]:
    """Are the products' templates active?"""
    client, named = odoo.client(), [["model", "=", "product.product"], ["name", "=like", f"{odoo.unique}%"]]
    ids = [one["res_id"] for one in client.call("ir.model.data", "search_read", domain=named, fields=["res_id"])]
    variants = client.call("product.product", "read", ids, fields=["product_tmpl_id"], load=None)
    keys = sorted({one["product_tmpl_id"] for one in variants})
    found = client.call("product.template", "read", keys, fields=["active"])
    return [one["active"] for one in found]


@VERSIONS
def test_an_archived_product_takes_its_template_along_and_brings_it_back(odoo: Odoo, tmp_path: Path) -> None:
    odoo.needs("product.product")
    made = target(tmp_path, odoo, VARIANTS)
    assert set(deliver(made, product(1), product(2))) == {DONE}
    for _ in range(2):
        assert deliver(made, product(1, "delete")) == [DONE]
        assert [one["active"] for _, one in sorted(products(odoo).items())] == [False, True]
        assert templates(odoo) == [False, True]
    assert deliver(made, product(1, "update")) == [DONE]
    assert templates(odoo) == [False, True], "an update does not undo what a person may have archived"
    assert deliver(made, product(1)) == [DONE]
    assert templates(odoo) == [True, True]
    assert all(one["active"] for one in products(odoo).values())


@VERSIONS
@pytest.mark.parametrize("answer", ["action", "none"])
def test_a_model_that_has_no_method_to_archive_or_asks_back_is_archived_all_the_same(
    odoo: Odoo, tmp_path: Path, answer: str
) -> None:
    made = target(tmp_path, odoo)
    deliver(made, customer(1))
    name = {"17": "builtins.AttributeError", "19": "werkzeug.exceptions.NotFound"}[odoo.like]
    if answer == "none":
        odoo.break_("error", method="action_archive", name=name)
    else:
        odoo.break_("action", method="action_archive")
    assert deliver(made, customer(1, "delete")) == [DONE]
    [record] = odoo.records("res.partner", odoo.unique).values()
    assert record["active"] is False


@VERSIONS
def test_all_new_products_keep_their_images(odoo: Odoo, tmp_path: Path) -> None:
    odoo.needs("product.product")
    made = target(tmp_path, odoo, VARIANTS)
    bare = product(4, image=None)
    assert set(deliver(made, product(1), product(2), bare, product(5, image=None))) == {DONE}
    assert [bool(one["image_1920"]) for _, one in sorted(products(odoo).items())] == [True, True, False, False]
    assert set(deliver(made, product(1), product(2), product(3))) == {DONE}
    assert [bool(one["image_1920"]) for _, one in sorted(products(odoo).items())] == [True, True, True, False, False]
    if not odoo.real:
        sizes = [one["rows"] for one in odoo.requests(method="load")]
        assert sizes == ([4, 3] if odoo.like == "17" else [4, 4, 3, 3])


@VERSIONS
def test_an_image_that_is_emptied_takes_no_links_along(odoo: Odoo, tmp_path: Path) -> None:
    odoo.needs("account.tax")
    made = target(tmp_path, odoo, TAXED)
    assert deliver(made, *(row("taxes", key, name=f"{odoo.unique}{key}") for key in (1, 2))) == [DONE, DONE]
    for image, taxes in ((GIF, [1]), (None, [2]), (GIF, [1, 2]), (None, [])):
        assert deliver(made, row("products", 1, name="x", image=image, taxes=taxes)) == [DONE]
        [record] = products(odoo).values()
        assert bool(record["image_1920"]) == bool(image)
        assert record["taxes_id"] == tuple(f"{odoo.unique}tax_{key}" for key in taxes)


@VERSIONS
def test_files_that_are_set_on_creation_only_are_all_kept(odoo: Odoo, tmp_path: Path) -> None:
    odoo.needs("product.product")
    made = target(tmp_path, odoo, VARIANTS.replace("image_1920", '[table."public.products".create]\nimage_1920'))
    for _ in range(2):
        assert set(deliver(made, product(1), product(2), product(3, image=None))) == {DONE}
        assert [bool(one["image_1920"]) for _, one in sorted(products(odoo).items())] == [True, True, False]
