"""Values for `load`: exact numbers, times in UTC, and nothing that Odoo would silently take for something else."""

from zoneinfo import ZoneInfo

import pytest

from relay.targets.odoo.convert import Unfit, to_text
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
        ("date", "2024-02-29T23:30:00+00:00", "2024-02-29"),
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
        ("date", "0044-03-15 BC"[5:]),
        ("datetime", "-infinity"),
        ("datetime", "20000-01-01T00:00:00+00:00"),
        ("binary", "\\xzz"),
    ],
)
def test_what_does_not_fit_is_refused_before_it_is_sent(kind: str, value: object) -> None:
    with pytest.raises(Unfit):
        to_text(kind, value, BERLIN)
