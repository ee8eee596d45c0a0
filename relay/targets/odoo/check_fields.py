"""What `receiver.py check` finds wrong with a field of the mapping, and what to write instead."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from relay.targets.odoo.convert import NUMBERS, TEXTS, Unfit, to_text
from relay.targets.odoo.external_ids import Fields
from relay.targets.odoo.mapping import FieldMapping, MappingFile, TableMapping

STAMPS = ("create_date", "create_uid", "write_date", "write_uid", "display_name", "__last_update")  # Odoo's alone
LINKS = ("many2one", "many2many")
# Fields that have another name before and after some version, of these models: what is there tells which it is.
RENAMED = (
    ("sale.order.line purchase.order.line", "tax_id taxes_id", "tax_ids"),  # 19
    ("sale.order.line purchase.order.line", "product_uom", "product_uom_id"),  # 19
    ("product.template product.product", "detailed_type", "type"),  # 15 to 17, and 18
    ("res.partner", "mobile", "phone"),  # 19 has one number
    ("res.partner", "customer", "customer_rank"),  # after 12, with the module account
    ("res.partner", "supplier", "supplier_rank"),
    ("res.users", "groups_id", "group_ids"),  # 19
    ("stock.picking", "move_lines", "move_ids"),  # 16
    ("stock.move", "quantity_done", "quantity"),  # 17
    ("stock.move.line", "qty_done", "quantity"),  # 17
    ("account.move", "type", "move_type"),  # 14
    ("account.move", "invoice_payment_state", "payment_state"),  # 14
    ("account.account", "user_type_id", "account_type"),  # 16
    ("account.payment", "payment_date", "date"),  # 14
    ("account.payment", "communication ref", "memo"),  # 18
    ("project.task", "user_id", "user_ids"),  # 15
    ("project.task", "planned_hours", "allocated_hours"),  # 17
)


def wrong_with(
    mapping: MappingFile, mapped: TableMapping, field: FieldMapping, fields: Fields
) -> tuple[str, str] | None:
    """What is wrong with a field of the mapping, and what to write instead; None = nothing."""
    known = fields.get(field.name)
    if known is None:
        return unknown(mapped.model, field.name, fields)
    kind, relation = str(known.get("type")), known.get("relation")
    if not can_be_written(field.name, known):
        return _computed(mapped.model, field, fields)
    if field.lang and not known.get("translate"):
        return "has one text for all languages", f'write {field.path} = "{field.expression.source}"'
    if unused := _unused(field, kind):
        return unused
    if field.is_link:
        if kind not in LINKS:
            return f"is of type {kind} and links to nothing", f"write {field.name} without /id"
        begin = field.expression.prefix
        others = [one for one in mapping.tables.values() if begin and one.id.prefix == begin and one.model != relation]
        if others:
            return f"links to {relation}, but {others[0].name} becomes {others[0].model}", "link another table"
        return None
    if kind == "one2many":
        return "is of type one2many, which is written from its other side", f"remove {field.path}"
    if kind in LINKS and not field.path.endswith("/.id"):
        return f"is a link to {relation}: a name may fit several records", f'write "{field.name}/id" and external ids'
    return _wrong_constant(mapped, field, known)


def can_be_written(name: str, known: Mapping[str, Any]) -> bool:
    """Can a field be loaded? `readonly` alone is the form's: the state of an order is, and can be."""
    computed = known.get("depends") or known.get("related") or not known.get("store", True)
    return name not in STAMPS and not (known.get("readonly") and computed)


def _computed(model: str, field: FieldMapping, fields: Fields) -> tuple[str, str]:
    other = _renamed(model, field.name, fields)
    if other and can_be_written(other, fields[other]):
        return f"the field can't be written (Odoo computes it): in this version it is {other}", f"write {other}"
    return "the field can't be written (Odoo computes it)", f"remove {field.path}"


def unknown(model: str, name: str, fields: Fields) -> tuple[str, str]:
    """What is wrong with a field that a model does not have, and what may have been meant."""
    if other := _renamed(model, name, fields):
        return f"{model} has no such field: in this version it is {other}", f"write {other}"
    remedy = did_you_mean(name, fields)
    return f"{model} has no such field", f"{remedy} It is" if remedy else f"change or remove {name}"


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """The nearest of these names, as a question; empty = none is near."""
    near = " or ".join(difflib.get_close_matches(name, names, n=3, cutoff=0.6))
    return f"did you mean {near}?" if near else ""


def _renamed(model: str, name: str, fields: Fields) -> str:
    """What the field is called in this version; empty = it has no other name that is known."""
    for models, one, other in RENAMED:
        names = [*one.split(), other]
        if model in models.split() and name in names:
            return next((to for to in names if to != name and to in fields), "")
    return ""


def _unused(field: FieldMapping, kind: str) -> tuple[str, str] | None:
    """A setting that a field of this type can't have."""
    if field.by and kind not in LINKS:
        return f"is of type {kind} and links to nothing", f"remove by from {field.name}"
    if field.model and kind not in ("integer", "many2one_reference", "reference"):
        return f"is of type {kind}: Odoo knows the model itself", f'write "{field.name}/id" without model'
    if field.many and kind != "many2many":
        return f"is of type {kind}, which holds one thing", f"remove many from {field.name}"
    if field.format and kind not in ("date", "datetime", *TEXTS):
        return f"is of type {kind}, and format is for dates", f"remove format from {field.name}"
    if field.decimal and kind not in NUMBERS:
        return f"is of type {kind}, and decimal is for numbers", f"remove decimal from {field.name}"
    return None


def _wrong_constant(mapped: TableMapping, field: FieldMapping, known: Mapping[str, Any]) -> tuple[str, str] | None:
    """Do the values that the mapping itself names fit the field?"""
    constants = [*field.values.values()] + ([field.default] if field.default is not None else [])
    if not field.expression.columns:
        constants.append(field.expression.source)
    if field.is_looked_up or field.format or field.decimal:
        return None
    return unlike(known, constants, mapped, labels=True)


def unlike(
    known: Mapping[str, Any], constants: Sequence[str], mapped: TableMapping, *, labels: bool = False
) -> tuple[str, str] | None:
    """Which of these values does not fit the field, and what to write instead; None = all do. `load` takes labels."""
    kind, options = str(known.get("type")), known.get("selection")
    if kind == "selection" and isinstance(options, list):
        options = [option for option in options if isinstance(option, list) and option]
        allowed = [str(option[0]) for option in options]
        taken = {str(word).lower() for option in options for word in option} if labels else set(allowed)
        wrong = [one for one in constants if (one.lower() if labels else one) not in taken]
        return (f"knows no value {wrong[0]}", f"write one of {', '.join(allowed)}") if wrong else None
    try:
        for constant in constants:
            to_text(kind, constant, mapped.zone)
    except Unfit as error:
        return f"is of type {kind}, and a value of the mapping {error}", "change it"
    return None
