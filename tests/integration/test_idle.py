"""Messages wait, and RabbitMQ delivers none."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from dev.process import wait_until
from dev.vhost import Vhost
from relay.errors import Unavailable
from relay.receiving.idle import IDLE_SECONDS, LOOK_EVERY, Idle
from tests.wired import Wired, wired


@pytest.fixture
def wire(vhost: Vhost) -> Iterator[Wired]:
    with wired(vhost) as made:
        yield made


class Ground:
    """A queue that nobody is given anything of; time is what the test says."""

    def __init__(self, vhost: Vhost, wire: Wired) -> None:
        self.wire, self.vhost = wire, vhost
        self.consumer = SimpleNamespace(is_open=True, read=0)
        self.is_empty = True
        vhost.channel().queue_declare("q", durable=True, arguments={"x-queue-type": "quorum"})
        self.idle = Idle(wire.fence, "q", self.consumer, lambda: self.is_empty)  # type: ignore[arg-type]

    def publish(self) -> None:
        self.vhost.channel().basic_publish("", "q", b"")
        wait_until(lambda: self.vhost.queue_depth("q") == 1, 10, "the message")

    def look(self, now: float) -> None:
        if self.idle.is_due(now):
            self.wire.run(self.idle.look(now))

    def spend(self, start: float, seconds: float) -> None:
        for step in range(int(seconds / LOOK_EVERY) + 1):
            self.look(start + step * LOOK_EVERY)


def test_messages_that_wait_for_a_minute_while_nothing_comes_end_the_session(vhost: Vhost, wire: Wired) -> None:
    ground = Ground(vhost, wire)
    ground.publish()
    ground.spend(0.0, IDLE_SECONDS - LOOK_EVERY)
    with pytest.raises(Unavailable, match="1 messages are ready in q, and RabbitMQ has delivered none for 60 s"):
        ground.look(IDLE_SECONDS)


@pytest.mark.parametrize("changed", ["a message comes", "something is here", "it does not read", "none is ready"])
def test_whoever_has_a_reason_is_left_alone(vhost: Vhost, wire: Wired, changed: str) -> None:
    ground = Ground(vhost, wire)
    if changed != "none is ready":
        ground.publish()
    ground.spend(0.0, IDLE_SECONDS - LOOK_EVERY)
    if changed == "a message comes":
        ground.consumer.read = 1
    elif changed == "something is here":
        ground.is_empty = False
    elif changed == "it does not read":
        ground.consumer.is_open = False
    ground.look(IDLE_SECONDS)
    ground.is_empty = ground.consumer.is_open = True
    ground.spend(IDLE_SECONDS, IDLE_SECONDS - LOOK_EVERY)
