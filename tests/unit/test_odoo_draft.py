"""A first mapping: what is paired with what, and that whatever comes out is a mapping."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dev.doubles.odoo.model import models
from dev.doubles.odoo.search import describe
from relay.errors import ConfigError
from relay.targets.odoo import mapping_file
from relay.targets.odoo.columns import parse
from relay.targets.odoo.draft import Subject, draft
from relay.targets.odoo.mapping import MappingFile

MODELS = models("19")


def fields_of(model: str) -> dict[str, dict[str, Any]]:
    return {name: describe(field, None) for name, field in MODELS[model].fields.items()}


def made(columns: str, model: str = "res.partner", table: str = "public.customers", lacking: Sequence[str] = ()) -> str:
    fields = fields_of(model)
    defaults = frozenset(name for name, field in MODELS[model].fields.items() if field.default is not False)
    return draft(Subject(table, model, parse(columns), fields, defaults, f"{model} in Odoo 19.0"), lacking)


def read(text: str, directory: Path) -> MappingFile:
    file = directory / "mapping.toml"
    file.write_text(text, encoding="utf-8")
    return mapping_file.load(str(file))


def line(text: str, begin: str) -> str:
    (found,) = [one for one in text.splitlines() if one.startswith(begin)]
    return found


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ("email text", 'email = "{email}"'),
        ("phone text", 'phone = "{phone}"'),
        ("is_company boolean", 'is_company = "{is_company}"'),
        ("e_mail text", 'email = "{e_mail}"  # ? email (Email): others call it so'),
        ('"zipCode" text', 'zip = "{zipCode}"  # ? '),
        ("customer_city text", 'city = "{customer_city}"  # ? '),
        ("cityy text", 'city = "{cityy}"  # ? '),
        ("notes text", 'comment = "{notes}"  # ? comment (Notes): its label is that'),
        ("parent_id int", '"parent_id/id" = "customers_{parent_id}"  # ? if it is a row of the same table'),
        ("parent_id int references firms", '"parent_id/id" = "firms_{parent_id}"'),
        ("category_id int", '"category_id/id" = "categories_{category_id}"  # ? write it as the id of the table that'),
        ("category_ids int[]", '"category_id/id" = "categories_{category_ids}"  # ? '),
        ("tags text[]", 'category_id = { from = "{tags}", by = "name" }  # ? '),
        ("country_id int", '"country_id/id" = "countries_{country_id}"  # ? '),
        ("country char(2)", '"country_id/id" = { from = "base.{country|lower}", values = { "base.gb" = "base.uk" } }'),
        ("state varchar(3)", 'state_id = { from = "{state}", by = "code" }  # ? '),
        ("color numeric(5,2)", 'color = "{color}"  # ? color is numeric(5,2): numbers with decimals are refused by an'),
        ("color date", '#color = "{color}"  # ? color is date, which no integer field takes'),
        ("lat numeric(12,9)", 'partner_latitude = "{lat}"  # ? '),
        ("active boolean not null", 'active = "{active}"  # ? a row with false archives its record'),
        ("active boolean", 'active = { from = "{active}", omit = "null" }  # ? '),
        ("type text", 'type = "{type}"  # ? it takes contact, invoice, delivery, other'),
        ("image bytea", 'image_1920 = "{image}"  # ? '),
        ("write_date timestamptz", "# ? column write_date: Odoo writes this field itself"),
        ("shoe_size int", "# ? column shoe_size: no field looks like it (int)"),
        ('"a|b" text', "# ? column a|b: a mapping can't name it (braces, | or spaces at its ends)"),
        ('"naïve ""x""" text', '# ? column naïve "x": no field looks like it (text)'),
    ],
)
def test_a_column_becomes_the_field_that_it_looks_like(column: str, expected: str, tmp_path: Path) -> None:
    text = made(f"id int primary key, name text, {column}")
    read(text, tmp_path)
    assert any(one.startswith(expected) for one in text.splitlines()), text
    if "# ?" not in expected and "country" not in expected:
        assert line(text, expected.partition(" = ")[0]) == expected, "what is sure has no question mark"


def test_the_key_makes_the_external_id(tmp_path: Path) -> None:
    for columns, expected in (
        ("id int primary key, name text", 'id = "customers_{id}"'),
        ("a int, b int, name text, primary key (a, b)", 'id = "customers_{a}_{b}"'),
        ("name, customer_id", 'id = "customers_{customer_id}"  # ? '),
        ("name, email", 'id = "customers_{name}"  # ? '),
    ):
        text = made(columns)
        read(text, tmp_path)
        assert any(one.startswith(expected) for one in text.splitlines()), text


def test_required_fields_that_nothing_fills_are_named(tmp_path: Path) -> None:
    text = made("id int primary key, iban text", "res.partner.bank", "public.banks", ["partner_id"])
    read(text, tmp_path)
    assert line(text, '#"partner_id/id"').startswith('#"partner_id/id" = "res.partner_..."  # ? Odoo requires it')
    text = made("id int primary key, name text", "product.template", "public.products")
    assert "rows with NULL are refused" in line(text, 'name = "{name}"')
    assert "#" not in line(made("id int primary key, name text not null", "product.template"), 'name = "{name}"')


def test_a_model_without_active_gets_another_delete(tmp_path: Path) -> None:
    text = made("id int primary key, order_id int", "sale.order.line", "public.lines")
    assert read(text, tmp_path).tables["public.lines"].delete[0].do == "unlink"
    assert "# ? sale.order.line has no field active" in line(text, "delete")


def test_where_nothing_looks_alike_one_field_is_guessed(tmp_path: Path) -> None:
    text = made("id int primary key, qwertz int, yxcv int")
    read(text, tmp_path)
    assert line(text, "name = ").startswith('name = "{qwertz}"  # ? ')


def test_without_a_key_or_a_field_that_could_be_written_there_is_no_mapping() -> None:
    with pytest.raises(ConfigError, match="its key has a name that a mapping can't hold"):
        made('"{a}" int')
    with pytest.raises(ConfigError, match="its key has a name that a mapping can't hold"):
        made('"a|b" int primary key, name text')
    bare = Subject("public.t", "x.model", parse("a int"), {"id": {"type": "integer"}}, frozenset(), "x")
    with pytest.raises(ConfigError, match=r"no column of public\.t looks like a field of x\.model"):
        draft(bare, ())


NAMES = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cn", "Zl", "Zp", "Cf", "Co"]), min_size=1, max_size=12
)
KNOWN = st.sampled_from([name for model in MODELS.values() for name in model.fields])
TYPES = st.sampled_from(
    [
        *("int", "bigint", "numeric(12,4)", "numeric", "text", "varchar(3)", "boolean", "date", "timestamptz", "bytea"),
        *("jsonb", "int[]", "text[]", "uuid", "a.b", ""),
    ]
)
COLUMNS = st.lists(
    st.tuples(st.one_of(KNOWN, NAMES), TYPES, st.sampled_from(["", " not null", " primary key", " references t"])),
    min_size=1,
    max_size=8,
    unique_by=lambda one: one[0],
)


@given(columns=COLUMNS, model=st.sampled_from(sorted(MODELS)), table=NAMES)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_comes_out_is_a_mapping(
    tmp_path: Path, columns: list[tuple[str, str, str]], model: str, table: str
) -> None:
    def quoted(name: str) -> str:
        return '"' + name.replace('"', '""') + '"'

    given_columns = ", ".join(f"{quoted(name)} {kind}{more}" for name, kind, more in columns)
    name = f"public.{table}x"
    try:
        text = made(given_columns, model, name, [one for one in fields_of(model) if one != "id"][:3])
    except ConfigError as error:
        assert error.remedy  # noqa: PT017
        return
    found = read(text, tmp_path)
    assert list(found.tables) == [name]
    assert all(re.match(r"[^\x00-\x1f\x7f]*$", one) for one in text.splitlines())
