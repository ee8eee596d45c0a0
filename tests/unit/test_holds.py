"""What must wait, however much of it strangers make up: nothing grows with their keys, and nobody's turn is lost."""

from __future__ import annotations

import sys
import tracemalloc

from relay.listening.event import OutboxEvent
from relay.listening.holds import GROUPS_MOST, NAMED_BYTES, NAMED_MOST, PROBE_MIN, Holds


def event(seq: int, key: str | None = None, table: str | None = None, op: str = "insert") -> OutboxEvent:
    return OutboxEvent(seq, f"id-{seq}", 0, 1, "t", table, op, key, b"{}")


def test_keys_of_refused_events_take_no_memory_of_their_size() -> None:
    """Any writer whose key is a text, and any publisher, can have thousands refused, each with a key of 200 kB."""
    holds = Holds()
    tracemalloc.start()
    for seq in range(2000):
        holds.refuse(f"{seq} " + "k" * 200_000, seq, "t")
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken < 1 << 20
    assert holds.holds(event(3000, "7 " + "k" * 200_000, "t"))
    assert not holds.holds(event(3000, "7 " + "k" * 200_001, "t"))


def test_a_read_is_told_of_so_many_keys_and_no_more() -> None:
    """They are in the text of every statement; the rest comes with its body, and is left here."""
    holds = Holds()
    for seq in range(50_000):
        holds.refuse(f"key {seq}", seq, "t")
        holds.hold(f"table {seq}", seq, "unroutable", 0.0)
        holds.hold(f"topic {seq}", seq, "unroutable", 0.0)
    told = [*holds.keys, *holds.tables, *holds.topics]
    assert len(told) == 3 * NAMED_MOST
    assert max(map(len, told)) <= NAMED_BYTES
    assert holds.holds(event(60_000, "key 49999"))
    assert sys.getsizeof(holds.keys) < 20_000


def test_a_barrier_waits_for_the_first_refused_event_of_its_table() -> None:
    holds = Holds()
    holds.refuse("t 2", 20, "t")
    holds.refuse("t 1", 10, "t")
    truncate = {seq: event(seq, "t", "t", "truncate") for seq in (9, 11)}
    assert not holds.refused_before(truncate[9])
    assert holds.refused_before(truncate[11])
    assert not holds.refused_before(event(11, "u", "u", "truncate"))
    holds.forget_refused()
    assert not holds.refused_before(truncate[11])
    assert not holds


def test_what_is_read_again_is_probed_first_unless_a_refused_event_is_before_it() -> None:
    holds = Holds()
    holds.hold("table t", 30, "unroutable", 0.0)
    holds.extend("table t", 10, eligible=False)
    assert (holds.groups["table t"].low, holds.groups["table t"].probe_from) == (10, 30)
    holds.extend("table t", 20, eligible=True)
    holds.extend("table t", 40, eligible=True)
    assert (holds.groups["table t"].low, holds.groups["table t"].probe_from) == (10, 20)


def test_every_group_has_its_turn_however_many_there_are() -> None:
    """The first ones of thousands were due again before the last ones had been tried."""
    holds = Holds()
    for n in range(2000):
        holds.hold(f"topic {n}", n, "unroutable", 0.0)
    assert holds.due(0.0) is None
    tried, now = [], PROBE_MIN
    while len(tried) < 4000:
        due = holds.due(now)
        if due:
            tried.append(due[0])
        now += 0.001
    assert len(set(tried[:2000])) == 2000
    assert now > 2000 * 0.02, "no more than 50 a second"


def test_a_group_that_was_released_and_is_held_again_is_tried_once_a_turn() -> None:
    holds = Holds()
    for _ in range(5):
        holds.hold("topic a", 1, "unroutable", 0.0)
        holds.release("topic a")
    holds.hold("topic a", 1, "unroutable", 10.0)
    assert holds.due(10.0) is None
    assert holds.due(10.0 + PROBE_MIN) is not None
    assert holds.due(10.0 + PROBE_MIN) is None
    assert holds.next_probe is not None


def test_there_is_an_end_to_groups() -> None:
    holds = Holds()
    for n in range(GROUPS_MOST):
        assert not holds.is_full("topic a")
        holds.hold(f"topic {n}", n, "unroutable", 0.0)
    assert holds.is_full("topic a")
    holds.release("topic 7")
    assert not holds.is_full("topic a")


def test_topics_that_a_publisher_thinks_of_leave_tables_their_place_and_their_time() -> None:
    holds = Holds()
    for n in range(GROUPS_MOST):
        holds.hold(f"topic {n}", n, "unroutable", 0.0)
    assert not holds.is_full("table t")
    now = 1000.0
    while holds.due(now):  # each has been tried
        pass
    holds.hold("table t", 1, "unroutable", now)
    tries = []
    while now < 1030.0:
        if (due := holds.due(now)) is None:
            now += 0.01
        elif due[0] == "table t":
            tries.append(now)
    assert len(tries) > 5
