"""The endpoint fails: by itself (the breaker), or for one event only; and what it sends back is never trusted."""

from __future__ import annotations

import email.utils
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from dev.doubles.endpoint import OK, Answer, Endpoint, Request
from dev.process import wait_until
from dev.script import Script
from dev.vhost import Vhost
from tests.messages import Publisher
from tests.receiving import assert_order, by_key, done, run, settings

Make = Callable[..., Script]


def start(script: Make, vhost: Vhost, endpoint: Endpoint, **more: object) -> Script:
    receiver = script("receiver.py", settings(vhost, endpoint, **more))
    receiver.start()
    receiver.wait_for_log("consuming")
    return receiver


def publish(vhost: Vhost, keys: int, count: int) -> None:
    publisher = Publisher(vhost)
    for n in range(count):
        publisher.event(f"t {n % keys}", n=n)


@pytest.mark.parametrize("status", [500, 503])
def test_a_dead_endpoint_spends_no_attempt_and_is_probed_gently(
    vhost: Vhost, script: Make, endpoint: Endpoint, status: int
) -> None:
    down = [True]
    endpoint.rule = lambda _request: Answer(status) if down[0] else OK
    receiver = start(script, vhost, endpoint, MAX_ATTEMPTS=1)
    publish(vhost, 50, 500)
    receiver.wait_for_log("endpoint does not work, pausing")
    time.sleep(0.2)
    began, before = time.monotonic(), len(endpoint.requests)
    wait_until(lambda: time.monotonic() - began > 6, 10, "an outage of 6 s")
    assert 1 <= len(endpoint.requests) - before < 12, "less than two probes a second"
    down[0] = False
    back = time.monotonic()
    wait_until(lambda: endpoint.completed, 5, "the first event after the outage")
    wait_until(lambda: len(endpoint.completed) == 500, 15, "all events")
    assert endpoint.completed[0].started - back < 5
    assert vhost.queue_depth("odoo.parked") == 0
    assert "parked" not in receiver.log()
    assert {request.headers["Relay-Attempt"] for request in endpoint.requests} == {"1"}
    assert_order(endpoint)
    assert receiver.log().count("endpoint works again") == 1


def test_an_endpoint_that_hangs_gets_one_probe_at_a_time(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    hang = 3.0  # seconds; the second probe would come earlier
    workers = 3  # so few that none has a further request lying ready
    all_here = threading.Barrier(workers)

    def all_at_once(_request: Request) -> Answer:  # what comes after the pause is then a probe, never a late worker
        all_here.wait(20)
        return Answer(503)

    endpoint.rule = all_at_once
    receiver = start(script, vhost, endpoint, WORKERS=workers)
    publish(vhost, 20, 20)
    receiver.wait_for_log("endpoint does not work, pausing")
    probes: list[float] = []

    def rule(request: Request) -> Answer:
        probes.append(request.started)
        return Answer(503, hang=hang)

    endpoint.rule = rule
    wait_until(lambda: len(probes) == 2, 20, "two probes that hang")
    assert probes[1] - probes[0] >= hang
    endpoint.rule = lambda _request: OK
    wait_until(lambda: len(endpoint.completed) == 20, 20, "all events")
    assert_order(endpoint)


def test_an_endpoint_that_refuses_connections_is_waited_for(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    endpoint.stop()
    receiver = start(script, vhost, endpoint, MAX_ATTEMPTS=1)
    publish(vhost, 5, 50)
    receiver.wait_for_log('reason="no connection: Connection refused"')
    endpoint.start()
    wait_until(lambda: len(endpoint.completed) == 50, 10, "all events")
    assert_order(endpoint)


def test_an_event_that_always_times_out_is_parked_and_the_others_go_on(
    vhost: Vhost, script: Make, endpoint: Endpoint
) -> None:
    endpoint.rule = lambda request: Answer(200, hang=1, commit=False) if request.json["key"] == "t 0" else OK
    receiver = start(
        script, vhost, endpoint, MAX_ATTEMPTS=2, HTTP_READ_TIMEOUT="0.3", HTTP_TIME_LIMIT="0.5", HTTP_CONNECT_TIMEOUT=1
    )
    publisher = Publisher(vhost)
    n = 0
    while "event refused and parked" not in receiver.log() and n < 2000:
        publisher.event(f"t {n % 5}", n=n)
        n += 1
        time.sleep(0.005)
    receiver.wait_for_log("event refused and parked")
    wait_until(lambda: len(endpoint.completed) == n - len(range(0, n, 5)), 10, "the other keys' events")
    assert 'reason="no answer in time"' in receiver.log()


def test_a_replay_that_waits_for_a_request_that_timed_out_says_until_when(
    vhost: Vhost, script: Make, endpoint: Endpoint
) -> None:
    endpoint.rule = lambda request: Answer(200, hang=1, commit=False) if request.json["key"] == "t 0" else OK
    receiver = start(script, vhost, endpoint, MAX_ATTEMPTS=1, HTTP_READ_TIMEOUT="0.3", HTTP_TIME_LIMIT=8)
    publisher, n = Publisher(vhost), 0
    while "event refused and parked" not in receiver.log() and n < 2000:
        publisher.event(f"t {min(n, 1)}", n=n)  # others show that the endpoint works
        n += 1
        time.sleep(0.005)
    endpoint.rule = lambda _request: OK
    shown = run(receiver, "replay", "--all")
    until = r"a request may still run on the server until \d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ \(HTTP_TIME_LIMIT\)"
    assert re.search(rf"^replay: 0 of 1 keys done; 1 must wait: {until}$", shown.stderr, re.MULTILINE), shown
    assert "1 of 1 keys done\n" in done(shown)


@pytest.mark.parametrize("deleted", [False, True])
def test_a_request_that_timed_out_is_not_repeated_while_the_server_may_still_work_on_it(
    vhost: Vhost, script: Make, endpoint: Endpoint, *, deleted: bool
) -> None:
    """The first try commits late, after the client has gone; the next event of the row must come after it. A delete of
    the row has what waits be tried again: no sooner.
    """
    tries: Counter[str] = Counter()

    def rule(request: Request) -> Answer:
        tries[request.event_id] += 1
        return Answer(work=1.0) if request.json["n"] == 0 and tries[request.event_id] == 1 else OK

    endpoint.rule = rule
    times = {"HTTP_READ_TIMEOUT": "0.2", "HTTP_CONNECT_TIMEOUT": "0.2", "HTTP_TIME_LIMIT": "1.5"}
    receiver = start(script, vhost, endpoint, **times)
    publisher = Publisher(vhost)
    publisher.event("t 0", n=0)
    receiver.wait_for_log("no answer in time")
    publisher.event("t 0", n=1, op="delete" if deleted else "update")
    publisher.event("t 0", n=2)
    wait_until(lambda: len(endpoint.completed) == 4, 15, "all events and the late one")
    assert by_key(endpoint)["t 0"] == [0, 0, 1, 2]


@pytest.mark.parametrize("as_date", [False, True])
def test_retry_after_is_honoured(vhost: Vhost, script: Make, endpoint: Endpoint, as_date: bool) -> None:
    first = [True]

    def rule(_request: Request) -> Answer:
        busy, first[0] = first[0], False
        until = email.utils.formatdate(time.time() + 4, usegmt=True)  # it has whole seconds only
        return Answer(429, headers={"Retry-After": until if as_date else "3"}) if busy else OK

    endpoint.rule = rule
    start(script, vhost, endpoint, WORKERS=1)
    publish(vhost, 3, 3)
    wait_until(lambda: len(endpoint.completed) == 3, 10, "all events")
    assert endpoint.completed[0].started - endpoint.requests[0].started >= 3


def test_evil_answers_are_neither_read_to_the_end_nor_shown_as_they_are(
    vhost: Vhost, script: Make, endpoint: Endpoint
) -> None:
    evil = {
        0: Answer(422, "\x1b[2Jfake\nline é".encode() + b"\xff"),
        1: Answer(422, endless=1 << 30),
        2: Answer(422, b"x", headers={"Content-Encoding": "gzip"}),
        3: Answer(302, headers={"Location": "http://127.0.0.1:1/"}),
        4: Answer(422, b"<html>" * 100_000),
    }
    tries: Counter[int] = Counter()

    def rule(request: Request) -> Answer:
        n = request.json["n"]
        tries[n] += 1
        return evil.get(n, OK) if tries[n] == 1 else OK

    endpoint.rule = rule
    receiver = start(script, vhost, endpoint)
    publish(vhost, 10, 10)
    wait_until(lambda: len(endpoint.completed) == 10, 20, "all events")
    assert endpoint.sent < 100 << 20
    assert "\x1b" not in receiver.log()
    assert "Traceback" not in receiver.log()


def test_half_an_answer_is_no_success(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    tries: Counter[str] = Counter()

    def rule(request: Request) -> Answer:
        tries[request.event_id] += 1
        return Answer(200, b"0123456789", half=True, commit=False) if tries[request.event_id] == 1 else OK

    endpoint.rule = rule
    start(script, vhost, endpoint)
    publish(vhost, 1, 2)
    wait_until(lambda: len(endpoint.completed) == 2, 20, "both events")


def test_max_rate_is_kept(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    start(script, vhost, endpoint, MAX_RATE=20)
    publish(vhost, 30, 30)
    wait_until(lambda: len(endpoint.completed) == 30, 10, "all events")
    took = endpoint.requests[-1].started - endpoint.requests[0].started
    assert 29 / 20 * 0.95 < took < 5, "neither quicker, nor with pauses of its own"


def test_drain_delivers_what_is_there_and_ends(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    receiver = start(script, vhost, endpoint)
    assert run(receiver, "--drain").returncode == 75, "another one is running"
    assert "another receiver is at work on queue odoo" in run(receiver, "--drain").stderr
    receiver.terminate()
    receiver.wait()
    publish(vhost, 4, 40)
    assert run(receiver, "--drain", "--limit", "7").returncode == 0
    assert len(endpoint.requests) == 7
    assert run(receiver, "--drain").returncode == 0
    assert len(endpoint.requests) == 40
    assert run(receiver, "--drain").returncode == 0
    endpoint.stop()
    publish(vhost, 4, 4)
    assert run(receiver, "--drain").returncode == 75
    endpoint.start()
    endpoint.rule = lambda _request: Answer(hang=0.5)
    assert run(receiver, "--drain", "--max-seconds", "0.3").returncode == 0
    assert vhost.queue_depth("odoo") == 0


def test_order_global_is_one_at_a_time_and_never_parks(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    tries: Counter[int] = Counter()

    def rule(request: Request) -> Answer:
        n = request.json["n"]
        tries[n] += 1
        return Answer(422) if n == 3 and tries[n] < 6 else OK

    endpoint.rule = rule
    start(script, vhost, endpoint, ORDER="global", MAX_ATTEMPTS=2)
    publish(vhost, 10, 20)
    wait_until(lambda: len(endpoint.completed) == 20, 20, "all events")
    assert [body["n"] for body in endpoint.bodies()] == list(range(20))


def test_large_messages_do_not_fill_the_memory(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    receiver = start(script, vhost, endpoint, PREFETCH_MB=4)
    endpoint.rule = lambda _request: Answer(503)
    publisher = Publisher(vhost)
    for n in range(100):
        publisher.event(f"t {n % 10}", n=n, filler="x" * 1_000_000)
    receiver.wait_for_log("endpoint does not work")
    endpoint.rule = lambda _request: OK
    wait_until(lambda: len(endpoint.completed) == 100, 60, "all events")
    assert_order(endpoint)
    assert peak_mb(receiver.pid) < 90


def peak_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024
