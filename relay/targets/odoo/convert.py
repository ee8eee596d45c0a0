"""A column's value as the text that `load` reads into a field of a given type. Pure; numbers never become floats."""

import base64
import datetime
import decimal
import math
import re
from collections.abc import Callable
from typing import Any
from zoneinfo import ZoneInfo

from relay.targets.template import Digits, as_text

# As PostgreSQL writes them, and no more: Python's own readers take 0044-03-15 BC for the year 44, and 1_000 for 1000.
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{8}")
_MOMENT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?"
    r"(Z|[+-][0-9]{2}(:?[0-9]{2}(:[0-9]{2})?)?)?"
)
TEXTS = ("char", "text", "html")
_BASE64 = re.compile(r"[A-Za-z0-9+/\s]*+={0,2}+\s*+")
# By decimal sign; what stands between the thousands stands between all of them.
_GROUPED = {
    sign: re.compile(
        rf"([+-]?(?:[0-9]{{1,3}}([{others} \u00a0\u202f'])[0-9]{{3}}(?:\2[0-9]{{3}})*|[0-9]+))"
        rf"(?:[{sign}]([0-9]*))?"
    )
    for sign, others in ((".", ","), (",", "."))
}
_TRUE, _FALSE = ("true", "t", "yes", "y", "on", "1"), ("false", "f", "no", "n", "off", "0")
UTC = {"tz": "UTC"}  # of Odoo's context: else it takes times for those of the user's time zone
INTEGER_MOST = 2**31 - 1  # Odoo's integers have four bytes
NUMBERS = ("integer", "float", "monetary")


class Unfit(ValueError):
    """The value does not fit the field; the text says why, without the value."""


def to_text(kind: str, value: Any, zone: ZoneInfo) -> str:
    """The text for a field of type `kind` (as `fields_get` names it). NULL is empty. Raises Unfit.

    Args:
        value: of an event: None, bool, str (numbers, too: Digits), list or dict.
        zone: of timestamps without an offset, and of the day that one with an offset falls on.
    """
    if value is None or value == "":
        return ""
    if kind in NUMBERS and isinstance(value, bool):
        return "1" if value else "0"
    if kind in _READERS:
        text = as_text(value).strip()  # char(n) comes filled up with spaces
        return _READERS[kind](text, zone) if text else ""
    if kind == "binary":
        return _binary(as_text(value))
    if kind == "many2many" and isinstance(value, list):
        return ",".join(as_text(one) for one in value if one is not None)
    return as_text(value)


def in_form(kind: str, value: Any, zone: ZoneInfo, form: str, decimal_sign: str) -> Any:
    """The value as PostgreSQL would write it, of a column that has another form; or a date for text. Raises Unfit.

    Args:
        form: of dates, as strftime has it; empty = none.
        decimal_sign: of numbers; empty = none.
    """
    if value is None or value == "" or isinstance(value, Digits):
        return value
    text = as_text(value).strip()
    if kind in NUMBERS and decimal_sign and text:
        found = _GROUPED[decimal_sign].fullmatch(text)
        if not found:
            raise Unfit(f"is no number with the decimal sign {decimal_sign}")
        return re.sub(r"[^0-9+-]", "", found[1]) + (f".{found[3]}" if found[3] else "")
    if not form or not text:
        return value
    try:
        if kind in ("date", "datetime"):
            return datetime.datetime.strptime(text, form).isoformat()  # noqa: DTZ007 - the zone is the table's
        if kind in TEXTS and (_DATE.fullmatch(text) or _MOMENT.fullmatch(text)):
            moment = datetime.datetime.fromisoformat(text)
            return (moment.astimezone(zone) if moment.tzinfo else moment).strftime(form)
    except (ValueError, OverflowError):
        pass
    raise Unfit(f"is no date{'' if kind in TEXTS else f' written as {form}'}")


def _boolean(text: str, _zone: ZoneInfo) -> str:
    # Odoo takes a word that it does not know for true.
    word = text.lower()
    if _NUMBER.fullmatch(word):
        number = _whole(word)
        word = "" if number is None else str(number)
    if word in _TRUE or word in _FALSE:
        return "1" if word in _TRUE else "0"
    raise Unfit('is neither true nor false: add values = { word = "true" } to the field')


def _integer(text: str, _zone: ZoneInfo) -> str:
    if not _NUMBER.fullmatch(text):
        raise Unfit("is no number")
    number = _whole(text)
    if number is None:
        raise Unfit(f"is no whole number from {-INTEGER_MOST - 1} to {INTEGER_MOST}")
    return str(number)


def _whole(text: str) -> int | None:
    """3 of "3.00" and "0.3e1"; None if it is not whole, or larger than Odoo's integers."""
    try:
        number = decimal.Decimal(text)
    except decimal.InvalidOperation:  # an exponent of twenty digits
        return None
    if not -INTEGER_MOST - 1 <= number <= INTEGER_MOST:  # before int(): 1e999999 would fill the memory
        return None
    return int(number) if int(number) == number else None


def _float(text: str, _zone: ZoneInfo) -> str:
    if not _NUMBER.fullmatch(text) or not math.isfinite(float(text)):  # Odoo would make infinity of 1e999
        raise Unfit("is no finite number")
    return text


def _date(text: str, zone: ZoneInfo) -> str:
    try:
        if _DATE.fullmatch(text):
            return datetime.date.fromisoformat(text).isoformat()
        if _MOMENT.fullmatch(text):
            moment = datetime.datetime.fromisoformat(text)
            return (moment.astimezone(zone) if moment.tzinfo else moment).date().isoformat()
    except (ValueError, OverflowError):
        pass
    raise Unfit("is no date from year 1 to 9999")


def _datetime(text: str, zone: ZoneInfo) -> str:
    """Odoo wants UTC, to the second, without an offset."""
    try:
        if _DATE.fullmatch(text) or _MOMENT.fullmatch(text):
            moment = datetime.datetime.fromisoformat(text)
            moment = moment if moment.tzinfo else moment.replace(tzinfo=zone)
            return moment.astimezone(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S").rjust(19, "0")
    except (ValueError, OverflowError):
        pass
    raise Unfit("is no date and time from year 1 to 9999")


def _binary(text: str) -> str:
    """bytea comes in hex; anything else is base64 already."""
    if not text.startswith("\\x"):
        if not _BASE64.fullmatch(text) or len("".join(text.split())) % 4:
            raise Unfit("is neither bytea nor base64")  # Odoo leaves out what it does not know, and keeps the rest
        return text
    try:
        return base64.b64encode(bytes.fromhex(text[2:])).decode()
    except ValueError:
        raise Unfit("begins with \\x and is not hex") from None


_READERS: dict[str, Callable[[str, ZoneInfo], str]] = {
    "boolean": _boolean,
    "integer": _integer,
    "float": _float,
    "monetary": _float,
    "date": _date,
    "datetime": _datetime,
}
