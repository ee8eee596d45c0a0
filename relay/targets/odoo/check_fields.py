"""What `receiver.py check` finds wrong with a field of the mapping, and what to write instead."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from relay.targets.odoo.convert import Unfit, to_text
from relay.targets.odoo.external_ids import Fields
from relay.targets.odoo.mapping import FieldMapping, MappingFile, TableMapping

STAMPS = ("create_date", "create_uid", "write_date", "write_uid", "display_name", "__last_update")  # Odoo's alone
LINKS = ("many2one", "many2many")
# Fields that have another name before and after some version: what is there tells which.
RENAMED = (
    ("tax_id", "tax_ids"),  # sale.order.line, 19
    ("product_uom", "product_uom_id"),  # sale.order.line, 19
    ("detailed_type", "type"),  # product.template, 19
    ("mobile", "phone"),  # res.partner: 19 has one number
    ("groups_id", "group_ids"),  # res.users, 19
    ("move_lines", "move_ids"),  # stock.picking, after 14
)


def wrong_with(
    mapping: MappingFile, mapped: TableMapping, field: FieldMapping, fields: Fields
) -> tuple[str, str] | None:
    """What is wrong with a field of the mapping, and what to write instead; None = nothing."""
    known = fields.get(field.name)
    if known is None:
        return _unknown(mapped.model, field.name, fields)
    kind, relation = str(known.get("type")), known.get("relation")
    # `readonly` alone is the form's: the state of an order is, and can be loaded.
    computed = known.get("depends") or known.get("related") or not known.get("store", True)
    if field.name in STAMPS or (known.get("readonly") and computed):
        return "the field can't be written (Odoo computes it)", f"remove {field.path}"
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


def _unknown(model: str, name: str, fields: Fields) -> tuple[str, str]:
    other = next((to for pair in RENAMED for one, to in (pair, pair[::-1]) if one == name and to in fields), "")
    if other:
        return f"{model} has no such field: in this version it is {other}", f"write {other}"
    near = " or ".join(difflib.get_close_matches(name, fields, n=3, cutoff=0.6))
    return f"{model} has no such field", f"did you mean {near}? It is" if near else f"change or remove {name}"


def _unused(field: FieldMapping, kind: str) -> tuple[str, str] | None:
    """A setting that a field of this type can't have."""
    if field.by and kind not in LINKS:
        return f"is of type {kind} and links to nothing", f"remove by from {field.name}"
    if field.model and kind not in ("integer", "many2one_reference", "reference"):
        return f"is of type {kind}: Odoo knows the model itself", f'write "{field.name}/id" without model'
    if field.many and kind != "many2many":
        return f"is of type {kind}, which holds one thing", f"remove many from {field.name}"
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
