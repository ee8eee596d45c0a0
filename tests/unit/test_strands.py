"""Strands: the order of a row, waits that hold up nobody, barriers, ghosts of lost sessions."""

import dataclasses

import pytest

from relay.delivery import Event, Tries
from relay.receiving.ready import RETRY_TURN
from relay.receiving.strand import Item, Origin
from relay.receiving.strands import REMEMBERED_MIN, Strands

_numbers = iter(range(1, 10**9))


def event(key: str = "", table: str = "", op: str = "update", *, redelivered: bool = False, seq: int = 0) -> Event:
    number = seq or next(_numbers)
    return Event(b"{}", "t", id=f"id-{number}", op=op, key=key, table=table, seq=number, redelivered=redelivered)


def add(strands: Strands, one: Event, now: float = 0.0) -> Item | None:
    """As the consumer does."""
    if strands.is_copy(one, strands.strand_key(one)):
        return None
    return strands.add(one, lambda: None, now)


def ids(batch: list[Item]) -> list[str]:
    return [item.event.id for item in batch]


def test_of_one_key_only_the_first_event_is_with_a_worker() -> None:
    strands = Strands()
    first, second = event("a"), event("a")
    add(strands, first)
    add(strands, second)
    [item] = strands.take(0)
    assert item.event is first
    assert strands.take(0) == []
    add(strands, event("a"))  # it comes while the first one is under way
    assert strands.take(0) == []
    strands.done(item, 0)
    assert ids(strands.take(0)) == [second.id]


@pytest.mark.parametrize(
    ("op", "key", "spent", "woken"),
    [
        ("delete", "a", False, True),
        ("delete", "a", True, False),  # a failure of its own: it sits out its back-off
        ("update", "a", False, False),
        ("delete", "b", False, False),
    ],
)
def test_what_waits_is_tried_at_once_when_a_delete_of_its_row_comes(
    op: str, key: str, spent: bool, woken: bool
) -> None:
    strands = Strands("key" if key == "a" else "global")
    item = strands.add(event("a"), lambda: None, 0.0)
    assert strands.take(0) == [item]
    strands.again(item, 600.0, 0, spent=spent)
    strands.add(event(key, op=op), lambda: None, 1.0)
    assert item.is_deleted is (op == "delete" and key == "a")
    assert strands.take(1.0) == ([item] if woken else [])


@pytest.mark.parametrize("comes", ["a delete", "what it waits for", "a delete while it is tried"])
def test_whatever_wakes_it_it_is_not_tried_beside_a_request_that_may_still_run(comes: str) -> None:
    strands = Strands()
    item = strands.add(event("a"), lambda: None, 0.0)
    strands.take(0)
    if comes == "a delete while it is tried":
        strands.add(event("a", op="delete"), lambda: None, 1.0)
    item.tries.failed("no answer in time", retry=True, running_until=12.0)
    strands.again(item, 600.0, 2.0, spent=False)
    if comes == "a delete":
        strands.add(event("a", op="delete"), lambda: None, 3.0)
    elif comes == "what it waits for":
        strands.wake([strands.strand_key(item.event)], 3.0)
    assert strands.take(11.9) == []
    assert strands.take(12.0) == [item]


def test_that_a_request_may_still_run_is_known_though_a_copy_of_its_event_has_come() -> None:
    strands = Strands()
    one = event("a", seq=1)
    item = strands.add(one, lambda: None, 0.0)
    strands.take(0)
    item.tries.failed("no answer in time", retry=True, running_until=12.0)
    strands.again(item, 12.0, 2.0, spent=False)
    strands.drop(item, 3.0, remember=False)  # it lies in the parking lot, which is read again
    strands.add(one, lambda: None, 4.0)
    parked = Tries()
    strands.failures.remind(one, parked)
    assert parked.not_before == 12.0


def test_a_delete_that_comes_while_its_row_is_tried_counts_for_that_try() -> None:
    strands = Strands()
    item = strands.add(event("a"), lambda: None, 0.0)
    strands.take(0)
    strands.add(event("a", op="delete"), lambda: None, 1.0)
    strands.again(item, 600.0, 2.0, spent=False)
    assert strands.take(2.0) == [item]


def test_a_waiting_key_holds_up_no_other() -> None:
    strands = Strands()
    bad, behind, good = event("a"), event("a"), event("b")
    for one in (bad, behind):
        add(strands, one)
    [item] = strands.take(0)
    strands.again(item, 10.0, 0, spent=True)
    assert not strands.ready.has_ready(9.9)
    add(strands, good)
    assert ids(strands.take(0)) == [good.id]
    assert strands.take(9.9) == []
    assert strands.ready.next_wake() == 10.0
    [retried] = strands.take(10.0)
    assert retried.event is bad
    assert retried.tries.attempts == 1


def failed(strands: Strands, count: int) -> None:
    """So many events that have failed by themselves, and may be tried again."""
    for n in range(count):
        strands.add(event(f"failed {n}"), lambda: None, 0.0, tries=Tries(attempts=1, retry=True))


def test_what_has_failed_gets_one_turn_of_twenty_while_others_are_ready() -> None:
    strands = Strands()
    failed(strands, 50)
    for n in range(100):
        add(strands, event(f"good {n}"))
    taken = []
    for _ in range(100):
        [item] = strands.take(0)
        taken.append(item.event.key.split()[0])
        strands.done(item, 0)
    assert taken.count("failed") == 100 // RETRY_TURN
    assert taken.index("failed") == RETRY_TURN - 1


def test_what_has_failed_gets_everything_while_nobody_else_is_ready() -> None:
    strands = Strands()
    failed(strands, 50)
    assert len([strands.take(0) for _ in range(50)]) == 50


def test_what_has_failed_and_takes_long_does_not_take_all_workers() -> None:
    strands = Strands(retries=2)
    failed(strands, 50)
    for n in range(200):
        add(strands, event(f"good {n}"))
    hanging = 0
    for _ in range(100):
        [item] = strands.take(0)
        if item.tries.retry:
            hanging += 1
        else:
            strands.done(item, 0)
    assert hanging == 2


def test_what_is_behind_an_event_that_had_failed_has_its_usual_turn() -> None:
    strands = Strands()
    failed(strands, 1)
    add(strands, event("failed 0"))
    [item] = strands.take(0)
    strands.done(item, 0)
    add(strands, event("good"))
    assert [item.event.key for item in strands.take(0, maximum=2)] == ["failed 0", "good"]


def test_events_without_a_key_do_not_wait_for_each_other() -> None:
    strands = Strands()
    for _ in range(3):
        add(strands, event())
    assert len(strands.take(0, maximum=5)) == 3


def test_a_batch_holds_one_group_and_no_key_twice() -> None:
    strands = Strands(group=lambda one: one.table)
    for key, table in [("a", "t"), ("a", "t"), ("b", "u"), ("c", "t"), ("d", "t")]:
        add(strands, event(key, table))
    assert [item.event.key for item in strands.take(0, maximum=2)] == ["a", "c"]
    assert [item.event.key for item in strands.take(0, maximum=2)] == ["b"]  # the groups take turns
    assert [item.event.key for item in strands.take(0, maximum=2)] == ["d"]


def test_truncate_waits_for_what_came_before_and_holds_what_comes_after() -> None:
    strands = Strands()
    before, truncate, after = event("t 1", "t"), event("t", "t", "truncate"), event("t 2", "t")
    elsewhere = event("u 1", "u")
    for one in (before, truncate, after, elsewhere):
        add(strands, one)
    first, other = strands.take(0, maximum=9)
    assert {first.event, other.event} == {before, elsewhere}
    strands.done(first, 0)
    [barrier] = strands.take(0, maximum=9)
    assert barrier.event is truncate
    strands.done(barrier, 0)
    assert ids(strands.take(0, maximum=9)) == [after.id]


def test_order_global_is_one_strand_and_none_is_none() -> None:
    for order, together in (("global", 1), ("none", 3), ("key", 2)):
        strands = Strands(order)
        for key in ("a", "a", "b"):
            add(strands, event(key))
        assert len(strands.take(0, maximum=9)) == together, order


def test_a_request_of_a_lost_session_holds_its_key() -> None:
    strands = Strands()
    one = event("a")
    add(strands, one)
    [ghost] = strands.take(0)
    strands.release(0)
    again = event("a", redelivered=True, seq=one.seq)
    later = event("a", redelivered=True)
    add(strands, again)
    add(strands, later)
    assert strands.take(0) == []
    assert len(strands.done(ghost, 0)) == 1, "the copy is acknowledged, and not delivered a second time"
    assert ids(strands.take(0)) == [later.id]


def test_a_failure_of_a_lost_session_counts() -> None:
    strands = Strands()
    one = event("a")
    add(strands, one)
    [ghost] = strands.take(0)
    strands.release(0)
    add(strands, event("a", redelivered=True, seq=one.seq))
    strands.again(ghost, 5.0, 0, spent=True)
    assert strands.take(4.9) == []
    [item] = strands.take(5.0)
    assert item.tries.attempts == 1


@pytest.mark.parametrize("last", ["update", "truncate"])
def test_after_a_repetition_what_followed_is_repeated_too(last: str) -> None:
    """A listener that crashed sends 1 and 2 again; our connection breaks after 1: 2 comes redelivered."""
    strands = Strands()
    first, second = event("a", "t", seq=1), event("a" if last == "update" else "", "t", last, seq=2)
    for one in (first, second, event("b", "t", seq=3), first):
        add(strands, one)
        strands.done(*strands.take(0), 0)
    assert add(strands, dataclasses.replace(second, redelivered=True)) is not None
    third = add(strands, event("b", "t", redelivered=True, seq=3))
    assert (third is None) == (last == "update"), "only a truncate concerns it"


def test_what_was_delivered_is_recognised_when_its_acknowledgement_got_lost() -> None:
    strands = Strands()
    one = event("a")
    add(strands, one)
    strands.done(strands.take(0)[0], 0)
    strands.release(0)
    assert add(strands, event("a", redelivered=True, seq=one.seq)) is None
    assert add(strands, event("a", seq=one.seq)) is not None, "only what the broker calls redelivered"


def test_what_another_receiver_may_have_repeated_is_not_taken_for_known() -> None:
    """Two were delivered, their acknowledgements lost; another receiver has delivered the first again, and died."""
    strands = Strands()
    one, two = event("a"), event("a")
    for each in (one, two):
        add(strands, each)
        strands.done(*strands.take(0), 0)
    strands.release(0)
    strands.forget()
    assert add(strands, dataclasses.replace(two, redelivered=True)) is not None


def test_a_request_begun_before_another_receivers_turn_proves_nothing() -> None:
    strands = Strands()
    one = event("a")
    add(strands, one)
    [ghost] = strands.take(0)
    strands.release(0)
    strands.forget()
    again = dataclasses.replace(one, redelivered=True)
    add(strands, again)
    assert strands.take(0) == [], "its key waits for it"
    assert strands.done(ghost, 0) == [], "the copy is not acknowledged"
    [item] = strands.take(0)
    assert item.event is again
    strands.release(0)
    strands.done(item, 0)
    assert add(strands, again) is None, "a request begun since is known"


def test_a_request_from_the_waiting_room_holds_its_key_when_another_receiver_has_emptied_it() -> None:
    strands = Strands()
    strands.add(event("a"), lambda: None, 0, "a", origin=Origin.PARKED)
    [ghost] = strands.take(0)
    strands.release(0)
    strands.forget()
    later = event("a")
    add(strands, later)
    assert strands.take(0) == []
    strands.again(ghost, 0, 0, spent=True)
    assert ids(strands.take(0)) == [later.id]


def test_what_comes_to_rest_while_it_is_ready_is_not_delivered() -> None:
    strands = Strands()
    item = add(strands, event("a"))
    assert item is not None
    strands.hold(item.strand)  # it moves into the parking lot
    assert strands.take(0) == []
    strands.resume(item.strand, 0)
    assert strands.take(0) == [item]


def test_only_the_newest_failures_are_remembered() -> None:
    strands = Strands(remember=1)
    events = [event(str(n)) for n in range(REMEMBERED_MIN + 100)]
    for one in events:
        add(strands, one)
        [item] = strands.take(0)
        strands.again(item, 0, 0, spent=True)
        strands.drop(item, 0)
    again = [strands.add(one, lambda: None, 0) for one in events]
    assert [item.tries.attempts for item in again] == [0] * 100 + [1] * REMEMBERED_MIN


@pytest.mark.parametrize("order", ["key", "global", "none"])
def test_bytes_and_events_are_counted_back_to_nothing(order: str) -> None:
    strands = Strands(order)
    for key in ("a", "a", "b", ""):
        add(strands, event(key, "t"))
    while batch := strands.take(0):
        for item in batch:
            strands.done(item, 0)
    assert (strands.events, strands.size) == (0, 0)


def test_a_repetition_that_was_begun_is_repeated_to_its_end() -> None:
    """The target has it, the answer got lost, and so does the connection: what follows it must come again, too."""
    strands = Strands()
    older, newer = event("a"), event("a")
    for one in (older, newer):
        add(strands, one)
        [item] = strands.take(0)
        strands.done(item, 0)
    add(strands, older)  # a listener has crashed, and sends both again
    add(strands, newer)
    [item] = strands.take(0)
    strands.again(item, 5, 0, spent=False)  # the connection was reset
    strands.release(0)
    again = [dataclasses.replace(one, redelivered=True) for one in (older, newer)]
    assert [strands.is_copy(one, strands.strand_key(one)) for one in again] == [False, False]
