"""How the tables of the shop become records."""

from __future__ import annotations

MAPPING = """
[context]
lang = "en_US"
tracking_disable = true

[table."public.tags"]
model = "res.partner.category"
id = "%(unique)stag_{id}"
[table."public.tags".fields]
name = { en_US = "{name}", de_DE = "{name_de}" }

[table."public.categories"]
model = "product.category"
id = "%(unique)scategory_{id}"
delete = "unlink"
[table."public.categories".fields]
name = "{name}"
"parent_id/id" = "%(unique)scategory_{parent}"

[table."public.taxes"]
model = "account.tax"
id = "%(unique)stax_{id}"
[table."public.taxes".fields]
name = "%(unique)s{name}"
amount = "{amount}"
amount_type = "percent"
type_tax_use = "sale"

[table."public.products"]
model = "product.product"
id = "%(unique)sproduct_{id}"
[table."public.products".fields]
name = { en_US = "{name}", de_DE = "{name_de}" }
default_code = "{code}"
list_price = "{price}"
%(kind)s = "service"
image_1920 = "{image}"
"categ_id/id" = "%(unique)scategory_{category}"
"taxes_id/id" = "%(unique)stax_{taxes}"

[table."public.customers"]
model = "res.partner"
id = "%(unique)scustomer_{id}"
[table."public.customers".fields]
name = "{name}"
email = "{email}"
city = "{city}"
type = { from = "{parent}", values = { "" = "contact" }, default = "delivery" }
"country_id/id" = "base.{country|lower}"
"parent_id/id" = "%(unique)scustomer_{parent}"
"category_id/id" = "%(unique)stag_{tags}"

[table."public.accounts"]
model = "res.partner.bank"
id = "%(unique)saccount_{id}"
delete = "unlink"
[table."public.accounts".fields]
acc_number = "%(unique)s{number}"
"partner_id/id" = "%(unique)scustomer_{customer}"

[table."public.documents"]
model = "ir.attachment"
id = "%(unique)sdocument_{id}"
delete = "unlink"
[table."public.documents".fields]
name = "{name}"
datas = "{content}"
res_model = "res.partner"
res_id = { from = "%(unique)scustomer_{customer}", model = "res.partner" }

[table."public.orders"]
model = "sale.order"
id = "%(unique)sorder_{id}"
delete = [
    { when = { state = ["draft", "sent", "cancel"] }, do = "unlink" },
    { do = "method", method = "action_cancel", context = { disable_cancel_warning = true } },
]
[table."public.orders".fields]
"partner_id/id" = "%(unique)scustomer_{customer}"
client_order_ref = "{reference}"
[[table."public.orders".actions]]
when = { state = "confirmed" }
method = "action_confirm"
unless_record = { state = ["sale", "done"] }
after = { "public.order_lines" = "line_count" }

[table."public.order_lines"]
model = "sale.order.line"
id = "%(unique)sline_{id}"
delete = [{ when = { state = "sale" }, set = { product_uom_qty = 0 } }, { do = "unlink" }]
[table."public.order_lines".fields]
"order_id/id" = "%(unique)sorder_{order_id}"
"product_id/id" = "%(unique)sproduct_{product}"
product_uom_qty = "{quantity}"
price_unit = "{price}"
name = "{label}"
"""


def mapping(version: int, update: str = "all") -> str:
    """The mapping for a major version of Odoo; `update` as every table has it."""
    text = MAPPING.replace("\nid = ", f'\nupdate = "{update}"\nid = ')
    return text.replace("%(kind)s", "type" if version in (14, 15) or version > 17 else "detailed_type")
