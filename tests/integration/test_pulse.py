"""With QUEUE_TYPE=failover: until when a request may be begun, and who takes over from whom."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator

import pytest

from dev.doubles.endpoint import Answer, Endpoint
from dev.process import wait_until
from dev.rabbitmq import RabbitMQ
from dev.script import Script
from dev.vhost import Vhost
from relay.amqp.rights import patterns
from relay.config import Receive, load
from relay.errors import Ousted, Unavailable
from relay.receiving import pulse
from relay.receiving.lease import Holder
from relay.receiving.pulse import HOLDS, Pulse
from tests.messages import Publisher
from tests.receiving import assert_order, by_key, run, settings, with_constants
from tests.wired import Wired, wired

FAILOVER = {"QUEUE_TYPE": "failover"}


@pytest.fixture
def wire(vhost: Vhost) -> Iterator[Wired]:
    with wired(vhost) as made:
        yield made


def begun(wire: Wired, *, is_first: bool) -> tuple[Pulse, str]:
    """And the queue that it beats over."""

    async def begin() -> tuple[Pulse, str]:
        holder = Holder(in_cluster=True)
        await holder.claim(wire.session, "q", 5)
        return Pulse(wire.session, wire.another, holder.name, is_first=is_first), holder.name

    made: tuple[Pulse, str] = wire.run(begin())
    return made


def test_a_request_may_be_begun_for_so_long_after_the_last_message_that_came_back(vhost: Vhost, wire: Wired) -> None:
    made, _ = begun(wire, is_first=False)
    assert made.begin_until(time.monotonic()) == 0.0
    wire.until(lambda: made.begin_until(time.monotonic()) > time.monotonic())
    first = made.begin_until(time.monotonic())
    wire.until(lambda: made.begin_until(time.monotonic()) > first)
    assert made.begin_until(time.monotonic()) <= time.monotonic() + HOLDS


def test_after_another_receiver_it_is_waited_until_that_one_would_begin_none(
    wire: Wired, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulse, "BEGIN_AFTER", 1.5)
    began = time.monotonic()
    made, _ = begun(wire, is_first=True)
    wire.until(lambda: made.begin_until(time.monotonic()) > 0)
    assert time.monotonic() - began >= 1.5


def test_who_loses_its_mark_ends_its_session(vhost: Vhost, wire: Wired) -> None:
    made, mark = begun(wire, is_first=False)
    wire.until(lambda: made.begin_until(time.monotonic()) > 0)
    vhost.channel().queue_delete(mark)
    with pytest.raises(Unavailable, match="another receiver takes over"):
        wire.turn(10)


def test_who_finds_no_mark_of_its_own_any_more_is_driven_out(vhost: Vhost, wire: Wired) -> None:
    """It was taken away while we had no connection to it. That is no trouble of rights: we come back."""

    async def begin() -> None:
        Pulse(wire.session, wire.another, "q.holder.3", is_first=False)

    wire.run(begin())
    with pytest.raises(Ousted, match="another receiver takes over"):
        wire.turn(10)


def test_what_others_send_is_not_believed(vhost: Vhost, wire: Wired, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulse, "EVERY", 60.0)
    made, mark = begun(wire, is_first=False)
    wire.until(lambda: made.begin_until(time.monotonic()) > 0)
    first = made.begin_until(time.monotonic())
    for body in (b"", b"x" * 8 + b"9e99", b"\xff" * 20):
        vhost.channel().basic_publish("", mark, body)
    wire.turn(0.3)
    assert made.begin_until(time.monotonic()) == first


def test_during_an_alarm_the_last_one_counts(
    script: Callable[..., Script], private_rabbitmq: RabbitMQ, private_vhost: Vhost, endpoint: Endpoint
) -> None:
    """Nothing gets through then, and what is in the queue goes on."""
    short = with_constants("relay.receiving.pulse.HOLDS=1.0", "relay.receiving.pulse.EVERY=0.2")
    endpoint.stop()
    receiver = script("receiver.py", settings(private_vhost, endpoint, **FAILOVER), environment=short)
    receiver.start()
    receiver.wait_for_log("consuming")
    Publisher(private_vhost).event("t 1", n=1)
    receiver.wait_for_log("endpoint does not work")
    private_rabbitmq.set_memory_alarm()
    time.sleep(2.0)  # longer than the last one is believed
    endpoint.start()
    wait_until(lambda: len(endpoint.completed) == 1, 20, "the event")


def test_a_queue_with_one_active_consumer_is_read_in_order_whatever_the_size_of_its_events(
    script: Callable[..., Script], vhost: Vhost, endpoint: Endpoint
) -> None:
    """Its window is never narrowed, and it can't be put in order by several consumers: it need not be."""
    short = with_constants("relay.receiving.pulse.BEGIN_AFTER=0.1")
    endpoint.rule = lambda _request: Answer(work=0.05)
    more = {**FAILOVER, "PREFETCH": 20, "PREFETCH_MB": 1, "WORKERS": 1}
    receiver = script("receiver.py", settings(vhost, endpoint, **more), environment=short)
    receiver.start()
    receiver.wait_for_log("consuming")
    publisher, filler = Publisher(vhost), "x" * 200_000
    for n in range(60):
        publisher.event("t 1", n=n, body={"filler": filler})
    for some in (8, 13, 21, 27, 38):
        wait_until(lambda: len(set(by_key(endpoint)["t 1"])) >= some, 60, f"{some} events")  # noqa: B023
        receiver.kill()
        receiver.start()
    wait_until(lambda: len(set(by_key(endpoint)["t 1"])) == 60, 60, "all events")
    assert_order(endpoint)


def test_the_rights_that_the_remedy_gives_suffice(
    script: Callable[..., Script], vhost: Vhost, endpoint: Endpoint
) -> None:
    vhost.broker.add_user("low", "secret")
    url = vhost.broker.url(vhost.name, "low", "secret")
    more = {**FAILOVER, "RABBITMQ_URL": url}
    config = load(Receive, None, {"HTTP_URL": endpoint.url, "RABBITMQ_URL": url, "QUEUE": "odoo", **FAILOVER})
    Publisher(vhost)  # makes the exchange
    plain = patterns(dataclasses.replace(config, queue_type="quorum"))
    vhost.broker.grant(vhost.name, "low", *plain)
    receiver = script("receiver.py", settings(vhost, endpoint, **more))
    receiver.start()
    assert receiver.wait() == 78
    assert "odoo.holder" in receiver.log()
    assert "rabbitmqctl set_permissions" in receiver.log()
    vhost.broker.grant(vhost.name, "low", *patterns(config))
    said = run(receiver, "check").stdout
    assert "low may do what the receiver does" in said
    receiver.start()
    Publisher(vhost).event("t 1", n=1)
    wait_until(lambda: len(endpoint.completed) == 1, 30, "the event")
