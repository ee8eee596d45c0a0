"""Finding and showing records."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from dev.doubles.odoo.errors import value_error
from dev.doubles.odoo.languages import shown
from dev.doubles.odoo.model import Field, Model
from dev.doubles.odoo.store import Record, Store

OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda left, right: (left or False) == (right or False),
    "!=": lambda left, right: (left or False) != (right or False),
    "in": lambda left, right: left in right,
    "not in": lambda left, right: left not in right,
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
    "like": lambda left, right: right in (left or ""),
    "ilike": lambda left, right: right.lower() in (left or "").lower(),
    "=like": lambda left, right: _like(right).fullmatch(left or "") is not None,
}


def _like(pattern: str) -> re.Pattern[str]:
    """SQL's LIKE as a regular expression."""
    wild = {"%": ".*", "_": "."}
    pieces = re.findall(r"\\.|.", pattern, re.DOTALL)
    return re.compile("".join(wild.get(one, re.escape(one.removeprefix("\\"))) for one in pieces), re.DOTALL)


def search(
    store: Store, model: Model, domain: Sequence[Any], context: Mapping[str, Any], order: str | None = None
) -> list[int]:
    """The ids that a domain finds; archived records only if it, or the context, asks for them."""
    if model.name == "ir.model.data":
        rows = _external(store, _candidates(store, domain))
        return sorted(row["id"] for row in rows if _matches(row, domain))
    named = {term[0].partition(".")[0] for term in domain if not isinstance(term, str)}
    for name in named - set(model.fields):
        raise value_error(f"Invalid field {model.name}.{name} in leaf")
    hide = "active" in model.fields and "active" not in named and context.get("active_test", True)
    found = [
        key
        for key, one in store.tables[model.name].items()
        if (not hide or one["active"]) and _matches(_followed(store, model, one, domain), domain)
    ]
    if order and order.split(",")[0].split()[-1].lower() == "desc":
        found.reverse()
    return found


def read(
    store: Store,
    model: Model,
    keys: Sequence[int],
    fields: Sequence[str] | None,
    *,
    named: bool = True,
    language: str | None = None,
) -> list[dict[str, Any]]:
    """Records as `read` shows them: a link as [id, name], a list of links as ids."""
    for name in fields or ():
        if name not in model.fields:
            raise value_error(f"Invalid field {name!r} on {'model ' if store.version == '17' else ''}{model.name!r}")
    wanted = dict.fromkeys(["id", *(fields or model.fields)])
    table = store.tables[model.name]
    if model.name == "ir.model.data":
        asked = set(keys)
        table = {
            one["id"]: one for one in _external(store, (x for x, number in store.numbers.items() if number in asked))
        }
    return [
        {name: shown(_shown(store, model.fields[name], table[key][name], named=named), language) for name in wanted}
        for key in keys
        if key in table
    ]


def describe(field: Field, attributes: Sequence[str] | None) -> dict[str, Any]:
    """A field as fields_get shows it."""
    whole: dict[str, Any] = {
        "type": field.type,
        "string": field.string,
        "required": field.required,
        "readonly": field.readonly,
        "store": True,
        "searchable": True,
        "translate": field.translate or None,
        "relation": field.relation,
        "selection": [list(one) for one in field.selection] or None,
        "depends": list(field.depends),
        "related": field.related,
        "digits": [16, field.digits] if field.digits is not None else None,
    }
    return {
        name: value for name, value in whole.items() if value is not None and (not attributes or name in attributes)
    }


def _shown(store: Store, field: Field, value: Any, *, named: bool) -> Any:
    if field.type == "many2many":
        return list(value)
    if field.type == "many2one" and value and named:
        return [value, store.tables[field.relation or ""][value].get("name") or ""]
    return value


def _external(store: Store, xmlids: Iterable[str]) -> Iterator[Record]:
    """Rows of ir.model.data."""
    for xmlid in xmlids:
        module, _, name = xmlid.partition(".")
        model, key = store.external[xmlid]
        row = {"id": store.numbers[xmlid], "module": module, "name": name, "complete_name": xmlid, "model": model}
        more = {"res_id": key, "noupdate": xmlid in store.fixed, "create_date": False, "write_date": False}
        yield row | more


def _candidates(store: Store, domain: Sequence[Any]) -> Iterable[str]:
    """The external ids that a domain can mean; all of them, unless it names a module and names, or records."""
    exact = {(term[0], term[1]): term[2] for term in domain if not isinstance(term, str)}
    if "|" not in domain and ("model", "=") in exact and ("res_id", "in") in exact:
        return [one for key in exact["res_id", "in"] for one in store.named(exact["model", "="], key)]
    if "|" in domain or ("module", "=") not in exact or ("name", "in") not in exact:
        return store.external
    wanted = (f"{exact['module', '=']}.{name}" for name in exact["name", "in"])
    return [xmlid for xmlid in wanted if xmlid in store.external]


def _followed(store: Store, model: Model, record: Record, domain: Sequence[Any]) -> Record:
    """The record, with what the domain's paths through links lead to: country_id.code."""
    paths = [term[0] for term in domain if not isinstance(term, str) and "." in term[0]]
    found = dict(record) if paths else record
    for path in paths:
        link, _, name = path.partition(".")
        other = store.tables[model.fields[link].relation or ""].get(record[link])
        found[path] = other[name] if other else False
    return found


def _matches(record: Record, domain: Sequence[Any]) -> bool:
    """Prefix notation: "&" is meant where nothing stands between two terms."""
    stack: list[bool] = []
    for term in reversed(domain):
        if term == "!":
            stack.append(not stack.pop())
        elif term in ("&", "|"):
            left, right = stack.pop(), stack.pop()
            stack.append((left and right) if term == "&" else (left or right))
        else:
            stack.append(_leaf(record, *term))
    return all(stack)


def _leaf(record: Record, name: str, operator: str, value: Any) -> bool:
    held = record[name]
    if isinstance(held, tuple):  # many2many
        wanted = value if isinstance(value, list) else [value]
        return bool(set(held) & set(wanted)) == (operator in {"=", "in"})
    return OPERATORS[operator](held, value)
