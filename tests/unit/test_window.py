"""The window: at most one unconfirmed event of a key, barriers, and what is dropped when a table must wait."""

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from relay.listening.event import OutboxEvent
from relay.listening.window import Window


def event(seq: int, key: str | None = "a", table: str | None = "t", op: str = "update", size: int = 1) -> OutboxEvent:
    return OutboxEvent(seq, f"id-{seq}", 0, 1, "topic", table, op, key, b"x" * size)


def truncate(seq: int, table: str = "t") -> OutboxEvent:
    return event(seq, key=table, table=table, op="truncate")


def filled(*events: OutboxEvent) -> Window:
    window = Window(100, 1000)
    for each in events:
        window.add(each)
    return window


def seqs(events: list[OutboxEvent]) -> list[int]:
    return [each.seq for each in events]


def test_only_the_first_event_of_a_key_may_go() -> None:
    window = filled(event(1), event(2), event(3, key="b"), event(4, key=None), event(5, key=None))
    assert seqs(window.take()) == [1, 3, 4, 5]
    assert seqs(window.take()) == []


def test_the_next_event_of_a_key_follows_the_confirm() -> None:
    window = filled(event(1), event(2))
    (first,) = window.take()
    window.done(first)
    assert seqs(window.take()) == [2]


def test_a_truncate_waits_for_its_table_and_later_events_wait_for_it() -> None:
    window = filled(event(1), truncate(2), event(3), event(4, key="b"), event(5, table="other", key="c"))
    first, other = window.take()
    assert seqs([first, other]) == [1, 5]
    window.done(first)
    (barrier,) = window.take()
    assert barrier.seq == 2
    window.done(barrier)
    assert seqs(window.take()) == [3, 4]


def test_two_truncates_go_one_after_the_other() -> None:
    window = filled(truncate(1), truncate(2), event(3))
    (one,) = window.take()
    window.done(one)
    (two,) = window.take()
    assert two.seq == 2
    window.done(two)
    assert seqs(window.take()) == [3]


def test_room_counts_bytes_as_well_as_events() -> None:
    window = Window(100, 1000)
    assert window.room() == (100, 1000)
    window.add(event(1, size=501))
    assert window.room() == (0, 0)
    assert filled(*(event(n, key=f"{n:02}") for n in range(50))).room() == (50, 1000 - 50 * event(1, key="00").size)
    assert filled(*(event(n, key=f"{n:02}") for n in range(51))).room() == (0, 0)


def test_what_waits_behind_others_of_its_key_leaves_room_for_others() -> None:
    window = Window(100, 10**6)
    for n in range(351):
        assert window.room() == (min(99, 400 - n + 1) if n else 100, 10**6 - window.bytes), n
        window.add(event(n, key="a"))
    assert window.room() == (50, 10**6 - window.bytes)
    window.add(event(351, key="a"))
    assert window.room() == (0, 0), "not without end"
    (first,) = window.take()
    assert window.room() == (0, 0), "it counts until it is confirmed"
    window.done(first)
    assert window.room()[0] == 50


def test_what_is_beside_a_body_counts_as_well() -> None:
    for more in ({"key": "k" * 501}, {"table": "t" * 501}, {"topic": "t" * 501}, {"headers": {"h": "h" * 501}}):
        assert filled(event(1)._replace(**more)).room() == (0, 0), more


def test_an_event_larger_than_the_window_still_comes_in() -> None:
    window = filled(event(1, size=5000))
    assert seqs(window.take()) == [1]


def test_dropping_a_table_leaves_what_is_unconfirmed_and_the_other_tables() -> None:
    window = filled(event(1), event(2), event(3, table="other", key="o"), event(4, table="other", key="o"))
    first, other = window.take()
    assert seqs(window.drop(lambda e: e.table == "t")) == [2]
    assert (2 in window, 1 in window) == (False, True)
    window.done(first)
    window.done(other)
    assert seqs(window.take()) == [4]
    assert window.bytes == event(2, key="a", table="other").size


@given(st.data())
def test_order_of_every_key_and_table_is_kept_whatever_is_confirmed_when(data: st.DataObject) -> None:
    window = Window(1000, 10**6)
    published: list[OutboxEvent] = []
    unconfirmed: list[OutboxEvent] = []
    total = data.draw(st.integers(1, 40))
    for seq in range(1, total + 1):
        table = data.draw(st.sampled_from(["t", "u"]))
        if data.draw(st.integers(0, 9)) == 0:
            window.add(truncate(seq, table))
        else:
            window.add(event(seq, key=f"{table} {data.draw(st.sampled_from('abc'))}", table=table))
    while True:
        taken = window.take()
        for each in taken:
            assert each.key not in {other.key for other in unconfirmed}, "two of one key unconfirmed"
            unconfirmed.append(each)
            published.append(each)
        if not unconfirmed:
            break
        window.done(unconfirmed.pop(data.draw(st.integers(0, len(unconfirmed) - 1))))
    assert len(published) == total
    assert (len(window), window.bytes, window.unconfirmed) == (0, 0, 0)
    by_key = defaultdict(list)
    for each in published:
        by_key[each.key].append(each.seq)
        assert not any(
            (other.is_barrier or each.is_barrier) and other.table == each.table and other.seq > each.seq
            for other in published[: published.index(each)]
        ), "something passed a truncate"
    assert all(order == sorted(order) for order in by_key.values())
