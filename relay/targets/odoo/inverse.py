"""From an external id back to the row that it is made of: `customers_42` is the row {"id": "42"} of its table. Pure."""

import itertools
import re
from collections.abc import Iterable
from typing import NamedTuple

from relay.targets.odoo.expression import Column, Expression
from relay.targets.odoo.mapping import TableMapping
from relay.targets.odoo.plan import MODULE, Name
from relay.targets.template import Missing

_ONE, _PART, _RAW = r"((?:[^.,~\s]|~[0-9A-F]{2})+)", r"((?:[^_.,~\s]|~[0-9A-F]{2})+)", "(.+)"
_ESCAPED = re.compile("~([0-9A-F]{2})")


class Origin(NamedTuple):
    """A row: its table, and its key, of which every value is text."""

    table: str
    key: dict[str, str]


def objection(expression: Expression) -> str:
    """Why external ids of this expression can't be taken apart; empty = they can."""
    pieces = expression.pieces
    if not expression.columns:
        return "it names no column"
    if changed := [piece.name for piece in pieces if isinstance(piece, Column) and piece.filters]:
        return f"a filter changes column {changed[0]}"
    if len(expression.columns) > 1 and any(isinstance(piece, Column) and piece.raw for piece in pieces):
        return "of several columns one is |raw"
    if any(isinstance(one, Column) and isinstance(two, Column) for one, two in itertools.pairwise(pieces)):
        return "nothing stands between two columns"
    return "" if len(set(expression.columns)) == len(expression.columns) else "it names a column twice"


def taken_apart(expression: Expression, text: str) -> dict[str, str] | None:
    """The columns of an external id; None = it is not of this expression, or can't be taken apart."""
    if objection(expression):
        return None
    value = _PART if len(expression.columns) > 1 else _ONE
    pattern = "".join(
        re.escape(piece) if isinstance(piece, str) else _RAW if piece.raw else value for piece in expression.pieces
    )
    found = re.fullmatch(pattern, text, re.DOTALL)
    if found is None:
        return None
    raw = {piece.name for piece in expression.pieces if isinstance(piece, Column) and piece.raw}
    values = zip(expression.columns, found.groups(), strict=True)
    key = {name: value if name in raw else _ESCAPED.sub(_unescaped, value) for name, value in values}
    try:  # and back again: what was escaped with more than two digits is not known again
        return key if expression.external_ids(key) == [text] else None
    except Missing:
        return None


def _unescaped(match: "re.Match[str]") -> str:
    return chr(int(match[1], 16))


def origin(tables: Iterable[TableMapping], name: Name) -> Origin | None:
    """The row that an external id is made of: of the table whose id has most text in common with it.

    None = of no table of the mapping, of several, or it can't be taken apart.
    """
    module, own = name
    texts = [f"{module}.{own}", own] if module == MODULE else [f"{module}.{own}"]
    found: list[tuple[int, Origin]] = []
    for table in tables:
        literal = sum(len(piece) for piece in table.id.pieces if isinstance(piece, str))
        keys = (taken_apart(table.id, text) for text in texts)
        found += [(literal, Origin(table.name, key)) for key in keys if key is not None]
    most = max((literal for literal, _ in found), default=0)
    best = [one for literal, one in found if literal == most]
    return best[0] if len(best) == 1 else None
