"""Kill -9 between every two steps of parking and replay: nothing lost, nothing doubled in the parking lot."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable

import pytest

from dev.doubles.endpoint import OK, Answer, Endpoint
from dev.process import wait_until
from dev.script import ROOT, Script
from dev.vhost import Vhost
from relay.receiving.consumer import Consumer
from relay.receiving.parking.index import ParkedIndex
from relay.receiving.parking.park import Park
from relay.receiving.parking.recount import Recount
from relay.receiving.parking.unpark import Unpark
from tests.messages import Publisher
from tests.receiving import assert_order, done, run, settings
from tests.steps import places

Make = Callable[..., Script]
POISON = "t 0"
EVENTS = 6  # of each of two keys
STEPS = (
    *(Park.give_up, Park.arrived, Park._move, Park._enter, Park._publish, Park._send, Park._on_confirm, Park._stored),
    *(Unpark.start, Unpark._place, Unpark._acknowledge, Unpark._acknowledge_soon, Unpark._acknowledge_now),
    *(Unpark.end, Unpark.abandon, Recount.verify),
    *(ParkedIndex.enter, ParkedIndex.leave, ParkedIndex.settle, Consumer._on_message, Consumer._acknowledge),
)


def killed_at(vhost: Vhost, script: Make, where: str, number: int) -> bool:
    """Park a row, replay it, with a kill at this place; True if the place was reached."""
    queue = f"q{number}"
    with Endpoint(lambda request: Answer(422) if request.json["key"] == POISON else OK) as endpoint:
        own = settings(vhost, endpoint, QUEUE=queue, EXCHANGE=queue, MAX_ATTEMPTS=1)
        environment = {"KILL_AT": where, "PYTHONPATH": str(ROOT / "tests" / "killing")}
        first, second = script("receiver.py", own, environment=environment), script("receiver.py", own)
        first.start()
        wait_until(lambda: not first.alive() or "consuming" in first.log(), 20, "the receiver at work")
        if not first.alive():  # killed on its way: the queue must be there before anything is published
            second.start()
            second.wait_for_log("consuming")
        publisher = Publisher(vhost, queue)
        published = {publisher.event(key, n=n) for n in range(EVENTS) for key in (POISON, "t 1")}

        def is_parked() -> bool:
            return len(endpoint.completed) >= EVENTS and vhost.queue_depth(f"{queue}.parked") == EVENTS

        wait_until(lambda: (not first.alive() and not second.alive()) or is_parked(), 20, "the row to be parked")
        endpoint_is_well(endpoint)
        if first.alive():
            replay = [sys.executable, str(ROOT / "receiver.py"), "--env-file", str(first.env_file), "replay", "--all"]
            with subprocess.Popen(replay, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as command:
                wait_until(lambda: not first.alive() or command.poll() is not None, 30, "the end of the replay")
                command.kill()
        reached = not first.alive()
        first.kill()
        if not second.alive():
            second.start()
            second.wait_for_log("consuming")
        wait_until(lambda: vhost.queue_depth(queue) == 0, 10, "an empty queue")
        second.terminate()
        assert second.wait() == 0
        ids = in_room(vhost, f"{queue}.parked")
        assert len(ids) == len(set(ids)), f"{where}: doubled in the parking lot"
        second.start()
        second.wait_for_log("consuming", count=2)

        def left() -> set[str]:
            return published - {request.event_id for request in endpoint.completed}

        done(run(second, "replay", "--all"))
        wait_until(lambda: not left(), 10, f"all events ({where})")
        assert_order(endpoint)
        second.terminate()
        assert second.wait() == 0
        assert vhost.queue_depth(f"{queue}.parked") == vhost.queue_depth(queue) == 0
        return reached


def endpoint_is_well(endpoint: Endpoint) -> None:
    endpoint.rule = lambda _request: OK


def in_room(vhost: Vhost, queue: str) -> list[str]:
    channel = vhost.channel()
    found = list(itertools.takewhile(lambda got: got[0] is not None, iter(lambda: channel.basic_get(queue), ())))
    channel.close()
    return [properties.message_id for _, properties, _ in found]


@pytest.mark.timeout(240)
def test_killed_at_some_of_the_steps(vhost: Vhost, script: Make) -> None:
    reached = [killed_at(vhost, script, where, n) for n, where in enumerate(places(STEPS, 24, 60))]
    assert any(reached)


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("part", range(8))
def test_killed_at_every_step(vhost: Vhost, script: Make, part: int) -> None:
    reached = [killed_at(vhost, script, where, n) for n, where in enumerate(places(STEPS, part, 8))]
    assert sum(reached) >= len(reached) // 2, "most of these lines are on the way"
