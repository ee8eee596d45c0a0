"""Which field of a model a column looks like: by the field's name, its label, or what others call it. Pure."""

import dataclasses
import difflib
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from relay.targets.odoo.check_fields import can_be_written
from relay.targets.odoo.columns import Column
from relay.targets.odoo.external_ids import Fields

ALIKE = 0.85  # of difflib's ratio; above it two names are one, misspelt

_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")  # as a mapping names one
_NOT_WRITTEN = ("one2many", "reference", "properties", "properties_definition", "json")
# What people call what Odoo calls by the first word.
_WORDS = {
    "name": "title full_name label company_name designation",
    "email": "e_mail mail email_address",
    "phone": "telephone tel phone_number mobile cell",
    "mobile": "cell cellphone cell_phone mobile_phone",
    "street": "address address1 address_1 address_line1 address_line_1 street1 street_1 addr street_name",
    "street2": "address2 address_2 address_line2 address_line_2 street_2",
    "zip": "zipcode zip_code postcode post_code postal_code",
    "city": "town",
    "website": "url homepage web",
    "vat": "vat_number vat_no vat_id tax_number tax_id",
    "ref": "reference number customer_number customer_no",
    "country_id": "country country_code country_iso",
    "state_id": "state state_code province region",
    "currency_id": "currency currency_code",
    "parent_id": "parent parent_company company employer employer_id manager_id",
    "category_id": "tags tag tag_ids tag_id categories category category_ids",
    "categ_id": "category category_id",
    "partner_id": "customer customer_id client client_id contact contact_id account_id",
    "product_id": "product item item_id article article_id",
    "order_id": "order",
    "is_company": "company",
    "active": "enabled is_active is_enabled",
    "lang": "language locale",
    "default_code": "sku code article_number article_no item_number item_no product_code",
    "barcode": "ean ean13 gtin upc",
    "list_price": "price sales_price sale_price unit_price",
    "fixed_price": "price unit_price",
    "price_unit": "price unit_price",
    "standard_price": "cost cost_price purchase_price",
    "product_uom_qty": "quantity qty",
    "date_order": "ordered_at order_date ordered_on",
    "client_order_ref": "reference order_number order_no number",
    "comment": "notes note remark remarks",
    "note": "notes comment remark remarks",
    "acc_number": "iban account_number number",
    "partner_latitude": "lat latitude",
    "partner_longitude": "lon lng longitude",
    "image_1920": "image photo picture",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
    """A column and the field that it looks like.

    Args:
        field: empty = none.
        why: it is a guess; empty = it has the field's own name.
    """

    column: Column
    field: str = ""
    why: str = ""


def usable(fields: Fields) -> dict[str, Mapping[str, Any]]:
    """The fields that a mapping may name."""
    return {
        name: known
        for name, known in fields.items()
        if _FIELD.fullmatch(name)
        and name != "id"
        and known.get("type") not in _NOT_WRITTEN
        and can_be_written(name, known)
    }


def pairs(columns: Sequence[Column], fields: Fields, table: str) -> list[Pair]:
    """For each column its field; no field twice, and those that are surest first.

    Args:
        fields: that may be used.
        table: its name: customer_email of customers is its email.
    """
    free = dict(fields)
    found: dict[str, Pair] = {}
    labels: dict[str, str] = {}
    for name, known in fields.items():
        labels.setdefault(plain(str(known.get("string") or "")), name)
    ways: list[tuple[Callable[[str], list[str]], str]] = [
        (lambda name: [name], ""),
        (
            lambda name: [
                f"{name}_id",
                f"{name}_ids",
                re.sub("s?_ids?$|s$", "_ids", name),
                re.sub("_ids$", "_id", name),
            ],
            "it is called alike",
        ),
        (lambda name: [labels.get(name, ""), labels.get(name.removesuffix("_id"), "")], "its label is that"),
        (lambda name: [field for field, words in _WORDS.items() if name in words.split()], "others call it so"),
        (lambda name: _without(name, table), "it is called alike"),
        (lambda name: difflib.get_close_matches(name, free, n=1, cutoff=ALIKE), "it is called alike"),
    ]
    for candidates, why in ways:
        for column in columns:
            if column.name in found:
                continue
            name = plain(column.name)
            field = next((one for one in candidates(name) if one in free), "") if name else ""
            if field:
                known = free.pop(field)
                label = f" ({known.get('string')})" if known.get("string") else ""
                found[column.name] = Pair(column, field, f"{field}{label}: {why}" if why else "")
    return [found.get(column.name, Pair(column)) for column in columns]


def _without(name: str, table: str) -> list[str]:
    """The name without that of its table: customer_email, of customers."""
    whole = plain(table.rpartition(".")[2])
    for begin in {f"{whole}_", f"{singular(whole)}_"}:
        if name.startswith(begin):
            return [name.removeprefix(begin)]
    return []


def plain(text: str) -> str:
    """A name as Odoo writes names: `orderDate`, `Order date` and `ORDER-DATE` are order_date."""
    ascii_ = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", ascii_)
    return re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")


def plural(word: str) -> str:
    """Of an English word."""
    if re.search(r"[^aeiou]y$", word):
        return word[:-1] + "ies"
    return word + ("es" if re.search(r"(s|x|z|ch|sh)$", word) else "s")


def singular(word: str) -> str:
    """Of an English word."""
    if word.endswith("ies"):
        return word[:-3] + "y"
    return word[:-2] if re.search(r"(ss|x|z|ch|sh)es$", word) else word.removesuffix("s")
