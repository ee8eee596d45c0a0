"""Small templates over an event: `{table}`, `{key[id]}`, `{new[name]|upper}`. Values are escaped for where they stand.

Anything in braces that is not one of these names is ordinary text, so a JSON body can be written as it is. Numbers
keep every digit: they are never turned into floats.
"""

import base64
import difflib
import encodings.aliases
import itertools
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import quote, unquote

from relay.delivery import Event
from relay.targets import filters
from relay.targets.many_values import too_many

# Python's names of charsets, as encodings.normalize_encoding writes them. codecs.lookup would keep each name that it
# does not know, and publishers may send a new one with each message.
_CHARSETS = {
    name
    for pair in encodings.aliases.aliases.items()
    for name in pair
    if not pair[1].endswith("_codec") and pair[1] != "rot_13"
} | {"utf_8_sig"}
COLUMNS_LOOKED_AT = 500  # for one that may have been meant
LINE_MAX = 65_536  # characters of a value in a URL or a header: no server takes as much
_NAME = r"\{(id|at|xid|table|op|topic|event|key|old|new)(?:\[([^\[\]{}]+)\])?"
_FIELD = re.compile(rf"{_NAME}((?:{filters.ONE})*)\}}")
_MEANT = re.compile(rf"{_NAME}\s*(\|[^{{}}]*)\}}")  # a field with filters, be they right or wrong
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?")


class Missing(Exception):
    """The event has no such field, or is not JSON: surely its own failure."""


class Digits(str):
    """A number as it was written."""

    __slots__ = ()


class Context:
    """What a template can name."""

    def __init__(self, event: Event) -> None:
        self._event = event
        self._body: Any = None

    def value(self, name: str, field: str | None) -> Any:
        """The value of `{name}` or `{name[field]}`. Raises Missing."""
        if name == "topic":
            found: Any = self._event.topic
        elif name == "event":
            found = self._parsed()
        else:
            body = self._parsed()
            if not isinstance(body, dict) or name not in body:
                raise Missing(f"the event has no {name}")
            found = body[name]
        if field is None:
            return found
        if not isinstance(found, dict) or field not in found:
            raise Missing(f"the event has no {name}[{field}]")
        return found[field]

    def filled(self, name: str, field: str | None, written: str) -> Any:
        """The value of a field with filters. Raises Missing."""
        if not written:
            return self.value(name, field)
        chosen = filters.parse(written)
        if name == "event" and chosen.names == ("base64",):
            return base64.b64encode(self._event.body).decode()  # as it came, whatever it is
        try:
            value = self.value(name, field)
        except Missing:
            if chosen.default is None:
                raise
            value = None
        if value is None and chosen.default is not None:
            value = literal(chosen.default)
        if not chosen.changes and not chosen.as_json:
            return value
        text = as_json(value) if chosen.as_json else as_text(value)
        try:
            for change in chosen.changes:
                text = change(text)
        except filters.NoWord:
            raise Missing(f"map has no word for what is in {name}" + (f"[{field}]" if field else "")) from None
        return literal(text) if "map" in chosen.names else text

    def _parsed(self) -> Any:
        if self._body is None:
            if why := too_many(self._event):
                raise Missing(why)
            try:
                self._body = json.loads(self._event.body, parse_float=Digits, parse_int=Digits, parse_constant=Digits)
            except (ValueError, RecursionError):
                encoded = f", but encoded: {coding(self._event)}" if coding(self._event) else ""
                raise Missing(f"the event is not JSON{encoded}") from None
        return self._body


def alike(name: str, row: Iterable[str]) -> str:
    """The one of a row's columns that a name is most like; "" = none. Of a stranger's row that has thousands, a part:
    each takes 0.2 ms.
    """
    return next(iter(difflib.get_close_matches(name, itertools.islice(row, COLUMNS_LOOKED_AT), n=1, cutoff=0.65)), "")


def literal(text: str) -> str:
    """What is written in a template, as it stands for a value: a number is one."""
    return Digits(text) if _NUMBER.fullmatch(text) else text


def check(template: str) -> None:
    """Raises filters.Unknown: a field has a filter that there is not."""
    for match in _MEANT.finditer(template):
        if not _FIELD.fullmatch(match[0]):
            raise filters.Unknown(f"{match[0]}: filters are written as |upper or |replace('old', 'new')")
        filters.parse(match[3])


def coding(event: Event) -> str:
    """What HTTP calls the content coding of its body (gzip); empty = none. Many publishers put a charset there."""
    name = in_header(event.content_encoding)
    no_coding = name.lower() in ("", "identity", "binary", "7bit", "8bit")
    return "" if no_coding or encodings.normalize_encoding(name).lower() in _CHARSETS else name


def as_json(value: Any) -> str:
    """JSON, numbers as they were. Raises Missing: it can't be written."""
    try:
        return _sendable(_json(value))
    except RecursionError:
        raise Missing("the event is nested too deep") from None


def _json(value: Any) -> str:
    if isinstance(value, Digits):
        return str(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{json.dumps(k, ensure_ascii=False)}:{_json(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(_json(one) for one in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def as_text(value: Any) -> str:
    """Text as it is, NULL as nothing, anything else as JSON. Raises Missing: it can't be written."""
    if value is None:
        return ""
    return _sendable(str(value)) if isinstance(value, str) else as_json(value)


def _sendable(text: str) -> str:
    """JSON can name half of a character (`\\ud83d`), which no encoding has."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise Missing("the event holds half of a character (a surrogate alone, as \\ud83d)") from None
    return text


def in_url(value: Any) -> str:
    """A piece of a URL's path or query: `/`, `?`, `&` and the like in it are no syntax. Raises Missing."""
    return quote(_short(as_text(value)), safe="")


def in_header(value: Any) -> str:
    """A header's value: no control characters; other than ASCII as RFC 2047 has it (ntfy and mail programs read it).

    Raises Missing.
    """
    text = "".join(c if c.isprintable() else " " for c in _short(as_text(value))).strip()
    return text if text.isascii() else f"=?UTF-8?B?{base64.b64encode(text.encode()).decode()}?="


def _short(text: str) -> str:
    """What is looked at character by character."""
    if len(text) > LINE_MAX:
        raise Missing(f"a value of {len(text)} characters is too long for a URL or a header")
    return text


def in_json_text(value: Any) -> str:
    """Inside quotes of JSON."""
    return json.dumps(as_text(value), ensure_ascii=False)[1:-1]


def render(template: str, context: Context, escape: Callable[[Any], str]) -> str:
    """Fill in a template. Raises Missing."""
    return _FIELD.sub(lambda match: escape(context.filled(match[1], match[2], match[3])), template)


def render_url(template: str, context: Context) -> str:
    """Fill in a URL. Raises Missing, too, if a piece of its path comes out empty, or climbs: `.` and `..`.

    What is sent, and whoever stands between us and the endpoint, resolves those, also where they are percent-encoded: a
    delete of one thing would be one of all that is above it. Values can't add a `/`, so pieces can be compared.
    """
    rendered = render(template, context, in_url)
    for piece, written in zip(_pieces(rendered), _pieces(_FIELD.sub("x", template)), strict=True):
        if piece != written and _climbs(piece):
            raise Missing("a piece of HTTP_URL's path would be empty, . or ..")
    return rendered


def _pieces(url: str) -> list[str]:
    return re.split(r"[?#]", url, maxsplit=1)[0].split("/")


def _climbs(piece: str) -> bool:
    """However often it was percent-encoded. To some an encoded / or a \\ is a / as well; a ; ends the piece."""
    while (decoded := unquote(piece)) != piece:
        piece = decoded
    parts = [part.partition(";")[0] for part in re.split(r"[/\\]", piece)]
    return not any(parts) or any(part in (".", "..") for part in parts)


def render_json(template: str, context: Context) -> str:
    """Fill in a JSON template: inside quotes text, outside of them JSON values. Raises Missing."""
    pieces, at, quoted = [], 0, False
    for match in _FIELD.finditer(template):
        before = template[at : match.start()]
        quoted ^= len(re.findall(r'(?<!\\)(?:\\\\)*"', before)) % 2 == 1
        pieces += [before, (in_json_text if quoted else as_json)(context.filled(match[1], match[2], match[3]))]
        at = match.end()
    return "".join([*pieces, template[at:]])


def has_fields(template: str) -> bool:
    """Does it name anything of the event?"""
    return bool(_FIELD.search(template))
