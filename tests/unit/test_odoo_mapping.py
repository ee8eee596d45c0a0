"""The mapping file: what it says, and that all that is wrong in it is said at once, each with its line."""

import json
from pathlib import Path
from typing import Any

import pytest

from relay.delivery import Event
from relay.errors import ConfigError
from relay.targets.odoo import mapping_file
from relay.targets.odoo.mapping import MappingFile
from relay.targets.odoo.plan import Empty, Load, Remove, cell, plan, plans, row_of
from relay.targets.template import Missing

EXAMPLE = Path(__file__).parents[2] / "mapping.example.toml"
SMALL = """
[table."public.t"]
model = "res.partner"
id = "t_{id}"
[table."public.t".fields]
name = "{name}"
"""


def load(directory: Path, text: str) -> MappingFile:
    file = directory / "mapping.toml"
    file.write_text(text)
    return mapping_file.load(str(file))


def problems(directory: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(directory, text)
    return [f"{what} -> {remedy}" for what, remedy in caught.value.problems]


def event(op: str, table: str = "public.t", **body: Any) -> Event:
    return Event(json.dumps({"table": table, "op": op, **body}).encode(), table, id="1", op=op, table=table)


def test_the_example_loads() -> None:
    found = mapping_file.load(str(EXAMPLE))
    assert set(found.tables) == {"public.customers", "public.tags"}
    assert found.tables["public.customers"].context == {"lang": "en_US", "tracking_disable": True}


def test_everything_wrong_is_said_at_once_with_line_and_remedy(tmp_path: Path) -> None:
    said = problems(
        tmp_path,
        'unmaped = "refuse"\n'  # 1
        '[table."public.a"]\n'  # 2
        'modle = "res.partner"\n'  # 3
        'id = "fixed"\n'  # 4
        'delete = "Remove it"\n'  # 5
        '[table."public.a".fields]\n'  # 6
        'name = "{name"\n'  # 7
        "[table.'public.b']\n"  # 8
        'model = "res.partner"\n'  # 9
        'id = "b_{id|lowr}"\n'  # 10
        '[table."public.b".fields]\n'  # 11
        'state = { frm = "{s}", values = { a = [] } }\n'  # 12
        '"x/y/z" = "1"\n'  # 13
        "[table.plain]\n"  # 14
        'model = "Res Partner"\n'
        'id = "{id}"\n'
        "[context]\n"
        'tz = "Europe/Berlin"\n',  # 18
    )
    for line, part in (
        (1, "did you mean unmapped?"),
        (3, "did you mean model?"),
        (2, "model: is not set"),
        (4, "is the same for every row"),
        (5, 'write delete = "archive"'),
        (7, "a single brace"),
        (10, "unknown filter lowr"),
        (12, "frm is no setting -> did you mean from?"),
        (13, "names no field"),
        (14, "names no schema"),
        (15, "is no model"),
        (18, "is set by the relay"),
    ):
        assert any(f"line {line}:" in one and part in one for one in said), (line, part, said)


def test_match_names_fields_of_the_table(tmp_path: Path) -> None:
    found = load(tmp_path, SMALL.replace('id = "t_{id}"', 'id = "t_{id}"\nmatch = ["name"]'))
    assert found.tables["public.t"].match == ("name",)
    for wrong, what in (
        ('"name"', "is no list of fields"),
        ("[1]", "is no list of fields"),
        ('["name", "name"]', "is no list of fields"),
        ('["name", "vat"]', "vat is not among the fields -> add it there; there are: name"),
    ):
        (said,) = problems(tmp_path, SMALL.replace('id = "t_{id}"', f'id = "t_{{id}}"\nmatch = {wrong}'))
        assert "line 5: " in said
        assert what in said


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("a = " + "[" * 5000 + "]" * 5000, "is not TOML: a number is too long, or lists are too deep"),
        ("a = " + "7" * 5000, "is not TOML: a number is too long, or lists are too deep"),
        ("a = 2031-13-01", "is not TOML: "),
        ('a = "\x07"', "is not TOML: "),
        ("\ufeff\n= 1", "is not TOML: "),
    ],
)
def test_whatever_tomllib_says_is_one_clear_error(tmp_path: Path, text: str, what: str) -> None:
    (said,) = problems(tmp_path, text)
    assert what in said
    assert "-> mapping.example.toml shows how to write it" in said


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ("{ since = 2031-12-30 }", "since: in the context holds what JSON has no word for"),
        ("{ deep = [1, { at = 12:30:00 }] }", "deep: in the context holds what JSON has no word for"),
        ("{ n = nan }", "n: in the context holds what JSON has no word for"),
        ("{ n = [inf] }", "n: in the context holds what JSON has no word for"),
        ("{ lang = 7 }", "lang: in the context is no language"),
        ('{ lang = "German" }', "lang: in the context is no language"),
        ('{ lang = "" }', "lang: in the context is no language"),
        ('{ tz = "UTC" }', "tz: in the context is set by the relay"),
        ("7", "context: is no table"),
    ],
)
def test_a_context_is_what_can_be_sent(tmp_path: Path, value: str, what: str) -> None:
    within = (
        SMALL.replace("[table.", f"context = {value}\n[table.", 1),
        SMALL.replace('[table."public.t".f', f'context = {value}\n[table."public.t".f'),
        SMALL.replace('[table."public.t".f', f'delete = {{ do = "unlink", context = {value} }}\n[table."public.t".f'),
    )
    for text in within:
        said = problems(tmp_path, text)
        assert any(what in one for one in said), said


@pytest.mark.parametrize("lang", ["de_DE", "es_419", "sr@latin", "ca_ES@valencia", "eo"])
def test_languages_have_the_codes_of_odoo(tmp_path: Path, lang: str) -> None:
    load(tmp_path, SMALL.replace("[table.", f'context = {{ lang = "{lang}" }}\n[table.', 1))
    if lang != "eo":
        text = f'name = {{ en_US = "{{a}}", "{lang}" = "{{b}}" }}\n[context]\nlang = "en_US"'
        assert load(tmp_path, SMALL.replace('name = "{name}"', text)).tables["public.t"].languages == (lang,)


def test_a_field_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    twice = 'country_id = { from = "{a}", by = "code" }\n"country_id/id" = "base.{a}"\n'
    (said,) = problems(tmp_path, SMALL + twice)
    assert "line 7: " in said or "line 8: " in said
    assert "country_id: is there twice" in said


def test_a_field_of_its_own_table_is_told_with_its_line(tmp_path: Path) -> None:
    text = SMALL + '[table."public.t".fields.city]\nfrom = "{a}"\nvalus = {}\n'
    (said,) = problems(tmp_path, text)
    assert "line 7: " in said
    assert "did you mean values?" in said


def test_one_mistake_is_told_once(tmp_path: Path) -> None:
    (said,) = problems(tmp_path, SMALL.replace('"{name}"', '"{name"').replace('id = "t', 'match = ["name"]\nid = "t'))
    assert "a single brace" in said


def test_a_file_that_is_no_toml_is_one_clear_error(tmp_path: Path) -> None:
    (said,) = problems(tmp_path, "a = 1\nb = = 2\n")
    assert "is not TOML" in said
    assert "line 2" in said


def test_ids_that_begin_alike_are_refused_where_a_truncate_would_confuse_them(tmp_path: Path) -> None:
    text = SMALL + SMALL.replace("public.t", "public.lines").replace('"t_{id}"', '"t_lines_{id}"')
    (said,) = problems(tmp_path, text)
    assert "TRUNCATE would take the records of public.lines" in said
    load(tmp_path, text.replace('id = "t_{id}"', 'id = "t_{id}"\ntruncate = "ignore"'))


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


def test_what_delete_can_say(tmp_path: Path) -> None:
    def rules(delete: str) -> list[tuple[str, Any, Any]]:
        found = load(tmp_path, SMALL.replace('id = "t_{id}"', f'id = "t_{{id}}"\ndelete = {delete}'))
        return [(one.do, one.when, one.values) for one in found.tables["public.t"].delete]

    assert rules('"unlink"') == [("unlink", {}, {})]
    assert rules('{ set = { qty = 0, note = "x", ok = false } }') == [
        ("write", {}, {"qty": 0, "note": "x", "ok": False})
    ]
    assert rules('[{ when = { state = "draft" }, do = "unlink" }, { do = "method", method = "action_cancel" }]') == [
        ("unlink", {"state": "draft"}, {}),
        ("action_cancel", {}, {}),
    ]


@pytest.mark.parametrize(
    ("delete", "what"),
    [
        ("[]", "says nothing that can be done"),
        ("7", "says nothing that can be done"),
        ("{}", "a rule that says nothing that can be done"),
        ('{ do = "action_cancel" }', "a rule that says nothing that can be done"),
        ('{ do = "method" }', "a rule without its method"),
        ('{ do = "method", method = "_private" }', "a rule without its method"),
        ('{ do = "unlink", method = "x" }', "a rule without its method"),
        ('{ do = "unlink", set = { a = 1 } }', "both set and do"),
        ("{ set = { a = [1] } }", "set holds no values of fields"),
        ("{ set = { a = nan } }", "set holds no values of fields"),
        ('{ set = { "a.b" = 1 } }', "set holds no values of fields"),
        ('{ do = "unlink", when = { a = { nul = true } } }', "when is no condition"),
        ('{ do = "unlink", wen = {} }', "did you mean when?"),
        ('{ do = "unlink", context = { tz = "UTC" } }', "in the context is set by the relay"),
        ('[{ do = "unlink" }, { do = "ignore" }]', "rule 2 is never reached"),
    ],
)
def test_a_delete_that_says_nothing_is_refused(tmp_path: Path, delete: str, what: str) -> None:
    said = problems(tmp_path, SMALL.replace('id = "t_{id}"', f'id = "t_{{id}}"\ndelete = {delete}'))
    assert any(what in one for one in said), said


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


@pytest.mark.parametrize(
    ("field", "what"),
    [
        ('x = { from = "{a}", omit = "always" }', "omits nothing that can be told"),
        ('x = { from = "{a}", omit = "null", default = "b" }', "both omit and default"),
        ('x = { from = "{a}", by = 7 }', "is found by no fields"),
        ('x = { from = "{a}", by = "na me" }', "is found by no fields"),
        ("x = { by = {} }", "is found by no fields"),
        ('x = { by = { "c.code" = "{a}" } }', "first by a field of another model"),
        ('x = { from = "{a}", by = { name = "{a}" } }', "beside several fields"),
        ('"x/id" = { from = "{a}", by = "name" }', "both by a value and by an external id"),
        ('x = { from = "{a}", by = "name", model = "res.partner" }', "both by a value and by an external id"),
        ('x = { by = { name = "{a" } }', "a single brace"),
        ('"x/id" = { from = "{a}", model = "res.partner" }', "names no model"),
        ('x = { from = "{a}", model = "Res Partner" }', "names no model"),
        ('"x/id" = { from = "{a}", many = "remove" }', "neither add nor merge"),
        ('x = { from = "{a}", many = "merge" }', "merges what is no link by external id"),
        ('x = { from = "{a}", decimal = ";" }', "another decimal sign"),
        ('x = { from = "{a}", format = "%H:%M" }', "a format that dates can't be read"),
        ('x = { from = "{a}", format = 3 }', "a format that dates can't be read"),
        ('x = { from = "{a|map}" }', "map needs values"),
        ('x = "{a|replace}"', "replace needs what to replace"),
        ("x = \"{a|lower('b', 'c')}\"", "lower takes no arguments"),
    ],
)
def test_a_field_that_says_nothing_is_refused(tmp_path: Path, field: str, what: str) -> None:
    said = problems(tmp_path, SMALL.replace('name = "{name}"', field))
    assert any(what in one and "line 6:" in one for one in said), said


ACTION = (
    SMALL
    + """
[[table."public.t".actions]]
when = { state = "confirmed" }
method = "action_confirm"
unless_record = { state = ["sale", "done"] }
context = { send_email = false }
after = { "public.lines" = "line_count" }
[table."public.lines"]
model = "sale.order.line"
id = "line_{id}"
[table."public.lines".fields]
"order_id/id" = "t_{order_id}"
"""
)


def test_what_an_action_says(tmp_path: Path) -> None:
    found = load(tmp_path, ACTION)
    table, lines = found.tables["public.t"], found.tables["public.lines"]
    [action] = table.actions
    assert (action.method, action.context, action.after) == (
        "action_confirm", {"send_email": False}, {"public.lines": "line_count"},
    )  # fmt: skip
    assert action.wants({"state": "confirmed"})
    assert not action.wants({"state": "new"})
    assert found.link(lines, table).name == "order_id"
    assert found.acts(table)
    assert found.acts(lines)
    plain = load(tmp_path, SMALL)
    assert not plain.acts(plain.tables["public.t"])


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ('method = "action_confirm"', "", "without its method"),
        ('method = "action_confirm"', 'method = "_confirm"', "without its method"),
        ('unless_record = { state = ["sale", "done"] }', "", "called at every change of a row"),
        ('{ state = ["sale", "done"] }', "{ state = { is = 1 } }", "unless_record is no condition"),
        ('{ state = "confirmed" }', "7", "when is no condition"),
        ("send_email = false", 'tz = "UTC"', "in the context is set by the relay"),
        ('{ "public.lines" = "line_count" }', '["public.lines"]', "after something that is no table"),
        ('{ "public.lines" = "line_count" }', '{ "public.line" = "n" }', "public.line is not in the mapping"),
        ('"t_{order_id}"', '"x_{order_id}"', "has no link to public.t by its external id"),
        ("after = {", "aftr = {", "did you mean after?"),
        ('[[table."public.t".actions]]', '[table."public.t".actions]', "is no list of actions"),
    ],
)
def test_an_action_that_can_not_work_is_refused(tmp_path: Path, old: str, new: str, what: str) -> None:
    assert ACTION.count(old) == 1
    said = problems(tmp_path, ACTION.replace(old, new))
    assert any(what in one for one in said), said


def test_two_actions_with_one_method_are_refused(tmp_path: Path) -> None:
    action = ACTION.partition("[[table")[2].partition("[table.")[0]
    said = problems(tmp_path, ACTION.replace('[table."public.lines"]', f'[[table{action}[table."public.lines"]'))
    assert "two with the method action_confirm" in said[0]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('name = { en_US = "{a}", de_DE = "{b}" }', "has no text for the lang of the context"),
        ('name = { de_DE = "{b}" }\n[context]\nlang = "en_US"', "has no text for en_US of the context"),
        ('name = { en_US = "{a}", de_DE = 7.5, fr = "{b}" }', "fr is no language"),
        ('name = { from = "{a}", de_DE = "{b}" }', "from is no language"),
        ('name = { en_US = "{a}", es_419 = "{b}", "sr@latin" = 7.5 }', "has no text for the lang of the context"),
        (
            'name = { en_US = "{a}", de_DE = { from = "{b}", omit = "null" } }\n[context]\nlang = "en_US"',
            "more than text",
        ),
        ('"x/id" = { en_US = "{a}", de_DE = "{b}" }\n[context]\nlang = "en_US"', "more than text for en_US"),
    ],
)
def test_texts_in_several_languages_are_of_the_contexts_and_others(tmp_path: Path, text: str, what: str) -> None:
    said = problems(tmp_path, SMALL.replace('name = "{name}"', text))
    assert any(what in one for one in said), said


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


@pytest.mark.parametrize("size", ["0", "1001", "true", '"10"', "2.5"])
def test_a_batch_size_is_a_number_of_rows(tmp_path: Path, size: str) -> None:
    text = SMALL.replace('id = "t_{id}"', 'id = "t_{id}"\nbatch_size = ')
    assert load(tmp_path, text.replace("batch_size = ", "batch_size = 7")).tables["public.t"].batch_size == 7
    (said,) = problems(tmp_path, text.replace("batch_size = ", f"batch_size = {size}"))
    assert "batch_size: is no number of rows" in said


@pytest.mark.parametrize(
    "field", ['name = { from = "{a}", empty_link = "leave empty" }', '"x/id" = { empty_link = true }']
)
def test_an_empty_link_is_of_a_link(tmp_path: Path, field: str) -> None:
    said = problems(tmp_path, SMALL.replace('name = "{name}"', field))
    assert any("has an empty_link that says nothing" in one for one in said)


def test_an_order_is_a_number_of_a_table(tmp_path: Path) -> None:
    text = SMALL.replace('id = "t_{id}"', 'id = "t_{id}"\norder = 2')
    assert load(tmp_path, text).order == {"public.t": 2}
    assert load(tmp_path, SMALL).order == {}
    for wrong in ("true", '"first"', "1.5"):
        (said,) = problems(tmp_path, text.replace("order = 2", f"order = {wrong}"))
        assert "order: is no number" in said
    again = text.replace("public.t", "public.t as u").replace("t_{id}", "u_{id}")
    (said,) = problems(tmp_path, SMALL + again)
    assert "is of the table, not of its second model" in said
