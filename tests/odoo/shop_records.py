"""What the rows of the shop must be in Odoo, and what is there: both by external id, read over Odoo's API."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from dev.doubles.odoo.client import Client
from dev.doubles.odoo.handle import Odoo
from tests.odoo.shop import Row, Shop

CHUNK = 500
TINY = 1e-9
Records = dict[str, dict[str, Any]]
MODELS = {  # table: model, beginning of the external id
    "tags": ("res.partner.category", "tag"),
    "categories": ("product.category", "category"),
    "taxes": ("account.tax", "tax"),
    "products": ("product.product", "product"),
    "customers": ("res.partner", "customer"),
    "accounts": ("res.partner.bank", "account"),
    "documents": ("ir.attachment", "document"),
    "orders": ("sale.order", "order"),
    "order_lines": ("sale.order.line", "line"),
}
TEXTS = {"tags": ("name",), "products": ("name",)}  # read in German as well, as name@de
MORE = {"orders": ("date_order",)}  # set by the action, and again if it were called twice


class Names:
    """External ids of the shop's rows."""

    def __init__(self, unique: str) -> None:
        self.unique = unique

    def of(self, table: str, key: int | None) -> str:
        return f"{self.unique}{MODELS[table][1]}_{key}"

    def link(self, table: str, key: int | None) -> str | bool:
        return self.of(table, key) if key else False

    def many(self, table: str, keys: list[int]) -> list[str]:
        return sorted(self.of(table, key) for key in keys)


def wanted(shop: Shop, unique: str) -> dict[str, Records]:
    """Of each table, the fields that its rows say."""
    names = Names(unique)
    return {
        table: {names.of(table, key): WANTED[table](row, names) for key, row in shop.rows[table].items()}
        for table in MODELS
    }


def _data(content: bytes | None) -> str | bool:
    return base64.b64encode(content).decode() if content else False


WANTED: Mapping[str, Callable[[Row, Names], Row]] = {
    "tags": lambda row, _names: {"name": row["name"], "name@de": row["name_de"]},
    "categories": lambda row, names: {"name": row["name"], "parent_id": names.link("categories", row["parent"])},
    "taxes": lambda row, names: {"name": names.unique + row["name"], "amount": row["amount"], "type_tax_use": "sale"},
    "products": lambda row, names: {
        "name": row["name"], "name@de": row["name_de"], "default_code": row["code"],
        "list_price": row["price"], "image_1920": _data(row["image"]),
        "categ_id": names.link("categories", row["category"]), "taxes_id": names.many("taxes", row["taxes"]),
    },
    "customers": lambda row, names: {
        "name": row["name"], "email": row["email"] or False, "city": row["city"],
        "type": "delivery" if row["parent"] else "contact",
        "country_id": f"base.{row['country'].lower()}" if row["country"] else False,
        "parent_id": names.link("customers", row["parent"]), "category_id": names.many("tags", row["tags"]),
    },
    "accounts": lambda row, names: {
        "acc_number": names.unique + row["number"], "partner_id": names.link("customers", row["customer"]),
    },
    "documents": lambda row, names: {
        "name": row["name"], "datas": _data(row["content"]), "res_model": "res.partner",
        "res_id": names.link("customers", row["customer"]),
    },
    "orders": lambda row, names: {
        "partner_id": names.link("customers", row["customer"]), "client_order_ref": row["reference"],
        "state": "sale" if row["state"] == "confirmed" else "draft",
    },
    "order_lines": lambda row, names: {
        "order_id": names.link("orders", row["order_id"]), "product_id": names.link("products", row["product"]),
        "product_uom_qty": row["quantity"], "price_unit": row["price"], "name": row["label"],
    },
}  # fmt: skip


def there(odoo: Odoo, like: Mapping[str, Records]) -> dict[str, Records]:
    """What Odoo holds of each table: the fields of `like`, links as external ids, and the fields of MORE."""
    client = odoo.client()  # one for all: to log in anew costs Odoo a third of a second
    names = {table: _external(client, odoo.unique, table) for table in MODELS}
    ours = {MODELS[table][0]: of for table, of in names.items()}
    countries = {"res.country": dict(_named(client, [["model", "=", "res.country"], ["module", "=", "base"]]))}
    return {table: _there(client, table, names[table], like[table], {**ours, **countries}) for table in MODELS}


def _there(
    client: Client, table: str, names: Mapping[int, str], like: Records, links: Mapping[str, Mapping[int, str]]
) -> Records:
    model = MODELS[table][0]
    asked = sorted({name for one in like.values() for name in one if "@" not in name} | set(MORE.get(table, ())))
    kinds = client.call(model, "fields_get", attributes=["type", "relation"])
    asked += ["active"] if "active" in kinds else []
    found: Records = {}
    for rows, german in zip(
        _read(client, model, list(names), asked, "en_US"),
        _read(client, model, list(names), list(TEXTS.get(table, ("id",))), "de_DE"),
        strict=True,
    ):
        for key, row in rows.items():
            record = {name: _shown(row[name], kinds[name], name, links) for name in asked}
            record |= {f"{name}@de": german[key][name] for name in TEXTS.get(table, ())}
            found[names[key]] = record
    return found


def _shown(value: Any, kind: Mapping[str, Any], name: str, links: Mapping[str, Mapping[int, str]]) -> Any:
    if kind["type"] == "many2one":
        return links.get(kind["relation"], {}).get(value, value) if value else False
    if kind["type"] == "many2many":
        return sorted(links[kind["relation"]].get(one, f"#{one}") for one in value)
    return links["res.partner"].get(value, value) if name == "res_id" else value


def _read(client: Client, model: str, keys: list[int], fields: list[str], lang: str) -> Iterator[dict[int, Row]]:
    for at in range(0, len(keys), CHUNK):
        context = {"lang": lang, "active_test": False}
        domain = [["id", "in", keys[at : at + CHUNK]]]
        ids = [one["id"] for one in client.call(model, "search_read", domain=domain, fields=["id"], context=context)]
        rows = client.call(model, "read", ids, fields=fields, load=None, context=context)
        yield {row["id"]: row for row in rows}


def _external(client: Client, unique: str, table: str) -> dict[int, str]:
    """The external ids of a table's records, by number."""
    model, start = MODELS[table]
    begins = f"{unique}{start}_".replace("_", r"\_")
    return dict(_named(client, [["model", "=", model], ["name", "=like", begins + "%"]], ""))


def _named(client: Client, domain: list[list[Any]], prefix: str = "base.") -> Iterator[tuple[int, str]]:
    found = client.call("ir.model.data", "search_read", domain=domain, fields=["name", "res_id"])
    return ((one["res_id"], prefix + one["name"]) for one in found)


def gone(table: str, record: Mapping[str, Any]) -> bool:
    """Is it what becomes of a record whose row was deleted?"""
    if table == "orders":
        return bool(record["state"] == "cancel")
    if table == "order_lines":
        return bool(record["product_uom_qty"] == 0)
    return record.get("active") is False


def _equal(held: Any, value: Any) -> bool:
    """17 rounds prices by a division: 871.3 is kept as 871.3000000000001."""
    return bool(abs(held - value) < TINY) if isinstance(value, float) else bool(held == value)


def differences(want: dict[str, Records], have: dict[str, Records]) -> list[str]:
    """Where they are not equal, field by field; one line each."""
    found = []
    for table, records in want.items():
        for name, record in records.items():
            held = have[table].get(name)
            if held is None or held.get("active") is False:
                found.append(f"{name}: {'archived' if held else 'not there'}")
                continue
            wrong = [(key, value) for key, value in record.items() if not _equal(held[key], value)]
            found += [f"{name}.{key}: {value!r} is {held[key]!r}" for key, value in wrong]
        left = [name for name, held in have[table].items() if name not in records and not gone(table, held)]
        found += [f"{name}: its row is gone" for name in left]
    return found
