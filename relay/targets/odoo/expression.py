"""Expressions of the mapping: `{column}`, `{column|lower}`, text around them; `{{` and `}}` for braces themselves.

A filter changes a column's text: `{phone|replace('/', '-')|strip}`.
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping
from typing import Any

from relay.targets.filters import PLAIN, replaced
from relay.targets.template import Digits, Missing, alike, as_text

FILTERS = ("lower", "upper", "strip", "title", "replace('old', 'new')", "map", "raw")

_FILTER = r"\|[a-z]+(?:\('[^'{}]*', *'[^'{}]*'\))?"
_PIECE = re.compile(rf"\{{\{{|\}}\}}|\{{([^{{}}|]+)((?:{_FILTER})*)\}}|[{{}}]|[^{{}}]+")
_ARGUMENTS = re.compile(r"([a-z]+)(?:\('([^']*)', *'([^']*)'\))?")
# Odoo splits external ids at the dot and lists of them at the comma; `~` marks what was replaced.
_UNSAFE = re.compile(r"[.,~\s\x00-\x1f\x7f]")
_UNSAFE_PART = re.compile(r"[_.,~\s\x00-\x1f\x7f]")


class InvalidExpression(ValueError):
    """It can not be read; the text says why."""


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """A column's value. `raw`: an external id takes it as it is; `mapped`: one of the filters is `map`."""

    name: str
    filters: tuple[Callable[[str], str], ...] = ()
    raw: bool = False
    mapped: bool = False


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
    def is_mapped(self) -> bool:
        """Does it replace columns' values by the field's `values`?"""
        return any(piece.mapped for piece in self.pieces if isinstance(piece, Column))

    def is_null(self, row: Mapping[str, Any]) -> bool:
        """Does it name columns, and is each of them NULL? Raises Missing."""
        columns = self.columns
        return bool(columns) and all(column_of(row, name) is None for name in columns)

    def lacks(self, row: Mapping[str, Any]) -> bool:
        """Is one of its columns NULL? Raises Missing."""
        return any(column_of(row, name) is None for name in self.columns)

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
            text += value if piece.raw else unsafe.sub(lambda match: f"~{ord(match[0]):02X}", value)
        return text


def column_of(row: Mapping[str, Any], name: str) -> Any:
    """A column's value. Raises Missing."""
    if name not in row:
        near = alike(name, row)
        raise Missing(f"the row has no column {name}" + (f" (did you mean {near}?)" if near else ""))
    return row[name]


def _filtered(text: str, filters: tuple[Callable[[str], str], ...]) -> str:
    for change in filters:
        text = change(text)
    return text


def _looked_up(values: Mapping[str, str], text: str) -> str:
    return values.get(text, text)


def parse(source: str, values: Mapping[str, str] | None = None) -> Expression:
    """Read an expression. `values`: the words of the filter `map`. Raises InvalidExpression."""
    pieces: list[str | Column] = []
    for match in _PIECE.finditer(source):
        text = match[0]
        if match[1]:
            pieces.append(_column(text, match[1].strip(), match[2], values))
            continue
        if text in ("{", "}"):
            raise InvalidExpression("a single brace; write {column}, or {{ and }} for braces")
        text = {"{{": "{", "}}": "}"}.get(text, text)
        if pieces and isinstance(pieces[-1], str):
            pieces[-1] += text
        else:
            pieces.append(text)
    return Expression(source, tuple(pieces))


def _column(text: str, name: str, filters: str, values: Mapping[str, str] | None) -> Column:
    made: list[Callable[[str], str]] = []
    names = []
    for word, old, new in _ARGUMENTS.findall(filters):
        names.append(word)
        if old and word != "replace":
            raise InvalidExpression(f"{text}: {word} takes no arguments")
        if word == "replace" and old:
            made.append(functools.partial(replaced, old, new))
        elif word == "map" and values:
            made.append(functools.partial(_looked_up, values))
        elif word in PLAIN:
            made.append(PLAIN[word])
        elif word == "map":
            raise InvalidExpression(f'{text}: map needs values: {{ from = "{text}", values = {{ gb = "uk" }} }}')
        elif word == "replace":
            raise InvalidExpression(f"{text}: replace needs what to replace: {{column|replace('old', 'new')}}")
        elif word != "raw":
            raise InvalidExpression(f"{text}: unknown filter {word}; there are: {', '.join(FILTERS)}")
    return Column(name, tuple(made), "raw" in names, "map" in names)


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
