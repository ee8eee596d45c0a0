"""The parking lot on a real broker, the way in and the way out, and what is asked of a queue before it is read."""

from __future__ import annotations

import functools
import time
from typing import Any

import pytest
from pika.channel import Channel

from dev.process import wait_until
from dev.vhost import Vhost
from relay.amqp.decode import Properties
from relay.delivery import Event
from relay.errors import Unavailable
from relay.receiving.codec import Reader
from relay.receiving.control import ABOUT_PARKED, Control
from relay.receiving.fence import PROBE
from relay.receiving.lost_acks import Known, settle
from relay.receiving.parking import pace
from relay.receiving.parking.index import Entry, Why
from relay.receiving.parking.recount import DOUBTS
from relay.receiving.strand import Origin
from tests.parts import QUEUE, ROOM, Parts, give_up
from tests.wired import wired

pytestmark = pytest.mark.timeout(30)


# -- into the parking lot


def test_an_event_is_acknowledged_only_when_the_waiting_room_has_it_safe(parts: Parts) -> None:
    parts.declare(ROOM)
    parts.wire.run(parts.park.open(parts.wire.run(parts.wire.session.open_channel())))
    give_up(parts, parts.add(1, "t 1"))
    assert (parts.acknowledged, parts.park.busy) == ([], True), "sent, and not confirmed"
    parts.wire.until(lambda: not parts.park.busy)
    assert parts.acknowledged == [1]
    assert parts.here() == []


def test_what_the_waiting_room_refuses_is_not_acknowledged(parts: Parts) -> None:
    parts.channel.queue_declare(ROOM, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    parts.publish(b"", queue=ROOM)
    parts.wire.run(parts.park.open(parts.wire.run(parts.wire.session.open_channel())))
    give_up(parts, parts.add(1, "t 1"), parts.add(2, "t 2"))
    with pytest.raises(Unavailable, match="could not store an event"):
        parts.wire.until(lambda: not parts.park.busy)
    assert parts.acknowledged == []


def test_what_finds_no_waiting_room_is_not_acknowledged(parts: Parts) -> None:
    parts.wire.run(parts.park.open(parts.wire.run(parts.wire.session.open_channel())))
    give_up(parts, parts.add(1, "t 1"))
    with pytest.raises(Unavailable, match="is gone: an event could not be parked"):
        parts.wire.until(lambda: not parts.park.busy)
    assert parts.acknowledged == []


def test_of_a_row_one_event_is_on_its_way_into_the_waiting_room(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    parts.declare(ROOM)
    channel, sent = parts.wire.run(parts.wire.session.open_channel()), list[str]()
    parts.wire.run(parts.park.open(channel))
    publish = channel.basic_publish

    def noted(exchange: str, queue: str, body: bytes, properties: Any, mandatory: bool) -> None:
        sent.append(properties.message_id)
        publish(exchange, queue, body, properties, mandatory)

    monkeypatch.setattr(channel, "basic_publish", noted)
    first, _, third = parts.add(1, "t 1"), parts.add(2, "t 1"), parts.add(3, "t 2")
    give_up(parts, first, third)
    assert sent == ["id-1", "id-3"]
    parts.wire.until(lambda: not parts.park.pending)
    assert sent == ["id-1", "id-3", "id-2"]
    assert sorted(parts.acknowledged) == [1, 2, 3]


@pytest.mark.parametrize("key", ["t", "all of t"])
def test_a_truncate_goes_into_the_waiting_room_with_its_table(parts: Parts, key: str) -> None:
    parts.declare(ROOM)
    parts.wire.run(parts.park.open(parts.wire.run(parts.wire.session.open_channel())))
    first, *_ = parts.add(1, "t 1"), parts.add(2, key, op="truncate"), parts.add(3, "t 2")
    give_up(parts, first)
    parts.wire.until(lambda: not parts.park.pending)
    assert (parts.acknowledged, parts.index.events, parts.here()) == ([1, 2, 3], 3, [])


def test_a_key_in_trouble_gets_a_quarter_of_the_window(parts: Parts) -> None:
    parts.declare(ROOM)
    parts.wire.run(parts.park.open(parts.wire.run(parts.wire.session.open_channel())))
    for seq, key in enumerate(("t 1", "t 1", "t 1", "t 2", "t 2", "t 3"), 1):
        parts.add(seq, key)
    for item in parts.strands.take(0.0, maximum=2):  # of the first two keys
        parts.strands.again(item, 100.0, 0.0, spent=True)
    parts.park.overflow(1.0)
    parts.wire.until(lambda: not parts.park.pending)
    assert parts.here() == [4, 5, 6]
    assert {(entry.key, entry.why, entry.count) for entry in parts.index.strands()} == {("t 1", Why.OVERFLOW, 3)}


def test_what_arrives_for_a_strand_that_leaves_the_waiting_room_goes_on_when_it_has_left(parts: Parts) -> None:
    parts.declare(ROOM)
    parts.wire.run(parts.park.open(parts.wire.run(parts.wire.session.open_channel())))
    give_up(parts, parts.add(1, "t 1"))
    parts.wire.until(lambda: not parts.park.pending)
    parts.index.leave("t 1", Event(b"", "t"))
    parts.wire.run(parts.park.rest())
    late = parts.add(2, "t 1")
    parts.park.arrived(late)
    assert parts.strands.take(0.0) == []
    parts.index.settle()
    parts.park.go_on(0.0)
    assert parts.strands.take(0.0) == [late]


# -- a pass through the parking lot


def parked(parts: Parts) -> None:
    """Event 1 is in the parking lot, and may be tried again."""
    parts.declare(ROOM)
    parts.wire.run(parts.park.open(parts.wire.run(parts.wire.session.open_channel())))
    give_up(parts, parts.add(1, "t 1"))
    parts.wire.until(lambda: not parts.park.pending)
    loaded(parts)


def loaded(parts: Parts) -> None:
    parts.wire.run(parts.recount.load())
    for entry in parts.index.strands():
        parts.index.retry(entry.strand, 0.0)


def test_what_was_delivered_from_the_waiting_room_is_acknowledged_only(vhost: Vhost, parts: Parts) -> None:
    parked(parts)
    parts.wire.run(parts.unpark.start(time.monotonic()))
    parts.wire.until(lambda: parts.here(Origin.PARKED) == [1])
    parts.deliver()  # and the acknowledgement gets lost
    parts.wire.run(parts.unpark.abandon(0.0))
    parts.wire.run(parts.unpark.start(time.monotonic()))
    parts.wire.until(lambda: parts.unpark.finished)
    assert parts.here(Origin.PARKED) == []
    parts.wire.run(parts.unpark.end(0.0))
    assert parts.index.entries == {}
    assert vhost.queue_depth(ROOM) == 0


def test_a_pass_ends_although_something_of_it_hangs(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    parked(parts)
    assert parts.unpark.wanted(1.0)
    parts.wire.run(parts.unpark.start(time.monotonic()))
    parts.wire.until(lambda: parts.here(Origin.PARKED) == [1])
    assert not parts.unpark.finished
    assert pace.LONGEST < 1800 / 2, "RabbitMQ closes a channel after 30 minutes without an acknowledgement"
    monkeypatch.setattr(pace, "LONGEST", -1.0)
    assert parts.unpark.finished
    parts.wire.run(parts.unpark.end(1.0))
    assert parts.index.events == 1
    assert parts.channel.queue_declare(ROOM, passive=True).method.message_count == 1


def test_a_pass_holds_no_more_bytes_than_it_may(vhost: Vhost) -> None:
    with wired(vhost) as made:
        parts = Parts(vhost, made, size=10_000)
        parts.declare(ROOM)
        made.run(parts.park.open(made.run(made.session.open_channel())))
        give_up(parts, *(parts.add(n, f"t {n}", b"x" * 6000) for n in range(1, 5)))
        made.until(lambda: not parts.park.pending)
        loaded(parts)
        parts.wire.run(parts.unpark.start(1.0))
        made.until(lambda: bool(parts.here(Origin.PARKED)))
        made.turn(0.1)
        assert parts.here(Origin.PARKED) == [1]


def deliver_the_first_in_a_pass(parts: Parts) -> None:
    parts.wire.run(parts.unpark.start(time.monotonic()))
    parts.wire.until(lambda: parts.here(Origin.PARKED) == [1])
    for receipt in parts.deliver():
        receipt()
    parts.wire.run(parts.unpark.end(0.0))


def test_a_probe_in_the_waiting_room_is_no_strangers_message(vhost: Vhost, parts: Parts) -> None:
    """As when RabbitMQ has said for a moment that the queue is empty: it is asked to confirm a message again."""
    parked(parts)
    parts.wire.run(parts.wire.fence.probe(ROOM))
    for _ in range(DOUBTS):
        parts.wire.run(parts.recount.compare())
        assert not parts.recount.is_doubtful
    deliver_the_first_in_a_pass(parts)
    assert not parts.recount.is_wrong
    assert parts.index.entries == {}
    parts.wire.run(parts.recount.load())
    assert vhost.queue_depth(ROOM) == 0


def test_a_pass_takes_a_probe_along(vhost: Vhost, parts: Parts) -> None:
    parts.declare(ROOM)
    parts.wire.run(parts.recount.load())
    parts.wire.run(parts.wire.fence.probe(ROOM))
    parts.wire.run(parts.park.open(parts.wire.run(parts.wire.session.open_channel())))
    give_up(parts, parts.add(1, "t 1"))
    parts.wire.until(lambda: not parts.park.pending)
    parts.index.retry("t 1", 0.0)
    deliver_the_first_in_a_pass(parts)
    assert not parts.recount.is_wrong
    assert vhost.queue_depth(ROOM) == 0


# -- what is asked of a queue before it is read


def test_a_queue_is_read_only_when_nobody_else_reads_it_any_more(vhost: Vhost, parts: Parts) -> None:
    parts.declare(QUEUE)
    parts.publish(b"1", b"2", b"3")
    other = vhost.channel()
    other.basic_qos(prefetch_count=1)
    other.basic_consume(QUEUE, lambda *_: None)
    looks, ended = list[int](), list[bool]()
    look = parts.wire.fence._look_at

    async def looked(channel: Channel, queue: str) -> tuple[int, int]:
        looks.append(len(looks))
        if len(looks) == 3:
            ended.append(True)
            other.connection.close()
        return await look(channel, queue)

    parts.wire.fence._look_at = looked  # type: ignore[method-assign]
    parts.wire.run(parts.wire.fence.await_no_consumer(QUEUE))
    assert ended


@pytest.mark.timeout(120)
def test_a_leader_that_does_not_answer_does_not_empty_the_index(
    vhost: Vhost, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As while it takes back a hundred thousand messages: RabbitMQ then says, after 5 seconds, that it holds none."""
    parts.declare(ROOM)
    parts.publish(b"", b"", b"", queue=ROOM)
    load_once, stopped = parts.recount._load_once, list[int]()

    async def and_stop(total: int) -> int:
        found = await load_once(total)
        if not stopped:
            leader = f'whereis(list_to_atom("{vhost.name}_{ROOM}"))'
            wake = "spawn(fun() -> timer:sleep(7000), sys:resume(P) end)"
            vhost.broker.evaluate(f"P = {leader}, sys:suspend(P), {wake}, ok")
        stopped.append(found)
        return found

    monkeypatch.setattr(parts.recount, "_load_once", and_stop)
    parts.wire.run(parts.recount.load())
    assert stopped[0] == parts.index.events == 3


@pytest.mark.parametrize("what", ABOUT_PARKED)
def test_while_the_parking_lot_is_read_a_command_is_to_be_given_again(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Of what has not been read yet nothing is known: `no parked key matches` would be no answer."""
    parts.declare(ROOM)
    parts.publish(b"", b"", queue=ROOM)
    answers = list[dict[str, Any]]()
    nobody: Any = None
    control = Control(parts.wire.session, parts.wire.settings, parts.index, parts.unpark, nobody, nobody, dict)
    enter = parts.index.enter

    def and_asked(event: Event, entry: Entry) -> None:
        enter(event, entry)
        control.carry_out({"command": what, "id": "id-2"}, answers.append)

    monkeypatch.setattr(parts.index, "enter", and_asked)
    parts.wire.run(parts.recount.load())
    assert answers == 2 * [{"done": True, "error": "the parking lot is being read", "again": True}]
    assert parts.index.is_whole


def test_a_message_that_only_looks_like_a_probe_is_an_event(parts: Parts) -> None:
    probe = Properties(type=PROBE)
    assert parts.wire.fence.is_probe(QUEUE, probe, b"")
    assert not parts.wire.fence.is_probe(QUEUE, probe, b"{}")
    assert not parts.wire.fence.is_probe(QUEUE, Properties(), b"")
    parts.declare(QUEUE)
    parts.publish(b"{}")
    assert not parts.wire.run(parts.wire.fence._take_probe(QUEUE))
    assert parts.wire.run(parts.wire.fence.await_no_consumer(QUEUE)) == 2, "the event, and a probe behind it"


def test_what_stands_behind_something_that_stays_is_not_acknowledged(vhost: Vhost, parts: Parts) -> None:
    """Somebody will deliver what stays, and then what is behind it must come again, too."""
    parts.declare(QUEUE)
    parts.publish(b"1", b"2", b"3")
    for done, left in (([2], 4), ([1], 3)):  # with the probe
        is_done = functools.partial(lambda done, event: event.seq in done, done)
        begin = functools.partial(Known, Reader().to_event, is_done)
        parts.wire.run(settle(parts.wire.session, parts.wire.fence, QUEUE, 100, begin))
        wait_until(functools.partial(lambda left: vhost.queue_depth(QUEUE) == left, left), 10, "the rest given back")
