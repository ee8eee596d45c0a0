"""Filters: what changes a value on its way into a template, `{new[name]|strip|upper}`. Pure.

Those of words alone (PLAIN, replaced) are the Odoo mapping's as well (odoo/expression.py).
"""

import base64
import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

WORDS = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*")
ONE = r"\|[a-z0-9]+(?:\((?:'[^'{}]*'(?:, *'[^'{}]*')*)?\))?"
"""A filter with its arguments, for a regular expression."""
_ONE = re.compile(r"\|([a-z0-9]+)(\([^()]*(?:'[^']*'[^()]*)*\))?")
_ARGUMENT = re.compile("'([^']*)'")
OTHERS = "*"  # in map: whatever is not named


class Unknown(ValueError):
    """There is no such filter, or it has other arguments; the text says what is wrong."""


class NoWord(Exception):
    """map does not name the value."""


def title(text: str) -> str:
    """Each word with a large letter first; "o'neil" is one."""
    return WORDS.sub(lambda match: match[0].capitalize(), text)


def replaced(old: str, new: str, text: str) -> str:
    """For functools.partial."""
    return text.replace(old, new)


PLAIN: dict[str, Callable[[str], str]] = {
    "lower": str.lower, "upper": str.upper, "strip": str.strip, "title": title,
}  # fmt: skip


def _html(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


_CHANGES = PLAIN | {"html": _html, "base64": _base64}
KNOWN = (*PLAIN, "replace('old', 'new')", "map('word', 'other', '*', 'any')", "default('x')", "json", "base64", "html")


class Filters(NamedTuple):
    """What stands behind a field's name.

    Args:
        names: in their order.
        default: for a field that is missing, or NULL; None = there is none.
        as_json: the value as JSON, before anything else changes it.
        changes: of text; what a map has made is written in the template, not in the event.
    """

    names: tuple[str, ...] = ()
    default: str | None = None
    as_json: bool = False
    changes: tuple[Callable[[str], str], ...] = ()


@functools.lru_cache(maxsize=1000)
def parse(source: str) -> Filters:
    """Read filters, as `|strip|default('x')`. Raises Unknown."""
    names, changes, default = [], list[Callable[[str], str]](), None
    for name, written in _ONE.findall(source):
        given = _ARGUMENT.findall(written)
        if name == "default" and len(given) == 1:
            (default,) = given
        elif name == "replace" and len(given) == 2 and given[0]:
            changes.append(functools.partial(replaced, *given))
        elif name == "map" and given and len(given) % 2 == 0:
            changes.append(functools.partial(_mapped, dict(_pairs(given))))
        elif name in _CHANGES and not written:
            changes.append(_CHANGES[name])
        elif name != "json" or written or changes:
            there_are = f"filters: {', '.join(KNOWN)}; json comes first"
            raise Unknown(f"|{name}{written} is no filter, or not so; {there_are}")
        names.append(name)
    return Filters(tuple(names), default, "json" in names, tuple(changes))


def _pairs(given: Sequence[str]) -> list[tuple[str, str]]:
    return list(zip(given[::2], given[1::2], strict=True))


def _mapped(words: Mapping[str, str], text: str) -> str:
    """Raises NoWord."""
    found = words.get(text, words.get(OTHERS))
    if found is None:
        raise NoWord
    return found
