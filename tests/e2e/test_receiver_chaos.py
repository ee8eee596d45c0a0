"""Everything at once: an endpoint that answers anything, receivers that are killed, a standby, a broker that goes away.

Not in here: a request that the endpoint commits late after the *receiver* that sent it was killed. Nobody can know of
it then (docs/delivery.md, Limits).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from itertools import count

import pytest

from dev.doubles.endpoint import OK, Answer, Endpoint, Request
from dev.process import wait_until
from dev.rabbitmq import RabbitMQ
from dev.script import Script
from dev.vhost import Vhost
from tests.messages import NEW_QUEUE_SECONDS, Publisher
from tests.receiving import assert_order, done, run, settings

Make = Callable[..., Script]


def evil(rng: random.Random) -> Callable[[Request], Answer]:
    """Four of five requests succeed; the others meet whatever an endpoint can do."""
    answers = [
        Answer(204),
        Answer(500),
        Answer(422, b"no"),
        Answer(409),
        Answer(429, headers={"Retry-After": "1"}),
        Answer(503),
        Answer(reset=True, commit=False),
        Answer(200, hang=0.8),
        Answer(200, b"0123456789", half=True, commit=False),
        Answer(302, headers={"Location": "/"}),
        Answer(500, endless=1 << 24),
        Answer(404, b"<html>database not found</html>"),
        Answer(500, b"\x00\xff\x1b"),
    ]
    weights = [8, 8, 4, 8, 1, 1, 1, 1, 4, 8, 1, 8, 8]

    def rule(_request: Request) -> Answer:
        return OK if rng.random() < 0.8 else rng.choices(answers, weights)[0]

    return rule


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint(evil(random.Random(7))) as made:
        yield made


def chaos(
    vhost: Vhost, script: Make, endpoint: Endpoint, *, events: int, kills: int, broker: RabbitMQ | None = None
) -> None:
    rng = random.Random(11)
    own = settings(
        vhost, endpoint, HTTP_READ_TIMEOUT="0.4", HTTP_CONNECT_TIMEOUT="0.4", HTTP_TIME_LIMIT="0.5", PREFETCH=100
    )
    receivers = [script("receiver.py", own) for _ in range(2)]
    receivers[0].start()
    receivers[0].wait_for_log("consuming")
    receivers[1].start()
    publisher, numbers, published = Publisher(vhost), count(), set()
    for number in range(kills):
        for _ in range(events // kills):
            n = next(numbers)
            published.add(publisher.event(f"t {rng.randrange(40)}", n=n))
        time.sleep(rng.random() * 0.5)  # any moment will do
        victim = receivers[number % 2]
        victim.kill()
        if broker and number % 10 == 9:
            vhost.close()
            broker.kill()
            broker.start()
            publisher = Publisher(vhost)
        victim.start()
    wait_until(lambda: vhost.queue_depth("odoo") == 0, 100 + events / 20, "an empty queue")
    endpoint.rule = lambda _request: OK
    done(run(receivers[0], "replay", "--all", timeout=100 + events / 50))
    wait_until(lambda: {r.event_id for r in endpoint.completed} >= published, 60, "every event")
    wait_until(lambda: vhost.queue_depth("odoo.parked") == 0, 60, "an empty parking lot")
    assert_order(endpoint)
    for receiver in receivers:
        assert "Traceback" not in receiver.log()
        assert "defect" not in receiver.log()


@pytest.mark.timeout(240)
def test_whatever_happens_nothing_is_lost_and_each_row_keeps_its_order(
    vhost: Vhost, script: Make, endpoint: Endpoint
) -> None:
    chaos(vhost, script, endpoint, events=1500, kills=6)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_the_same_with_the_broker_killed_as_well(
    private_vhost: Vhost, private_rabbitmq: RabbitMQ, script: Make, endpoint: Endpoint
) -> None:
    Publisher(private_vhost)
    first = script("receiver.py", settings(private_vhost, endpoint))
    first.start()
    first.wait_for_log("consuming")
    time.sleep(NEW_QUEUE_SECONDS)
    first.terminate()
    first.wait()
    chaos(private_vhost, script, endpoint, events=20_000, kills=50, broker=private_rabbitmq)
