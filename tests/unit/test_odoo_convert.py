"""Values for `load`: exact numbers, times in UTC, and nothing that Odoo would silently take for something else."""

import math
from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.targets.odoo.convert import Unfit, in_form, to_text
from relay.targets.template import Digits

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        ("char", None, ""),
        ("char", Digits("1.50"), "1.50"),
        ("char", True, "true"),
        ("char", {"a": [Digits("1.10"), None]}, '{"a":[1.10,null]}'),
        ("monetary", Digits("12345678901234567890.10"), "12345678901234567890.10"),
        ("float", Digits("1e-7"), "1e-7"),
        ("float", "-.5", "-.5"),
        ("integer", True, "1"),
        ("boolean", False, "0"),
        ("boolean", "Y", "1"),
        ("boolean", Digits("0"), "0"),
        ("boolean", None, ""),
        ("date", "2024-02-29", "2024-02-29"),
        ("integer", Digits("3.00"), "3"),
        ("integer", "3.00", "3"),
        ("integer", Digits("-0.0"), "0"),
        ("integer", Digits("1e3"), "1000"),
        ("integer", Digits("-2147483648"), "-2147483648"),
        ("integer", " 42  ", "42"),
        ("integer", "", ""),
        ("integer", "   ", ""),
        ("float", " 1.50 ", "1.50"),
        ("float", Digits("-0.0"), "-0.0"),
        ("char", " 42  ", " 42  "),
        ("boolean", " TRUE ", "1"),
        ("boolean", Digits("1.00"), "1"),
        ("date", "2024-02-29T23:30:00+00:00", "2024-03-01"),
        ("date", "2024-02-29T23:30:00.123456-01", "2024-03-01"),
        ("date", "2024-02-29T23:30:00", "2024-02-29"),
        ("date", "2024-02-29 23:30:00", "2024-02-29"),
        ("date", "2024-02-29   ", "2024-02-29"),
        ("date", "20240229", "2024-02-29"),
        ("date", "0044-03-15", "0044-03-15"),
        ("date", "9999-12-31", "9999-12-31"),
        ("datetime", "2024-05-01T04:15:00.987654+05:30", "2024-04-30 22:45:00"),
        ("datetime", "2024-07-01T12:00:00", "2024-07-01 10:00:00"),
        ("datetime", "2024-07-01", "2024-06-30 22:00:00"),
        ("datetime", "0999-01-02T00:00:00+00:00", "0999-01-02 00:00:00"),
        ("binary", "\\x00ff10", "AP8Q"),
        ("binary", "AP8Q", "AP8Q"),
        ("many2many", [Digits("1"), None, "x"], "1,x"),
    ],
)
def test_a_value_becomes_what_odoo_reads(kind: str, value: object, text: str) -> None:
    assert to_text(kind, value, BERLIN) == text


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("boolean", "perhaps"),
        ("boolean", Digits("2")),
        ("float", "NaN"),
        ("monetary", "Infinity"),
        ("integer", "12 pieces"),
        ("date", "infinity"),
        ("date", "-infinity"),
        ("date", "0044-03-15 BC"),
        ("date", "0044-03-15T10:00:00 BC"),
        ("date", "2026-11-28garbage"),
        ("date", "2026-11-28T10:00:00garbage"),
        ("date", "2026-11-28 " + "\N{ARABIC-INDIC DIGIT ONE}"),
        ("date", "10000-01-01"),
        ("date", "0000-01-01"),
        ("date", "2024-02-30"),
        ("date", "2024-W01-1"),
        ("date", "28.11.2026"),
        ("date", "0001-01-01T00:00:00+05:00"),
        ("date", True),
        ("date", ["2024-02-29"]),
        ("datetime", "0044-03-15T10:00:00 BC"),
        ("datetime", "0044-03-15T10:00:00+00:00 BC"),
        ("datetime", "2026-11-28T10:00:00garbage"),
        ("datetime", "2026-11-28T25:00:00"),
        ("datetime", "0001-01-01T00:00:00"),
        ("integer", Digits("3.01")),
        ("integer", Digits("3.0000000000000000000000000000000000001")),
        ("integer", Digits("2147483648")),
        ("integer", Digits("1e999999999999")),
        ("integer", Digits("1e99999999999999999999")),
        ("integer", Digits("1e-99999999999999999999")),
        ("integer", "0x10"),
        ("integer", "1_000"),
        ("integer", "1 000"),
        ("integer", "\N{FULLWIDTH DIGIT ONE}"),
        ("integer", "true"),
        ("integer", [Digits("1")]),
        ("float", "Infinity"),
        ("float", Digits("1e999")),
        ("float", "1,5"),
        ("float", "0x1p3"),
        ("boolean", "0x1"),
        ("boolean", Digits("0.5")),
        ("boolean", ["true"]),
        ("datetime", "-infinity"),
        ("datetime", "20000-01-01T00:00:00+00:00"),
        ("binary", "\\xzz"),
    ],
)
def test_what_does_not_fit_is_refused_before_it_is_sent(kind: str, value: object) -> None:
    with pytest.raises(Unfit):
        to_text(kind, value, BERLIN)


@given(
    st.sampled_from(["integer", "float", "monetary", "boolean", "date", "datetime"]),
    st.text(max_size=30) | st.text("0123456789-+.:eTZx BC", max_size=30),
)
def test_whatever_text_comes_it_is_refused_or_means_the_same_to_odoo(kind: str, text: str) -> None:
    try:
        made = to_text(kind, text, BERLIN)
    except Unfit:
        return
    assert_same(kind, text, made)


@given(
    st.sampled_from(["integer", "float", "monetary", "boolean"]),
    st.decimals(allow_nan=False, allow_infinity=False) | st.integers() | st.booleans(),
)
def test_a_number_is_refused_or_means_the_same_to_odoo(kind: str, number: Decimal | int) -> None:
    value = number if isinstance(number, bool) else Digits(number)
    try:
        made = to_text(kind, value, BERLIN)
    except Unfit:
        assert kind == "boolean" or (kind == "integer" and not _is_small_and_whole(number)) or abs(number) > 1e308
        return
    assert_same(kind, str(number), made)


def _is_small_and_whole(number: Decimal | int) -> bool:
    return abs(number) < 2**31 and int(number) == number


@given(st.datetimes(timezones=st.timezones() | st.none()))
def test_a_moment_is_the_same_one_for_odoo(moment: datetime) -> None:
    """Of naive and aware ones, from year 1 to 9999. (Which of two hours it is, ISO 8601 says by an offset alone.)"""
    meant = moment if moment.tzinfo else moment.replace(tzinfo=BERLIN, fold=0)
    try:
        utc, here = meant.astimezone(UTC), meant.astimezone(BERLIN)
    except OverflowError:
        return
    text = moment.isoformat()
    assert to_text("datetime", text, BERLIN) == utc.replace(tzinfo=None, microsecond=0).isoformat(" ")
    assert to_text("date", text, BERLIN) == (here if moment.tzinfo else moment).date().isoformat()


def assert_same(kind: str, text: str, made: str) -> None:
    """What was made of it, read as Odoo does: int(), float(), strptime(); the words of a boolean."""
    text = text.strip()
    if not made:
        assert not text
    elif kind == "integer":
        assert int(made) == Decimal(text if text not in ("True", "False") else text == "True")
    elif kind in ("float", "monetary"):
        assert float(made) == float(text if text not in ("True", "False") else text == "True")
        assert math.isfinite(float(made))
    elif kind == "boolean":
        assert made in ("0", "1")
    else:
        form = "%Y-%m-%d" if kind == "date" else "%Y-%m-%d %H:%M:%S"
        datetime.strptime(made, form)  # noqa: DTZ007 - as Odoo's have none


@pytest.mark.parametrize(
    ("kind", "value", "form", "sign", "text"),
    [
        ("date", "31.12.2024", "%d.%m.%Y", "", "2024-12-31"),
        ("date", " 01/02/03 ", "%d/%m/%y", "", "2003-02-01"),
        ("datetime", "31.12.2024 23:30", "%d.%m.%Y %H:%M", "", "2024-12-31 22:30:00"),
        ("datetime", "20241231T233000+0000", "%Y%m%dT%H%M%S%z", "", "2024-12-31 23:30:00"),
        ("char", "2024-12-31T23:30:00+00:00", "%d.%m.%Y", "", "01.01.2025"),
        ("char", "2024-12-31", "%d.%m.%y", "", "31.12.24"),
        ("date", None, "%d.%m.%Y", "", ""),
        ("float", "1.234,50", "", ",", "1234.50"),
        ("float", "-1.234.567,5", "", ",", "-1234567.5"),
        ("monetary", "1 234,5", "", ",", "1234.5"),
        ("integer", "12'000", "", ".", "12000"),
        ("float", "1,234.50", "", ".", "1234.50"),
        ("float", ",5", "", ",", None),
        ("float", "1.5", "", ",", None),  # is no 15
        ("float", "1.234.5", "", ",", None),
        ("float", "1.234 567", "", ",", None),
        ("float", Digits("1.5"), "", ",", "1.5"),
        ("char", "1,5", "", ",", "1,5"),
        ("date", "2024-12-31", "%d.%m.%Y", "", None),
        ("date", "31.02.2024", "%d.%m.%Y", "", None),
        ("char", "no date", "%d.%m.%Y", "", None),
    ],
)
def test_columns_that_are_written_in_another_form(
    kind: str, value: object, form: str, sign: str, text: str | None
) -> None:
    def read() -> str:
        return to_text(kind, in_form(kind, value, BERLIN, form, sign), BERLIN)

    if text is None:
        with pytest.raises(Unfit):
            read()
    else:
        assert read() == text


@given(st.decimals(-(10**9), 10**9, places=2))
def test_numbers_with_thousands_mean_the_same(number: Decimal) -> None:
    for sign, mark in ((",", "."), (".", ","), (",", " "), (".", "'")):
        text = f"{number:,}".replace(",", "T").replace(".", sign).replace("T", mark)
        assert Decimal(to_text("float", in_form("float", text, BERLIN, "", sign), BERLIN)) == number


@pytest.mark.parametrize("text", ["aGk=", "aGk=\n", "aG\nlm\n", "AAAA", "+/+/", "\\x6869", "", "\\x"])
def test_a_file_is_bytea_or_base64(text: str) -> None:
    to_text("binary", text, BERLIN)


@pytest.mark.parametrize(
    "text", ["a", "abc", "aGk", "a=k=", "aGk===", "größe", "a-_b", "http://x", " " * 100_000 + "!", "\\x6"]
)
def test_what_is_neither_is_refused(text: str) -> None:
    with pytest.raises(Unfit):
        to_text("binary", text, BERLIN)
