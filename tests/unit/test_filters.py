"""Filters of templates: what they make of a value, wherever it stands, and what is no filter."""

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import files, values
from relay.delivery import Event
from relay.targets import filters, settings
from relay.targets.template import Context, Missing, as_text, check, has_fields, in_url, render, render_json, render_url

ROW = {"name": " o'neil & <Söhne> ", "none": None, "n": 1.50, "flag": True, "list": [1, "a"], "kind": "express"}


def context(**columns: object) -> Context:
    return Context(Event(json.dumps({"op": "insert", "new": ROW | columns}).encode(), "t"))


@pytest.mark.parametrize(
    ("template", "text", "in_json"),
    [
        ("{new[name]|strip}", "o'neil & <Söhne>", '"o\'neil & <Söhne>"'),
        ("{new[name]|strip|title}", "O'neil & <Söhne>", '"O\'neil & <Söhne>"'),
        ("{new[name]|html|strip}", "o'neil &amp; &lt;Söhne&gt;", '"o\'neil &amp; &lt;Söhne&gt;"'),
        ("{new[kind]|upper|replace('X', '/')}", "E/PRESS", '"E/PRESS"'),
        ("{new[none]|default('x')}", "x", '"x"'),
        ("{new[gone]|default('0')}", "0", "0"),
        ("{new[gone]|default('')}", "", '""'),
        ("{old[name]|default('-3.5')}", "-3.5", "-3.5"),
        ("{new[gone]|default('01')}", "01", '"01"'),
        ("{new[n]|default('0')}", "1.5", "1.5"),
        ("{new[kind]|map('express', '5', '*', '3')}", "5", "5"),
        ("{new[none]|map('express', '5', '*', '3')}", "3", "3"),
        ("{new[kind]|map('express', 'NaN')}", "NaN", '"NaN"'),
        ("{new[none]|map('', 'nothing')}", "nothing", '"nothing"'),
        ("{new[flag]|map('true', 'yes')}", "yes", '"yes"'),
        ("{new[list]|json}", '[1,"a"]', '"[1,\\"a\\"]"'),
        ("{new[none]|json}", "null", '"null"'),
        ("{new[list]|json|base64}", base64.b64encode(b'[1,"a"]').decode(), '"WzEsImEiXQ=="'),
        ("{new[kind]|base64}", "ZXhwcmVzcw==", '"ZXhwcmVzcw=="'),
        ("{new[none]|base64}", "", '""'),
    ],
)
def test_a_filter_changes_the_value(template: str, text: str, in_json: str) -> None:
    check(template)
    assert has_fields(template)
    assert render(template, context(), as_text) == text
    assert render_json(template, context()) == in_json
    assert json.loads(render_json(f'["{template}"]', context())) == [text]


def test_the_event_in_base64_is_what_came_and_need_not_be_json() -> None:
    for body in (b"\xff\x00 no JSON", b'{"a": 1,  "a": 1.0}'):
        made = render_json('{"data": "{event|base64}"}', Context(Event(body, "t")))
        assert base64.b64decode(json.loads(made)["data"]) == body


@pytest.mark.parametrize(
    "template", ["{new[gone]|upper}", "{old|json}", "{new[kind]|map('normal', '3')}", "{new[gone]|map('*', 'x')}"]
)
def test_what_is_missing_is_refused_and_no_value_is_told(template: str) -> None:
    with pytest.raises(Missing) as caught:
        render(template, context(), as_text)
    assert "express" not in str(caught.value)


@given(
    st.text(),
    st.sampled_from(
        ["lower", "upper", "strip", "title", "html", "base64", "json", "replace('a', '/')", "default('/')"]
    ),
)
def test_whatever_comes_out_a_url_keeps_its_pieces(value: str, name: str) -> None:
    try:
        made = render_url(f"http://h/a/{{new[v]|{name}}}/b", context(v=value))
    except Missing:
        return
    assert made.count("/") == 5


def test_a_url_with_a_filter_does_not_climb() -> None:
    with pytest.raises(Missing):
        render_url("http://h/a/{new[v]|lower}", context(v=".."))
    with pytest.raises(Missing):
        render_url("http://h/a/{new[kind]|map('express','..')}", context())
    assert (
        render_url("http://h/{op|map('insert','crm.add','*','crm.update')}.json", context()) == "http://h/crm.add.json"
    )
    assert render("{new[v]|upper}", context(v="a/b"), in_url) == "A%2FB"


@pytest.mark.parametrize(
    "template",
    [
        "{new[x]|uper}", "{id|}", "{id|Upper}", "{id|upper()}", "{id|upper('x')}", "{id|default}", "{id|default(x)}",
        "{id|default('a', 'b')}", "{id|replace('a')}", "{id|replace('', 'b')}", "{id|map()}", "{id|map('a')}",
        "{id|upper|json}", "{id | upper}", "{id|upper |lower}", '{id|default("x")}', "{id|map('a', 'b', 'c')}",
        "{id||upper}", "{id|default('it's')}",
    ],
)  # fmt: skip
def test_what_is_no_filter_is_an_error_at_the_start(template: str) -> None:
    with pytest.raises(filters.Unknown, match="filter"):
        check(template)
    for parse in (settings.template, lambda text: settings.http_headers(json.dumps({"X": text}))):
        with pytest.raises(values.Invalid):
            parse(template)


@pytest.mark.parametrize("template", ["{a|b}", "{}", "{new}", '{"id": "{id}", "x|y": 1}', "a | {id} | b", "{ids|x}"])
def test_other_braces_are_text(template: str) -> None:
    check(template)


@given(st.text(alphabet="{}idnew[x]|uper()', "))
def test_whatever_is_written_is_text_a_field_or_an_error(template: str) -> None:
    try:
        check(template)
    except filters.Unknown:
        return
    try:
        render(template, context(), as_text)
    except Missing:
        return


def test_a_secret_is_what_its_file_holds_now(tmp_path: Path) -> None:
    def parse(text: str) -> str:
        if "bad" in text:
            raise values.Invalid("bad", "")
        return text

    path = tmp_path / "token"
    path.write_text("one\n")
    secret = files.Secret("one", path, parse)
    assert secret.now() == "one"
    for text, now in (("two\n", "two"), ("bad\n", "two"), ("", "two"), ("three", "three")):
        path.write_text(text)
        assert secret.now() == now, text
    path.unlink()
    assert secret.now() == "three"
    path.write_bytes(b"\xff\xfe\x00")
    assert secret.now() == "three"
    path.write_text("four")
    assert secret.now() == "four"
    assert "four" not in repr(secret)
