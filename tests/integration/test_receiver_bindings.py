"""What leads to the queue: lost while it runs it is made again; what is too much is named, and can be ended."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pika
from pika.adapters.blocking_connection import BlockingChannel

from dev.doubles.endpoint import Endpoint
from dev.process import wait_until
from dev.script import Script
from dev.vhost import Vhost
from relay.amqp.routing import takes
from tests.messages import properties
from tests.receiving import done, run, settings, with_constants

Make = Callable[..., Script]
LEAST = (
    "^(relay|odoo|odoo\\.(lease|parked|control|holder))$",
    "^(amq\\.default|odoo)$",
    "^(relay|odoo|odoo\\.(parked|control))$",
)


def start(script: Make, vhost: Vhost, endpoint: Endpoint, **more: object) -> Script:
    """A receiver that looks five times a second whether all is still there."""
    receiver = script(
        "receiver.py",
        settings(vhost, endpoint, **more),
        environment=with_constants("relay.receiving.upkeep.LOOK_SECONDS=0.2"),
    )
    receiver.start()
    receiver.wait_for_log("consuming")
    return receiver


def publish(channel: BlockingChannel, topic: str, exchange: str = "relay") -> None:
    channel.basic_publish(
        exchange, topic, b'{"key": "k", "n": 1}', properties(f"{time.monotonic()}", topic, None, "update")
    )


def test_a_topic_exchange_agrees_with_us_about_every_key_and_pattern(vhost: Vhost) -> None:
    """Each message says its routing key, each queue is bound by one pattern; words may be empty, or be wildcards."""
    chance = random.Random(time.time_ns())
    words = ["a", "b", "", "*", "#", "ab", "\u00e9"]

    def texts(count: int, most: int, *, of: list[str]) -> list[str]:
        made = {".".join(chance.choices(of, k=chance.randint(0, most))) for _ in range(count)}
        return sorted(made | {"", ".", "#", "*", "#.#", "*.#", "#.a.#", "a", "a.b", "a..b", "#.*.#"})

    patterns, topics = texts(150, 5, of=[*words, "*", "#", "#"]), texts(400, 6, of=words)
    channel = vhost.channel()
    channel.exchange_declare("t", "topic")
    queues = {pattern: channel.queue_declare("", exclusive=True).method.queue for pattern in patterns}
    for pattern, queue in queues.items():
        channel.queue_bind(queue, "t", pattern)
    channel.confirm_delivery()
    for topic in topics:
        channel.basic_publish("t", topic, topic.encode())
    for pattern, queue in queues.items():
        taken = set()
        while (got := channel.basic_get(queue, auto_ack=True))[0] is not None:
            taken.add(got[2].decode())
        assert taken == {topic for topic in topics if takes(pattern, topic)}, pattern


def test_what_is_lost_while_it_runs_is_made_again(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    receiver = start(script, vhost, endpoint, BINDING_KEYS="a.*,b", ORDER="none")
    channel = vhost.channel()

    def flows(topic: str) -> bool:
        publish(channel, topic)
        time.sleep(0.02)
        return len(endpoint.completed) > seen

    def remake() -> None:
        channel.exchange_delete("relay")
        channel.exchange_declare("relay", "topic", durable=True)

    losses: dict[str, tuple[Callable[[], object], str]] = {
        "unbound": (lambda: channel.queue_unbind("odoo", "relay", "a.*"), ""),
        "remade": (remake, ""),
        "exchange": (
            lambda: channel.exchange_delete("relay"),
            "exchange relay, and with it every binding, was missing",
        ),
        "room": (lambda: channel.queue_delete("odoo.parked"), "queue odoo.parked was missing"),
    }
    for name, (lose, told) in losses.items():
        lose()
        if told:
            receiver.wait_for_log(f"WARNING receiver: {told}")
            assert receiver.log().count(told) == 1
        seen = len(endpoint.completed)
        wait_until(lambda: flows("a.1"), 10, name)
        seen = len(endpoint.completed)
        wait_until(lambda: flows("b"), 10, name)
    assert receiver.log().count("consuming") == 1, "no session was lost"
    channel.queue_delete("odoo")
    receiver.wait_for_log("WARNING receiver: queue odoo was missing, with what was in it and its bindings: made again")
    seen = len(endpoint.completed)
    wait_until(lambda: flows("b"), 10, "a new queue")


def test_what_it_may_not_make_again_is_told_once_and_ends_nothing(
    vhost: Vhost, script: Make, endpoint: Endpoint
) -> None:
    vhost.broker.add_user("relay_odoo", "secret")
    vhost.broker.grant(vhost.name, "relay_odoo", *LEAST)
    url = vhost.broker.url(vhost.name, "relay_odoo", "secret")
    receiver = start(script, vhost, endpoint, RABBITMQ_URL=url)
    configure, write, read = LEAST
    refused = "no permission for binding odoo to relay by #: ACCESS_REFUSED"
    vhost.broker.grant(vhost.name, "relay_odoo", configure, write.replace("|odoo", ""), read)
    receiver.wait_for_log(refused)
    channel = vhost.channel()
    channel.exchange_delete("relay")
    channel.exchange_declare("relay", "fanout", durable=True)
    receiver.wait_for_log("exchange relay exists with other arguments: PRECONDITION_FAILED - inequivalent arg 'type'")
    channel.exchange_delete("relay")
    vhost.broker.grant(vhost.name, "relay_odoo", configure.replace("relay|", ""), write.replace("|odoo", ""), read)
    receiver.wait_for_log("no permission for exchange relay: ACCESS_REFUSED")
    publish(channel, "odoo", exchange="")
    wait_until(lambda: len(endpoint.completed) == 1, 10, "what is in the queue already")
    vhost.broker.grant(vhost.name, "relay_odoo", *LEAST)
    receiver.wait_for_log("exchange relay, and with it every binding, was missing: made again")
    wait_until(lambda: publish(channel, "x") or len(endpoint.completed) > 1, 10, "the next one")
    assert receiver.log().count(refused) == 1
    assert receiver.log().count("consuming") == 1
    command = f"rabbitmqctl set_permissions -p {vhost.name} relay_odoo"
    assert all(command in line for line in receiver.log().splitlines() if "ACCESS_REFUSED" in line)


def test_a_lease_that_a_policy_would_expire_is_kept(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    definition = {"pattern": "lease$", "definition": {"expires": 600}}
    vhost.broker.api("PUT", f"/policies/{vhost.name}/expire", definition)
    channel = vhost.channel()
    channel.queue_declare("no.lease")  # as long as nobody declares it again
    receiver = start(script, vhost, endpoint)
    wait_until(lambda: "no.lease" not in names(vhost), 10, "a lease that nobody keeps to expire")
    channel.queue_declare("no.lease")
    wait_until(lambda: "no.lease" not in names(vhost), 10, "and once more")
    assert "odoo.lease" in names(vhost)
    assert receiver.log().count("consuming") == 1


def names(vhost: Vhost) -> set[str]:
    return {one["name"] for one in vhost.broker.api("GET", f"/queues/{vhost.name}")}


def test_an_old_binding_is_named_by_its_first_message_and_ended_by_unbind(
    vhost: Vhost, script: Make, endpoint: Endpoint
) -> None:
    channel = vhost.channel()
    receiver = start(script, vhost, endpoint)
    receiver.terminate()
    assert receiver.wait() == 0
    receiver.configure(settings(vhost, endpoint, BINDING_KEYS="public.orders,public.a.*"))
    receiver.start()
    receiver.wait_for_log("consuming", count=2)
    for topic in ("public.orders", "public.a.b"):
        publish(channel, topic)
    publish(channel, "odoo", exchange="")
    wait_until(lambda: len(endpoint.completed) == 3, 10, "what BINDING_KEYS takes, and a message to the queue itself")
    assert "old binding" not in receiver.log()
    for topic in ("public.other", "public.other", "public.another"):
        publish(channel, topic)
    wait_until(lambda: len(endpoint.completed) == 6, 10, "they are delivered all the same")
    (named,) = [line for line in receiver.log().splitlines() if "old binding" in line]
    assert "WARNING receiver: an old binding brings messages that BINDING_KEYS does not ask for queue=odoo" in named
    assert "routing_key=public.other binding_keys=public.orders,public.a.*" in named
    assert "receiver.py unbind KEY, '#' for example" in named
    assert f"rabbitmqctl list_bindings -p {vhost.name}" in named

    refused = run(receiver, "unbind", "public.orders")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert (
        "public.orders is in BINDING_KEYS, and receiver.py would bind it again; take it out there first"
        in refused.stderr
    )
    assert done(run(receiver, "unbind", "#")) == "queue odoo is not bound to exchange relay by # (any more)\n"
    assert _is_returned(vhost, "public.other")
    assert not _is_returned(vhost, "public.orders")
    channel.queue_bind("odoo", "relay", "x.#")
    receiver.terminate()
    assert receiver.wait() == 0
    done(run(receiver, "unbind", "x.#"))
    assert _is_returned(vhost, "x.y"), "no receiver need be running"
    assert run(receiver, "unbind", "k" * 256).returncode == 2
    assert run(receiver, "unbind", "\udcff").returncode == 2
    for gone, delete in (("exchange relay", channel.exchange_delete), ("queue odoo", channel.queue_delete)):
        delete(gone.partition(" ")[2])
        result = run(receiver, "unbind", "#")
        assert (result.returncode, f"{gone} does not exist" in result.stderr) == (78, True)
        assert "Traceback" not in result.stderr


def _is_returned(vhost: Vhost, topic: str) -> bool:
    channel = vhost.channel()
    channel.confirm_delivery()
    try:
        channel.basic_publish("relay", topic, b"{}", pika.BasicProperties(delivery_mode=2), mandatory=True)
    except pika.exceptions.UnroutableError:
        return True
    return False
