"""The waiting room's index: what may be on its way into it together, what must go behind it, and what comes back."""

import pytest

from relay.delivery import Event, Tries
from relay.receiving.barriers import Before
from relay.receiving.parking.index import Entry, ParkedIndex, Why


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
    tested = Before(ParkedIndex().is_barrier)
    assert not tested.holds_up(one.key, one)
    tested.add(before.key, before)
    assert tested.holds_up(one.key, one) is waits


def test_without_order_a_truncate_holds_up_nobody() -> None:
    tested = Before(ParkedIndex(barriers=False).is_barrier)
    tested.add("1", TRUNCATE)
    assert not tested.holds_up("2", event(""))


def enter(index: ParkedIndex, one: Event, why: Why = Why.DEAD, due: float = 0.0) -> Entry:
    index.enter(one, Entry(one.key, one.key, one.table, "", "", why, Tries(), 0, due))
    return index.entries[one.key]


def test_what_must_not_overtake_what_is_in_the_room_goes_behind_it() -> None:
    index = ParkedIndex()
    enter(index, event("t 1"))
    assert index.blocks("t 1", event("t 1"))
    assert index.blocks("t", TRUNCATE)
    assert not index.blocks("t 2", event("t 2"))
    assert not index.blocks("u", event("u", "u", "truncate"))
    enter(index, TRUNCATE)
    assert index.blocks("t 2", event("t 2"))
    assert not index.blocks("u 1", event("u 1", "u"))


def test_an_empty_lane_holds_back_what_arrives_until_it_is_settled() -> None:
    """RabbitMQ can forget acknowledgements: what has left would come again, behind what arrives now."""
    for one, later in ((event("t 1"), event("t 1")), (TRUNCATE, event("t 2"))):
        index = ParkedIndex()
        enter(index, one)
        index.leave(one.key, one)
        assert index.blocks(later.key, later)
        assert (index.events, index.is_unsettled, index.lanes()) == (0, True, [])
        index.settle()
        assert not index.blocks(later.key, later)
        assert not index.is_unsettled


def test_as_many_are_discarded_as_were_asked_for() -> None:
    index = ParkedIndex()
    for _ in range(3):
        entry = enter(index, event("t 1"))
    entry.discard = 2
    for _ in range(2):
        assert entry.discard
        index.leave("t 1", event("t 1"))
    assert not entry.discard


def test_what_comes_back_by_itself_and_what_waits_for_a_person() -> None:
    index = ParkedIndex()
    dead, overflow = enter(index, event("t 1")), enter(index, event("t 2"), Why.OVERFLOW, due=10.0)
    enter(index, event("t 3"), Why.BEHIND, due=5.0)
    assert (index.dead, index.events, index.is_quiet()) == (1, 3, False)
    assert [sorted(index.due(now)) for now in (0.0, 5.0, 10.0)] == [[], ["t 3"], ["t 2", "t 3"]]
    index.wake(["t 1", "t 2"], 7.0)
    assert index.due(7.0) == {"t 2", "t 3"}
    index.mark(overflow, Why.DEAD)
    index.mark(dead, Why.OVERFLOW)
    assert (index.dead, index.due(7.0)) == (1, {"t 1", "t 3"})
    index.leave("t 2", event("t 2"))
    assert index.dead == 0, "what was behind the refused event may be tried"
