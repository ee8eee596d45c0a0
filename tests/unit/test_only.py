"""ONLY: what is asked for, and what is wrong with what it says."""

from __future__ import annotations

import json
from typing import Any

import pytest

from relay import values
from relay.delivery import Event
from relay.targets.only import Only

ROW = {"id": 7, "state": "confirmed", "note": None, "open": True, "total": "10.50", "name": "a b"}


def event(op: str = "update", **more: Any) -> Event:
    body = {"table": "public.orders", "op": op, "key": {"id": 7}, "old": {**ROW, "state": "draft"}, "new": ROW, **more}
    text = json.dumps(body).replace('"10.50"', "10.50").encode()
    return Event(text, "public.orders", op=op, table="public.orders", key="k", seq=1)


@pytest.mark.parametrize(
    ("only", "wanted"),
    [
        ("", True),
        ("op:insert,update", True),
        ("op=update", True),
        ("op:insert", False),
        ("op!=insert", True),
        ("op!:update", False),
        ("op:update new[state]=confirmed", True),
        ("op:insert new[state]=confirmed", False),
        ("new[state]=confirmed,paid old[state]!=confirmed,paid", True),
        ("old[state]=confirmed", False),
        ("new[id]=7", True),
        ("key[id]=7,8", True),
        ("new[id]=70", False),
        ("new[total]=10.50", True),
        ("new[total]=10.5", False),
        ("new[open]=true", True),
        ("new[open]!=true", False),
        ("new[note]=", True),
        ("new[note]!=", False),
        ("new[name]='a b'", True),
        ("topic=public.orders table=public.orders", True),
        ("topic=public.lines", False),
        ("event[op]=update", True),
        ("new[stat]=confirmed", False),
        ("new[stat]!=confirmed", False),
    ],
)
def test_what_is_asked_for(only: str, wanted: bool) -> None:
    assert Only(values.conditions(only)).wants(event()) is wanted


def test_what_is_not_there_is_not_asked_for() -> None:
    only = Only(values.conditions("new[state]!=draft"))
    assert not only.wants(event("delete", new=None))
    assert not only.wants(Event(b"no json", "public.orders"))
    assert not only.wants(Event(b"[1]", "public.orders"))
    assert not only.wants(Event(b'{"new": 3}', "public.orders"))


def test_what_cannot_be_judged_is_not_filtered() -> None:
    only = Only(values.conditions("op:insert"))
    assert only.wants(Event(b"{}", "t", op="update", problem="its headers can't be read"))
    assert only.wants(Event(b"{}", "t", op="update", claimed_id="x"))
    assert not only.wants(Event(b"{}", "t", op="update"))


def test_a_misspelt_column_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    only = Only(values.conditions("new[stat]=confirmed"))
    for _ in range(3):
        assert not only.wants(event())
    (line,) = caplog.messages
    assert "name=new[stat] topic=public.orders did_you_mean=state" in line


@pytest.mark.parametrize(
    ("only", "told"),
    [
        ("op:insrt", "op:insrt: insrt is no op"),
        ("op:", "nothing is no op"),
        ("op", "op is no condition"),
        ("new=1", "new=1 is no condition"),
        ("new[state", "new[state is no condition"),
        ("nwe[state]=1", "nwe[state]=1 is no condition"),
        ("new[state]=a b", "b is no condition"),
        ("new[a]='b", "has an open quote"),
        ("op:insert, update", "op:insert,: nothing is no op"),
    ],
)
def test_what_is_wrong_names_the_part(only: str, told: str) -> None:
    with pytest.raises(values.Invalid) as caught:
        values.conditions(only)
    assert told in caught.value.what
    assert caught.value.remedy
