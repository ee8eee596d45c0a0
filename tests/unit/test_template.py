"""Templates over an event: values are escaped for where they stand, and keep every digit."""

import encodings
import json
import posixpath
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from relay.delivery import Event
from relay.targets.template import (
    Context,
    Missing,
    as_json,
    as_text,
    coding,
    in_header,
    in_json_text,
    in_url,
    render,
    render_json,
    render_url,
)

BODY = (
    b'{"id":"e1","table":"public.t","op":"update","key":{"id":42},'
    b'"new":{"name":"a\\"b\\n<\xc3\xa9>","n":12345678901234567890.10,"none":null,"path":"../x?y=1&z"}}'
)


def context(body: bytes = BODY) -> Context:
    return Context(Event(body, "some.topic"))


def test_what_a_body_is_encoded_in_is_not_remembered() -> None:
    """Python's codecs keep each name that they do not know; each message could bring a new one."""
    known = len(encodings._cache)  # type: ignore[attr-defined]
    for n in range(100):
        assert coding(Event(b"", "t", content_encoding=f"x-{n}")) == f"x-{n}"
    assert len(encodings._cache) == known  # type: ignore[attr-defined]


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


URL = "http://h/orders/{new[a]}{new[b]}/state?x={new[a]}"


def urls(a: object, b: object = "", template: str = URL) -> str:
    return render_url(template, context(json.dumps({"new": {"a": a, "b": b}}).encode()))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("..", ""), (".", ""), (".", "."), ("%2e", "%2E"), ("%252e%252E", ""), (".", "%2e"), ("%25252e.", ""), ("", ""),
        (None, None), ("../x", ""), ("x/..", ""), ("..\\x", ""), ("..%2fx", ""), ("%2e%2e%5cx", ""), ("..;", "x"),
        ("/", ""), ("\\", "/"),
    ],
)  # fmt: skip
def test_no_value_climbs_in_a_url(a: object, b: object) -> None:
    with pytest.raises(Missing, match="HTTP_URL"):
        urls(a, b)


@pytest.mark.parametrize(
    "template", ["http://h/%2e{new[a]}", "http://h/a/.{new[a]}?{new[a]}", "http://h/{new[a]}#{new[a]}"]
)
def test_no_value_climbs_with_a_literal_beside_it(template: str) -> None:
    with pytest.raises(Missing, match="HTTP_URL"):
        urls(".", template=template)


@pytest.mark.parametrize("a", ["...", "a..b", ".a", "..a", "a.", "%2e%2e%2e", 0, False, "a/b", "~", "x"])
def test_other_values_with_dots_are_sent(a: object) -> None:
    assert urls(a) == f"http://h/orders/{in_url(a)}/state?x={in_url(a)}"


def test_dots_in_a_query_climb_nowhere_and_it_may_be_empty() -> None:
    assert urls("..", template="http://h/?a={new[a]}&b={new[b]}") == "http://h/?a=..&b="


@given(st.text(st.sampled_from("./\\%25eEx;")), st.text(st.sampled_from("./\\%25eEx;")))
def test_what_is_sent_stays_below_the_literal_path(a: str, b: str) -> None:
    """As every server may read it: decoded any number of times, with either slash."""
    try:
        sent = requests.Request("POST", urls(a, b)).prepare().path_url
    except Missing:
        return
    path = sent.partition("?")[0]
    for _ in range(5):
        path = unquote(path)
        for own in (path, path.replace("\\", "/")):
            assert posixpath.normpath(own).startswith("/orders/")
            assert posixpath.normpath(own) != "/orders/state"


@given(st.text())
def test_any_text_survives_json_and_stays_in_its_piece_of_a_url(text: str) -> None:
    text = text.encode("utf-8", "ignore").decode()
    body = json.dumps({"new": {"t": text}}).encode()
    assert json.loads(render_json('["{new[t]}", {new[t]}]', context(body))) == [text, text]
    assert not set(render("{new[t]}", context(body), in_url)) & set("/?#& ")


def nested(depth: int, value: bytes) -> bytes:
    return b'{"new":' + b'{"n":[' * depth + value + b"]}" * depth + b"}"


ODD_JSON = st.builds(nested, st.integers(0, 700), st.sampled_from([b"1", b'"\\ud83d"', b'"\\ud83d\\ude00"', b"null"]))


def refusal(body: bytes, escape: Callable[[Any], str]) -> str:
    try:
        render("{new}", context(body), escape).encode()
    except Missing as error:
        return str(error)
    return ""


@given(ODD_JSON)
def test_an_event_that_cannot_be_written_is_refused_and_no_defect(body: bytes) -> None:
    """Nested deep, or with half of a character: JSON can say it, what is sent can't."""
    for escape in (as_text, as_json, in_url, in_header, in_json_text):
        said = refusal(body, escape)
        assert not said or any(why in said for why in ("nested too deep", "half of a character", "not JSON"))
        assert said or b'ud83d"' not in body


def test_half_a_character_is_named() -> None:
    with pytest.raises(Missing, match="half of a character"):
        as_text("\ud83d")
    with pytest.raises(Missing, match="half of a character"):
        as_json({"\ud83d": 1})
    with pytest.raises(Missing, match="nested too deep"):
        as_json(context(nested(200, b"1")).value("new", None))
    assert as_text("\U0001f600") == "\U0001f600"
