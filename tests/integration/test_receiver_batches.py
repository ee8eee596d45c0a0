"""HTTP_BATCH: several events in one request. Whatever the endpoint does wrong, the one bad event is parked alone, and
each key keeps its order."""

from __future__ import annotations

import itertools
import json
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook

from dev.doubles.endpoint import OK, Answer, Endpoint, Request
from dev.process import wait_until
from dev.script import Script
from dev.vhost import Vhost
from tests.messages import Publisher
from tests.receiving import done, run, settings

Make = Callable[..., Script]
PAGE = b"<!doctype html><title>Log in</title>"
BATCH = 20


def start(script: Make, vhost: Vhost, endpoint: Endpoint, **more: object) -> Script:
    own = {"HTTP_BATCH": BATCH, "MAX_ATTEMPTS": 3, "HTTP_TIME_LIMIT": "0.3", **more}
    receiver = script("receiver.py", settings(vhost, endpoint, **own))
    receiver.start()
    receiver.wait_for_log("consuming")
    return receiver


def publish(vhost: Vhost, keys: int, each: int) -> int:
    """Events of many keys, by turns. Return how many."""
    publisher = Publisher(vhost)
    for n in range(each):
        for key in range(keys):
            publisher.event(f"t {key}", n=n)
    return keys * each


def events_of(requests: Iterable[Request]) -> list[dict[str, Any]]:
    return [event for request in requests for event in request.json]


def assert_done(endpoint: Endpoint, keys: Iterable[int], each: int) -> None:
    """All of them, of each key in order; a repetition only of a tail."""
    found = defaultdict(list)
    for event in events_of(endpoint.completed):
        found[event["key"]].append(event["n"])
    for key in keys:
        numbers = found[f"t {key}"]
        firsts = list(dict.fromkeys(numbers))
        assert firsts == list(range(each)), f"{key}: {numbers}"
        assert numbers[-1] == each - 1, f"{key}: an older event came last: {numbers}"


def refused(receiver: Script) -> list[object]:
    return [one["key"] for one in json.loads(done(run(receiver, "parked", "--json"))) if one["why"] == "dead"]


def test_events_of_different_keys_share_a_request(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    all_sent = threading.Event()

    def rule(_request: Request) -> Answer:
        all_sent.wait(60)
        return Answer(work=0.01)

    endpoint.rule = rule
    start(script, vhost, endpoint, HTTP_TIME_LIMIT=60)
    sent = publish(vhost, keys=50, each=10)
    all_sent.set()
    wait_until(lambda: len(events_of(endpoint.completed)) == sent, 30, "the events")
    assert_done(endpoint, range(50), 10)
    for request in endpoint.requests:
        assert request.headers["Content-Type"] == "application/json"
        keys = [event["key"] for event in request.json]
        assert len(set(keys)) == len(keys) <= BATCH, "no two of one key"
        assert request.headers["Relay-Event"].split(",") == [event["id"] for event in request.json]
    assert len(endpoint.requests) < sent / 4


WRONG = {
    "bad request": Answer(400),
    "unprocessable": Answer(422),
    "too large": Answer(413),
    "error": Answer(500),
    "worker killed": Answer(reset=True, commit=False),
    "half an answer": Answer(200, b"0123456789", half=True, commit=False),
    "gateway timeout": Answer(504),
    "page": Answer(200, PAGE, commit=False),
    "its own error": Answer(200, b'{"jsonrpc":"2.0","error":{"message":"x"}}', commit=False),
}


@pytest.mark.parametrize("how", WRONG)
def test_the_one_bad_event_is_parked_alone(vhost: Vhost, script: Make, endpoint: Endpoint, how: str) -> None:
    bad = "t 7"
    endpoint.rule = lambda request: WRONG[how] if any(one["key"] == bad for one in request.json) else OK
    receiver = start(script, vhost, endpoint)
    publisher = Publisher(vhost)
    numbers = itertools.count()

    def parked() -> bool:
        """Others go on meanwhile: they are the evidence."""
        n = next(numbers)
        for key in range(30):
            if key != 7 or n == 0:
                publisher.event(f"t {key}", n=n)
        return "event refused and parked" in receiver.log()

    wait_until(parked, 60, "the bad event to be parked")
    each = next(numbers)
    wait_until(lambda: vhost.queue_depth("odoo") == 0, 20, "the queue")
    others = [key for key in range(30) if key != 7]
    wait_until(
        lambda: len({(e["key"], e["n"]) for e in events_of(endpoint.completed)}) == len(others) * each, 20, "the others"
    )
    assert_done(endpoint, others, each)
    assert refused(receiver) == [bad]


@pytest.mark.parametrize("status", [429, 503, 401])
def test_the_endpoints_failure_spends_no_attempt(vhost: Vhost, script: Make, endpoint: Endpoint, status: int) -> None:
    endpoint.rule = lambda _request: Answer(status, headers={"Retry-After": "0"})
    receiver = start(
        script, vhost, endpoint, MAX_ATTEMPTS=1, **({"HTTP_TOKEN_FILE": "/dev/null"} if status == 401 else {})
    )
    publish(vhost, keys=30, each=2)
    receiver.wait_for_log("endpoint does not work")
    wait_until(lambda: len(endpoint.requests) >= 3, 20, "some tries")
    endpoint.rule = lambda _request: OK
    wait_until(lambda: len(events_of(endpoint.completed)) >= 60, 30, "the events")
    assert_done(endpoint, range(30), 2)
    assert refused(receiver) == []


def by_id(request: Request) -> bytes:
    """The last one is not named, one is refused for good, one is not done yet; in any order."""
    items = [{"id": one["id"], "status": 422 if one["key"] == "t 7" else 200} for one in request.json]
    return json.dumps(items[:-1][::-1] or items).encode()


def by_place(request: Request) -> bytes:
    items = [{"index": {"_id": "x", "status": 400 if one["key"] == "t 7" else 201}} for one in request.json]
    return json.dumps({"errors": True, "items": items}).encode()


@pytest.mark.parametrize("items", [by_id, by_place])
def test_an_answer_may_say_what_became_of_each(
    vhost: Vhost, script: Make, endpoint: Endpoint, items: Callable[[Request], bytes]
) -> None:
    endpoint.rule = lambda request: Answer(200, items(request))
    receiver = start(script, vhost, endpoint, HTTP_BATCH_ANSWER="items", SUCCESS_STATUS="200 201")
    publish(vhost, keys=30, each=3)
    wait_until(lambda: refused(receiver) == ["t 7"], 30, "the refused event")
    wait_until(lambda: vhost.queue_depth("odoo") == 0, 20, "the queue")
    receiver.terminate()
    assert receiver.wait() == 0
    assert vhost.queue_depth("odoo") == 0, "all others are done"
    assert_done(endpoint, [key for key in range(30) if key != 7], 3)


def test_an_answer_that_leaves_one_out_or_is_too_busy_for_it_spends_no_attempt(
    vhost: Vhost, script: Make, endpoint: Endpoint
) -> None:
    """Among others: half of them have no item, one is answered 429 each time but the tenth."""
    busy = itertools.count()

    def answer(request: Request) -> Answer:
        events = request.json
        items = [{"id": one["id"], "status": 200} for one in (events[: len(events) // 2] or events)]
        for one, item in zip(events, items, strict=False):
            if one["key"] == "t 3" and len(events) > 1 and next(busy) < 10:
                item["status"] = 429
        return Answer(200, json.dumps(items).encode())

    endpoint.rule = answer
    receiver = start(script, vhost, endpoint, HTTP_BATCH_ANSWER="items", MAX_ATTEMPTS=1)
    publish(vhost, keys=30, each=3)
    wait_until(lambda: {(e["key"], e["n"]) for e in events_of(endpoint.completed)} >= {("t 3", 2)}, 30, "the busy one")
    wait_until(lambda: vhost.queue_depth("odoo") == 0, 20, "the queue")
    assert refused(receiver) == []
    receiver.terminate()
    assert receiver.wait() == 0
    assert vhost.queue_depth("odoo") == 0
    assert_done(endpoint, range(30), 3)


def test_an_answer_without_items_is_no_success(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    answers = iter([b"ok", b"[1]", b'{"items": 5}', b"[]", b"[" * 100_000])
    endpoint.rule = lambda request: Answer(200, next(answers, by_place(request)), commit=True)
    receiver = start(script, vhost, endpoint, HTTP_BATCH_ANSWER="items", SUCCESS_STATUS="200 201", MAX_ATTEMPTS=100)
    publish(vhost, keys=1, each=1)
    wait_until(lambda: len(endpoint.requests) >= 6, 30, "the tries")
    receiver.terminate()
    assert receiver.wait() == 0
    assert vhost.queue_depth("odoo") == 0


def test_lines_of_json(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    start(script, vhost, endpoint, HTTP_BATCH_FORMAT="ndjson")
    channel = vhost.channel()
    for n in range(5):
        channel.basic_publish("relay", "t", json.dumps({"n": n, "text": "a\nb"}, indent=2).encode())
    wait_until(lambda: sum(one.body.count(b"\n") for one in endpoint.completed) == 5, 20, "the events")
    found = [json.loads(line) for one in endpoint.completed for line in one.body.splitlines()]
    assert sorted(one["n"] for one in found) == list(range(5))
    assert {one["text"] for one in found} == {"a\nb"}
    assert endpoint.completed[0].headers["Content-Type"] == "application/x-ndjson"


def test_what_is_no_json_is_parked_and_spoils_no_other(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    channel = vhost.channel()
    receiver = start(script, vhost, endpoint)
    odd = [b"", b"1,2", b"[", b"\xff", b"NaN", b"{}{}", b"[" * 20_000, "\ufeff{}".encode(), '{"a": 1}'.encode("utf-16")]
    for body in odd:
        channel.basic_publish("relay", "t", body)
    publish(vhost, keys=10, each=2)
    wait_until(lambda: len(events_of(endpoint.completed)) == 20, 20, "the others")
    assert_done(endpoint, range(10), 2)
    wait_until(lambda: len(refused(receiver)) == len(odd), 20, "the odd ones")


def test_templates_and_one_signature_over_the_whole(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYqr"
    start(script, vhost, endpoint, WEBHOOK_SECRET=secret, HTTP_BODY='{"key": "{key}", "topic": "{topic}"}')
    publish(vhost, keys=10, each=1)
    wait_until(lambda: len(events_of(endpoint.completed)) == 10, 20, "the events")
    for request in endpoint.completed:
        Webhook(secret).verify(request.body, {name.lower(): value for name, value in request.headers.items()})
    assert {one["key"] for one in events_of(endpoint.completed)} == {f"t {key}" for key in range(10)}


def test_killed_again_and_again_it_loses_and_reorders_nothing(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    endpoint.rule = lambda _request: Answer(work=0.005)
    receiver = start(script, vhost, endpoint)
    sent = publish(vhost, keys=40, each=25)
    for share in (0.2, 0.4, 0.6, 0.8):
        wait_until(lambda share=share: len(events_of(endpoint.completed)) >= share * sent, 30, "some events")
        receiver.kill()
        receiver.start()
    wait_until(lambda: len({e["id"] for e in events_of(endpoint.completed)}) == sent, 60, "all events")
    assert_done(endpoint, range(40), 25)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"HTTP_URL": "http://127.0.0.1:1/{key[id]}"}, "HTTP_URL names fields"),
        ({"HTTP_HEADERS": '{"X-Key": "{key}"}'}, "HTTP_HEADERS names fields of one event in X-Key"),
        ({"HTTP_METHOD": "PUT delete:DELETE"}, "HTTP_METHOD differs by op"),
        ({"HTTP_METHOD": "GET"}, "HTTP_METHOD=GET takes no body"),
        ({"ORDER": "global"}, "ORDER=global"),
        ({"HTTP_BODY": "text {id}"}, "HTTP_BODY is no JSON"),
        ({"HTTP_BATCH": "201"}, "HTTP_BATCH=201"),
        ({"HTTP_BATCH_FORMAT": "csv"}, "HTTP_BATCH_FORMAT=csv"),
    ],
)
def test_what_can_not_be_together_is_told(
    vhost: Vhost, script: Make, endpoint: Endpoint, more: dict[str, str], says: str
) -> None:
    receiver = script("receiver.py", settings(vhost, endpoint, **({"HTTP_BATCH": 2} | more)))
    receiver.start()
    assert receiver.wait() == 78
    assert says in receiver.log()


@pytest.mark.parametrize(
    "said",
    [b'[{"id": {"status": 200}}]', b'[{"id": Infinity}]', b'[{"id": "x", "status": 1e999}]', b'{"items": {"a": []}}'],
)
def test_an_answer_of_items_that_makes_no_sense_is_no_defect(
    vhost: Vhost, script: Make, endpoint: Endpoint, said: bytes
) -> None:
    """The first one was told as a defect of ours, and each of the events was parked by it."""
    endpoint.rule = lambda _request: Answer(200, said)
    receiver = start(script, vhost, endpoint, HTTP_BATCH_ANSWER="items", MAX_ATTEMPTS=1)
    publish(vhost, keys=3, each=1)
    wait_until(lambda: len(endpoint.requests) >= 3, 20, "some tries")
    endpoint.rule = lambda request: Answer(
        200, json.dumps([{"id": one["id"], "status": 200} for one in request.json]).encode()
    )
    wait_until(lambda: vhost.queue_depth("odoo") == 0 and len(events_of(endpoint.completed)) >= 3, 30, "the events")
    assert "defect" not in receiver.log()
