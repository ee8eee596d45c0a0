"""Which models an Odoo has, for whoever has misspelt one."""

import difflib

from relay.targets.bisection import Refused
from relay.targets.odoo.api import Api
from relay.targets.odoo.failures import short

ALIKE = 0.6  # of difflib's ratio
# For a user who may not read ir.model.
COMMON = (
    *("res.partner", "res.partner.category", "res.partner.bank", "res.company", "res.users", "res.country"),
    *("res.country.state", "res.currency", "res.currency.rate", "product.template", "product.product"),
    *("product.category", "product.pricelist", "product.pricelist.item", "product.supplierinfo", "sale.order"),
    *("sale.order.line", "purchase.order", "purchase.order.line", "account.move", "account.move.line"),
    *("account.payment", "account.account", "account.tax", "account.journal", "stock.picking", "stock.move"),
    *("stock.quant", "stock.location", "stock.warehouse", "crm.lead", "crm.team", "project.project", "project.task"),
    *("hr.employee", "hr.department", "uom.uom", "ir.attachment", "mrp.production", "mrp.bom", "helpdesk.ticket"),
)


async def did_you_mean(api: Api, model: str) -> str:
    """The models whose names, or labels, are nearest to this one, as a question; empty = none is near."""
    names = dict.fromkeys(COMMON, "")
    try:
        found = await api.call("ir.model", "search_read", {"domain": [], "fields": ["model", "name"]})
    except Refused:
        found = None
    if isinstance(found, list):
        told = [one for one in found if isinstance(one, dict) and isinstance(one.get("model"), str)]
        names = {one["model"]: str(one.get("name")).lower() for one in told} or names
    wanted = model.lower()
    near = difflib.get_close_matches(wanted, names, n=3, cutoff=ALIKE)
    words = {wanted, wanted.replace("_", " "), wanted.removesuffix("s")}
    labelled = [name for name, label in names.items() if label in words or name.rpartition(".")[2] in words]
    some = list(dict.fromkeys([*labelled, *near]))[:3]
    return f"did you mean {short(' or '.join(some))}?" if some else ""
