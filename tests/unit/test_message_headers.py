"""A publisher's headers, sent on: whatever they hold, a request can be made of it."""

from __future__ import annotations

import datetime
import http.client
import io
from typing import Any

import hypothesis
import pika
import pytest
from hypothesis import strategies as st

from relay.delivery import Event
from relay.targets import headers

OWN = {"relay-key": "k", "relay-seq": 1, "x-death": [], "X-Delivery-Count": 3, "Relay-Other": "x"}


def event(given: dict[str, Any]) -> Event:
    pieces = pika.BasicProperties(headers=given).encode()
    return Event(b"{}", "t", aside=b"".join(pieces))


def test_they_come_as_they_were_given_without_ours() -> None:
    given = {
        "tenant": "north",
        "n": 3,
        "yes": True,
        "none": None,
        "list": [1, "a"],
        "table": {"a": 1},
        "who": "Zoë 10%",
    }
    assert headers.given(event(OWN | given)) == given
    assert headers.sent(event(OWN | given)) == {
        "Relay-Header-tenant": "north",
        "Relay-Header-n": "3",
        "Relay-Header-yes": "true",
        "Relay-Header-list": '[1, "a"]',
        "Relay-Header-table": '{"a": 1}',
        "Relay-Header-who": "Zo%C3%AB 10%25",
    }


@pytest.mark.parametrize("odd", [Event(b"", "t"), Event(b"", "t", aside=b"\xff\xff", problem="odd"), event({})])
def test_where_there_are_none(odd: Event) -> None:
    assert headers.given(odd) == headers.sent(odd) == {}


def test_what_http_cannot_carry_is_left_out() -> None:
    given = {"a b": "1", "": "2", "c\r\nd": "3", "e:": "4", "Ü": "5", "x" * 101: "6", "fine": "7\r\nEvil: 1"}
    assert headers.sent(event(given)) == {"Relay-Header-fine": "7%0D%0AEvil: 1"}
    many = headers.sent(event({f"n{n}": "x" * 100 for n in range(1000)}))
    assert 20 < len(many) < 40
    assert sum(len(name) + len(text) + 4 for name, text in many.items()) <= headers.SENT_MAX


def _moment(seconds: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).replace(tzinfo=None)


_value = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=50)
    | st.binary(max_size=20) | st.integers(1, 4_000_000_000).map(_moment),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(min_size=1, max_size=20), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip


@hypothesis.given(st.dictionaries(st.text(min_size=1, max_size=50), _value, max_size=5))
def test_whatever_they_hold_the_request_can_be_read(given: dict[str, Any]) -> None:
    try:
        odd = event(given)
    except Exception:  # noqa: BLE001 - pika does not take all of it
        hypothesis.reject()
    lines = "".join(f"{name}: {text}\r\n" for name, text in headers.sent(odd).items())
    read = http.client.parse_headers(io.BytesIO(f"{lines}\r\n".encode("ascii")))
    assert dict(read.items()) == headers.sent(odd)
