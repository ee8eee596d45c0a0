"""What is made of a command before anything is done: is it one, is it carried out, which strands does it name?"""

from __future__ import annotations

from typing import Any

import pytest

from relay.amqp.command_queue import parsed
from relay.delivery import Event, Tries
from relay.receiving.control import COMMANDS, UNDER_WAY_MAX, objection
from relay.receiving.listings import chosen
from relay.receiving.parking.index import Entry, ParkedIndex, Why


@pytest.mark.parametrize(
    ("body", "command"),
    [
        (b'{"command": "replay", "all": true}', {"command": "replay", "all": True}),
        (b'{"command": "show", "id": null}', {"command": "show", "id": None}),
        (b"{}", {}),
        (b'{"command": "replay", "all": "yes"}', None),
        (b'{"command": 1}', None),
        (b'{"command": ["replay"]}', None),
        (b'{"key": {"a": 1}}', None),
        (b"[]", None),
        (b'"replay"', None),
        (b"\xff", None),
        (b"", None),
        (b"[" * 60_000, None),
    ],
)
def test_a_command_is_an_object_of_texts(body: bytes, command: dict[str, Any] | None) -> None:
    assert parsed(body) == command


@pytest.mark.parametrize("what", COMMANDS)
def test_all_are_refused_while_too_many_are_under_way(what: str) -> None:
    assert objection({"command": what, "all": True}, UNDER_WAY_MAX - 1) == ""
    assert "try again later" in objection({"command": what, "all": True}, UNDER_WAY_MAX)


@pytest.mark.parametrize("what", [None, "", "Replay", "x" * 1000])
def test_what_is_no_command_is_refused_in_few_words(what: str | None) -> None:
    said = objection({"command": what}, 0)
    assert said.startswith("no such command")
    assert len(said) < 100


@pytest.mark.parametrize("what", ["replay", "discard"])
@pytest.mark.parametrize(
    ("filters", "refused"),
    [
        ({}, True),
        ({"all": False}, True),
        ({"key": ""}, True),
        ({"id": None}, True),
        ({"all": True}, False),
        *(({name: "x"}, False) for name in ("id", "key", "table", "reason")),
    ],
)
def test_nothing_is_replayed_or_discarded_that_was_not_named(what: str, filters: dict[str, Any], refused: bool) -> None:
    assert bool(objection({"command": what} | filters, 0)) is refused
    assert objection({"command": "parked"} | filters, 0) == "", "to look needs no name"


@pytest.mark.parametrize(
    ("filters", "keys"),
    [
        ({}, ["t 1", "t 2", "u 1"]),
        ({"key": "t 1"}, ["t 1"]),
        ({"table": "t"}, ["t 1", "t 2"]),
        ({"id": "id of t 1"}, ["t 1"]),
        ({"id": "handle of t 2"}, ["t 2"]),
        ({"reason": "http 422"}, ["t 1", "u 1"]),
        ({"reason": "422", "table": "u"}, ["u 1"]),
        ({"key": "t 9"}, []),
    ],
)
def test_a_command_names_strands_by_all_of_its_filters(filters: dict[str, str], keys: list[str]) -> None:
    index = ParkedIndex()
    for key, reason in (("t 1", "HTTP 422: no"), ("t 2", "locked"), ("u 1", "HTTP 422")):
        event = Event(b"", "t", key=key, table=key[0])
        tries = Tries(reason=reason)
        index.enter(event, Entry(key, key, key[0], f"id of {key}", f"handle of {key}", Why.DEAD, tries, 0, 0.0))
    left = Event(b"", "t", key="t 3", table="t")
    index.enter(left, Entry("t 3", "t 3", "t", "", "", Why.DEAD, Tries(), 0, 0.0))
    index.leave("t 3", left)
    assert [entry.key for entry in chosen(index, filters) if entry] == keys
