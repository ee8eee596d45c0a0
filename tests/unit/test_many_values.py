"""How many values an event's JSON has, and what of it is read."""

from __future__ import annotations

import json
import random
import time

import pytest
from pika.spec import Basic

from relay.amqp.decode import read_properties
from relay.delivery import VALUE, Event
from relay.receiving.codec import VALUES_FROM, Reader
from relay.targets.many_values import VALUES_MAX, too_many
from relay.targets.only import Only
from relay.targets.python.arguments import Unreadable, parse
from relay.targets.template import LINE_MAX, Context, Missing, alike, in_header, in_url
from relay.values import Condition


def event(body: bytes) -> Event:
    return Reader().to_event(Basic.Deliver("", 1, False, "relay", "t"), read_properties(b"\0\0"), body)  # noqa: FBT003


MANY = VALUES_MAX + 1
REFUSED = [b"[" + b"{}," * MANY, b"[" * MANY, b"[" + b'"a",' * MANY, b'{"a":"","b":[' + b"1," * MANY + b'"\\"']
READ = [
    b"[" + b"{}," * (VALUES_MAX // 2 - 1) + b"1]",
    b'{"csv":"' + b"1,2\\n{[" * MANY + b'"}',  # all of it is a text
    b'["\\"' + b'\\",' * MANY + b'"]',
    b'"' + b"," * MANY,  # no JSON
]


@pytest.mark.parametrize("body", REFUSED, ids=range(len(REFUSED)))
def test_an_event_of_too_many_values_is_not_read(body: bytes) -> None:
    given = event(body)
    assert too_many(given)
    with pytest.raises(Missing, match="more than 500000 values"):
        Context(given).value("event", None)
    with pytest.raises(Unreadable, match="more than 500000 values"):
        parse(given)
    assert Only([Condition("new", "id", frozenset("7"), wanted=True)]).wants(given), "it is not lost"
    assert not Only([Condition("topic", "", frozenset("u"), wanted=True)]).wants(given)


@pytest.mark.parametrize("body", READ, ids=range(len(READ)))
def test_a_large_text_is_one_value(body: bytes) -> None:
    assert not too_many(event(body))


@pytest.mark.parametrize(
    "body", [b'"' + b'\\",' * MANY * 4, b'"\\,' * MANY * 4, b'"",' * MANY * 4, b'"' + b"\\," * MANY * 4]
)
def test_to_count_them_takes_no_longer_for_hostile_texts(body: bytes) -> None:
    given, began = event(body), time.thread_time()
    too_many(given)
    assert time.thread_time() - began < 3


def test_what_is_in_the_window_counts_with_what_it_takes_when_it_is_read() -> None:
    """A window of 16 MiB may be a gigabyte of lists."""
    body = b"[" + b"{}," * 10_000 + b"1]"
    assert event(body).size > VALUE * 20_000
    small = b'{"a":[1,2,3]}'
    assert (len(small) < VALUES_FROM, event(small).values) == (True, 0)


def test_no_line_is_made_of_a_text_of_megabytes() -> None:
    assert in_url("x" * LINE_MAX)
    assert in_header("x" * LINE_MAX)
    for made in (in_url, in_header):
        with pytest.raises(Missing, match="65537 characters is too long"):
            made("x" * (LINE_MAX + 1))


def test_a_column_that_was_meant_is_looked_for_among_some() -> None:
    """Each name that is alike takes 0.2 ms: of a message with 100,000 it was 21 s."""
    shuffled = random.Random(1)
    row = {"".join(shuffled.sample("customer_reference", 18)): 1 for _ in range(50_000)}
    given = event(b'{"new":' + json.dumps(row).encode() + b"}")
    began = time.thread_time()
    assert not Only([Condition("new", "customer_reference", frozenset("7"), wanted=True)]).wants(given)
    assert time.thread_time() - began < 2
    assert alike("custmer", {"id": 1, "customer": 2}) == "customer"
