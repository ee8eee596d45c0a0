"""A column's value as the text that `load` reads into a field of a given type. Pure; numbers never become floats."""

import base64
import datetime
import re
from typing import Any
from zoneinfo import ZoneInfo

from relay.targets.template import as_text

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_TRUE, _FALSE = ("true", "t", "yes", "y", "on", "1"), ("false", "f", "no", "n", "off", "0")
NUMBERS = ("integer", "float", "monetary")
LINKS = ("many2one", "many2many", "one2many", "reference", "many2one_reference")


class Unfit(ValueError):
    """The value does not fit the field; the text says why, without the value."""


def to_text(kind: str, value: Any, zone: ZoneInfo) -> str:
    """The text for a field of type `kind` (as `fields_get` names it). NULL is empty. Raises Unfit.

    Args:
        value: of an event: None, bool, str (numbers, too: Digits), list or dict.
        zone: of timestamps without an offset.
    """
    if value is None or value == "":
        return ""
    if kind == "boolean":
        return _boolean(value)
    if kind in NUMBERS:
        return _number(value)
    if kind == "date":
        return _date(as_text(value))
    if kind == "datetime":
        return _datetime(as_text(value), zone)
    if kind == "binary":
        return _binary(as_text(value))
    if kind == "many2many" and isinstance(value, list):
        return ",".join(as_text(one) for one in value if one is not None)
    return as_text(value)


def _boolean(value: Any) -> str:
    # Odoo takes a word that it does not know for true.
    word = as_text(value).lower()
    if word in _TRUE or word in _FALSE:
        return "1" if word in _TRUE else "0"
    raise Unfit('is neither true nor false: add values = { word = "true" } to the field')


def _number(value: Any) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    text = as_text(value).strip()
    if not isinstance(value, str) or not _NUMBER.fullmatch(text):
        raise Unfit("is no finite number")
    return text


def _date(text: str) -> str:
    try:
        return datetime.date.fromisoformat(text[:10]).isoformat()
    except ValueError:
        raise Unfit("is no date from year 1 to 9999") from None


def _datetime(text: str, zone: ZoneInfo) -> str:
    """Odoo wants UTC, to the second, without an offset."""
    try:
        moment = datetime.datetime.fromisoformat(text)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=zone)
        return moment.astimezone(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S").rjust(19, "0")
    except (ValueError, OverflowError):
        raise Unfit("is no date and time from year 1 to 9999") from None


def _binary(text: str) -> str:
    """bytea comes in hex; anything else is taken for base64 already."""
    if not text.startswith("\\x"):
        return text
    try:
        return base64.b64encode(bytes.fromhex(text[2:])).decode()
    except ValueError:
        raise Unfit("begins with \\x and is not hex") from None
