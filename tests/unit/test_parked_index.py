"""The parking lot's index: what may be on its way into it together, what must go behind it, and what comes back."""

import random

import pytest

from relay.delivery import Event, Tries
from relay.receiving.barriers import Before
from relay.receiving.parking.index import READ_ANYWAY, Entry, ParkedIndex, Why
from relay.receiving.parking.sweep import AHEAD_MAX, reach_of


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


def test_an_empty_strand_holds_back_what_arrives_until_it_is_settled() -> None:
    """RabbitMQ can forget acknowledgements: what has left would come again, behind what arrives now."""
    for one, later in ((event("t 1"), event("t 1")), (TRUNCATE, event("t 2"))):
        index = ParkedIndex()
        enter(index, one)
        index.leave(one.key, one)
        assert index.blocks(later.key, later)
        assert (index.events, index.is_unsettled, index.strands()) == (0, True, [])
        index.settle()
        assert not index.blocks(later.key, later)
        assert not index.is_unsettled


def test_as_many_are_discarded_as_were_asked_for() -> None:
    index = ParkedIndex()
    for _ in range(3):
        enter(index, event("t 1"))
    index.discard("t 1")
    enter(index, event("t 1"))  # it comes later, and is none of it
    for left in (3, 2, 1):
        assert index.entries["t 1"].discard == left
        index.leave("t 1", event("t 1"))
    assert (index.entries["t 1"].discard, index.entries["t 1"].count) == (0, 1)


def test_what_comes_back_by_itself_and_what_waits_for_a_person() -> None:
    index = ParkedIndex()
    enter(index, event("t 1"))
    enter(index, event("t 2"), Why.OVERFLOW, due=10.0)
    enter(index, event("t 3"), Why.BEHIND, due=5.0)
    assert (index.dead, index.events, index.is_quiet()) == (1, 3, False)
    assert [sorted(index.due(now)) for now in (0.0, 5.0, 10.0)] == [[], ["t 3"], ["t 2", "t 3"]]
    index.wake(["t 1", "t 2"], 7.0)
    assert index.due(7.0) == {"t 2", "t 3"}
    index.failed("t 2", Why.DEAD, event("t 2"), Tries())
    index.retry("t 1", 7.0)
    assert (index.dead, index.due(7.0)) == (1, {"t 1", "t 3"})
    index.leave("t 2", event("t 2"))
    assert index.dead == 0, "what was behind the refused event may be tried"


def test_a_replay_gives_a_refused_event_one_try_and_takes_along_what_is_behind_it() -> None:
    index = ParkedIndex()
    refused = enter(index, event("t 1"), Why.DEAD)
    refused.tries.attempts = 8
    enter(index, event("t 2"), Why.BEHIND, due=50.0)
    enter(index, event("t 3"), Why.OVERFLOW, due=50.0)
    enter(index, event("u 1", "u"), Why.BEHIND, due=50.0)
    index.did_not_move("t 2", 60.0, 70.0)
    assert index.entries["t 2"].stuck
    index.replay("t 1", 5.0, 7)
    index.hurry({"t"}, 5.0)
    assert (index.entries["t 1"].why, index.dead) == (Why.OVERFLOW, 0)
    tries = index.entries["t 1"].tries
    assert (tries.attempts, tries.asked, tries.retry, tries.not_before) == (7, True, False, 0.0)
    assert (index.due(5.0), index.entries["t 2"].stuck) == ({"t 1", "t 2"}, False)


def test_a_replay_leaves_the_tries_of_what_was_not_refused() -> None:
    index = ParkedIndex()
    entry = enter(index, event("t 1"), Why.OVERFLOW, due=50.0)
    entry.tries.postpone(50.0, spent=False)
    index.replay("t 1", 5.0, 7)
    assert (index.due(5.0), entry.tries.attempts, entry.tries.asked) == ({"t 1"}, 0, False)
    assert entry.tries.not_before == 5.0, "or the pass that takes it would wait with it"


def test_what_failed_waits_for_its_next_try_and_is_first_of_its_strand() -> None:
    index = ParkedIndex()
    enter(index, event("t 1"), Why.OVERFLOW)
    one, tries = Event(b"", "t", id="2", handle="h2", key="t 1", table="t"), Tries(not_before=30.0)
    index.failed("t 1", Why.OVERFLOW, one, tries)
    entry = index.entries["t 1"]
    assert (entry.first_id, entry.first_handle, entry.tries) == ("2", "h2", tries)
    assert (index.due(29.0), index.due(30.0)) == (set(), {"t 1"})
    index.failed("t 9", Why.DEAD, one, tries)  # its strand is gone: the room was read anew
    assert (index.dead, list(index.entries)) == (0, ["t 1"])


@pytest.mark.parametrize(
    ("why", "first", "due"),
    [
        (Why.OVERFLOW, True, 30.0),
        (Why.BEHIND, True, 30.0),  # and can be woken now
        (Why.OVERFLOW, False, 0.0),  # of the same strand, and not the first one there
        (Why.DEAD, True, 0.0),
    ],
)
def test_what_was_moved_while_it_was_tried_waits_as_long_as_its_try_says(why: Why, first: bool, due: float) -> None:
    index = ParkedIndex()
    entry = enter(index, event("t 1"), why)
    entry.tries.postpone(30.0, spent=False)
    index.put_off("t 1", entry.tries if first else Tries(not_before=30.0))
    assert index.entries["t 1"].due == due
    assert index.wake(["t 1"], 7.0) == ([] if why is Why.DEAD else ["t 1"])
    index.put_off("t 9", entry.tries)  # its strand has left
    assert list(index.entries) == ["t 1"]


def test_a_delete_wakes_what_waits_before_it_and_is_known_until_it_has_left() -> None:
    index, gone = ParkedIndex(), event("t 1", op="delete")
    for why, attempts, due in ((Why.OVERFLOW, 0, 0.0), (Why.OVERFLOW, 1, 50.0), (Why.DEAD, 0, 50.0)):
        index.clear()
        enter(index, event("t 1"), why, due=50.0).tries.attempts = attempts
        assert not index.has_delete("t 1")
        enter(index, gone)
        assert (index.entries["t 1"].due, index.has_delete("t 1")) == (due, True)
    index.leave("t 1", event("t 1"))
    assert index.has_delete("t 1")
    enter(index, event("t 1", op="insert"))
    index.leave("t 1", gone)
    assert not index.has_delete("t 1"), "the row is there again"
    assert not index.has_delete("t 9")


def test_a_strand_that_could_not_be_moved_is_looked_at_again_later() -> None:
    index = ParkedIndex()
    enter(index, event("t 1"), Why.BEHIND)
    enter(index, event("t 2"), Why.OVERFLOW)
    enter(index, event("t 3"), Why.BEHIND, due=20.0)
    for strand in ("t 1", "t 2", "t 3", "t 9"):
        index.did_not_move(strand, 10.0, 15.0)
    assert [index.entries[f"t {n}"].due for n in (1, 2, 3)] == [15.0, 15.0, 20.0]
    assert [index.entries[f"t {n}"].stuck for n in (1, 2, 3)] == [True, False, False]


@pytest.mark.parametrize(("other", "waits"), [(Why.DEAD, True), (Why.OVERFLOW, False), (Why.BEHIND, True)])
def test_what_is_behind_something_that_waits_for_a_person_waits_for_one_too(other: Why, waits: bool) -> None:
    index = ParkedIndex()
    enter(index, TRUNCATE, other, due=99.0)
    enter(index, event("t 1"), Why.BEHIND)
    assert not index.waits_for_person(index.entries["t 1"])
    index.did_not_move("t 1", 10.0, 15.0)
    assert index.waits_for_person(index.entries["t 1"]) is waits


def test_when_the_last_of_a_truncate_has_left_what_is_behind_it_is_due() -> None:
    index = ParkedIndex()
    enter(index, TRUNCATE, Why.OVERFLOW)
    enter(index, event("t 1"), Why.BEHIND, due=99.0)
    index.leave("t", TRUNCATE)
    assert index.due(1.0) == set()
    index.settle()
    assert index.due(1.0) == {"t 1"}
    assert not index.is_barred("t")


def test_after_a_clear_nothing_is_known() -> None:
    index = ParkedIndex()
    enter(index, TRUNCATE)
    index.leave("t", TRUNCATE)
    enter(index, event("t 1"))
    index.clear()
    assert (index.events, index.dead, index.entries) == (0, 0, {})
    assert not index.blocks("t 1", event("t 1"))
    assert not index.blocks("t", TRUNCATE)
    index.settle()
    enter(index, TRUNCATE)
    assert index.is_barred("t"), "what fell before takes nothing from what comes now"


def test_the_order_matters_only_where_a_strand_has_two_events_or_a_truncate_is_there() -> None:
    index = ParkedIndex()
    for n in range(READ_ANYWAY):
        enter(index, event(f"t {n}"), Why.OVERFLOW)
    assert not index.is_loose, "so few are read anyway"
    enter(index, event("t last"), Why.OVERFLOW)
    enter(index, event("t more"), Why.OVERFLOW)
    assert index.is_loose
    index.leave("t 0", event("t 0"))
    assert index.is_loose, "an empty strand holds nothing"
    enter(index, event("t 1"))
    assert not index.is_loose
    index.leave("t 1", event("t 1"))
    assert index.is_loose
    enter(index, TRUNCATE)
    assert not index.is_loose
    index.leave("t", TRUNCATE)
    index.settle()
    assert index.is_loose


def test_how_far_a_pass_reads() -> None:
    index = ParkedIndex()
    for n in range(2 * AHEAD_MAX + 1):
        enter(index, event(f"t {n}"), Why.OVERFLOW)
    assert [reach_of(index, fits) for fits in (5, 5000, 10**9)] == [READ_ANYWAY, 5000, AHEAD_MAX]
    further = [reach_of(index, 10**9, vain) for vain in range(4)]
    assert further == [AHEAD_MAX, 2 * AHEAD_MAX, 0, 0], "twice as far where nothing was found, in the end all"
    enter(index, event("t 1"))
    assert reach_of(index, 5000) == 0, "their order must be kept"


@pytest.mark.parametrize("seed", range(20))
def test_what_is_due_is_found_whatever_has_happened(seed: int) -> None:
    """It is not looked for while nothing can be due: whatever changes an entry must say so."""
    rng, index = random.Random(seed), ParkedIndex()
    for step in range(300):
        now, one = float(step), event(f"t {rng.randrange(12)}")
        known = index.entries.get(one.key)
        act = rng.randrange(8)
        if act < 2 or known is None:
            enter(index, one, rng.choice(list(Why)), due=now + rng.randrange(-5, 30))
        elif act == 2 and known.count:
            index.leave(one.key, one)
        elif act == 3 and known.count:
            index.failed(one.key, rng.choice([Why.DEAD, Why.OVERFLOW]), one, Tries(not_before=now + rng.randrange(30)))
        elif act == 4:
            index.wake([one.key], now)
        elif act == 5 and known.count:
            rng.choice([index.discard, lambda strand: index.retry(strand, now)])(one.key)  # noqa: B023
        elif act == 6:
            index.did_not_move(one.key, now, now + 9)
        elif act == 7:
            index.settle()
        wanted = {e.strand for e in index.strands() if e.discard or (e.why is not Why.DEAD and e.due <= now)}
        assert index.due(now) == wanted
        assert index.is_unsettled == any(not e.count for e in index.entries.values())
