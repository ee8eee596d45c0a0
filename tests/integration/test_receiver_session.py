"""receiver.py against a real RabbitMQ and a real HTTP endpoint: delivery, order, retry, lease, stop, lost sessions."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest

from dev.doubles.endpoint import OK, Answer, Endpoint, Request
from dev.process import wait_until
from dev.rabbitmq import RabbitMQ
from dev.script import Script
from dev.vhost import Vhost
from tests.messages import NEW_QUEUE_SECONDS, Publisher
from tests.receiving import by_key, run, settings

Make = Callable[..., Script]


def test_events_arrive_as_they_are_and_leave_the_queue(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    receiver = script("receiver.py", settings(vhost, endpoint))
    receiver.start()
    receiver.wait_for_log("consuming")
    publisher = Publisher(vhost)
    sent = [publisher.event(f"t {n % 3}", n=n) for n in range(30)]
    wait_until(lambda: len(endpoint.completed) == 30, 10, "30 events")
    assert {request.event_id for request in endpoint.completed} == set(sent)
    assert by_key(endpoint) == {f"t {k}": list(range(k, 30, 3)) for k in range(3)}
    assert endpoint.completed[0].headers["Content-Type"] == "application/json"
    receiver.terminate()
    assert receiver.wait() == 0
    assert vhost.queue_depth("odoo") == 0


def test_only_200_is_success_and_a_row_keeps_its_order(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    tries: dict[str, int] = defaultdict(int)

    def rule(request: Request) -> Answer:
        tries[request.event_id] += 1
        status = {1: 500, 2: 204, 3: 422}.get(tries[request.event_id] if request.json["key"] == "t 0" else 9, 200)
        return Answer(status)

    endpoint.rule = rule
    receiver = script("receiver.py", settings(vhost, endpoint))
    receiver.start()
    receiver.wait_for_log("consuming")
    publisher = Publisher(vhost)
    for n in range(12):
        publisher.event(f"t {n % 4}", n=n)
    wait_until(lambda: len(endpoint.completed) == 12, 20, "12 events")
    assert by_key(endpoint) == {f"t {k}": list(range(k, 12, 4)) for k in range(4)}
    assert max(tries.values()) == 4


def test_messages_of_other_publishers_are_delivered_as_they_are(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    receiver = script("receiver.py", settings(vhost, endpoint))
    receiver.start()
    receiver.wait_for_log("consuming")
    vhost.channel().basic_publish("relay", "any.thing", b"\xff not json")
    wait_until(lambda: endpoint.completed, 10, "the message")
    assert endpoint.completed[0].body == b"\xff not json"


def test_a_second_receiver_waits_and_takes_over(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    first, second = (script("receiver.py", settings(vhost, endpoint)) for _ in range(2))
    first.start()
    first.wait_for_log("consuming")
    second.start()
    second.wait_for_log("another receiver is at work on queue odoo")
    first.kill()
    second.wait_for_log("consuming", timeout=5)
    Publisher(vhost).event("t 1")
    wait_until(lambda: endpoint.completed, 5, "the event")


def test_stopping_awaits_what_is_in_flight_and_returns_the_rest_in_order(
    vhost: Vhost, script: Make, endpoint: Endpoint
) -> None:
    go = threading.Event()

    def rule(_request: Request) -> Answer:
        go.wait(30)
        return Answer(hang=1.0)  # well after the signal: who does not await it has given it back by then

    endpoint.rule = rule
    receiver = script("receiver.py", settings(vhost, endpoint, WORKERS=2))
    publisher = Publisher(vhost)
    receiver.start()
    receiver.wait_for_log("consuming")
    for n in range(100):
        publisher.event(f"t {n}", n=n)
    wait_until(lambda: len(endpoint.requests) == 2, 10, "two requests in flight")
    receiver.terminate()
    receiver.wait_for_log("stopping in_flight=2")
    go.set()
    assert receiver.wait() == 0
    assert len(endpoint.requests) == 2, "nothing was begun after the signal"
    assert vhost.queue_depth("odoo") == 98
    channel = vhost.channel()
    left = [channel.basic_get("odoo")[2] for _ in range(98)]
    assert [publisher.number(body) for body in left] == list(range(2, 100))


def test_acknowledgements_that_rabbitmq_forgets_are_given_again_before_leaving(
    private_rabbitmq: RabbitMQ, script: Make, endpoint: Endpoint
) -> None:
    """A quorum queue forgets what it holds back of more than 32 when the channel closes (lost_acks.py)."""
    go = threading.Event()

    def rule(_request: Request) -> Answer:
        go.wait(30)
        return OK

    endpoint.rule = rule
    vhost = Vhost.create(private_rabbitmq, "settle")
    receiver = script("receiver.py", settings(vhost, endpoint, WORKERS=80))
    receiver.start()
    receiver.wait_for_log("consuming")
    publisher = Publisher(vhost)
    for n in range(80):
        publisher.event(f"t {n}", n=n)
    wait_until(lambda: len(endpoint.requests) == 80, 20, "80 requests in flight")
    private_rabbitmq.pause()  # it will find the acknowledgements and what follows them all at once
    receiver.terminate()
    receiver.wait_for_log("stopping")
    go.set()
    wait_until(lambda: len(endpoint.completed) == 80, 20, "80 completed")
    private_rabbitmq.resume()
    assert receiver.wait() == 0
    assert vhost.queue_depth("odoo") == 0


def test_a_request_that_outlives_the_grace_time_is_left_behind(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    endpoint.rule = lambda _request: Answer(work=20)
    receiver = script("receiver.py", settings(vhost, endpoint, SHUTDOWN_GRACE="0.2"))
    receiver.start()
    receiver.wait_for_log("consuming")
    Publisher(vhost).event("t 1")
    wait_until(lambda: endpoint.requests, 10, "the request")
    receiver.terminate()
    assert receiver.wait(5) == 0
    assert vhost.queue_depth("odoo") == 1


def test_a_lost_connection_repeats_nothing_and_keeps_the_order(
    private_vhost: Vhost, private_rabbitmq: RabbitMQ, script: Make, endpoint: Endpoint
) -> None:
    """The broker is restarted while a request is in flight: its row waits for it, the others do not."""
    slow = Answer(work=6)
    endpoint.rule = lambda request: slow if request.json["key"] == "t 0" else OK
    receiver = script("receiver.py", settings(private_vhost, endpoint))
    receiver.start()
    receiver.wait_for_log("consuming")
    publisher = Publisher(private_vhost)
    for n in range(8):
        publisher.event(f"t {n % 2}", n=n)
    wait_until(lambda: len(endpoint.completed) == 4, 10, "the quick row's events")
    private_vhost.close()  # an idle test connection does not answer, and would hold up the command
    private_rabbitmq.close_connections()
    receiver.wait_for_log("consuming", count=2)
    endpoint.rule = lambda _request: OK
    publisher = Publisher(private_vhost)
    publisher.event("t 1", n=9)
    wait_until(lambda: len(endpoint.completed) == 9, 20, "all events")
    assert by_key(endpoint) == {"t 0": [0, 2, 4, 6], "t 1": [1, 3, 5, 7, 9]}


def test_a_broker_that_is_away_is_waited_for(
    private_vhost: Vhost, private_rabbitmq: RabbitMQ, script: Make, endpoint: Endpoint
) -> None:
    receiver = script("receiver.py", settings(private_vhost, endpoint))
    receiver.start()
    receiver.wait_for_log("consuming")
    publisher = Publisher(private_vhost)
    endpoint.rule = lambda _request: Answer(503)
    for n in range(20):
        publisher.event(f"t {n % 4}", n=n)
    time.sleep(NEW_QUEUE_SECONDS)
    assert endpoint.requests
    private_rabbitmq.kill()
    receiver.wait_for_log("state=waiting")
    private_rabbitmq.start()
    endpoint.rule = lambda _request: OK
    wait_until(lambda: len(endpoint.completed) == 20, 30, "all events")
    assert by_key(endpoint) == {f"t {k}": list(range(k, 20, 4)) for k in range(4)}


def test_during_an_alarm_a_receiver_starts_and_delivers(
    private_vhost: Vhost, private_rabbitmq: RabbitMQ, script: Make, endpoint: Endpoint
) -> None:
    """The way out of a full disk is to deliver. The broker confirms nothing then, so a queue can't be probed."""
    receiver = script("receiver.py", settings(private_vhost, endpoint))
    receiver.start()
    receiver.wait_for_log("consuming")
    receiver.terminate()
    assert receiver.wait() == 0
    publisher = Publisher(private_vhost)
    for n in range(20):
        publisher.event(f"t {n % 4}", n=n)
    private_rabbitmq.set_disk_alarm()
    receiver.start()
    wait_until(lambda: len(endpoint.completed) == 20, 30, "all events")
    assert by_key(endpoint) == {f"t {k}": list(range(k, 20, 4)) for k in range(4)}
    refused = run(receiver, "parked")
    assert refused.returncode == 75
    assert "has an alarm, of memory or disk, and carries out no command" in refused.stderr
    receiver.terminate()
    assert receiver.wait() == 0
    private_rabbitmq.set_disk_alarm(on=False)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [({"x-queue-type": "classic"}, "x-queue-type"), ({"x-queue-type": "quorum"}, "x-delivery-limit")],
)
def test_a_queue_with_other_arguments_is_named_and_left_alone(
    vhost: Vhost, script: Make, endpoint: Endpoint, arguments: dict[str, Any], said: str
) -> None:
    vhost.channel().queue_declare("odoo", durable=True, arguments=arguments)
    receiver = script("receiver.py", settings(vhost, endpoint))
    receiver.start()
    assert receiver.wait() == 78
    assert "queue odoo exists with other arguments" in receiver.log()
    assert said in receiver.log()
    assert "Traceback" not in receiver.log()
    vhost.channel().queue_declare("odoo", passive=True)


def test_a_window_of_a_killed_receiver_comes_back_in_order(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    published = threading.Event()

    def slow(_request: Request) -> Answer:
        published.wait(30)  # so that the receiver that is killed first holds nearly all of them
        return Answer(work=0.01)

    endpoint.rule = slow
    receiver = script("receiver.py", settings(vhost, endpoint, HTTP_TIME_LIMIT=60))
    publisher = Publisher(vhost)
    receiver.start()
    receiver.wait_for_log("consuming")
    for n in range(400):
        publisher.event(f"t {n % 7}", n=n)
    published.set()
    for part in range(1, 4):
        wait_until(lambda part=part: len(endpoint.completed) > part * 80, 20, "some events")  # type: ignore[misc]
        receiver.kill()
        time.sleep(0.05)
        receiver.start()
    wait_until(lambda: len({r.event_id for r in endpoint.completed}) == 400, 30, "all events")
    for numbers in by_key(endpoint).values():
        firsts = list(dict.fromkeys(numbers))
        assert firsts == sorted(firsts)
    assert len(endpoint.completed) <= 400 + 3 * 2 * 5, "more came twice than was under way, or on its way back"
