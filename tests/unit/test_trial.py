"""`receiver.py try` shows no secret, wherever it stands, and whatever it is."""

from __future__ import annotations

import base64
import contextlib
import json

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from relay import targets
from relay.targets.answer import Answer
from relay.targets.trial import NoEvent, Watch, parse

GIVEN = {"RABBITMQ_URL": "amqp://h", "QUEUE": "q", "HTTP_URL": "http://h/"}
PLACES = {
    "token": lambda secret: {"HTTP_TOKEN": secret},
    "password": lambda secret: {"HTTP_USER": "u", "HTTP_PASSWORD": secret},
    "header": lambda secret: {"HTTP_HEADERS": json.dumps({"X-Api-Key": secret})},
    "key": lambda secret: {
        "TARGET": "odoo-call", "ODOO_URL": "http://h", "ODOO_MODEL": "m", "ODOO_METHOD": "m", "ODOO_API_KEY": secret,
    },
}  # fmt: skip
SECRETS = st.text(st.characters(min_codepoint=33, max_codepoint=255, exclude_categories=["C", "Z"]), min_size=6)


def basic(secret: str) -> str:
    return base64.b64encode(f"u:{secret}".encode()).decode()


def shown(place: str, secret: str) -> str:
    """What is told of a request with this secret and of answers that repeat it."""
    told: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("relay.targets.trial.print_line", told.append)
        watch = Watch(targets.load(None, GIVEN | PLACES[place](secret)), sends=True)
        body = json.dumps({"args": ["db", 2, secret], "basic": basic(secret) if place == "password" else ""})
        other = json.dumps([secret], ensure_ascii=False)
        head = f"POST / HTTP/1.1\r\nAuthorization: Bearer {secret}\r\nX-Api-Key: {secret}".encode("latin-1")
        for reads in (False, True):
            watch.begins(head + b"\r\n\r\n" + body.encode(), reads=reads)
            for text in (body, other, f"<p>{secret}</p>"):
                watch.answered(Answer(200, "text/html", text.encode(), 0.0))
    return "\n".join(told)


@pytest.mark.parametrize("place", PLACES)
@given(secret=SECRETS.filter(lambda text: "{" not in text))
def test_a_secret_is_hidden_in_requests_and_answers(place: str, secret: str) -> None:
    assume(secret not in shown(place, "\xff" * 6))  # "Author" stands in each
    text = shown(place, secret)
    assert "***" in text
    assert json.dumps(secret)[1:-1] not in text.replace("***", "")
    assert secret not in text
    assert basic(secret) not in text or place != "password"


@pytest.mark.parametrize(
    ("url", "path", "shown"),
    [
        ("http://h/a?token=s3cret&id={id}", "/a?token=s3cret&id=7", "/a?token=***&id=7"),
        ("http://h/a?s3cret", "/a?s3cret", "/a?***"),
        ("http://h/a", "/a?x=s3cret", "/a?x=***"),  # not one of ours
        ("http://h/services/T00000000/XXXXXXXXXXXXXXXXXXXXXXX1/a", "/services/T00000000/XXXXXXXXXXXXXXXXXXXXXXX1/a",
         "/services/T00000000/***/a"),
        ("http://h/{table}/{key[id]}", "/public.orders/0123456789abcdef01", "/public.orders/0123456789abcdef01"),
    ],
)  # fmt: skip
def test_what_in_a_url_may_be_a_token_is_hidden_and_what_comes_of_the_event_is_not(
    url: str, path: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    watch = Watch(targets.load(None, GIVEN | {"HTTP_URL": url}), sends=True)
    assert watch.begins(f"POST {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode(), reads=False)
    assert capsys.readouterr().out.splitlines()[0] == f"request  POST {shown}"


NAMES = st.sampled_from(["id", "table", "op", "key", "handle", "body", "size", "problem"]) | st.text()
LEAVES = st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(["\ud83d", float("nan"), "MTI="])
SHOWN = st.fixed_dictionaries({"handle": LEAVES}, optional={name: LEAVES | st.lists(LEAVES, max_size=2) for name in
                              ("body", "body_base64", "size", "id", "key", "table", "problem")})  # fmt: skip


@given(SHOWN | st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner)))
def test_whatever_json_is_given_is_an_event_or_one_clear_error(value: object) -> None:
    with contextlib.suppress(NoEvent):
        event = parse(json.dumps(value))
        assert all(isinstance(text, str) for text in (event.id, event.table, event.op, event.key, event.topic))
