"""The models that the stand-in knows: a small part of Odoo's own, with Odoo's labels, and one for an own method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any


class Added(tuple[int, ...]):
    """Links that are added to those that a record has."""

    __slots__ = ()


@dataclass(frozen=True)
class Field:
    """A field; `digits` rounds a float, `default` (or what it returns) is what a new record gets.

    `cascade`: a record goes with the one that it links to.

    `computed`: a new record has it filled by Odoo. fields_get shows what the computation depends on, and where that is
    nothing (customer_lead), it shows nothing.
    """

    type: str
    string: str
    required: bool = False
    readonly: bool = False
    relation: str | None = None
    selection: tuple[tuple[str, str], ...] = ()
    digits: int | None = None
    default: Any = False
    depends: tuple[str, ...] = ()
    related: str | None = None
    computed: bool = False
    translate: bool = False
    cascade: bool = False

    @property
    def initial(self) -> Any:
        """What a new record holds where nothing was given."""
        given = self.default() if callable(self.default) else self.default
        return self.empty if given is False else given

    @property
    def empty(self) -> Any:
        """What a record shows where nothing was set."""
        return {"integer": 0, "float": 0.0, "monetary": 0.0, "many2many": (), "one2many": ()}.get(self.type, False)


@dataclass(frozen=True)
class Model:
    """A model. `unique`: fields that only one record may have the same values of, and what Odoo 19 says of it.

    `check`: a field that a CHECK constraint wants filled (and fields_get does not call required), and its message.
    """

    name: str
    label: str
    fields: Mapping[str, Field]
    unique: tuple[tuple[tuple[str, ...], str], ...] = ()
    check: tuple[str, str] | None = None
    parent: str | None = None  # the field that must not form a circle
    methods: tuple[str, ...] = field(default=())


def _model(name: str, label: str, fields: dict[str, Field], **more: Any) -> Model:
    stamps = {
        "id": Field("integer", "ID", readonly=True),
        "create_date": Field("datetime", "Created on", readonly=True),
        "write_date": Field("datetime", "Last Updated on", readonly=True),
    }
    return Model(name, label, stamps | fields, **more)


def _char(string: str, **more: Any) -> Field:
    return Field("char", string, **more)


ACTIVE = Field("boolean", "Active", default=True)
JSON2_SINCE = 19  # major version
TYPES: dict[str, tuple[tuple[str, str], ...]] = {
    "17": (
        ("contact", "Contact"),
        ("invoice", "Invoice Address"),
        ("delivery", "Delivery Address"),
        ("other", "Other Address"),
    ),
    "19": (("contact", "Contact"), ("invoice", "Invoice"), ("delivery", "Delivery"), ("other", "Other")),
}
TYPES["14"] = (*TYPES["17"], ("private", "Private Address"))
NUMBERS = {  # of bank accounts: what may be there once
    "14": (("acc_number",), "Account Number must be unique"),
    "17": (("acc_number", "partner_id"), "The combination Account Number/Partner must be unique."),
}


def like(version: str) -> str:
    """The version whose answers and models most are: "17" before JSON-2, "19" since."""
    return "19" if int(version) >= JSON2_SINCE else "17"


def models(series: str) -> dict[str, Model]:
    """The models of Odoo `series` ("14", "17" or "19"), by name."""
    version = like(series)
    found = [*_partners(series), *_sales(series), *_staff(), *_currencies(), *_technical(version)]
    return {model.name: model for model in found}


def _partners(series: str) -> list[Model]:
    country = Field("many2one", "Country", relation="res.country")
    partner = {
        "name": _char("Name"),
        "active": ACTIVE,
        "parent_id": Field("many2one", "Related Company", relation="res.partner"),
        "type": Field("selection", "Address Type", selection=TYPES[series], default="contact"),
        "is_company": Field("boolean", "Is a Company"),
        "ref": _char("Reference"),
        "email": _char("Email"),
        "phone": _char("Phone"),
        "street": _char("Street"),
        "city": _char("City"),
        "zip": _char("Zip"),
        "website": _char("Website Link"),
        "comment": Field("html", "Notes"),
        "country_id": country,
        "state_id": Field("many2one", "State", relation="res.country.state"),
        "category_id": Field("many2many", "Tags", relation="res.partner.category"),
        "color": Field("integer", "Color Index"),
        "partner_latitude": Field("float", "Geo Latitude", digits=5 if series == "14" else 7),
        "partner_longitude": Field("float", "Geo Longitude", digits=5 if series == "14" else 7),
        "image_1920": Field("binary", "Image"),
    }
    state = {
        "name": _char("State Name", required=True),
        "code": _char("State Code", required=True),
        "country_id": Field("many2one", "Country", relation="res.country", required=True),
    }
    bank = {
        "acc_number": _char("Account Number", required=True),
        "partner_id": Field("many2one", "Account Holder", relation="res.partner", required=True),
        "currency_id": Field("many2one", "Currency", relation="res.currency"),
        "active": ACTIVE,
    }
    return [
        _model("res.partner", "Contact", partner, check=("name", "Contacts require a name"), parent="parent_id"),
        _model(
            "res.partner.category",
            "Partner Tags",
            {"name": _char("Name", required=True, translate=True), "active": ACTIVE},
        ),
        _model("res.company", "Companies", {"name": _char("Company Name", required=True)}),
        _model(
            "res.country",
            "Country",
            {"name": _char("Country Name", required=True), "code": _char("Country Code", required=True)},
            unique=((("code",), "The code of the country must be unique!"),),
        ),
        _model(
            "res.country.state",
            "Country state",
            state,
            unique=((("code", "country_id"), "The code of the state must be unique by country!"),),
        ),
        _model(
            "res.partner.bank",
            "Bank Accounts",
            bank,
            unique=(NUMBERS.get(series, NUMBERS["17"]),),
        ),
    ]


def _sales(series: str) -> list[Model]:
    version = like(series)
    price = 2 if version == "17" else None  # digits; 19 only shows so many
    partner = Field("many2one", "Customer", relation="res.partner", required=True)
    currency = Field("many2one", "Currency", relation="res.currency")
    states = (("draft", "Quotation"), ("sent", "Quotation Sent"), ("sale", "Sales Order"), ("cancel", "Cancelled"))
    order = {
        "name": _char("Order Reference", required=True, default="New"),
        "partner_id": partner,
        "date_order": Field("datetime", "Order Date"),
        "commitment_date": Field("datetime", "Delivery Date"),
        "validity_date": Field("date", "Expiration"),
        "client_order_ref": _char("Customer Reference"),
        "note": Field("html", "Terms and conditions"),
        # readonly is the form's: load and write take it.
        "state": Field("selection", "Status", selection=states, default="draft", readonly=True),
        "currency_id": currency,
        "amount_total": Field("monetary", "Total", readonly=True, depends=("order_line.price_subtotal",)),
    }
    if series == "14":  # filled as it is created, which nothing tells
        order |= {
            name: Field("many2one", "Address", relation="res.partner", required=True, computed=True)
            for name in ("partner_invoice_id", "partner_shipping_id")
        }
    of_product = ("product_id",) if series != "14" else ()
    line = {
        "order_id": Field("many2one", "Order Reference", relation="sale.order", required=True, cascade=True),
        "name": Field("text", "Description", required=True, depends=of_product, computed=True),
        "product_id": Field("many2one", "Product", relation="product.product"),
        "product_uom_qty": Field("float", "Quantity", digits=2, required=True, default=1.0),
        "price_unit": Field("float", "Unit Price", digits=price, required=True, depends=of_product, computed=True),
        "product_uom" if version == "17" else "product_uom_id": _char("Unit of Measure"),
        "customer_lead": Field("float", "Lead Time", required=True, computed=True),
    }
    product = {
        "name": _char("Name", required=True),
        "active": ACTIVE,
        "default_code": _char("Internal Reference"),
        "list_price": Field("float", "Sales Price", digits=price, default=1.0),
        "weight": Field("float", "Weight", digits=2),
        "categ_id": Field("many2one", "Product Category", relation="product.category"),
        "sale_ok": Field("boolean", "Can be Sold", default=True),
        "taxes_id": Field("many2many", "Sales Taxes", relation="account.tax"),
        "description": Field("text", "Description"),
        "product_variant_ids": Field("one2many", "Products", relation="product.product", required=True),
    }
    category = {
        "name": _char("Name", required=True),
        "parent_id": Field("many2one", "Parent Category", relation="product.category"),
    }
    # A variant extends a template: it has all of its fields.
    variant = {name: replace(one, related=f"product_tmpl_id.{name}") for name, one in product.items()}
    variant |= {
        "product_tmpl_id": Field("many2one", "Product Template", relation="product.template", required=True),
        "active": ACTIVE,
        "default_code": _char("Internal Reference"),
        "image_1920": Field("binary", "Image", depends=("image_variant_1920",)),
    }
    # An order shows a field of its vendor, which can be written through it (14, 16), and extends no contact.
    purchase = {
        "name": _char("Order Reference", required=True, default="New"),
        "partner_id": replace(partner, string="Vendor"),
        "receipt_reminder_email": Field("boolean", "Reminder", related="partner_id.receipt_reminder_email"),
    }
    # One that shows all that the other has, and extends it not, either.
    method = {"name": _char("Name", required=True), "code": _char("Code", required=True)}
    method_line = {
        "name": _char("Name"),
        "payment_method_id": Field("many2one", "Method", relation="account.payment.method", required=True),
        "code": _char("Code", readonly=True, related="payment_method_id.code"),
    }
    amount = Field("float", "Amount", digits=4, required=True, default=0.0)
    tax = {"name": _char("Tax Name", required=True), "active": ACTIVE, "amount": amount}
    item = {
        "pricelist_id": Field("many2one", "Pricelist", relation="product.pricelist", required=True),
        "fixed_price": Field("float", "Fixed Price", digits=price),
        "date_start": Field("datetime", "Start Date"),
        "date_end": Field("datetime", "End Date"),
    }
    return [
        _model("sale.order", "Sales Order", order, methods=("action_confirm", "action_cancel")),
        _model("sale.order.line", "Sales Order Line", line),
        _model("purchase.order", "Purchase Order", purchase),
        _model("account.tax", "Tax", tax),
        _model("account.payment.method", "Payment Methods", method),
        _model("account.payment.method.line", "Payment Methods", method_line),
        _model("product.category", "Product Category", category),
        _model("product.template", "Product", product),
        _model("product.product", "Product Variant", variant),
        _model("product.pricelist", "Pricelist", {"name": _char("Pricelist Name", required=True), "active": ACTIVE}),
        _model("product.pricelist.item", "Pricelist Rule", item),
    ]


def _staff() -> list[Model]:
    """Whose links form circles: a department has a manager, who is in a department; a head is his own manager."""
    employee = {
        "name": _char("Employee Name", required=True),
        "active": ACTIVE,
        "parent_id": Field("many2one", "Manager", relation="hr.employee"),
        "coach_id": Field("many2one", "Coach", relation="hr.employee"),
        "department_id": Field("many2one", "Department", relation="hr.department"),
    }
    department = {
        "name": _char("Department Name", required=True),
        "active": ACTIVE,
        "manager_id": Field("many2one", "Manager", relation="hr.employee"),
    }
    return [_model("hr.employee", "Employee", employee), _model("hr.department", "Department", department)]


def _currencies() -> list[Model]:
    rate = {
        "name": Field("date", "Date", required=True, default=lambda: f"{datetime.now(UTC):%Y-%m-%d}"),
        "rate": Field("float", "Technical Rate"),
        "currency_id": Field("many2one", "Currency", relation="res.currency", required=True),
        "company_id": Field("many2one", "Company", relation="res.company", default=1),
    }
    return [
        _model("res.currency", "Currency", {"name": _char("Currency", required=True), "active": ACTIVE}),
        _model(
            "res.currency.rate",
            "Currency Rate",
            rate,
            unique=((("company_id", "currency_id", "name"), "Only one currency rate per day allowed!"),),
        ),
    ]


def _technical(version: str) -> list[Model]:
    user = {
        "login": _char("Login", required=True),
        "name": _char("Name", required=True),
        "tz": _char("Timezone"),
        "lang": _char("Language", default="en_US"),
        "totp_enabled": Field("boolean", "Two-factor authentication", readonly=True),
        "active": ACTIVE,
    }
    key = {
        "name": _char("Description", required=True, readonly=True),
        "user_id": Field("many2one", "User", relation="res.users", required=True, readonly=True),
        "scope": _char("Scope", readonly=True),
    }
    if version != "17":
        key["expiration_date"] = Field("datetime", "Expiration Date", readonly=True)
    data = {
        "name": _char("External Identifier", required=True),
        "module": _char("Module", required=True),
        "complete_name": _char("Complete ID", readonly=True),
        "model": _char("Model Name", required=True),
        "res_id": Field("many2one_reference", "Record ID"),
        "noupdate": Field("boolean", "Non Updatable"),
    }
    file = {
        "name": _char("Name", required=True),
        "datas": Field("binary", "File Content"),
        "res_model": _char("Resource Model"),
        "res_id": Field("many2one_reference", "Resource ID"),
    }
    event = {"event": _char("Event", required=True), "body": Field("text", "Body")}
    return [
        _model("res.users", "User", user, methods=("context_get",)),
        _model("res.users.apikeys", "Users API Keys", key),
        _model("ir.model.data", "Model Data", data, methods=("check_object_reference",)),
        _model("ir.attachment", "Attachment", file),
        _model("ir.model", "Models", {"model": _char("Model", required=True), "name": _char("Model Description")}),
        _model("res.lang", "Languages", {"code": _char("Locale Code", required=True), "active": ACTIVE}),
        _model("x_relay.inbox", "Relay Inbox", event, methods=("receive",)),
    ]
