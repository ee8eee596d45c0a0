"""A session of a receiver on a real broker, seen from inside."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from pika.channel import Channel

import receiver
from dev.doubles.endpoint import Endpoint
from dev.vhost import Vhost
from relay import targets
from relay.amqp.lifetime import Timer
from relay.amqp.session import Session
from relay.amqp.stream import Connection
from relay.backoff import Backoff
from relay.daemon import Daemon, Stop, run
from relay.errors import Unavailable
from relay.log import Log
from relay.receiving.consumer import Consumer
from relay.receiving.fence import Fence, Probe
from relay.receiving.parking.index import ROOM_MAX
from relay.receiving.parking.park import Park
from relay.receiving.parts import Parts as SessionParts
from relay.receiving.receiver import Receiver
from relay.receiving.sessions import Sessions
from tests.parts import QUEUE, ROOM, Parts
from tests.wired import Wired, alive

pytestmark = pytest.mark.timeout(30)


@dataclasses.dataclass
class Made:
    """A receiver, and what drives it."""

    wire: Wired
    receiver: Receiver


async def parts_of(settings: Any) -> SessionParts:
    """As receiver.py makes them: the workers are tasks of the loop."""
    sessions = receiver._sessions(settings)
    return sessions.parts(sessions.seat())


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

    async def session(sessions: Sessions, daemon: Daemon, parts: SessionParts) -> str:
        try:
            async with sessions.opened(settings, parts, daemon) as made:
                made.session.call_later(0.1, made.session._connection.abort)
                await made.run()
        except Unavailable as error:
            return error.what  # the error itself would keep the frames alive that it came through
        return ""

    async def work() -> int:
        daemon, sessions = Daemon(Stop(), Log("receiver"), Backoff(1, 1)), receiver._sessions(settings)
        parts = sessions.parts(sessions.seat())
        for _ in range(4):
            assert "connection to RabbitMQ broke" in await session(sessions, daemon, parts)
            async with asyncio.timeout(20):  # the probe's connection has said goodbye, and is not awaited
                while max((found := alive(Receiver, Session, Connection, Timer)).values()) > 1:
                    await asyncio.sleep(0.01)
            left.append(found)
            assert len(asyncio.all_tasks()) == 1 + parts.workers.count
        await parts.workers.end()
        return 0

    assert run(work) == 0
    assert all(max(one.values()) <= 1 for one in left), left
