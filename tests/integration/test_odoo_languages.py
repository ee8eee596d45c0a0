"""Texts in several languages, from the columns of one row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dev.doubles.odoo.handle import Odoo
from relay.delivery import DONE, Event
from tests.links import findings
from tests.odoo_rows import deliver, row, target

VERSIONS = pytest.mark.parametrize("odoo", ["17", "19"], indirect=True)
TAGS = """
[context]
lang = "en_US"
[table."public.tags"]
model = "res.partner.category"
id = "%(unique)stag_{id}"
match = ["name"]
[table."public.tags".fields]
color = { from = "{color}", omit = "null" }
[table."public.tags".fields.name]
en_US = "%(unique)s{en}"
de_DE = { from = "{de|strip}" }
fr_FR = "{fr}"
"""
LANGUAGES = ("en_US", "de_DE", "fr_FR")


def tag(key: int, en: str, de: str | None, fr: str | None, color: int | None = None, op: str = "insert") -> Event:
    return row("tags", key, op, en=en, de=de, fr=fr, color=color)


def begun(odoo: Odoo, directory: Path, text: str = TAGS) -> Any:
    client = odoo.client()
    there = client.call("res.lang", "search_read", domain=[["active", "=", True]], fields=["code"])
    if {one["code"] for one in there} < set(LANGUAGES):
        pytest.skip(f"the server has not all of {', '.join(LANGUAGES)}")
    if not odoo.real:
        odoo.add_field("res.partner.category", "color", "integer")
    return target(directory, odoo, text)


def texts(odoo: Odoo, key: int) -> list[str]:
    data = {"domain": [["name", "=", f"{odoo.unique}tag_{key}"]], "fields": ["res_id"]}
    [known] = odoo.client().call("ir.model.data", "search_read", **data)
    ids = [known["res_id"]]
    found = (
        odoo.client().call("res.partner.category", "read", ids, fields=["name"], context={"lang": one})[0]["name"]
        for one in LANGUAGES
    )
    return [one.removeprefix(odoo.unique) for one in found]


@VERSIONS
def test_each_language_gets_its_own_text(odoo: Odoo, tmp_path: Path) -> None:
    made = begun(odoo, tmp_path)
    rows = [tag(1, "red", " rot ", "rouge"), tag(2, "blue", "blau", None), tag(3, "green", None, None, color=2)]
    for _ in range(2):
        assert set(deliver(made, *rows)) == {DONE}
        assert [texts(odoo, key) for key in (1, 2, 3)] == [
            ["red", "rot", "rouge"],
            ["blue", "blau", "blue"],
            ["green", "green", "green"],
        ]
    assert deliver(made, tag(1, "scarlet", "purpur", "rouge", op="update")) == [DONE]
    assert texts(odoo, 1) == ["scarlet", "purpur", "rouge"]
    assert deliver(made, tag(1, "scarlet", None, "rouge", op="update")) == [DONE]
    assert texts(odoo, 1) == ["scarlet", "scarlet", "rouge"], "an empty text would empty all languages"


def test_a_language_costs_one_request_a_batch(odoo: Odoo, tmp_path: Path) -> None:
    made = begun(odoo, tmp_path, TAGS.replace('match = ["name"]', ""))
    deliver(made, tag(99, "x", "y", "z"))
    odoo.forget_requests()
    assert set(deliver(made, *(tag(key, f"e{key}", f"d{key}", f"f{key}") for key in range(50)))) == {DONE}
    assert [(one["method"], one["rows"]) for one in odoo.requests()] == [("load", 50)] * 3


@VERSIONS
def test_check_knows_which_fields_and_languages_there_are(odoo: Odoo, tmp_path: Path) -> None:
    begun(odoo, tmp_path)

    def told(text: str) -> list[str]:
        return [
            f"{one.name.rpartition(': ')[2]}: {one.detail}"
            for one in findings(target(tmp_path, odoo, text))
            if not one.ok
        ]

    assert told(TAGS) == []
    assert told(TAGS.replace("fr_FR", "pt_BR"))[0].startswith(
        "languages: pt_BR is not installed; there are: de_DE, en_US"
    )
    people = TAGS.replace("res.partner.category", "res.partner")
    assert told(people) == [f"name ({one}): has one text for all languages" for one in ("de_DE", "fr_FR")]
