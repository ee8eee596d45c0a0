"""STATUS_ADDR of a real receiver: page, metrics and health while it works, while the endpoint or a server is away."""

from __future__ import annotations

from collections.abc import Callable

from dev.doubles.endpoint import OK, Answer, Endpoint
from dev.process import free_port, wait_until
from dev.script import Script
from dev.vhost import Vhost
from tests.messages import Publisher
from tests.receiving import settings
from tests.status import by_labels, get, numbers

Make = Callable[..., Script]


def test_page_metrics_and_health_follow_what_happens(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    port = free_port()
    endpoint.rule = lambda request: Answer(422) if request.json["n"] == 0 else OK
    receiver = script("receiver.py", settings(vhost, endpoint, STATUS_ADDR=f"127.0.0.1:{port}", MAX_ATTEMPTS=2))
    receiver.start()
    receiver.wait_for_log("status is shown")
    receiver.wait_for_log("consuming")
    assert get(port, "/healthz") == (200, "at work\n")
    publisher = Publisher(vhost)
    for n in range(5):
        publisher.event(f"key {n}", n=n)
    wait_until(lambda: numbers(port)["relay_refused_keys"] == 1, 20, "the refused one parked")
    found = numbers(port)
    assert (found["relay_deliveries_total"], found["relay_failures_total"]) == (4, 2)
    assert by_labels(port, "relay_table_tries_total") == {("t", "done"): 4, ("t", "message"): 2}
    assert (found["relay_active"], found["relay_breaker_open"], found["relay_parked_events"]) == (1, 0, 1)
    status, page = get(port, "/")
    assert status == 200
    assert "receiver.py parked, then replay or discard" in page
    assert "422" in page
    endpoint.rule = lambda _request: Answer(503)
    publisher.event("another", n=9)
    receiver.wait_for_log("endpoint does not work")
    status, said = get(port, "/healthz")
    assert status == 503
    assert "endpoint: " in said
    assert "503" in said
    assert numbers(port)["relay_breaker_open"] == 1
    wait_until(lambda: "waiting for the endpoint" in get(port, "/")[1], 5, "the change of state on the page")
    wait_until(lambda: "<td>FAILED</td><td>waiting for the endpoint" in get(port, "/")[1], 5, "the change in its list")


def test_it_answers_while_a_server_is_away_and_ends_with_the_process(
    vhost: Vhost, script: Make, endpoint: Endpoint
) -> None:
    port = free_port()
    more = {"STATUS_ADDR": f"127.0.0.1:{port}", "STATUS_TOKEN": "a-token-of-the-test"}
    url = f"amqp://guest:guest@127.0.0.1:{free_port()}/"
    receiver = script("receiver.py", settings(vhost, endpoint, RABBITMQ_URL=url, **more))
    receiver.start()
    receiver.wait_for_log("state=waiting")
    assert get(port, "/")[0] == 401
    status, said = get(port, "/healthz", "a-token-of-the-test")
    assert status == 503
    assert said.startswith("waiting: ")
    assert "guest@127.0.0.1" in said
    assert "guest:guest" not in said + get(port, "/", "a-token-of-the-test")[1]
    receiver.terminate()
    assert receiver.wait() == 0
    assert "a-token-of-the-test" not in receiver.log()


def test_an_address_that_is_taken_stops_nothing(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    receiver = script("receiver.py", settings(vhost, endpoint, STATUS_ADDR=f"127.0.0.1:{vhost.broker.management_port}"))
    receiver.start()
    receiver.wait_for_log("STATUS_ADDR can't be used")
    receiver.wait_for_log("consuming")
    Publisher(vhost).event("a", n=1)
    wait_until(lambda: len(endpoint.completed) == 1, 20, "the event")


def test_another_address_than_loopback_needs_a_token(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    receiver = script("receiver.py", settings(vhost, endpoint, STATUS_ADDR="0.0.0.0:9464"))
    receiver.start()
    assert receiver.wait() == 78
    assert "STATUS_ADDR=0.0.0.0:9464 can be reached from other hosts, and STATUS_TOKEN is not set" in receiver.log()
