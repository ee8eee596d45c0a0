"""The parts of a receiver on a real broker, each by itself: what it acknowledges when, what it gives back, and when."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import pika
import pytest
from pika.channel import Channel
from pika.spec import Basic

import receiver
from dev.doubles.endpoint import Endpoint
from dev.process import wait_until
from dev.vhost import Vhost
from relay import targets
from relay.amqp.decode import Properties
from relay.amqp.lifetime import Timer
from relay.amqp.session import Session
from relay.amqp.stream import Connection
from relay.backoff import Backoff
from relay.daemon import Daemon, Stop, run
from relay.delivery import Event
from relay.errors import Unavailable
from relay.log import Log
from relay.receiving import consumer
from relay.receiving.codec import Reader
from relay.receiving.consumer import Consumer
from relay.receiving.fence import PROBE, Fence, Probe
from relay.receiving.lane import Item, Origin
from relay.receiving.lanes import Lanes
from relay.receiving.lost_acks import settle
from relay.receiving.parking import unpark
from relay.receiving.parking.codec import ParkedReader
from relay.receiving.parking.index import ROOM_MAX, ParkedIndex, Why
from relay.receiving.parking.park import Park
from relay.receiving.parking.recount import Recount
from relay.receiving.parking.unpark import Unpark
from relay.receiving.parts import Parts as SessionParts
from relay.receiving.receiver import Receiver
from tests.wired import Wired, alive, wired

pytestmark = pytest.mark.timeout(30)
QUEUE, ROOM = "odoo", "odoo.parked"
WINDOW = (8, 1 << 20)


class Parts:
    """All that a session is made of, but for the session; `acknowledged` has what the main queue was told."""

    def __init__(self, vhost: Vhost, made: Wired, size: int = 1 << 20) -> None:
        self.wire, self.lanes, self.index = made, Lanes(), ParkedIndex()
        session, fence = made.session, made.fence
        self.channel = vhost.channel()
        self.acknowledged: list[int] = []
        self.park = Park(session, ROOM, self.lanes, self.index, WINDOW, lambda: None)
        self.consumer = Consumer(
            session,
            fence,
            QUEUE,
            Reader(),
            self.lanes,
            events=100,
            size=size,
            park=self.park,
            strays=SimpleNamespace(look=lambda *_: None),  # type: ignore[arg-type]
            on_change=lambda: None,
        )
        reader = ParkedReader()
        self.recount = Recount(session, fence, ROOM, reader, self.lanes, self.index, self.park)
        self.unpark = Unpark(
            session,
            fence,
            ROOM,
            reader,
            self.lanes,
            self.index,
            self.park,
            self.recount,
            budget=size,
            on_change=lambda: None,
        )

    def add(self, seq: int, key: str, body: bytes = b"{}", op: str = "update") -> Item:
        event = Event(body, "t", id=f"id-{seq}", op=op, key=key, table="t", seq=seq)
        return self.lanes.add(event, functools.partial(self.acknowledged.append, seq), 0.0)

    def declare(self, name: str, **arguments: object) -> None:
        self.channel.queue_declare(name, durable=True, arguments={"x-queue-type": "quorum", **arguments})

    def publish(self, *bodies: bytes, queue: str = QUEUE, key: str = "t 1") -> None:
        self.channel.confirm_delivery()
        for seq, body in enumerate(bodies, 1):
            headers = {"relay-seq": seq, "relay-key": key, "relay-table": "t"}
            own = pika.BasicProperties(message_id=f"id-{seq}", delivery_mode=2, type="update", headers=headers)
            self.channel.basic_publish("", queue, body, own)

    def deliver(self, now: float = 0.0) -> list[Callable[[], None]]:
        """All that may be delivered, one after another. Return the acknowledgements."""
        receipts: list[Callable[[], None]] = []
        while batch := self.lanes.take(now):
            receipts += self.lanes.done(batch[0], now)
        return receipts

    def here(self, origin: Origin = Origin.MAIN) -> list[int]:
        return [item.event.seq for lane in self.lanes.of(origin) for item in lane.items]


@pytest.fixture
def parts(vhost: Vhost) -> Iterator[Parts]:
    with wired(vhost) as made:
        yield Parts(vhost, made)


def give_up(parts: Parts, *items: Item) -> None:
    for item in items:
        item.tries.reason = "HTTP 422"
        parts.park.give_up(item)


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
    for item in parts.lanes.take(0.0, maximum=2):  # of the first two keys
        parts.lanes.again(item, 100.0, 0.0, spent=True)
    parts.park.overflow(1.0)
    parts.wire.until(lambda: not parts.park.pending)
    assert parts.here() == [4, 5, 6]
    assert {(entry.key, entry.why, entry.count) for entry in parts.index.lanes()} == {("t 1", Why.OVERFLOW, 3)}


def test_what_arrives_for_a_lane_that_leaves_the_waiting_room_goes_on_when_it_has_left(parts: Parts) -> None:
    parts.declare(ROOM)
    parts.wire.run(parts.park.open(parts.wire.run(parts.wire.session.open_channel())))
    give_up(parts, parts.add(1, "t 1"))
    parts.wire.until(lambda: not parts.park.pending)
    parts.index.leave("t 1", Event(b"", "t"))
    parts.wire.run(parts.park.rest())
    late = parts.add(2, "t 1")
    parts.park.arrived(late)
    assert parts.lanes.take(0.0) == []
    parts.index.settle()
    parts.park.go_on(0.0)
    assert parts.lanes.take(0.0) == [late]


# -- the main queue's window


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
    assert [lane.key for lane in parts.lanes] == ["t 2"]
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
    for entry in parts.index.lanes():
        parts.index.retry(entry.lane, 0.0)


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
    assert unpark.LONGEST < 1800 / 2, "RabbitMQ closes a channel after 30 minutes without an acknowledgement"
    monkeypatch.setattr(unpark, "LONGEST", -1.0)
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
        parts.wire.run(settle(parts.wire.session, parts.wire.fence, QUEUE, Reader().to_event, 100, is_done))
        wait_until(functools.partial(lambda left: vhost.queue_depth(QUEUE) == left, left), 10, "the rest given back")


# -- a session


@dataclasses.dataclass
class Made:
    """A receiver, and what drives it."""

    wire: Wired
    receiver: Receiver


async def parts_of(settings: Any) -> SessionParts:
    """As receiver.py makes them: the workers are tasks of the loop."""
    return receiver._parts(settings)


@pytest.fixture
def make_receiver(vhost: Vhost) -> Iterator[Callable[..., Made]]:
    ends: list[Callable[[], None]] = []

    def make(**more: str) -> Made:
        environ = {"RABBITMQ_URL": vhost.url, "QUEUE": QUEUE, "HTTP_URL": "http://127.0.0.1:1/", **more}
        settings = targets.load(None, environ)
        wire = Wired(settings)
        parts, daemon = wire.run(parts_of(settings)), Daemon(wire.stop, Log("receiver"), Backoff(1, 1))
        ends.extend((lambda: wire._runner.run(parts.workers.end()), wire.close))
        return Made(wire, Receiver(settings, wire.session, wire.another, parts, daemon))

    yield make
    for end in ends:
        end()


def test_a_receiver_asks_each_queue_for_certainty_before_it_reads_it(
    make_receiver: Callable[..., Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a crash RabbitMQ tells of an earlier time: nothing but a confirm shows that a queue's word is of now."""
    done: list[tuple[str, str]] = []
    probe, consume = Fence.probe, Session.consume

    async def probed(self: Fence, queue: str) -> Probe:
        done.append(("asked", queue))
        return await probe(self, queue)

    async def consumed(self: Session, channel: Channel, queue: str, *more: Any, **named: Any) -> None:
        done.append(("read", queue))
        await consume(self, channel, queue, *more, **named)

    monkeypatch.setattr(Fence, "probe", probed)
    monkeypatch.setattr(Session, "consume", consumed)
    made = make_receiver()
    made.wire.run(made.receiver.run(made.receiver.stop))
    assert done.index(("asked", QUEUE)) < done.index(("asked", ROOM)) < done.index(("read", QUEUE))


@pytest.mark.parametrize("full", [{"dead": 7}, {"events": ROOM_MAX}])
def test_a_full_waiting_room_stops_all_but_what_empties_it(
    make_receiver: Callable[..., Made], full: Mapping[str, int]
) -> None:
    session = make_receiver(PARKED_MAX="7").receiver
    assert not session.lot.is_full
    for name, value in full.items():
        setattr(session.parts.index, name, value)
    assert session.lot.is_full
    started: list[bool] = []
    session.parts.dispatcher.start_ready = lambda: started.append(True)  # type: ignore[method-assign]
    session.go_on()
    assert started == []
    setattr(session.parts.index, *next((name, value - 1) for name, value in full.items()))
    session.go_on()
    assert started == [True]


def test_acknowledgements_that_get_lost_are_given_again_before_leaving(
    vhost: Vhost, endpoint: Endpoint, make_receiver: Callable[..., Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them here; a quorum queue forgets those that it holds back when the channel closes."""
    monkeypatch.setattr(Consumer, "_acknowledge", lambda self, *_: setattr(self, "_acknowledged", True))
    made = make_receiver(HTTP_URL=endpoint.url)

    def look() -> None:
        if made.receiver.parts.dispatcher.deliveries.delivered == 3:
            made.receiver.stop()
        else:
            made.receiver.session.call_later(0.01, look)

    Parts(vhost, made.wire).declare(QUEUE, **{"x-delivery-limit": 1_000_000})
    Parts(vhost, made.wire).publish(b"1", b"2", b"3")
    made.wire.run(made.receiver.run(look))
    assert vhost.queue_depth(QUEUE) == 0
    assert len(endpoint.completed) == 3


def test_the_window_is_not_given_back_while_something_of_it_is_on_its_way_into_the_waiting_room(
    make_receiver: Callable[..., Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would come again, and get in twice."""
    session = make_receiver(PARKED_MAX="1").receiver
    monkeypatch.setattr(Consumer, "is_open", True)
    session.parts.index.dead = 1
    for pending in True, False:
        monkeypatch.setattr(Park, "pending", pending)
        due = [chore.do for chore in session.chores if chore.due(5.0)]
        assert (session.consumer.close in due) is not pending


def test_the_queues_are_durable_and_drop_nothing(vhost: Vhost, make_receiver: Callable[..., Made]) -> None:
    made = make_receiver()
    made.wire.run(made.receiver.run(made.receiver.stop))
    for name, limit in ((QUEUE, 1_000_000), (ROOM, 1_000_000_000)):
        queue = vhost.broker.api("GET", f"/queues/{vhost.name}/{name}")
        assert queue["durable"]
        assert queue["arguments"] == {"x-queue-type": "quorum", "x-delivery-limit": limit}


def test_after_many_reconnects_nothing_of_the_former_sessions_is_left(
    vhost: Vhost, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL + 1, "pika")  # as log.setup; a record of a refusal would keep the channel alive
    environ = {"RABBITMQ_URL": vhost.url, "QUEUE": QUEUE, "HTTP_URL": "http://127.0.0.1:1/"}
    settings = targets.load(None, environ)
    left: list[dict[str, int]] = []

    async def session(daemon: Daemon, parts: SessionParts) -> str:
        try:
            async with receiver._opened(settings, parts, daemon) as made:
                made.session.call_later(0.1, made.session._connection.abort)
                await made.run()
        except Unavailable as error:
            return error.what  # the error itself would keep the frames alive that it came through
        return ""

    async def work() -> int:
        daemon, parts = Daemon(Stop(), Log("receiver"), Backoff(1, 1)), receiver._parts(settings)
        for _ in range(4):
            assert "connection to RabbitMQ broke" in await session(daemon, parts)
            async with asyncio.timeout(20):  # the probe's connection has said goodbye, and is not awaited
                while max((found := alive(Receiver, Session, Connection, Timer)).values()) > 1:
                    await asyncio.sleep(0.01)
            left.append(found)
            assert len(asyncio.all_tasks()) == 1 + parts.workers.count
        await parts.workers.end()
        return 0

    assert run(work) == 0
    assert all(max(one.values()) <= 1 for one in left), left
