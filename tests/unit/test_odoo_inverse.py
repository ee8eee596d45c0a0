"""From an external id back to its row: only where it is certain."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.targets.odoo.expression import parse
from relay.targets.odoo.inverse import objection, taken_apart

TEXT = st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=8)


@pytest.mark.parametrize(
    ("source", "text", "key"),
    [
        ("customers_{id}", "customers_42", {"id": "42"}),
        ("customers_{id}", "customers_4~2E2", {"id": "4.2"}),
        ("shop.customers_{id}", "shop.customers_42", {"id": "42"}),
        ("lines_{order}_{no}", "lines_7_3", {"order": "7", "no": "3"}),
        ("lines_{order}_{no}", "lines_a~5Fb_3", {"order": "a_b", "no": "3"}),
        ("{{x}}_{id}", "{x}_1", {"id": "1"}),
        ("c_{id|raw}", "c_a.b c", {"id": "a.b c"}),
        ("customers_{id}", "orders_42", None),
        ("customers_{id}", "customers_", None),
        ("customers_{id}", "customers_a.b", None),
        ("customers_{id}", "customers_4~2e2", None),
        ("lines_{order}_{no}", "lines_7", None),
        ("lines_{order}_{no}", "lines_1_2_3", None),
    ],
)
def test_it_is_taken_apart_as_it_was_made(source: str, text: str, key: dict[str, str] | None) -> None:
    assert taken_apart(parse(source), text) == key


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("all", "it names no column"), ("c_{id|lower}", "a filter changes column id"),
        ("c_{a}{b}", "nothing stands between two columns"), ("c_{a|raw}_{b}", "of several columns one is |raw"),
        ("c_{a}_{a}", "it names a column twice"), ("c_{a|replace('x', 'y')}", "a filter changes column a"),
    ],
)  # fmt: skip
def test_what_can_t_be_taken_apart_is_told(source: str, why: str) -> None:
    assert objection(parse(source)) == why
    assert taken_apart(parse(source), "c_1") is None


@given(st.lists(TEXT, min_size=1, max_size=3))
def test_whatever_the_values_are_it_is_their_row_or_none(values: list[str]) -> None:
    key = {f"c{n}": value for n, value in enumerate(values)}
    expression = parse("x_" + "_".join(f"{{{name}}}" for name in key))
    (text,) = expression.external_ids(key)
    found = taken_apart(expression, text)
    assert found in (None, key)
    if all(value.isascii() for value in values):
        assert found == key
