"""The mapping file: what it says, and that all that is wrong in it is said at once, each with its line."""

import json
from pathlib import Path
from typing import Any

import pytest

from relay.delivery import Event
from relay.errors import ConfigError
from relay.targets.odoo import mapping_file
from relay.targets.odoo.mapping import MappingFile

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


def test_update_is_of_all_or_of_what_has_changed(tmp_path: Path) -> None:
    text = SMALL.replace('id = "t_{id}"', 'id = "t_{id}"\nupdate = "changed"')
    assert load(tmp_path, text).tables["public.t"].changed
    assert not load(tmp_path, text.replace("changed", "all")).tables["public.t"].changed
    (said,) = problems(tmp_path, text.replace('"changed"', "true"))
    assert "update: is neither all nor changed" in said
    (said,) = problems(tmp_path, text + '\n"x/id" = { from = "x_{a}", empty_link = "leave empty" }')
    assert "would never set a link that was left empty" in said


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
