"""Somebody publishes into the parking lot without end: whatever is read there ends, and deliveries go on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pika
import pytest
from pika.spec import Basic

from dev.doubles.endpoint import OK, Answer, Endpoint
from dev.process import wait_until
from dev.script import Script
from dev.vhost import Vhost
from relay.amqp.decode import Properties
from relay.receiving.lanes.moving import Mover
from relay.receiving.lanes.names import Generation
from relay.receiving.lost_acks import Reading, settle
from relay.receiving.parking import recount
from relay.receiving.strand import Origin
from tests.messages import Publisher
from tests.parts import QUEUE, ROOM, Parts
from tests.receiving import by_key, parked, run, settings, with_constants
from tests.wired import wired

pytestmark = pytest.mark.timeout(120)
POISON = "t 0"


def read_with_one_more(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Each reading is followed by one message more. Return what each of them has read."""
    load_once, readings = parts.recount._load_once, list[int]()

    async def and_one_more(total: int) -> int:
        readings.append(await load_once(total))
        assert len(readings) < 100, "it is read without end"
        parts.channel.basic_publish("", ROOM, b"{}", pika.BasicProperties(headers={"relay-key": "t 1"}))
        return readings[-1]

    monkeypatch.setattr(parts.recount, "_load_once", and_one_more)
    return readings


def is_wrong(parts: Parts) -> bool:
    """Compare so often that it would be known."""
    for _ in range(recount.DOUBTS):
        parts.wire.run(parts.recount.compare())
    return parts.recount.is_wrong


def test_it_is_read_some_times_and_what_comes_meanwhile_is_found_by_the_next_look(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts.declare(ROOM)
    parts.publish(b"{}", queue=ROOM)
    readings = read_with_one_more(parts, monkeypatch)
    parts.wire.run(parts.recount.load())
    assert readings == [1, 2]
    assert not parts.recount.is_cut_off
    assert parts.index.entries["t 1"].count == 2, "what was there before holds its later events up"
    assert is_wrong(parts)
    monkeypatch.undo()
    parts.wire.run(parts.recount.load())
    assert parts.index.entries["t 1"].count == 3
    assert not is_wrong(parts)


def test_between_two_readings_are_pauses_that_get_longer(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(monotonic=lambda: clock.now, now=1000.0)
    monkeypatch.setattr(recount, "time", clock)
    parts.declare(ROOM)
    parts.channel.confirm_delivery()
    read_with_one_more(parts, monkeypatch)
    parts.wire.run(parts.recount.load())
    for pause in (0.0, 5.0, 10.0, 20.0, 40.0, 60.0, 60.0):
        clock.now += pause - 0.1
        assert is_wrong(parts) == (not pause)
        assert not parts.recount.is_doubtful, "that is known"
        clock.now += 0.1
        assert is_wrong(parts)
        parts.wire.run(parts.recount.load())
    clock.now += 200.0
    assert is_wrong(parts)
    parts.wire.run(parts.recount.load())
    clock.now += 5.0
    assert is_wrong(parts), "there was peace in between"


def test_a_reading_that_takes_long_is_followed_by_a_longer_pause(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(monotonic=lambda: clock.now, now=1000.0)
    monkeypatch.setattr(recount, "time", clock)
    parts.declare(ROOM)
    load_once = parts.recount._load_once

    async def slowly(total: int) -> int:
        clock.now += 30.0
        return await load_once(total)

    monkeypatch.setattr(parts.recount, "_load_once", slowly)
    parts.publish(b"{}", queue=ROOM)
    assert is_wrong(parts)
    parts.wire.run(parts.recount.load())
    parts.publish(b"{}", queue=ROOM)
    clock.now += 299.0
    assert not is_wrong(parts)
    clock.now += 1.0
    assert is_wrong(parts)


def test_what_a_pass_finds_and_the_index_does_not_know_is_not_taken_for_ours(parts: Parts) -> None:
    """Else the key would seem to have left, and its next event overtook what is still there."""
    parts.declare(ROOM)
    parts.publish(b"{}", queue=ROOM)
    parts.wire.run(parts.recount.load())
    parts.index.retry("t 1", 0.0)
    stranger = pika.BasicProperties(headers={"relay-key": "t 1", "relay-seq": 7, "relay-table": "t"}, message_id="x")
    parts.channel.basic_publish("", ROOM, b"{}", stranger)
    parts.wire.run(parts.unpark.start(time.monotonic()))
    parts.wire.until(lambda: parts.here(Origin.PARKED) == [1])
    parts.wire.until(lambda: parts.unpark._sweep is not None and parts.unpark._sweep.has_read_all)
    assert parts.here(Origin.PARKED) == [1]
    for receipt in parts.deliver():
        receipt()
    assert parts.index.entries["t 1"].count == 0
    parts.wire.until(lambda: parts.unpark.finished)
    parts.wire.run(parts.unpark.end(time.monotonic()))
    assert parts.index.blocks("t 1", parts.add(2, "t 1").event), "what comes of it goes behind that"


class Repeated(Reading):
    """The same message comes again for each that is acknowledged."""

    def __init__(self, publish: Callable[[], None]) -> None:
        self._publish = publish
        self._tags = list[int]()

    def look(self, method: Basic.Deliver, _properties: Properties, _body: bytes) -> None:
        self._publish()
        self._tags.append(method.delivery_tag or 0)

    def done(self) -> Iterator[int]:
        return iter(self._tags)


def test_what_others_repeat_is_not_acknowledged_without_end(parts: Parts) -> None:
    parts.declare(QUEUE)
    parts.publish(b"", b"", queue=QUEUE)
    rounds = list[Repeated]()

    def begin() -> Reading:
        rounds.append(Repeated(lambda: parts.publish(b"", queue=QUEUE)))
        assert len(rounds) < 20, "it is read without end"
        return rounds[-1]

    parts.wire.run(settle(parts.wire.session, parts.wire.fence, QUEUE, None, begin))
    assert len(rounds) < 5


def test_what_is_parked_moves_to_other_lanes_although_others_publish_there(
    vhost: Vhost, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = vhost.channel()
    before, now = Generation("odoo", 1, 1), Generation("odoo", 2, 1)
    rooms = [f"{queue}.parked" for one in (before, now) for queue in one.queues]
    for room in rooms:
        channel.queue_declare(room, durable=True, arguments={"x-queue-type": "quorum"})
    move, rounds = Mover._move, list[int]()

    async def and_one_more(mover: Mover, queue: str, count: int) -> int:
        assert len(rounds) < 20, "it is moved without end"
        channel.basic_publish("", rooms[0], b"{}", pika.BasicProperties(headers={"relay-key": f"t {len(rounds)}"}))
        rounds.append(count)
        return await move(mover, queue, count)

    monkeypatch.setattr(Mover, "_move", and_one_more)
    channel.confirm_delivery()
    channel.basic_publish("", rooms[0], b"{}", pika.BasicProperties(headers={"relay-key": "t"}))
    with wired(vhost) as made:
        moved: int = made.run(Mover(made.session, made.fence, made.settings, now).run(before))
    assert moved == len(rounds) <= 5


class Trickle:
    """A stranger who publishes into the parking lot, message after message."""

    def __init__(self, vhost: Vhost, *, batch: int, pause: float) -> None:
        self.count = 0
        self._stop = threading.Event()
        self._channel = vhost.connection().channel()
        self._thread = threading.Thread(target=self._work, args=(batch, pause))
        self._thread.start()

    def _work(self, batch: int, pause: float) -> None:
        headers: dict[str, Any] = {"relay-parked-why": "dead", "relay-key": "stranger"}
        while not self._stop.wait(pause):
            for _ in range(batch):
                self._channel.basic_publish("", "odoo.parked", b"{}", pika.BasicProperties(headers=headers))
                self.count += 1
        self._channel.connection.close()

    def end(self) -> int:
        """Return how many it was."""
        self._stop.set()
        self._thread.join()
        return self.count


@pytest.mark.parametrize(("batch", "pause"), [(1, 0.02), (20, 0.1)], ids=["trickle", "flood"])
def test_deliveries_go_on_while_others_fill_the_parking_lot(
    vhost: Vhost, script: Callable[..., Script], endpoint: Endpoint, batch: int, pause: float
) -> None:
    own = "relay.receiving.parking"
    quick = with_constants(f"{own}.lot.COUNT_SECONDS=0.2", f"{own}.recount.PAUSE_MIN=1.0", f"{own}.recount.SHARE=0.5")
    receiver = script("receiver.py", settings(vhost, endpoint, MAX_ATTEMPTS=1), environment=quick)
    receiver.start()
    receiver.wait_for_log("consuming")
    endpoint.rule = lambda request: Answer(422) if request.json["key"] == POISON else OK
    publisher, number = Publisher(vhost), 0
    publisher.event(POISON, n=0)
    wait_until(lambda: vhost.queue_depth("odoo.parked") == 1, 20, "the key in the parking lot")
    trickle = Trickle(vhost, batch=batch, pause=pause)
    try:
        while receiver.log().count("it is read anew") < 2:
            number += 1
            publisher.event(POISON, n=number)
            publisher.event("t 1", n=number)
            wait_until(lambda n=number: by_key(endpoint).get("t 1", [0])[-1] == n, 30, "the next event of another key")  # type: ignore[misc]
        assert POISON not in by_key(endpoint), "it waits behind the refused one"
        endpoint.rule = lambda _request: OK
        while not by_key(endpoint).get(POISON):
            run(receiver, "replay", "--key", POISON)  # if it is read anew meanwhile, that is forgotten
        wait_until(lambda: len(by_key(endpoint)[POISON]) == number + 1, 60, "all of the key")
        publisher.event(POISON, n=number + 1)
        wait_until(lambda: len(by_key(endpoint)[POISON]) == number + 2, 60, "its next one")
    finally:
        count = trickle.end()
    assert by_key(endpoint)[POISON] == list(range(number + 2))
    wait_until(
        lambda: [one["events"] for one in parked(receiver)] == [count], 60, "all that the stranger has put there"
    )
    assert receiver.log().count("consuming") == 1
