"""Which event RabbitMQ closes for: found one at a time, by its own word, twice."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import takewhile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.amqp.topology import concerns_all
from relay.listening.event import OutboxEvent
from relay.listening.suspects import Suspects
from relay.listening.window import Window


def event(seq: int, key: str = "k") -> OutboxEvent:
    return OutboxEvent(seq, f"id-{seq}", 0, 1, "t", None, "message", key, b"")


class Broker:
    """Takes what is published, in order, and closes for an odd event; how much it has confirmed by then is chance."""

    def __init__(self, odd: set[int], data: st.DataObject) -> None:
        self.came: list[OutboxEvent] = []
        self._odd = odd
        self._data = data

    def take(self, events: list[OutboxEvent]) -> tuple[list[OutboxEvent], bool]:
        """Return what is confirmed, and whether it has closed."""
        good = list(takewhile(lambda event: event.seq not in self._odd, events))
        self.came += good
        closes = len(good) < len(events)
        return good[: self._data.draw(st.integers(0, len(good)))] if closes else good, closes


def session(outbox: dict[int, OutboxEvent], marked: set[int], suspects: Suspects, broker: Broker) -> bool:
    """Publish until the broker closes, and say whether it did."""
    window = Window(100, 1000)
    held = {outbox[seq].key for seq in marked}
    for each in outbox.values():
        if each.key not in held:
            window.add(each)
    suspects.keep(window.__contains__)
    while taken := window.take(1 if suspects else None):
        confirmed, closes = broker.take(taken)
        for each in confirmed:
            window.done(each)
            suspects.cleared(each)
            del outbox[each.seq]
        if closes:
            unconfirmed = taken[len(confirmed) :]
            if suspects.closed(501, unconfirmed):
                (guilty,) = unconfirmed
                marked.add(guilty.seq)
                suspects.cleared(guilty)
            return True
    return False


def by_key(events: Iterable[OutboxEvent]) -> dict[str | None, list[int]]:
    found = defaultdict[str | None, list[int]](list)
    for each in events:
        found[each.key].append(each.seq)
    return found


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from([False, False, True])), max_size=30), st.data())
def test_only_odd_ones_are_marked_and_the_others_come_in_order_at_most_twice(
    rows: list[tuple[str, bool]], data: st.DataObject
) -> None:
    events = [event(seq, key) for seq, (key, _) in enumerate(rows, 1)]
    odd = {seq for seq, (_, is_odd) in enumerate(rows, 1) if is_odd}
    outbox, marked, suspects, broker = {each.seq: each for each in events}, set[int](), Suspects(), Broker(odd, data)

    while session(outbox, marked, suspects, broker):
        pass

    first_odd = {each.key: each.seq for each in reversed(events) if each.seq in odd}
    assert marked == set(first_odd.values())
    assert by_key(dict.fromkeys(broker.came)) == by_key(e for e in events if e.seq < first_odd.get(e.key, e.seq + 1))
    assert max(Counter(broker.came).values(), default=0) <= 2
    assert not suspects


def test_the_end_of_a_connection_convicts_nobody_and_is_suspicious_only_when_it_repeats() -> None:
    suspects = Suspects()
    for _ in range(2):
        assert not suspects.closed(0, [event(1), event(2, "b")])
    assert not suspects, "a broker that restarts"
    suspects.closed(0, [event(1), event(2, "b")])
    assert suspects
    for _ in range(5):
        assert not suspects.closed(0, [event(1)])


@pytest.mark.parametrize(
    ("code", "text", "expected"),
    [
        (320, "CONNECTION_FORCED - Closed via management plugin", True),
        (403, "ACCESS_REFUSED - access to exchange 'relay' in vhost '/' refused for user 'u'", True),
        (403, "ACCESS_REFUSED - access to topic 'a' in exchange 'relay' in vhost '/' refused for user 'u'", False),
        (404, "NOT_FOUND - no exchange 'relay' in vhost '/'", True),
        (406, "PRECONDITION_FAILED - unsupported type", False),
        (501, "FRAME_ERROR - type 2, frame_too_large", False),
        (541, "INTERNAL_ERROR", False),
        (0, "ConnectionResetError", False),
    ],
)
def test_what_concerns_all_events_is_no_events(code: int, text: str, expected: bool) -> None:
    assert concerns_all(code, text) is expected
