"""The recipes of docs/odoo-cookbook.md as they stand there: on the stand-in if it has the models, on a real Odoo."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dev.database import Database
from dev.doubles.odoo.handle import Odoo
from dev.script import ROOT
from relay.delivery import Event, Verdict
from relay.targets.odoo.load import OdooLoadTarget
from tests.odoo_rows import deliver, row, target

Recipe = tuple[str, str]
ROUNDS = 6
BOTH = pytest.mark.parametrize("odoo", ["17", "19"], indirect=True)


def recipes() -> dict[str, Recipe]:
    """By heading: the SQL, and the part of a mapping."""
    text = (ROOT / "docs" / "odoo-cookbook.md").read_text()
    parts = (part.partition("\n") for part in text.split("\n## ")[1:])
    return {head: (_block(body, "sql"), _block(body, "toml")) for head, _, body in parts}


def _block(text: str, kind: str) -> str:
    [found] = re.findall(rf"```{kind}\n(.*?)```", text, re.DOTALL)
    return str(found)


RECIPES = recipes()


class Kitchen:
    """One recipe, cooked: the rows are in a database, and go from there to Odoo until all of them are done."""

    def __init__(self, odoo: Odoo, database: Database, directory: Path, head: str, *changes: tuple[str, str]) -> None:
        sql, mapping = RECIPES[head]
        for begin in set(re.findall(r'^id = "([a-z]+_)', mapping, re.MULTILINE)):
            mapping = mapping.replace(f'= "{begin}', f'= "%(unique)s{begin}')
        for old, new in changes:
            assert old in mapping
            mapping = mapping.replace(old, new)
        self.odoo = odoo
        self._connection = database.admin()
        self._tables = re.findall(r"create table (\w+)", sql)
        self.made: OdooLoadTarget = target(directory, odoo, mapping)
        self.execute(sql)

    def execute(self, sql: str) -> None:
        with self._connection.cursor() as cursor:
            cursor.execute(sql)

    def events(self) -> list[Event]:
        """All rows, in the tables' order."""
        found = []
        with self._connection.cursor() as cursor:
            for name in self._tables:
                cursor.execute(f"select row_to_json(t) from {name} t order by id desc")
                found += [row(name, one.pop("id"), **one) for (one,) in cursor.fetchall()]
        return found

    def serve(self) -> None:
        """Deliver them, until none waits for another."""
        left = self.events()
        for _ in range(ROUNDS):
            outcomes = deliver(self.made, *left)
            bad = [one.reason for one in outcomes if one.verdict not in (Verdict.DONE, Verdict.CONFLICT)]
            assert not bad, bad
            left = [one for one, outcome in zip(left, outcomes, strict=True) if outcome.verdict is not Verdict.DONE]
            if not left:
                return
        raise AssertionError(f"{len(left)} rows still wait")

    def twice(self, look: Callable[[], Any]) -> Any:
        """What is there; and it is the same after all rows have come once more."""
        self.serve()
        found = look()
        self.serve()
        assert look() == found
        return found

    def ids(self, *names: str) -> list[int]:
        domain = [["name", "in", [self.odoo.unique + name for name in names]]]
        call = self.odoo.client().call
        found = call("ir.model.data", "search_read", domain=domain, fields=["name", "res_id"])
        by_name = {one["name"].removeprefix(self.odoo.unique): one["res_id"] for one in found}
        return [by_name[name] for name in names]

    def read(self, model: str, *names: str, fields: list[str], lang: str = "en_US") -> list[list[Any]]:
        """The fields of these records, in their order."""
        ids, context = self.ids(*names), {"lang": lang, "active_test": False}
        rows = self.odoo.client().call(model, "read", ids, fields=fields, load=None, context=context)
        by_id = {one["id"]: one for one in rows}
        return [[by_id[key][name] for name in fields] for key in ids]


def test_all_recipes_are_tried_here() -> None:
    tried = Path(__file__).read_text()
    assert not [head for head in RECIPES if f'"{head}"' not in tried]


@BOTH
def test_contacts(odoo: Odoo, database: Database, tmp_path: Path) -> None:
    kitchen = Kitchen(odoo, database, tmp_path, "Contacts with addresses")
    company, person, delivery = kitchen.twice(
        lambda: kitchen.read(
            "res.partner", "contact_1", "contact_2", "contact_3", fields=["is_company", "type", "city", "parent_id"]
        )
    )
    [key] = kitchen.ids("contact_1")
    assert company == [True, "contact", "Berlin", False]
    assert delivery == [False, "delivery", "Hamburg", key]
    assert person == [False, "contact", "Berlin" if odoo.real else False, key]
    kitchen.execute("update contacts set city = 'Potsdam' where id = 1")
    kitchen.serve()
    if odoo.real:
        cities = [["Potsdam"], ["Potsdam"], ["Hamburg"]]
        assert kitchen.read("res.partner", "contact_1", "contact_2", "contact_3", fields=["city"]) == cities


@pytest.mark.odoo
def test_variants(odoo: Odoo, database: Database, tmp_path: Path) -> None:
    odoo.needs("product.template.attribute.value")
    kitchen = Kitchen(
        odoo, database, tmp_path, "Products with variants and images",
        ('name = "{name}"\ncreate', 'name = "%(unique)s{name}"\ncreate'),
    )  # fmt: skip
    names = ("variant_1", "variant_2")
    fields = ["default_code", "image_variant_1920"]
    found = kitchen.twice(lambda: kitchen.read("product.product", *names, fields=fields))
    assert [(code, bool(image)) for code, image in found] == [("SHIRT-S", False), ("SHIRT-M", True)]
    [[count]] = kitchen.read("product.template", "template_1", fields=["product_variant_count"])
    assert count == len(names)


@BOTH
def test_orders(odoo: Odoo, database: Database, tmp_path: Path) -> None:
    odoo.needs("sale.order")
    kitchen = Kitchen(odoo, database, tmp_path, "Orders with lines, confirmed")
    fields = ["state", "date_order"]
    first, second = kitchen.twice(lambda: kitchen.read("sale.order", "order_1", "order_2", fields=fields))
    assert (first[0], second[0]) == ("sale", "draft")
    if odoo.real:
        [[total, lines]] = kitchen.read("sale.order", "order_1", fields=["amount_untaxed", "order_line"])
        assert (total, len(lines)) == (33.5, 2)


@pytest.mark.odoo
def test_invoices(odoo: Odoo, database: Database, tmp_path: Path) -> None:
    odoo.needs("account.move")
    if int(odoo.version) < 16:
        pytest.skip("14 and 15 refuse an invoice's single line: its account is missing")
    kitchen = Kitchen(odoo, database, tmp_path, "Invoices, posted")
    kitchen.serve()
    found = kitchen.read("account.move", "invoice_1", "invoice_2", fields=["state", "amount_untaxed"])
    assert found == [["posted", 119.9], ["draft", 0.0]]


@pytest.mark.odoo
def test_stock(odoo: Odoo, database: Database, tmp_path: Path) -> None:
    odoo.needs("stock.quant")
    major = int(odoo.version)
    if major < 15:
        pytest.skip("14 has no inventory_quantity_set: without the action it books at once")
    kind = "is_storable = true" if major > 17 else f'{"detailed_type" if major > 15 else "type"} = "product"'
    kitchen = Kitchen(odoo, database, tmp_path, "Stock levels", ("is_storable = true", kind))
    assert kitchen.twice(lambda: kitchen.read("product.product", "item_1", fields=["qty_available"])) == [[40.0]]
    kitchen.execute("update stock set quantity = 25")
    kitchen.serve()
    assert kitchen.read("product.product", "item_1", fields=["qty_available"]) == [[25.0]]


@BOTH
def test_translations(odoo: Odoo, database: Database, tmp_path: Path) -> None:
    kitchen = Kitchen(odoo, database, tmp_path, "Translations", ('"{name}"', '"%(unique)s{name}"'))
    kitchen.serve()

    def names(lang: str) -> list[str]:
        found = kitchen.read("res.partner.category", "label_1", "label_2", fields=["name"], lang=lang)
        return [one.removeprefix(odoo.unique) for [one] in found]

    assert names("en_US") == ["Cookbook red", "Cookbook blue"]
    assert names("de_DE") == ["Cookbook rot", "Cookbook blue"]


@BOTH
def test_adopting(odoo: Odoo, database: Database, tmp_path: Path) -> None:
    kitchen = Kitchen(odoo, database, tmp_path, "A filled database, adopted", ('"{email}"', '"%(unique)s{email}"'))
    own = [{"name": "Ann", "email": f"{odoo.unique}ann@cookbook.example"}]
    [ann] = odoo.client().call("res.partner", "create", vals_list=own)
    [[name, email], _] = kitchen.twice(
        lambda: kitchen.read("res.partner", "person_1", "person_2", fields=["name", "email"])
    )
    assert (name, email) == ("Ann from the shop", own[0]["email"])
    assert kitchen.ids("person_1") == [ann]


@pytest.mark.odoo
def test_companies(odoo: Odoo, database: Database, tmp_path: Path) -> None:
    call = odoo.client().call
    [user] = call("res.users", "search_read", domain=[["login", "=", odoo.login]], fields=["company_ids"])
    [south] = call("res.company", "create", vals_list=[{"name": f"{odoo.unique}South"}])
    call("res.users", "write", [user["id"]], vals={"company_ids": [[4, south]]})
    name = {"module": "__import__", "name": f"{odoo.unique}company_south", "model": "res.company", "res_id": south}
    call("ir.model.data", "create", vals_list=[name])
    kitchen = Kitchen(
        odoo, database, tmp_path, "Several companies",
        ("[1, 2]", f"[1, {south}]"), ("__import__.company_south", f"__import__.{odoo.unique}company_south"),
    )  # fmt: skip
    companies = kitchen.twice(lambda: kitchen.read("res.partner", "client_1", "client_2", fields=["company_id"]))
    assert companies == [[1], [south]]
