"""ONLY: anything else is acknowledged, at once, counted, and changes no order."""

from __future__ import annotations

import json
from collections.abc import Callable

from dev.doubles.endpoint import Answer, Endpoint
from dev.process import wait_until
from dev.script import Script
from dev.vhost import Vhost
from tests.messages import Publisher
from tests.receiving import done, run, settings

Make = Callable[..., Script]


def test_what_is_not_asked_for_is_acknowledged_and_counted(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    """Also behind an event of its key that waits, and in a small window."""
    waits = {"yes"}
    endpoint.rule = lambda _request: Answer(503 if waits else 200)
    more = {"ONLY": "op:insert,update new[state]=confirmed", "PREFETCH": 5}
    receiver = script("receiver.py", settings(vhost, endpoint, **more))
    receiver.start()
    receiver.wait_for_log("consuming")
    publisher = Publisher(vhost)
    for n in range(40):
        state = "confirmed" if n % 10 == 0 else "draft"
        publisher.event("a", n, body={"new": {"state": state}})
        publisher.event("b", n, op="delete", body={"new": None})

    def status() -> dict[str, object]:
        return dict(json.loads(done(run(receiver, "status", "--json")))["receiver"])

    wait_until(lambda: status()["filtered"] == 76, 20, "all but four filtered")
    assert "filtered" in done(run(receiver, "status"))
    assert status()["breaker"]["open"], "they prove nothing about the endpoint"  # type: ignore[index]
    waits.clear()
    wait_until(lambda: len(endpoint.completed) >= 4 and not status()["here"], 20, "the four")
    assert [body["n"] for body in endpoint.bodies() if body][-4:] == [0, 10, 20, 30]
    receiver.terminate()
    assert receiver.wait() == 0
    assert vhost.queue_depth("odoo") == vhost.queue_depth("odoo.parked") == 0


def test_drain_and_kill_lose_none_that_is_asked_for(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    receiver = script("receiver.py", settings(vhost, endpoint, ONLY="event[n]!=1,3,5,7,9"))
    receiver.start()
    receiver.wait_for_log("consuming")
    receiver.kill()
    publisher = Publisher(vhost)
    for n in range(300):
        publisher.event(f"k{n % 3}", n % 100)
    receiver.start()
    wait_until(lambda: len(endpoint.completed) > 50, 20, "some")
    receiver.kill()
    drained = run(receiver, "--drain")
    assert drained.returncode == 0, drained.stderr
    assert {body["n"] for body in endpoint.bodies()} == set(range(100)) - {1, 3, 5, 7, 9}
    assert vhost.queue_depth("odoo") == 0


def test_it_says_what_is_wrong_at_the_start(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    receiver = script("receiver.py", settings(vhost, endpoint, ONLY="op:insert new[state=confirmed"))
    receiver.start()
    assert receiver.wait() == 78
    assert "new[state=confirmed is no condition -> write op:insert,update" in receiver.log()
