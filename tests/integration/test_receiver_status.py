"""`receiver.py status`: what the running receiver says of itself, from any host; without one, what RabbitMQ says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from dev.doubles.endpoint import OK, Answer, Endpoint
from dev.process import wait_until
from dev.script import ROOT, Script
from dev.vhost import Vhost
from tests.messages import Publisher
from tests.receiving import done, run, settings

Make = Callable[..., Script]


def document(receiver: Script) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(done(run(receiver, "status", "--json")))
    return found


def test_of_a_receiver_at_work(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    endpoint.rule = lambda request: Answer(422) if request.json["n"] == 0 else OK
    receiver = script("receiver.py", settings(vhost, endpoint, MAX_ATTEMPTS=2))
    receiver.start()
    receiver.wait_for_log("consuming")
    publisher = Publisher(vhost)
    for n in range(5):
        publisher.event(f"key {n}", n=n)
    wait_until(lambda: document(receiver)["receiver"]["parked"]["refused_keys"] == 1, 20, "the refused one parked")
    found = document(receiver)
    told = found["receiver"]
    assert (told["queue"], told["target"], told["process"]) == ("odoo", "http", receiver.pid)
    assert (told["delivered"], told["failed"]) == (4, 2)
    assert told["breaker"] == {"open": False, "since": None, "reason": "", "next_probe_seconds": None}
    assert told["parked"]["reasons"][0]["keys"] == 1
    assert "422" in told["parked"]["reasons"][0]["reason"]
    assert (found["queue"], found["problem"]) == ({"ready": 0, "parked": 1}, "")
    shown = done(run(receiver, "status"))
    assert shown.startswith("receiver of odoo: at work\n")
    assert "!  parked        1 key refused; 1 event in all -> receiver.py parked, then replay or discard\n" in shown
    assert f"   endpoint      {endpoint.url.rpartition('/')[0]} works\n" in shown


def test_an_endpoint_that_is_down_is_told_with_reason_and_next_probe(
    vhost: Vhost, script: Make, endpoint: Endpoint
) -> None:
    endpoint.rule = lambda _request: Answer(503)
    receiver = script("receiver.py", settings(vhost, endpoint))
    receiver.start()
    receiver.wait_for_log("consuming")
    Publisher(vhost).event("a", n=1)
    receiver.wait_for_log("endpoint does not work")
    shown = done(run(receiver, "status"))
    assert shown.startswith("receiver of odoo: waiting for the endpoint\n")
    (line,) = [line for line in shown.splitlines() if line.startswith("!! endpoint")]
    assert " does not work, for " in line
    assert "503" in line


def test_without_a_receiver_rabbitmqs_counts_are_shown(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    receiver = script("receiver.py", settings(vhost, endpoint))
    assert done(run(receiver, "status")).splitlines() == [
        "receiver of odoo: not known",
        "!  at work       no receiver is at work, and queue odoo does not exist: it makes it when it runs",
        "   in the queue  0 ready",
        "   parked        0 events",
    ]
    receiver.start()
    receiver.wait_for_log("consuming")
    receiver.terminate()
    assert receiver.wait() == 0
    Publisher(vhost).event("a", n=1)
    wait_until(lambda: vhost.queue_depth("odoo") == 1, 10, "the message")
    shown = done(run(receiver, "status"))
    assert shown.splitlines()[:3] == [
        "receiver of odoo: not known",
        "!  at work       no receiver is at work: none runs, or it waits for a server (its log says so)",
        "   in the queue  1 ready",
    ]
    assert document(receiver)["receiver"] is None


def test_it_can_be_watched(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    receiver = script("receiver.py", settings(vhost, endpoint))
    receiver.start()
    receiver.wait_for_log("consuming")
    command = [sys.executable, "-u", str(ROOT / "receiver.py"), "--env-file", str(receiver.env_file), "status"]
    with subprocess.Popen(
        [*command, "--watch", "1"], stdout=subprocess.PIPE, text=True, env={"PATH": os.environ["PATH"]}
    ) as watching:
        assert watching.stdout is not None
        seen = 0
        for line in watching.stdout:
            seen += line == "receiver of odoo: at work\n"
            if seen == 2:
                break
        watching.terminate()
    assert seen == 2


@pytest.mark.parametrize("alarm", ["memory", "disk"])
def test_during_an_alarm_it_is_told_and_delivery_goes_on(
    private_vhost: Vhost, script: Make, endpoint: Endpoint, alarm: str
) -> None:
    """An answer that was published on the receiver's own connection would have RabbitMQ read nothing more of it."""
    held = 30
    receiver = script("receiver.py", settings(private_vhost, endpoint, PREFETCH=5, WORKERS=2))
    receiver.start()
    receiver.wait_for_log("consuming")
    publisher = Publisher(private_vhost)
    asking = subprocess.Popen(
        [sys.executable, str(ROOT / "receiver.py"), "--env-file", str(receiver.env_file), "status", "--watch", "1"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={"PATH": os.environ["PATH"]},
    )  # fmt: skip
    try:
        endpoint.rule = lambda _request: Answer(503)
        for n in range(held):
            publisher.event(f"key {n}", n=n)
        receiver.wait_for_log("endpoint does not work")
        set_alarm = getattr(private_vhost.broker, f"set_{alarm}_alarm")
        set_alarm(True)
        shown = done(run(receiver, "status"))
        assert "RabbitMQ has an alarm" in shown
        endpoint.rule = lambda _request: OK
        wait_until(lambda: len({body["key"] for body in endpoint.bodies()}) == held, 40, "all of them, by windows of 5")
        set_alarm(False)
    finally:
        asking.terminate()
        asking.wait()
