"""Events that kill their worker, or all of the server, or never get an answer: they are parked, the others go on."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable

import pytest

from dev.doubles.endpoint import OK, Answer, Endpoint, Request
from dev.process import wait_until
from dev.script import Script
from dev.vhost import Vhost
from tests.messages import Publisher
from tests.receiving import assert_order, done, run, settings

Make = Callable[..., Script]
PAGE = b"<!doctype html><title>Log in</title>"

KILLS = {
    "worker": Answer(reset=True, commit=False),
    "half an answer": Answer(200, b"0123456789", half=True, commit=False),
    "header": Answer(200, headers={"X": "x" * 70_000}, commit=False),
    "bad gateway": Answer(502),
    "gateway timeout": Answer(504),
    "page": Answer(200, PAGE, commit=False),
    "error": Answer(200, b'{"jsonrpc":"2.0","error":{"message":"x"}}', commit=False),
}


def refused(receiver: Script) -> list[object]:
    return [one["key"] for one in json.loads(done(run(receiver, "parked", "--json"))) if one["why"] == "dead"]


def start(script: Make, vhost: Vhost, endpoint: Endpoint, **more: object) -> Script:
    own = {"MAX_ATTEMPTS": 3, "HTTP_TIME_LIMIT": "0.5", **more}
    receiver = script("receiver.py", settings(vhost, endpoint, **own))
    receiver.start()
    receiver.wait_for_log("consuming")
    return receiver


def publish_until_parked(vhost: Vhost, receiver: Script, keys: int) -> int:
    """Events of many keys, `t 0` among them, until one of `t 0` is parked. Return how many others there were."""
    publisher, n, looked = Publisher(vhost), 0, time.monotonic()
    until = looked + 60
    publisher.event("t 0", n=0)
    while time.monotonic() < until:
        n += 1
        publisher.event(f"t {1 + n % keys}", n=n)
        time.sleep(0.01)
        if "event refused and parked" in receiver.log():
            break
    return n


@pytest.mark.parametrize("how", KILLS)
def test_an_event_that_breaks_its_request_is_parked(vhost: Vhost, script: Make, endpoint: Endpoint, how: str) -> None:
    endpoint.rule = lambda request: KILLS[how] if request.json["key"] == "t 0" else OK
    receiver = start(script, vhost, endpoint)
    others = publish_until_parked(vhost, receiver, keys=5)
    wait_until(lambda: len(endpoint.completed) == others, 20, "the others")
    assert refused(receiver) == ["t 0"]
    assert_order(endpoint)


def test_an_event_that_takes_the_whole_server_down_is_parked_and_no_other(
    vhost: Vhost, script: Make, endpoint: Endpoint
) -> None:
    """It is back after a while, each time; what was under way beside it broke as well."""
    killed = threading.Event()

    def rule(request: Request) -> Answer:
        if request.json["key"] != "t 0":
            return Answer(work=0.01)
        killed.set()
        time.sleep(0.05)
        return Answer(reset=True, commit=False)

    stop = threading.Event()

    def supervise() -> None:
        while not stop.is_set():
            if killed.wait(0.05):
                endpoint.stop()
                time.sleep(0.3)
                killed.clear()
                endpoint.start()

    endpoint.rule = rule
    thread = threading.Thread(target=supervise)
    thread.start()
    try:
        receiver = start(script, vhost, endpoint)
        others = publish_until_parked(vhost, receiver, keys=30)
        wait_until(lambda: len({body["n"] for body in endpoint.bodies()}) == others, 20, "the others")
    finally:
        stop.set()
        thread.join()
    assert refused(receiver) == ["t 0"]


@pytest.mark.parametrize(
    "how", [Answer(reset=True, commit=False), Answer(502), Answer(504), Answer(200, PAGE, commit=False)]
)
def test_an_endpoint_that_does_it_to_all_spends_no_attempt(
    vhost: Vhost, script: Make, endpoint: Endpoint, how: Answer
) -> None:
    down = [True]
    endpoint.rule = lambda _request: how if down[0] else OK
    receiver = start(script, vhost, endpoint, MAX_ATTEMPTS=1)
    publisher = Publisher(vhost)
    for n in range(60):
        publisher.event(f"t {n % 20}", n=n)
    receiver.wait_for_log("endpoint does not work, pausing")
    began, before = time.monotonic(), len(endpoint.requests)
    wait_until(lambda: time.monotonic() - began > 4, 10, "an outage of 4 s")
    assert 1 <= len(endpoint.requests) - before < 10, "less than two probes a second"
    down[0] = False
    wait_until(lambda: len(endpoint.completed) == 60, 20, "all events")
    assert {request.headers["Relay-Attempt"] for request in endpoint.requests} == {"1"}
    assert "event refused and parked" not in receiver.log()
    if how.body == PAGE:
        assert "SUCCESS_BODY" in receiver.log()
    assert_order(endpoint)


def test_a_server_behind_a_proxy_that_gave_up_is_waited_for(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    """As after a timeout of our own: it may still be at work, and commit late."""
    first = [True]

    def rule(_request: Request) -> Answer:
        gave_up, first[0] = first[0], False
        return Answer(504) if gave_up else OK

    endpoint.rule = rule
    start(script, vhost, endpoint, HTTP_TIME_LIMIT="1.5")
    before = time.monotonic()  # the endpoint's own first look at its clock may come later than the server's beginning
    Publisher(vhost).event("t 0", n=0)
    wait_until(lambda: endpoint.completed, 10, "the second try")
    assert endpoint.requests[1].started - before >= 1.5


def test_a_header_that_trickles_holds_up_one_worker_for_the_time_limit(
    vhost: Vhost, script: Make, endpoint: Endpoint
) -> None:
    """One byte a second: each byte used to begin the time limit anew."""
    endpoint.rule = lambda request: Answer(trickle=0.1) if request.json["key"] == "t 0" else OK
    receiver = start(script, vhost, endpoint, WORKERS=1, HTTP_READ_TIMEOUT="1", HTTP_TIME_LIMIT="1", MAX_ATTEMPTS=2)
    others = publish_until_parked(vhost, receiver, keys=5)
    wait_until(lambda: len(endpoint.completed) == others, 20, "the others")
    assert 'reason="no answer in time"' in receiver.log()
    assert refused(receiver) == ["t 0"]
