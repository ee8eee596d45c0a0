"""The main queue's window on a real broker: what it lets in, and what order that has which it gives back."""

from __future__ import annotations

import collections
import functools
import random
import socket
from collections.abc import Callable
from typing import Any

import pytest
from pika.spec import Basic

from dev.process import wait_until
from dev.vhost import Vhost
from relay.delivery import Event
from relay.receiving import consumer
from relay.receiving.strand import Item, Origin
from tests.parts import QUEUE, ROOM, Parts
from tests.wired import Wired, wired

pytestmark = pytest.mark.timeout(30)


def opened(parts: Parts, count: int) -> None:
    parts.declare(QUEUE)
    parts.declare(ROOM)
    parts.publish(*(b"{}" for _ in range(count)))
    parts.wire.run(parts.consumer.open())
    parts.wire.until(lambda: len(parts.here()) == count)


def test_nothing_is_acknowledged_when_it_comes_in(vhost: Vhost, parts: Parts) -> None:
    opened(parts, 3)
    receipts = parts.deliver()
    assert len(receipts) == 3
    receipts[0]()
    parts.wire.run(parts.consumer.close(0.0))
    assert vhost.queue_depth(QUEUE) == 2


def test_a_copy_of_what_was_delivered_is_acknowledged_only(vhost: Vhost, parts: Parts) -> None:
    opened(parts, 2)
    parts.deliver()  # and the acknowledgements get lost
    parts.wire.run(parts.consumer.close(0.0))
    parts.publish(b"{}", key="t 2")
    parts.wire.run(parts.consumer.open())
    parts.wire.until(lambda: bool(parts.here()))
    assert [strand.key for strand in parts.strands] == ["t 2"]
    parts.wire.run(parts.consumer.close(0.0))
    assert vhost.queue_depth(QUEUE) == 1


def test_a_copy_behind_an_older_event_that_has_come_again_is_delivered(parts: Parts) -> None:
    """Or the target would be left with the older state."""
    opened(parts, 2)
    parts.deliver()
    parts.wire.run(parts.consumer.close(0.0))
    parts.add(1, "t 1")
    parts.wire.run(parts.consumer.open())
    parts.wire.until(lambda: parts.here() == [1, 2])


def test_the_window_is_given_back_before_rabbitmq_loses_its_patience(parts: Parts) -> None:
    """After 30 minutes without an acknowledgement RabbitMQ closes the channel; an event can wait longer than that."""
    opened(parts, 1)
    now = parts.consumer._opened
    assert not parts.consumer.renewal_wanted(now + consumer.OLDEST - 1)
    assert consumer.OLDEST < 1800 / 2
    assert parts.consumer.renewal_wanted(now + consumer.OLDEST + 1)
    parts.wire.run(parts.consumer.renew(now))
    parts.wire.until(lambda: parts.here() == [1])
    for receipt in parts.deliver(now):
        receipt()
    assert not parts.consumer.renewal_wanted(now + consumer.OLDEST + 1), "an empty window is as good as a new one"


def test_behind_what_did_not_fit_nothing_is_taken_in(vhost: Vhost) -> None:
    """The small event of the row would go before the large one that has to come again."""
    with wired(vhost) as made:
        parts = Parts(vhost, made, size=10_000)
        parts.declare(QUEUE)
        parts.declare(ROOM)
        parts.publish(*(b"x" * 6000 for _ in range(3)), b"{}", b"{}")
        parts.wire.run(parts.consumer.open())
        made.until(lambda: len(parts.here()) == 2)
        made.turn(0.1)
        assert parts.here() == [1, 2]
        for receipt in parts.deliver():
            receipt()
        assert parts.consumer.renewal_wanted(0.0)
        parts.wire.run(parts.consumer.renew(0.0))
        made.until(lambda: parts.here()[:1] == [3])


def died(vhost: Vhost, made: Wired) -> None:
    """Its connection has ended without a word, and RabbitMQ has noticed."""
    made.session._connection._transport.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
    channel = vhost.channel()
    wait_until(lambda: not channel.queue_declare(QUEUE, passive=True).method.consumer_count, 20, "its end")


@pytest.mark.parametrize("acknowledged", [0, 1, 25])
@pytest.mark.parametrize("deaths", [1, 2])
def test_a_receiver_that_dies_while_its_window_is_narrowed_leaves_no_row_out_of_order(
    vhost: Vhost, acknowledged: int, deaths: int
) -> None:
    """What it had read again of what it had given back came behind the rest of that."""
    done = 0  # an acknowledgement may be lost with who has given it

    def in_order(here: list[int]) -> bool:
        return bool(here) and here == list(range(here[0], here[0] + len(here))) and here[0] <= done + 1

    for death in range(deaths):
        with wired(vhost) as made:
            parts = Parts(vhost, made, size=30_000)
            if not death:
                parts.declare(QUEUE)
                parts.declare(ROOM)
                parts.publish(*(b"x" * 6000 for _ in range(300)))
            parts.wire.run(parts.consumer.open())
            for turn in range(acknowledged + 1):
                while not parts.here():
                    made.turn(0.01)
                    if turn and parts.consumer.renewal_wanted(0.0):
                        parts.wire.run(parts.consumer.renew(0.0))
                assert in_order(parts.here())
                done = parts.here()[-1]
                for receipt in parts.deliver():
                    receipt()
                if not turn:
                    made.turn(0.2)
                    parts.wire.run(parts.consumer.renew(0.0))
                    assert parts.consumer._intake.prefetch < 10
            died(vhost, made)
    with wired(vhost) as made:
        parts = Parts(vhost, made, size=10_000_000)
        parts.wire.run(parts.consumer.open())
        made.until(lambda: len(parts.here()) == 100)
        assert in_order(parts.here())


def test_a_narrowed_window_that_is_given_back_too_early_comes_in_order(vhost: Vhost) -> None:
    """For a full parking lot, for example."""
    with wired(vhost) as made:
        parts = Parts(vhost, made, size=30_000)
        parts.declare(QUEUE)
        parts.declare(ROOM)
        parts.publish(*(b"x" * 6000 for _ in range(200)))
        parts.wire.run(parts.consumer.open())
        made.until(lambda: len(parts.here()) >= 3)
        parts.wire.run(parts.consumer.renew(0.0))
        made.until(lambda: len(parts.here()) >= 3)
        assert not parts.consumer.renewal_wanted(parts.consumer._opened + consumer.WIDEN_EVERY + 1)
        for _ in range(3):
            parts.wire.run(parts.consumer.close(0.0))
            parts.wire.run(parts.consumer.open())
            made.until(lambda: len(parts.here()) >= 3)
            assert parts.here() == list(range(1, len(parts.here()) + 1))


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", ["quorum", "classic"])
@pytest.mark.parametrize("seed", range(3))
def test_windows_of_any_size_that_are_given_back_at_any_time_come_in_order(vhost: Vhost, kind: str, seed: int) -> None:
    """Events are now small, now large, some stay, and the window is renewed, closed, or its receiver dies or ends."""
    rng, count, done, is_made = random.Random(seed), 60, 0, False
    given = collections.deque[Callable[[], None]]()

    def look(parts: Parts, made: Wired) -> int:
        """What is here goes on where the last one ended. Deliver some; return the last that ever was."""
        made.turn(0.05)
        here = parts.here()
        assert not here or (here == list(range(here[0], here[0] + len(here))) and here[0] <= done + 1)
        delivered = parts.deliver(maximum=rng.randrange(12))
        given.extend(delivered)
        for _ in range(min(len(given), rng.randrange(12))):  # the others may get lost
            given.popleft()()
        return max(done, *here[: len(delivered)], 0)

    while done < count:
        with wired(vhost) as made:
            parts = Parts(vhost, made, size=30_000, events=rng.choice((3, 20, 100)))
            if not is_made:
                parts.declare(QUEUE, **{"x-queue-type": kind})
                parts.declare(ROOM)
                parts.publish(*(b"x" * rng.choice((10, 1000, 9000, 25_000)) for _ in range(count)))
                is_made = True
            parts.wire.run(parts.consumer.open())
            given.clear()
            for _ in range(rng.randrange(12)):
                done = look(parts, made)
                if parts.consumer.renewal_wanted(0.0) or rng.random() < 0.2:
                    given.clear()
                    parts.wire.run(parts.consumer.renew(0.0))
                elif rng.random() < 0.2:
                    given.clear()
                    parts.wire.run(parts.consumer.close(0.0))
                    parts.wire.run(parts.consumer.open())
            if rng.random() < 0.5:
                died(vhost, made)
            else:
                parts.wire.run(parts.consumer.close(0.0))
                parts.wire.run(parts.consumer.settle())


def test_a_receiver_with_a_smaller_window_than_the_one_before_it_leaves_no_row_out_of_order(vhost: Vhost) -> None:
    """What it would have looked at and given back would have come behind the rest."""
    for events, here in ((50, 50), (4, 4), (1, 1), (100, 60)):
        with wired(vhost) as made:
            parts = Parts(vhost, made, events=events)
            if events == 50:
                parts.declare(QUEUE)
                parts.declare(ROOM)
                parts.publish(*(b"{}" for _ in range(60)))
            parts.wire.run(parts.consumer.open())
            made.until(functools.partial(lambda parts, here: len(parts.here()) == here, parts, here))
            assert parts.here() == list(range(1, here + 1))
            died(vhost, made)


def test_what_was_delivered_is_acknowledged_before_a_narrowed_window_is_left(vhost: Vhost) -> None:
    """Behind later events of its row, which stay, it stayed, and came again after its successors."""
    with wired(vhost) as made:
        parts = Parts(vhost, made, size=30_000)
        parts.declare(QUEUE)
        parts.declare(ROOM)
        parts.publish(*(b"x" * 6000 for _ in range(60)))
        parts.wire.run(parts.consumer.open())
        made.until(lambda: len(parts.here()) >= 3)
        parts.deliver()[0]()  # the others' acknowledgements get lost
        parts.wire.run(parts.consumer.renew(0.0))
        parts.wire.run(parts.consumer.close(0.0))
        assert parts.consumer._given_back.is_mixed
        parts.wire.run(parts.consumer.settle())
        done = parts.strands.deduplication.was_delivered
        channel = vhost.channel()
        left = iter(lambda: channel.basic_get(QUEUE)[1], None)
        kept = [int(properties.message_id[3:]) for properties in left if properties.message_id]  # else it is a probe
        assert kept == list(range(kept[0], 61))
        assert not any(done(Event(b"", "t", id=f"id-{seq}", key="t 1", table="t", seq=seq)) for seq in kept)
        assert kept[0] > 1


def parked_ones(parts: Parts, count: int) -> list[Item]:
    """Large events that a sweep of the parking lot has given out."""
    events = [Event(b"x" * 900_000, "t", id=f"parked {n}", key=f"p {n}", table="t") for n in range(count)]
    return [parts.strands.add(event, lambda: None, 0.0, event.key, origin=Origin.PARKED) for event in events]


def test_the_window_is_not_given_back_for_an_event_that_would_not_fit(parts: Parts) -> None:
    """It would be read again and again: something else must have left first."""
    parts.declare(QUEUE)
    parts.declare(ROOM)
    parts.publish(b"x" * 900_000, b"x" * 900_000)
    parked = parked_ones(parts, 1)
    parts.wire.run(parts.consumer.open())
    parts.wire.until(lambda: parts.consumer._refused is not None)
    assert parts.here() == [1]
    while batch := parts.strands.take(0.0):
        parts.strands.again(batch[0], 60.0, 0.0, spent=False)
    assert not parts.consumer.renewal_wanted(0.0)
    parts.strands.drop(parked[0], 0.0)
    assert parts.consumer.renewal_wanted(0.0)


def test_one_event_gets_in_whatever_the_parking_lot_has_given_out(parts: Parts) -> None:
    """It may be the one whose success they wait for."""
    parked_ones(parts, 3)
    parts.declare(QUEUE)
    parts.declare(ROOM)
    parts.publish(b"x" * 900_000, b"{}")
    parts.wire.run(parts.consumer.open())
    parts.wire.until(lambda: parts.consumer._refused is not None)
    assert parts.here() == [1]


def test_a_closed_channel_gives_its_messages_back_in_order(parts: Parts) -> None:
    """After a basic.cancel, which pika would send by itself, RabbitMQ puts them back in another order."""
    opened(parts, 40)
    sent, send = [], parts.wire.session._connection._send_method

    def noted(number: int, method: Any, *more: Any) -> None:
        sent.append(type(method))
        send(number, method, *more)

    parts.wire.session._connection._send_method = noted
    parts.wire.run(parts.consumer.close(0.0))
    assert Basic.Cancel not in sent
    assert parts.here() == []
    parts.wire.run(parts.consumer.open())
    parts.wire.until(lambda: len(parts.here()) == 40)
    assert parts.here() == list(range(1, 41))
    parts.wire.close()
    assert Basic.Cancel not in sent
