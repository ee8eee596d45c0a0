"""Templates over an event: values are escaped for where they stand, and keep every digit."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.delivery import Event
from relay.targets.template import Context, Missing, as_text, in_header, in_url, render, render_json

BODY = (
    b'{"id":"e1","table":"public.t","op":"update","key":{"id":42},'
    b'"new":{"name":"a\\"b\\n<\xc3\xa9>","n":12345678901234567890.10,"none":null,"path":"../x?y=1&z"}}'
)


def context(body: bytes = BODY) -> Context:
    return Context(Event(body, "some.topic"))


def test_a_url_takes_values_as_pieces_of_a_path() -> None:
    assert render("/d/{key[id]}/{new[path]}", context(), in_url) == "/d/42/..%2Fx%3Fy%3D1%26z"


def test_json_takes_text_inside_quotes_and_values_outside() -> None:
    made = render_json('{"title": "{table}: {new[name]}", "n": {new[n]}, "row": {new}, "x": {new[none]}}', context())
    assert '"n": 12345678901234567890.10' in made
    found = json.loads(made)
    assert found["title"] == 'public.t: a"b\n<é>'
    assert found["row"]["name"] == 'a"b\n<é>'
    assert found["x"] is None


def test_braces_that_name_nothing_are_ordinary_text() -> None:
    assert render("{} {x} {{table}}", context(), as_text) == "{} {x} {public.t}"


def test_a_header_can_not_be_broken_out_of() -> None:
    event = b'{"new":{"name":"a\\r\\nX-Evil: 1"}}'
    assert render("{new[name]}", context(event), in_header) == "a  X-Evil: 1"
    assert in_header("é") == "=?UTF-8?B?w6k=?="


@pytest.mark.parametrize("template", ["{old}", "{new[nothing]}", "{key[id]}{old[x]}"])
def test_what_the_event_lacks_is_named(template: str) -> None:
    with pytest.raises(Missing, match="the event has no"):
        render(template, context(), as_text)


def test_a_message_that_is_not_json_is_refused_by_templates() -> None:
    with pytest.raises(Missing, match="not JSON"):
        render("{table}", context(b"\xff"), as_text)
    assert render("{topic}", context(b"\xff"), as_text) == "some.topic"


@given(st.text())
def test_any_text_survives_json_and_stays_in_its_piece_of_a_url(text: str) -> None:
    text = text.encode("utf-8", "ignore").decode()
    body = json.dumps({"new": {"t": text}}).encode()
    assert json.loads(render_json('["{new[t]}", {new[t]}]', context(body))) == [text, text]
    assert not set(render("{new[t]}", context(body), in_url)) & set("/?#& ")
