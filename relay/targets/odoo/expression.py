"""Expressions of the mapping: `{column}`, `{column|lower}`, text around them; `{{` and `}}` for braces themselves."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from relay.targets.template import Digits, Missing, as_text

FILTERS = ("lower", "upper", "raw")

_PIECE = re.compile(r"\{\{|\}\}|\{([^{}|]+)((?:\|[a-z]+)*)\}|[{}]|[^{}]+")
# Odoo splits external ids at the dot and lists of them at the comma; `~` marks what was replaced.
_UNSAFE = re.compile(r"[.,~\s\x00-\x1f\x7f]")
_UNSAFE_PART = re.compile(r"[_.,~\s\x00-\x1f\x7f]")


class InvalidExpression(ValueError):
    """It can not be read; the text says why."""


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """A column's value."""

    name: str
    filters: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Expression:
    """Literal text and columns."""

    source: str
    pieces: tuple[str | Column, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns it names."""
        return tuple(piece.name for piece in self.pieces if isinstance(piece, Column))

    @property
    def prefix(self) -> str:
        """What every text made of it begins with."""
        return self.pieces[0] if self.pieces and isinstance(self.pieces[0], str) else ""

    def value(self, row: Mapping[str, Any]) -> Any:
        """Of a column alone its value, as it is; otherwise text, NULL as nothing. Raises Missing."""
        if len(self.pieces) == 1 and isinstance(self.pieces[0], Column) and not self.pieces[0].filters:
            return column_of(row, self.pieces[0].name)
        return "".join(
            piece if isinstance(piece, str) else _filtered(as_text(column_of(row, piece.name)), piece.filters)
            for piece in self.pieces
        )

    def external_ids(self, row: Mapping[str, Any]) -> list[str]:
        """External ids: none if a column is NULL; of a list one for each element. Raises Missing."""
        found = [column_of(row, name) for name in self.columns]
        if any(value is None for value in found):
            return []
        lists = [value for value in found if isinstance(value, list)]
        if not lists:
            return [self._external_id(found)]
        if len(lists) > 1:
            raise Missing(f"{self.source}: more than one of its columns is a list")
        elements = [element for element in lists[0] if element is not None]
        return [self._external_id([one if value is lists[0] else value for value in found]) for one in elements]

    def _external_id(self, found: list[Any]) -> str:
        values, text = iter(found), ""
        # Of several columns, an underscore in a value must not look like the one between them.
        unsafe = _UNSAFE_PART if len(found) > 1 else _UNSAFE
        for piece in self.pieces:
            if isinstance(piece, str):
                text += piece
                continue
            value = _filtered(as_text(next(values)), piece.filters)
            text += value if "raw" in piece.filters else unsafe.sub(lambda match: f"~{ord(match[0]):02X}", value)
        return text


def column_of(row: Mapping[str, Any], name: str) -> Any:
    """A column's value. Raises Missing."""
    if name not in row:
        raise Missing(f"the row has no column {name}")
    return row[name]


def _filtered(text: str, filters: tuple[str, ...]) -> str:
    for name in filters:
        text = text.lower() if name == "lower" else text.upper() if name == "upper" else text
    return text


def parse(source: str) -> Expression:
    """Raises InvalidExpression."""
    pieces: list[str | Column] = []
    for match in _PIECE.finditer(source):
        text = match[0]
        if match[1]:
            filters = tuple(name for name in match[2].split("|") if name)
            unknown = [name for name in filters if name not in FILTERS]
            if unknown:
                raise InvalidExpression(f"{text}: unknown filter {unknown[0]}; there are: {', '.join(FILTERS)}")
            pieces.append(Column(match[1].strip(), filters))
            continue
        if text in ("{", "}"):
            raise InvalidExpression("a single brace; write {column}, or {{ and }} for braces")
        text = {"{{": "{", "}}": "}"}.get(text, text)
        if pieces and isinstance(pieces[-1], str):
            pieces[-1] += text
        else:
            pieces.append(text)
    return Expression(source, tuple(pieces))


def same(value: Any, wanted: Any) -> bool:
    """Is a column's value what the mapping's condition says? Numbers are compared as numbers."""
    if isinstance(wanted, dict):
        return (value is None) is bool(wanted.get("null"))
    if isinstance(wanted, list):
        return any(same(value, one) for one in wanted)
    if isinstance(wanted, bool) or isinstance(value, bool):
        return value is wanted
    if isinstance(value, Digits) and isinstance(wanted, int):
        return value == str(wanted)
    return isinstance(value, str) and value == wanted
