"""What the mapping file makes of a row: an external id, values, links, or nothing."""

from pathlib import Path
from typing import Any

import pytest

from relay.delivery import Event
from relay.targets.odoo.plan import Empty, Load, Remove, cell, plan, plans, row_of
from relay.targets.template import Missing
from tests.unit.test_odoo_mapping import SMALL, event, load, problems


def test_what_each_operation_means(tmp_path: Path) -> None:
    found = load(tmp_path, SMALL)
    row = {"id": 7, "name": "x"}
    inserted = plan(found, event("insert", key={"id": 7}, old=None, new=row))
    assert isinstance(inserted, Load)
    assert (inserted.external_id, inserted.revive) == ("t_7", True)
    updated = plan(found, event("update", key={"id": 7}, old=row, new=row))
    assert isinstance(updated, Load)
    assert not updated.revive
    removed = plan(found, event("delete", key={"id": 7}, old=None, new=None))
    assert isinstance(removed, Remove)
    assert removed.external_id == "t_7"
    assert isinstance(plan(found, event("truncate", key=None, old=None, new=None)), Empty)


def test_an_event_that_does_not_fit_says_why(tmp_path: Path) -> None:
    found = load(tmp_path, SMALL)
    for wrong, said in (
        (event("insert", table="public.other"), "not in the mapping"),
        (event("insert", key={"id": 7}, old=None, new=None, too_large=True), "too large"),
        (event("insert", key={"other": 7}, old=None, new={"id": 7}), "not in the row's key"),
        (Event(b"no json", "t", op="insert", table="public.t"), "not JSON"),
    ):
        with pytest.raises(Missing, match=said):
            plan(found, wrong)
    ignoring = load(tmp_path, 'unmapped = "ignore"\n' + SMALL)
    assert plan(ignoring, event("insert", table="public.other")) is None


def test_a_row_that_leaves_the_condition_is_removed_and_one_that_never_met_it_ignored(tmp_path: Path) -> None:
    condition = 'when = { kind = ["a", "b"], n = 1, ok = true }\nunless = { gone = { null = false } }\n'
    found = load(tmp_path, SMALL.replace('[table."public.t".fields]', condition + '[table."public.t".fields]'))
    fits = {"id": 7, "name": "x", "kind": "b", "n": 1, "ok": True, "gone": None}

    def kind(op: str, old: Any, new: Any) -> Any:
        return type(plan(found, event(op, key={"id": 7}, old=old, new=new)))

    for change in ({"kind": "c"}, {"n": 2}, {"ok": False}, {"gone": "2020-01-01"}):
        out = fits | change
        assert kind("insert", None, out) is type(None)
        assert kind("update", fits, out) is Remove
        assert kind("update", out, out) is type(None)
        assert kind("update", None, out) is Remove
        assert kind("snapshot", None, out) is Remove
        assert kind("delete", out, None) is type(None)
        entered = plan(found, event("update", key={"id": 7}, old=out, new=fits))
        assert isinstance(entered, Load)
        assert entered.revive
    with pytest.raises(Missing, match="no column kind"):
        plan(found, event("insert", key={"id": 7}, old=None, new={"id": 7}))


@pytest.mark.parametrize(
    ("template", "key", "found"),
    [
        ("c_{id}", '{"id": 42}', "c_42"),
        ("c_{id}", '{"id": "A.1, b~ü"}', "c_A~2E1~2C~20b~7Eü"),
        ("c_{a}_{b}", '{"a": "x_y", "b": "z"}', "c_x~5Fy_z"),
        ("shop.c_{a|lower}", '{"a": "DE_1"}', "shop.c_de_1"),
        ("{a|raw}", '{"a": "base.us"}', "base.us"),
        ("c_{id}", '{"id": 12345678901234567890.10}', "c_12345678901234567890~2E10"),
    ],
)
def test_external_ids_keep_keys_apart(tmp_path: Path, template: str, key: str, found: str) -> None:
    made = load(tmp_path, SMALL.replace("t_{id}", template))
    body = f'{{"key": {key}, "new": null, "old": null}}'.encode()
    removed = plan(made, Event(body, "t", op="delete", table="public.t"))
    assert isinstance(removed, Remove)
    assert removed.external_id == found


def cells(directory: Path, fields: str, row: str, kinds: dict[str, str]) -> dict[str, str]:
    found = load(directory, SMALL + fields).tables["public.t"]
    made = plan(
        load(directory, SMALL + fields),
        Event(f'{{"key": {{"id": 1}}, "old": null, "new": {row}}}'.encode(), "t", op="insert", table="public.t"),
    )
    assert isinstance(made, Load)
    return {f.path: cell(f, made.row, kinds.get(f.name, "char"), found) for f in found.fields if f.path != "name"}


def test_links_constants_values_and_defaults(tmp_path: Path) -> None:
    fields = """
"partner_id/id" = "customers_{customer_id}"
"tag_ids/id" = "tags_{tags}"
"country_id/id" = { from = "base.{country|lower}", values = { "base.gb" = "base.uk" } }
"parent_id/id" = "t_{parent}"
active = true
state = { from = "{s}", values = { n = "draft" }, default = "done" }
note = "{{{s}}} of {parent}"
"""
    row = '{"id": 1, "name": "x", "customer_id": 5, "tags": [1, 2], "country": "GB", "parent": null, "s": "q"}'
    assert cells(tmp_path, fields, row, {"active": "boolean", "state": "selection"}) == {
        "partner_id/id": "customers_5",
        "tag_ids/id": "tags_1,tags_2",
        "country_id/id": "base.uk",
        "parent_id/id": "",
        "active": "1",
        "state": "done",
        "note": "{q} of ",
    }


@pytest.mark.parametrize(
    ("field", "row", "text"),
    [
        ('{ from = "{a}", default = "x" }', {"a": None}, "x"),
        ('{ from = "{a}", default = "x" }', {"a": ""}, ""),
        ('{ from = "{a}", default = "x" }', {"a": "y"}, "y"),
        ('{ from = "{a|lower}", default = "x" }', {"a": None}, "x"),
        ('{ from = "{a}-{b}", default = "x" }', {"a": None, "b": None}, "x"),
        ('{ from = "{a}-{b}", default = "x" }', {"a": None, "b": "2"}, "-2"),
        ('{ from = "{a}", values = { y = "Z" }, default = "x" }', {"a": None}, ""),
        ('{ from = "{a}", values = { "" = "N", y = "Z" }, default = "x" }', {"a": None}, "N"),
        ('{ from = "{a|lower|map}", values = { y = "Z" }, default = "x" }', {"a": None}, "x"),
        ('{ from = "{a}", values = { y = "Z" }, default = "x" }', {"a": "y"}, "Z"),
        ('{ from = "{a}", values = { y = "Z" }, default = "x" }', {"a": "other"}, "x"),
        ('{ from = "{a|upper|map}!", values = { Y = "Z" } }', {"a": "y"}, "Z!"),
        ('{ from = "{a|map}!", values = { Y = "Z" } }', {"a": None}, "!"),
        ('"{a|strip|title}"', {"a": " o'neil von DER öster-reich "}, "O'neil Von Der Öster-Reich"),
        ("\"{a|replace('-', '')|replace(' ', '_')}\"", {"a": "1-2 3"}, "12_3"),
    ],
)
def test_what_a_field_gets(tmp_path: Path, field: str, row: dict[str, Any], text: str) -> None:
    table = load(tmp_path, SMALL.replace('name = "{name}"', f"name = {field}")).tables["public.t"]
    assert cell(table.fields[0], row, "char", table) == text


@pytest.mark.parametrize(
    ("field", "row", "text"),
    [
        ('{ from = "base.{a}", default = "base.at" }', {"a": None}, "base.at"),
        ('{ from = "base.{a}", default = "base.at" }', {"a": "de"}, "base.de"),
        ('{ from = "tag_{a}", default = "tag_0" }', {"a": []}, ""),
        ('{ from = "base.{a}", values = { "base.gb" = "base.uk" }, default = "base.at" }', {"a": None}, ""),
        ('{ from = "base.{a}", values = { "base.gb" = "base.uk" }, default = "base.at" }', {"a": "de"}, "base.at"),
        ('{ from = "base.{a|map}", values = { gb = "uk" } }', {"a": "gb"}, "base.uk"),
        ('"base.at"', {}, "base.at"),
        ('"base.at,base.de"', {}, "base.at,base.de"),
    ],
)
def test_what_a_link_gets(tmp_path: Path, field: str, row: dict[str, Any], text: str) -> None:
    table = load(tmp_path, SMALL.replace('name = "{name}"', f'"x_id/id" = {field}')).tables["public.t"]
    assert cell(table.fields[0], row, "many2one", table) == text


def test_a_text_that_is_missing_is_that_of_the_first_language(tmp_path: Path) -> None:
    text = SMALL.replace(
        'name = "{name}"', 'name = { de_DE = "{b}", en_US = "{a}" }\nref = "{c}"\n[context]\nlang = "en_US"'
    )
    table = load(tmp_path, text).tables["public.t"]
    assert [(one.path, one.lang) for one in table.fields] == [("name", ""), ("name", "de_DE"), ("ref", "")]
    assert table.languages == ("de_DE",)
    types = {"name": {"type": "char"}, "ref": {"type": "char"}}
    for german, wanted in (("b", "b"), (None, "a"), ("", "a")):
        planned = Load(table, "t_1", {"a": "a", "b": german, "c": "c"}, revive=True)
        assert row_of(planned, types) == ["t_1", "a", wanted, "c"]


def test_a_table_may_be_mapped_again(tmp_path: Path) -> None:
    again = SMALL.replace("public.t", "public.t as users").replace('"t_{id}"', '"user_{id}"')
    found = load(tmp_path, SMALL + again)
    assert [one.name for one in found.also["public.t"]] == ["public.t as users"]
    loads = plans(found, event("insert", key={"id": 7}, old=None, new={"id": 7, "name": "x"}))
    assert [one.external_id for one in loads if isinstance(one, Load)] == ["t_7", "user_7"]
    removes = plans(found, event("delete", key={"id": 7}, old=None, new=None))
    assert [one.external_id for one in removes if isinstance(one, Remove)] == ["user_7", "t_7"]
    (said,) = problems(tmp_path, again)
    assert "there is no table public.t that it maps again" in said
