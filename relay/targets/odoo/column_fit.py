"""Will a field take what a column holds? By both types, as relay/targets/odoo/convert.py reads them. Pure."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from relay.targets.odoo.columns import Column, Kind
from relay.targets.odoo.convert import INTEGER_MOST, NUMBERS, TEXTS


@dataclasses.dataclass(frozen=True, slots=True)
class Misfit:
    """What is, or may be, wrong.

    Args:
        what: to be said behind the column's name.
        remedy: what to write instead.
        never: no value but NULL will be taken; else some will not, or not as they are.
    """

    what: str
    remedy: str
    never: bool = False


def misfit(column: Column, field: str, known: Mapping[str, Any]) -> Misfit | None:
    """What is wrong with a column alone, without settings, for a field; None = nothing, as far as types tell.

    Args:
        field: its name.
        known: what fields_get says of it.
    """
    kind = str(known.get("type"))
    judge = _JUDGES.get(kind)
    if judge is None or column.kind is Kind.UNKNOWN:
        return None
    return judge(column, field, known)


def _never(column: Column, kind: object) -> Misfit:
    """Unless its type may be anything: a domain, an enum; or JSON, which may be a text."""
    remedy = "map another column, or change its type"
    if column.kind in (Kind.OTHER, Kind.JSON):
        return Misfit(f"is {_shown(column)}: what does not look like a {kind} field's value is refused", remedy)
    return Misfit(f"is {_shown(column)}, which no {kind} field takes", remedy, never=True)


def _shown(column: Column) -> str:
    return column.type or column.kind.value


def _number(column: Column, field: str, known: Mapping[str, Any]) -> Misfit | None:
    kind = known.get("type")
    if column.kind in (Kind.WHOLE, Kind.SWITCH):
        if kind == "integer" and column.type.lower() in ("bigint", "int8", "bigserial", "serial8", "numeric"):
            what = f"is {column.type}: numbers above {INTEGER_MOST} are refused by an integer field"
            return Misfit(what, "nothing, if they stay below")
        return None
    if column.kind is Kind.NUMBER and kind == "integer":
        what = f"is {_shown(column)}: numbers with decimals are refused by an integer field"
        return Misfit(what, "map a column of whole numbers, or a field of type float")
    if column.kind is Kind.NUMBER:
        return _decimals(column, known)
    if column.kind in (Kind.TEXT, Kind.OTHER):
        what = f"is {_shown(column)}: what is no number is refused"
        return Misfit(what, f'{field} = {{ from = "...", decimal = "," }}, if it is written so')
    return _never(column, kind)


def _decimals(column: Column, known: Mapping[str, Any]) -> Misfit | None:
    digits = known.get("digits")
    kept = digits[1] if isinstance(digits, list) and len(digits) == 2 and isinstance(digits[1], int) else None
    if kept is None or (column.scale is not None and column.scale <= kept):
        return None
    has = f"{column.scale} decimals" if column.scale is not None else "any number of decimals"
    what = f"is {_shown(column)}, with {has}: Odoo keeps, or shows, {kept}"
    return Misfit(what, "raise the precision in Odoo (Settings, Technical, Decimal Accuracy)")


def _switch(column: Column, field: str, _known: Mapping[str, Any]) -> Misfit | None:
    if column.kind is Kind.SWITCH:
        return None
    if column.kind in (Kind.WHOLE, Kind.TEXT, Kind.NUMBER, Kind.OTHER):
        what = f"is {_shown(column)}: what is neither true nor false, 1 nor 0, is refused"
        return Misfit(what, f'{field} = {{ from = "...", values = {{ word = "true" }}, default = "false" }}')
    return _never(column, "boolean")


def _day(column: Column, field: str, known: Mapping[str, Any]) -> Misfit | None:
    if column.kind in (Kind.DAY, Kind.MOMENT):
        return None
    if column.kind in (Kind.TEXT, Kind.WHOLE):
        what = f"is {_shown(column)}: what is no date as 2031-12-30 or 20311230 is refused"
        return Misfit(what, f'{field} = {{ from = "...", format = "%d.%m.%Y" }}, if it is written so')
    return _never(column, known.get("type"))


def _selection(column: Column, field: str, known: Mapping[str, Any]) -> Misfit | None:
    if column.kind in (Kind.TEXT, Kind.OTHER):
        return None
    if column.kind in (Kind.WHOLE, Kind.SWITCH):
        first = options(known)[:2]
        if column.kind is Kind.WHOLE and first and all(one.isdecimal() for one in first):
            return None
        word = "true" if column.kind is Kind.SWITCH else "1"
        what = f"is {_shown(column)}: what is no value of the selection is refused"
        value = first[0] if first else "value"
        return Misfit(what, f'{field} = {{ from = "...", values = {{ {word} = "{value}" }} }}')
    return _never(column, "selection")


def options(known: Mapping[str, Any]) -> list[str]:
    """The values of a selection; none, if Odoo does not tell."""
    told = known.get("selection")
    return [str(one[0]) for one in told if isinstance(one, list) and one] if isinstance(told, list) else []


def _text(column: Column, _field: str, known: Mapping[str, Any]) -> Misfit | None:
    if column.kind in (Kind.LIST, Kind.JSON, Kind.BYTES):
        how = "in hex" if column.kind is Kind.BYTES else "as JSON"
        what = f"is {_shown(column)}: a {known.get('type')} field gets it {how}"
        return Misfit(what, "nothing, if that is meant")
    return None


def _file(column: Column, _field: str, _known: Mapping[str, Any]) -> Misfit | None:
    if column.kind is Kind.BYTES:
        return None
    if column.kind in (Kind.TEXT, Kind.OTHER):
        what = f"is {_shown(column)}: what is no base64 is refused"
        return Misfit(what, "map a column of type bytea, or of base64")
    return _never(column, "binary")


def _link(column: Column, _field: str, known: Mapping[str, Any]) -> Misfit | None:
    several = known.get("type") == "many2many"
    if column.kind is Kind.JSON and several:
        return None  # it may be a list
    if column.kind is Kind.LIST and not several:
        return Misfit(f"is {_shown(column)}, and a many2one field links to one record", "map a column of one")
    if column.kind in (Kind.SWITCH, Kind.JSON, Kind.BYTES, Kind.DAY, Kind.MOMENT):
        return _never(column, known.get("type"))
    return None


_JUDGES: dict[str, Callable[[Column, str, Mapping[str, Any]], Misfit | None]] = {
    **dict.fromkeys(NUMBERS, _number),
    **dict.fromkeys(("date", "datetime"), _day),
    **dict.fromkeys(TEXTS, _text),
    **dict.fromkeys(("many2one", "many2many"), _link),
    "boolean": _switch,
    "selection": _selection,
    "binary": _file,
}
