"""The referee of make chaos, on histories written by hand; and its plans, which come from the seed alone."""

from __future__ import annotations

from chaos import plan
from chaos.referee import Arrival, Change, Fault, Verdict, canonical, committed, judge, told

KILL = Fault("receiver.kill", 10.0, 12.0, severs=True)


def change(number: int, key: str = "a", op: str = "update", table: str = "t") -> Change:
    """A change that was committed at second `number`."""
    return Change(table, key, op, number, at=float(number), images=f"image {number}")


def arrival(number: int, key: str = "a", *, sender: str = "one", began: float = 0.0, at: float = 0.0) -> Arrival:
    return Arrival(f"id {key} {number}", change(number, key), sender, began or float(number), at or number + 0.1)


THREE = [change(1), change(2), change(3)]


def kinds(verdict: Verdict) -> set[str]:
    return set(verdict.problems)


def test_everything_in_order_is_no_finding() -> None:
    verdict = judge([*THREE, change(4, "b")], [arrival(1), arrival(4, "b"), arrival(2), arrival(3)])
    assert (verdict.problems, verdict.committed, verdict.delivered) == ({}, 4, 4)


def test_a_change_that_never_came_is_lost() -> None:
    verdict = judge(THREE, [arrival(1), arrival(3)])
    assert kinds(verdict) == {"lost"}
    assert verdict.lost == ["update of t a (change 2) never arrived"]


def test_an_event_of_no_committed_change_is_invented() -> None:
    assert kinds(judge(THREE[:2], [arrival(1), arrival(2), arrival(3)])) == {"invented"}
    assert kinds(judge(THREE[:1], [arrival(1), arrival(1, "never")])) == {"invented"}


def test_a_second_id_for_one_change_is_invented() -> None:
    other = Arrival("another id", change(1), "one", 1.0, 1.2)
    assert "invented" in kinds(judge(THREE[:1], [arrival(1), other]))


def test_an_event_with_another_content_is_altered() -> None:
    wrong = Arrival("id", Change("t", "a", "update", 1, images="other"))
    assert kinds(judge(THREE[:1], [wrong])) == {"altered"}


def test_one_id_for_two_changes_is_altered() -> None:
    assert "altered" in kinds(judge(THREE[:2], [Arrival("id", change(1)), Arrival("id", change(2))]))


def test_a_later_change_that_overtakes_is_reordered() -> None:
    assert kinds(judge(THREE, [arrival(1), arrival(3), arrival(2)])) == {"reordered"}


def test_the_keys_of_two_tables_do_not_wait_for_each_other() -> None:
    changes = [change(1), change(2, table="u")]
    arrivals = [Arrival("2", change(2, table="u")), Arrival("1", change(1))]
    assert judge(changes, arrivals).problems == {}


def test_a_tail_that_is_repeated_to_its_end_is_in_order() -> None:
    again = [arrival(n, at=13.0) for n in (2, 3)]
    verdict = judge(THREE, [arrival(1), arrival(2), arrival(3), *again], [KILL])
    assert (verdict.problems, verdict.duplicates) == ({}, {"receiver.kill": 2})


def test_an_old_event_that_comes_again_last_is_reordered() -> None:
    assert kinds(judge(THREE, [arrival(1), arrival(2), arrival(3), arrival(2, at=13.0)], [KILL])) == {"reordered"}


def test_a_repetition_with_a_hole_is_reordered() -> None:
    changes = [*THREE, change(4)]
    again = [arrival(1, at=13.0), arrival(4, at=13.1)]
    assert kinds(judge(changes, [arrival(1), arrival(2), arrival(3), *again], [KILL])) == {"reordered"}


def test_a_repetition_that_is_cut_off_goes_on_from_what_was_not_acknowledged() -> None:
    """The queue held 3, not acknowledged, before the tail 1 2 3 that the listener sent again."""
    history = [arrival(1), arrival(2), arrival(3), arrival(1, at=13.0)]
    resumed = [arrival(n, sender="two", began=25.0, at=25.0 + n) for n in (3, 1, 2, 3)]
    cut = Fault("receiver.kill", 14.0, 15.0, severs=True)
    assert judge(THREE, [*history, *resumed], [KILL, cut]).problems == {}
    lasting = Fault("listener.kill", 10.0, 30.0)
    assert kinds(judge(THREE, [*history, *resumed], [lasting])) == {"reordered"}, "nobody was cut off"
    assert kinds(judge(THREE, [*history, *resumed[:3]], [KILL, cut])) == {"reordered"}, "left with an older state"


def test_a_new_event_after_a_hole_is_reordered_whoever_was_cut_off() -> None:
    changes = [*THREE, change(30)]
    history = [arrival(1), arrival(2), arrival(3), arrival(1, at=13.0), arrival(30, began=30.0, at=30.1)]
    cut = Fault("receiver.kill", 14.0, 15.0, severs=True)
    assert kinds(judge(changes, history, [KILL, cut])) == {"reordered"}


def test_a_repetition_that_one_receiver_begins_and_another_takes_for_known_is_reordered() -> None:
    """One delivers 1 and 2, and nobody hears of it; two delivers 1 and is killed; one comes back and leaves 2 out."""
    changes = [*THREE[:2], change(30)]
    begun = [arrival(1, at=11.0), arrival(2, at=11.1), arrival(1, sender="two", began=13.0, at=13.1)]
    cut = Fault("receiver.handover", 11.2, 13.5, severs=True)
    assert kinds(judge(changes, [*begun, arrival(30)], [cut])) == {"reordered"}
    assert kinds(judge(changes[:2], begun, [cut])) == {"reordered"}, "for a row that changes no more"
    whole = [*begun, arrival(2, began=14.0, at=14.1), arrival(30)]
    assert judge(changes, whole, [cut]).problems == {}


def test_a_request_under_way_when_its_receiver_was_cut_off_may_complete_late() -> None:
    history = [arrival(1), arrival(2, sender="two", at=11.0), arrival(3, sender="two", at=11.1)]
    late = arrival(2, began=9.9, at=11.5)
    verdict = judge(THREE, [*history, late], [KILL])
    assert (verdict.problems, verdict.late) == ({}, 1)


def test_of_a_handover_the_moment_in_which_the_standby_was_killed_is_known() -> None:
    """It had its turn, and left a request behind; who had been stopped meanwhile has no excuse to begin one."""
    faults = [
        Fault("receiver.handover", 9.0, 12.0, severs=True),
        Fault("receiver.handover", 11.0, 12.0, severs=True, known=0.0),
    ]
    history = [arrival(1), arrival(2, sender="two", at=11.2), arrival(3, sender="two", at=11.3)]
    verdict = judge(THREE, [*history, arrival(2, began=10.9, at=11.5)], faults)
    assert (verdict.problems, verdict.late) == ({}, 1)
    assert kinds(judge(THREE, [*history, arrival(2, began=11.1, at=11.5)], faults)) == {"reordered"}


def test_a_request_that_begins_after_its_receiver_was_cut_off_is_no_excuse() -> None:
    history = [arrival(1), arrival(2, sender="two", at=11.0), arrival(3, sender="two", at=11.1)]
    zombie = arrival(2, began=11.4, at=11.5)
    assert kinds(judge(THREE, [*history, zombie], [KILL])) == {"reordered"}


def test_a_repetition_without_a_fault_that_can_cause_it_is_unexplained() -> None:
    harmless = Fault("endpoint.slow", 1.0, 5.0, repeats=False)
    long_ago = Fault("receiver.kill", -20.0, -19.0)
    verdict = judge(THREE[:1], [arrival(1), arrival(1)], [harmless, long_ago])
    assert kinds(verdict) == {"unexplained"}


def test_a_truncate_keeps_its_place_in_the_table() -> None:
    truncate = change(2, "", "truncate")
    changes = [change(1), truncate, change(3), change(4, "b")]
    cut = Arrival("cut", truncate)
    good = [arrival(1), cut, arrival(3), arrival(4, "b")]
    assert judge(changes, good).problems == {}
    assert kinds(judge(changes, [good[0], good[3], cut, good[2]])) == {"reordered"}
    assert kinds(judge(changes, [cut, *good[:1], *good[2:]])) == {"reordered"}


def test_a_new_key_is_a_delete_and_an_insert() -> None:
    old, new = {"id": 1, "change": 7}, {"id": 2, "change": 8}
    assert committed([(0.0, 5, "t", "update", old, new)]) == [
        Change("t", '{"id": 1}', "delete", 7),
        Change("t", '{"id": 2}', "insert", 8),
    ]


def test_versions_tell_the_order_when_the_audit_was_written_in_another() -> None:
    def image(number: int) -> dict[str, int]:
        return {"id": 1, "change": number}

    rows = [
        (0.0, 5, "t", "update", image(2), image(3)),  # by a trigger, before the statement that it belongs to
        (0.0, 5, "t", "update", image(1), image(2)),
        (0.0, 6, "t", "delete", image(3), None),
        (0.0, 7, "t", "insert", None, image(9)),
        (0.0, 8, "t", "update", image(9), image(10)),
    ]
    found = [(change.op, change.number) for change in committed(rows)]
    assert found == [("update", 2), ("update", 3), ("delete", 3), ("insert", 9), ("update", 10)]


def test_what_an_event_tells_is_what_the_audit_knows() -> None:
    old, new = {"id": 1, "change": 7, "n": 1}, {"change": 8, "id": 1, "n": 2}
    (known,) = committed([(0.0, 5, "t", "update", old, new)])
    said = told({"table": "t", "op": "update", "xid": 5, "key": {"id": 1}, "old": old, "new": new})
    assert (said, said.images) == (known, known.images)
    assert said.images == canonical([old, new])


def test_a_plan_comes_from_its_seed_alone() -> None:
    assert plan.make(7, 3) == plan.make(7, 3)
    assert plan.make(7, 3) != plan.make(7, 4) != plan.make(8, 4)


def test_strikes_on_one_place_never_overlap_and_every_kind_has_its_turn() -> None:
    seen = set()
    for number in range(200):
        ends: dict[str, float] = {}
        for strike in plan.make(1, number).strikes:
            assert strike.at >= ends.get(strike.kind.place, 0.0)
            ends[strike.kind.place] = strike.at + strike.seconds
            seen.add(strike.kind.name)
    assert seen == {kind.name for kind in plan.KINDS}


def test_the_kinds_that_cut_a_receiver_off_exist() -> None:
    assert {kind.name for kind in plan.KINDS} >= plan.SEVERS
