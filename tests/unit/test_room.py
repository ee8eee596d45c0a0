"""Into the waiting room: what may be on its way together."""

import pytest

from relay.barriers import Before
from relay.delivery import Event
from relay.room import Room


def event(key: str, table: str = "t", op: str = "update") -> Event:
    return Event(b"", "t", op=op, key=key, table=table)


TRUNCATE = event("t", op="truncate")


@pytest.mark.parametrize(
    ("before", "one", "waits"),
    [
        (event("t 1"), event("t 1"), True),
        (event("t 1"), event("t 2"), False),
        (event("t 1"), TRUNCATE, True),
        (TRUNCATE, event("t 1"), True),
        (TRUNCATE, TRUNCATE, True),
        (TRUNCATE, event("u 1", "u"), False),
        (event("u 1", "u"), TRUNCATE, False),
    ],
)
def test_what_has_an_order_is_not_on_its_way_together(before: Event, one: Event, waits: bool) -> None:
    tested = Before(Room().is_barrier)
    assert not tested.holds_up(one.key, one)
    tested.add(before.key, before)
    assert tested.holds_up(one.key, one) is waits


def test_without_order_a_truncate_holds_up_nobody() -> None:
    tested = Before(Room(barriers=False).is_barrier)
    tested.add("1", TRUNCATE)
    assert not tested.holds_up("2", event(""))
