"""chaos/sabotage.py reaches into the product: what it reaches for is there, so the referee has something to notice."""

from __future__ import annotations

from pathlib import Path

from dev.doubles.endpoint import OK, Answer, Endpoint, Request
from dev.process import wait_until
from dev.script import Script
from dev.vhost import Vhost
from tests.messages import Publisher
from tests.receiving import by_key, settings


def test_what_is_given_back_in_the_middle_comes_behind_later_ones(
    vhost: Vhost, endpoint: Endpoint, tmp_path: Path
) -> None:
    def rule(request: Request) -> Answer:
        return Answer(500) if request.json["n"] == 0 and len(endpoint.requests) < 3 else OK

    endpoint.rule = rule
    own = settings(vhost, endpoint, MAX_ATTEMPTS=100)
    receiver = Script("receiver.py", own, tmp_path, launcher=["-m", "chaos.sabotage", "nack-in-the-middle"])
    receiver.start()
    try:
        receiver.wait_for_log("consuming")
        publisher = Publisher(vhost)
        for n in range(20):
            publisher.event("t 1", n=n)
        wait_until(lambda: len(set(by_key(endpoint).get("t 1", ()))) == 20, 30, "all events")
    finally:
        receiver.kill()
    numbers = by_key(endpoint)["t 1"]
    assert numbers != sorted(numbers)
