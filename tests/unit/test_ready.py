"""Whose turn it is: groups, waits, and strands that leave while they are listed."""

from __future__ import annotations

import random

import pytest

from relay.delivery import Event, Tries
from relay.receiving.ready import SLACK, Ready
from relay.receiving.strand import Item, Origin, State, Strand


def strand(name: str = "", *, not_before: float = 0.0, retry: bool = False, origin: Origin = Origin.MAIN) -> Strand:
    made = Strand(name, origin)
    made.items.append(Item(Event(b"", "t"), None, made, tries=Tries(not_before=not_before, retry=retry)))
    return made


def add(ready: Ready, count: int, group: str = "g", now: float = 0.0) -> list[Strand]:
    strands = [strand(f"{group} {n}") for n in range(count)]
    for one in strands:
        ready.add(one, group, now)
    return strands


def test_a_batch_is_of_one_group_and_groups_take_turns() -> None:
    ready = Ready()
    first, second = add(ready, 5, "a"), add(ready, 2, "b")
    assert all(one.state is State.READY for one in first)
    assert [ready.take(7.0, maximum=2) for _ in range(4)] == [first[:2], second, first[2:4], first[4:]]
    assert ready.take(7.0, maximum=2) == []
    assert {(one.state, one.items[0].since) for one in first + second} == {(State.IN_FLIGHT, 7.0)}


def test_a_small_group_may_grow_for_as_long_as_the_patience_says() -> None:
    ready, patience = Ready(), (1.0, 10.0)
    strands = add(ready, 1, now=100.0) + add(ready, 1, now=100.5)
    assert ready.next_ripe(patience) == 101.5, "a second after it grew for the last time"
    assert ready.take(101.4, maximum=3, minimum=3, patience=patience) == []
    assert ready.take(101.5, maximum=3, minimum=3, patience=patience) == strands
    for n in range(20):
        add(ready, 1, now=200.0 + n)
    assert ready.next_ripe(patience) == 210.0, "and no longer than ten since its first one came"
    assert len(ready.take(200.0, maximum=30, minimum=20, patience=patience)) == 20, "a full one does not wait"
    assert ready.next_ripe(patience) is None


def test_a_strand_that_waits_comes_in_the_order_of_times() -> None:
    ready = Ready()
    times = random.Random(1).sample(range(1, 100), 50)
    strands = {at: strand(not_before=at) for at in times}
    for one in strands.values():
        ready.wait(one)
    assert (ready.next_wake(), ready.take(1000.0), ready.has_ready(0.0)) == (min(times), [], False)
    assert ready.has_ready(float(min(times)))
    assert ready.due(50.0) == [strands[at] for at in sorted(times) if at <= 50]
    assert {one.state for at, one in strands.items() if at <= 50} == {State.IDLE}
    assert ready.next_wake() == min(at for at in times if at > 50)


@pytest.mark.parametrize("waits", [True, False])
def test_what_has_left_is_not_found(waits: bool) -> None:
    ready = Ready()
    gone, stays = strand(not_before=1.0), strand(not_before=2.0)
    for one in (gone, stays):
        if waits:
            ready.wait(one)
        else:
            ready.add(one, "g", 0.0)
    ready.remove(gone)
    assert gone.state is State.IDLE
    assert ready.next_wake() == (2.0 if waits else None)
    assert (ready.due(9.0) or ready.take(9.0, maximum=2)) == [stays]
    ready.remove(gone)  # it is in neither: nothing happens
    assert (ready.has_ready(9.0), ready.next_ripe((0.0, 0.0)), ready.next_wake()) == (False, None, None)


def test_one_that_has_left_and_comes_to_another_group_is_in_that_alone() -> None:
    ready = Ready()
    [one, other] = add(ready, 2, "a")
    ready.remove(one)
    ready.add(one, "b", 0.0)
    assert [ready.take(0.0, maximum=5), ready.take(0.0, maximum=5), ready.take(0.0, maximum=5)] == [[other], [one], []]


def test_one_that_has_left_and_waits_again_waits_for_its_new_time() -> None:
    ready = Ready()
    one = strand(not_before=1.0)
    ready.wait(one)
    ready.remove(one)
    one.items[0].tries.postpone(5.0, spent=False)
    ready.wait(one)
    assert (ready.next_wake(), ready.due(4.0), ready.due(5.0)) == (5.0, [], [one])


def test_waits_that_are_over_take_no_memory() -> None:
    ready = Ready()
    for _ in range(20 * SLACK):
        one = strand(not_before=1e9)
        ready.wait(one)
        ready.remove(one)
    assert len(ready._heap) <= SLACK + 1


def test_one_whose_failure_has_turned_out_to_be_its_own_waits_after_all() -> None:
    ready = Ready()
    [first, second] = add(ready, 2)
    first.items[0].tries.wait_as_own(10.0)
    assert ready.take(0.0) == [second]
    assert (first.state, ready.next_wake()) == (State.WAITING, 10.0)


def test_of_an_origin_only_its_own_strands_are_ready() -> None:
    ready = Ready()
    parked = strand(origin=Origin.PARKED)
    ready.add(parked, "g", 0.0)
    assert [ready.has_ready(0.0, origin) for origin in (None, Origin.PARKED, Origin.MAIN)] == [True, True, False]


def test_what_has_failed_and_is_under_way_keeps_the_next_ones_back_until_it_has_ended() -> None:
    ready = Ready(retries=1)
    for _ in range(5):
        ready.add(strand(retry=True), "g", 0.0)
    add(ready, 60, "good")
    taken = [ready.take(0.0)[0] for _ in range(42)]
    failed = [one for one in taken if one.items[0].tries.retry]
    assert len(failed) == 1, "the second one waits for the end of the first"
    ready.landed(failed[0])
    assert ready.take(0.0)[0].items[0].tries.retry


def test_groups_of_a_lower_rank_go_first_but_for_one_batch_of_twenty() -> None:
    ready = Ready(rank=lambda group: {"first": 1, "second": 2}.get(group, 9))
    group_of = {one: group for group in ("last", "second", "first") for one in add(ready, 30, group)}
    taken = [group_of[ready.take(7.0)[0]] for _ in range(40)]
    assert taken[:19] == ["first"] * 19
    assert taken[19] == "last", "it has waited longest: nothing waits for ever"
    assert taken[20:31] == ["first"] * 11
    assert set(taken[31:39]) == {"second"}
    assert taken[39] == "last"
    [late] = add(ready, 1, "first")
    assert ready.take(7.0) == [late]
