"""Columns as people give them, and which fields take what they hold."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import ConfigError
from relay.targets.odoo.column_fit import misfit
from relay.targets.odoo.columns import Column, Kind, parse, table_name

TABLE = """
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,   -- the key
    "Full, name" character varying(80) NOT NULL DEFAULT 'a, b)',
    price numeric(12, 3) CHECK (price > 0 AND price < 10),
    born date,
    seen timestamp(3) with time zone NULL,
    parent_id bigint REFERENCES public.customers (id) ON DELETE SET NULL,
    tags text[],
    data jsonb,
    state shop.state,
    country char(2),
    CONSTRAINT named UNIQUE (born, seen),
    FOREIGN KEY (country) REFERENCES "Countries" (code),
    CHECK (born > '2000-01-01')
"""


def test_the_body_of_a_create_table_is_read() -> None:
    found = {one.name: one for one in parse(TABLE)}
    assert list(found) == ["id", "Full, name", "price", "born", "seen", "parent_id", "tags", "data", "state", "country"]
    assert found["id"] == Column("id", "bigint", Kind.WHOLE, None, nullable=False, key=True)
    assert (found["Full, name"].kind, found["Full, name"].nullable) == (Kind.TEXT, False)
    assert (found["price"].kind, found["price"].scale, found["price"].nullable) == (Kind.NUMBER, 3, True)
    kinds = [found[name].kind for name in ("born", "seen", "tags", "data", "state")]
    assert kinds == [Kind.DAY, Kind.MOMENT, Kind.LIST, Kind.JSON, Kind.OTHER]
    assert (found["parent_id"].references, found["country"].references) == ("public.customers", "Countries")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("id,name", ["id", "name"]),
        ("id", ["id"]),
        ("Id, NAME", ["id", "name"]),
        ('"Id", "na""me", "a b"', ["Id", 'na"me', "a b"]),
        ("id int\nname text\n", ["id", "name"]),
        ("id int not null primary key;", ["id"]),
        ("größe int, naïve text", ["größe", "naïve"]),
        ("a int,\n-- not b, really\nc int", ["a", "c"]),
        ('"null" int, "check" text', ["null", "check"]),
        ("a double precision, b time without time zone, c numeric", ["a", "b", "c"]),
    ],
)
def test_names_are_read_as_postgresql_reads_them(text: str, names: list[str]) -> None:
    assert [one.name for one in parse(text)] == names


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "names no column"),
        (" \n ", "names no column"),
        (",,", "names no column"),
        ("primary key (id)", "names no column"),
        ("a int, a text", "names a twice"),
        ('a, "a', "a quotation mark without its end"),
        ("a int default 'x", "a quotation mark without its end"),
        ("a numeric(3", "a bracket without its other half"),
        ("a int)", "a bracket without its other half"),
        ("a int, primary key (b)", "a key of b, which is no column"),
        ("a int, foreign key (c) references x", "a key of c, which is no column"),
        ("(a int)", "which is no column"),
        ("a\0b", "characters that can't be read"),
        ("a\udc80", "characters that can't be read"),
        (",".join(f"c{number}" for number in range(1601)), "names 1601 columns"),
    ],
)
def test_what_can_not_be_read_is_one_clear_error(text: str, what: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert what in caught.value.what
    assert caught.value.remedy


@given(st.text())
def test_no_text_is_more_than_an_error(text: str) -> None:
    with contextlib.suppress(ConfigError):
        assert parse(text)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("public.t", "public.t"),
        ("public.Odd Table", "public.Odd Table"),
        ('shop."Odd Table"', "shop.Odd Table"),
        ('Shop."a""b"', 'shop.a"b'),
        ('public.a"b', ""),
    ],
)
def test_a_tables_name_is_that_of_its_events(text: str, name: str) -> None:
    assert table_name(text) == name


NEVER = {
    "integer": "date timestamptz bytea int[] text[]",
    "float": "date timestamptz bytea int[]",
    "monetary": "date bytea",
    "boolean": "date timestamptz bytea int[]",
    "date": "boolean numeric(3,1) bytea int[]",
    "datetime": "boolean real bytea text[]",
    "selection": "date bytea int[]",
    "binary": "int boolean date numeric(3,1) int[]",
    "many2one": "boolean bytea date timestamptz",
    "many2many": "boolean bytea date",
}
MAYBE = {
    "integer": "numeric(12,2) numeric real bigint text jsonb citext shop.state",
    "float": "text jsonb numeric(12,4) numeric",
    "boolean": "int text jsonb",
    "date": "text int jsonb shop.birthday",
    "datetime": "text int",
    "selection": "int boolean",
    "binary": "text",
    "char": "jsonb bytea int[]",
    "html": "bytea",
    "many2one": "int[]",
}
FINE = {
    "integer": "int smallint boolean numeric(5) serial",
    "float": "int boolean numeric(12,2) numeric(12,1)",
    "boolean": "boolean",
    "date": "date timestamp timestamptz",
    "datetime": "date timestamptz",
    "selection": "text varchar(3) shop.state",
    "binary": "bytea",
    "char": "text int date numeric uuid interval",
    "many2one": "int bigint uuid text",
    "many2many": "int[] jsonb int text[]",
    "reference": "int date",
}


@pytest.mark.parametrize(
    ("kind", "types", "expected"),
    [
        *((kind, types, "never") for kind, types in NEVER.items()),
        *((kind, types, "maybe") for kind, types in MAYBE.items()),
        *((kind, types, None) for kind, types in FINE.items()),
    ],
)
def test_a_field_takes_what_its_type_can_hold(kind: str, types: str, expected: str | None) -> None:
    known: dict[str, Any] = {"type": kind, "digits": [16, 2], "selection": [["a", "A"]]}
    for told in types.split():
        [column] = parse(f"c {told}")
        found = misfit(column, "f", known)
        assert (found and ("never" if found.never else "maybe")) == expected, told
        assert found is None or (told.partition("(")[0] in found.what and found.remedy)


def test_of_names_alone_nothing_is_said() -> None:
    assert misfit(Column("c"), "f", {"type": "integer"}) is None
