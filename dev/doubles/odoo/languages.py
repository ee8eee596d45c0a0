"""Texts in several languages: the stand-in has three, en_US first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dev.doubles.odoo.model import Model

FIRST = "en_US"
INSTALLED = (FIRST, "de_DE", "fr_FR")


class Words(str):
    """A text of the first language, with those of others."""

    others: Mapping[str, str]

    def __new__(cls, text: str, others: Mapping[str, str]) -> Words:
        made = super().__new__(cls, text)
        made.others = others
        return made

    def __reduce__(self) -> Any:
        return Words, (str(self), self.others)


def in_language(
    model: Model, values: Mapping[str, Any], held: Mapping[str, Any], language: str | None
) -> dict[str, Any]:
    """What a record holds after values were written in a language. An empty value empties all languages."""
    found = dict(values)
    for name, value in values.items():
        if not model.fields[name].translate or not value:
            continue
        old = held.get(name) or ""
        others = old.others if isinstance(old, Words) else {}
        if language in (None, "", FIRST):
            found[name] = Words(value, others)
        else:
            found[name] = Words(old or value, {**others, str(language): value})
    return found


def shown(value: Any, language: str | None) -> Any:
    """A value, to somebody who reads this language."""
    return value.others.get(language or FIRST, str(value)) if isinstance(value, Words) else value
