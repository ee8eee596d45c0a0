"""Queues that others made, deleted, unbound or limited: told in RabbitMQ's own words, and with what mends it."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any

import pytest

import connection
from dev.doubles.endpoint import OK, Answer, Endpoint
from dev.process import wait_until
from dev.script import Script
from dev.vhost import Vhost
from relay import config
from relay.amqp import topology
from relay.errors import ConfigError, Standby, Unavailable
from relay.receiving import lease
from relay.receiving.queues import DELIVERY_LIMIT, ROOM_DELIVERY_LIMIT, Declared, learn_of
from tests.messages import Publisher
from tests.receiving import by_key, done, run, settings
from tests.wired import wired

Make = Callable[..., Script]
QUORUM = {"x-queue-type": "quorum", "x-delivery-limit": "ours"}


def loaded(vhost: Vhost, **more: str) -> config.Receive:
    environ = {"RABBITMQ_URL": vhost.url, "QUEUE": "odoo", "HTTP_URL": "http://127.0.0.1:1/", **more}
    return config.load(config.Receive, None, environ)


def begins(vhost: Vhost, **more: str) -> Declared:
    """What a receiver declares when it begins."""
    declared = Declared(loaded(vhost, **more))
    with wired(vhost) as wire:
        wire.run(declared.begin(wire.session))
    return declared


OTHERS: list[tuple[dict[str, Any], str]] = [
    ({"x-queue-type": "quorum"}, "x-delivery-limit"),
    ({"x-queue-type": "quorum", "x-delivery-limit": 5}, "x-delivery-limit"),
    ({**QUORUM, "x-message-ttl": 5000}, "x-message-ttl"),
    ({**QUORUM, "x-max-length": 9, "x-overflow": "reject-publish"}, "x-max-length"),
    ({**QUORUM, "x-single-active-consumer": True, "x-dead-letter-exchange": "a 'b' but"}, "x-dead-letter-exchange"),
    ({"x-queue-type": "classic", "x-max-priority": 3, "x-expires": 1 << 31}, "x-expires"),
    ({}, "x-queue-type"),
    ({"durable": False}, "durable"),
]


@pytest.mark.parametrize("name", ["odoo", "odoo.parked"])
def test_a_queue_with_other_arguments_is_named_with_the_argument_and_taken_as_it_is_by_existing(
    vhost: Vhost, name: str
) -> None:
    channel = vhost.channel()
    limit = {"odoo": DELIVERY_LIMIT, "odoo.parked": ROOM_DELIVERY_LIMIT}[name]
    for made, differs in OTHERS:
        arguments = {key: limit if value == "ours" else value for key, value in made.items() if key[:2] == "x-"}
        channel.queue_declare(name, durable=made.get("durable", True), arguments=arguments)
        with pytest.raises(ConfigError) as raised:
            begins(vhost)
        said = str(raised.value)
        assert f"queue {name} exists with other arguments: PRECONDITION_FAILED - inequivalent arg '{differs}'" in said
        assert "received" in said
        assert "but current is" in said
        assert "QUEUE_TYPE=existing takes it as it is" in said
        assert f"rabbitmqctl delete_queue -p {vhost.name} {name}" in said
        learnt = begins(vhost, QUEUE_TYPE="existing").learnt[name]
        flags = {key: value for key, value in made.items() if key[:2] != "x-"}
        told = {key[2:]: value for key, value in arguments.items() if value != "classic"}  # it is what none means
        assert learnt == told | flags
        for queue in ("odoo", "odoo.parked"):
            channel.queue_delete(queue)


def test_to_learn_the_arguments_of_a_queue_makes_none(vhost: Vhost) -> None:
    """Whatever the virtual host makes of a queue without a type."""
    with wired(vhost) as wire:
        assert wire.run(learn_of(wire.session, "none")) is None
        assert wire.run(topology.looked(wire.session, "none")) is not None


def test_existing_makes_no_queue_but_the_waiting_room(vhost: Vhost) -> None:
    with pytest.raises(ConfigError, match="queue odoo does not exist, and QUEUE_TYPE=existing makes none -> make it"):
        begins(vhost, QUEUE_TYPE="existing")
    channel = vhost.channel()
    channel.queue_declare("odoo", durable=True)
    begins(vhost, QUEUE_TYPE="existing")
    index = {"x-queue-type": "quorum", "x-delivery-limit": ROOM_DELIVERY_LIMIT}
    channel.queue_declare("odoo.parked", durable=True, arguments=index)  # refused if it has others


@pytest.mark.parametrize("name", ["odoo", "odoo.parked"])
def test_a_queue_that_would_lose_or_repeat_everything_is_refused(vhost: Vhost, name: str) -> None:
    channel = vhost.channel()
    begins(vhost)
    for made, said in (
        ({"durable": True, "arguments": {"x-queue-type": "stream"}}, "is a stream"),
        ({"auto_delete": True}, "is auto-delete"),
    ):
        channel.queue_delete(name)
        channel.queue_declare(name, **made)
        with pytest.raises(ConfigError, match=f"queue {name} {said}.* -> name another QUEUE, .* or empty {name}"):
            begins(vhost, QUEUE_TYPE="existing")


@pytest.mark.parametrize(
    "arguments", [{}, {"x-queue-type": "quorum", "x-single-active-consumer": True}, {"x-max-priority": 5}]
)
def test_a_queue_that_was_made_beforehand_is_worked_on_as_any_other(
    vhost: Vhost, script: Make, endpoint: Endpoint, arguments: dict[str, Any]
) -> None:
    """Parking, replay, a second session, --drain; the queue was empty before, so that the probe is taken out."""
    vhost.channel().queue_declare("odoo", durable=True, arguments=arguments)
    receiver = script("receiver.py", settings(vhost, endpoint, QUEUE_TYPE="existing", MAX_ATTEMPTS=1))
    endpoint.rule = lambda request: Answer(422) if request.json["key"] == "t 0" else OK
    receiver.start()
    receiver.wait_for_log("consuming")
    publisher = Publisher(vhost)
    for n in range(40):
        publisher.event(f"t {n % 4}", n=n)
    wait_until(lambda: len(endpoint.completed) == 30, 20, "three keys")
    wait_until(lambda: vhost.queue_depth("odoo.parked") == 10, 20, "the fourth in the parking lot")
    endpoint.rule = lambda _request: OK
    done(run(receiver, "replay", "--all"))
    receiver.terminate()
    assert receiver.wait() == 0
    for n in range(40, 80):
        publisher.event(f"t {n % 4}", n=n)
    done(run(receiver, "--drain"))
    assert by_key(endpoint) == {f"t {k}": list(range(k, 80, 4)) for k in range(4)}


def test_a_limit_of_queues_is_told_in_rabbitmqs_words_whichever_queue_meets_it(
    vhost: Vhost, script: Make, endpoint: Endpoint
) -> None:
    """All but the mark: without it the receiver works, and says so."""
    vhost.channel().exchange_declare("relay", "topic", durable=True)
    api = {"RABBITMQ_MANAGEMENT_URL": f"http://127.0.0.1:{vhost.broker.management_port}"}
    receiver = script("receiver.py", settings(vhost, endpoint, **api))
    for limit, name in enumerate(("odoo.lease", "odoo", "odoo.parked", "odoo.holder")):
        vhost.broker.api("PUT", f"/vhost-limits/{vhost.name}/max-queues", {"value": limit})
        checked = run(receiver, "check").stdout
        assert "FAILED  number of queues" in checked, checked
        assert f"which may have {limit}: no room for odoo.lease, " in checked, checked
        receiver.start()
        if name == "odoo.holder":  # there is room for three
            receiver.wait_for_log("without queue odoo.holder a lost connection repeats events")
        else:
            assert receiver.wait() == 78
        said = receiver.log().splitlines()[-1] if name != "odoo.holder" else receiver.log()
        assert f"cannot declare queue '{name}': queue limit in vhost '{vhost.name}' ({limit}) is reached" in said
        assert f"raise it: rabbitmqctl set_vhost_limits -p {vhost.name} '{{\"max-queues\": NUMBER}}'" in said
        assert "other arguments" not in said
    assert receiver.wait() == 78, "no place for the control queue"
    assert "queue odoo.control can't be declared: PRECONDITION_FAILED - cannot declare queue" in receiver.log()


def test_a_limit_of_connections_is_no_missing_vhost(vhost: Vhost) -> None:
    vhost.broker.api("PUT", f"/vhost-limits/{vhost.name}/max-connections", {"value": 0})
    for opened in (lambda: connection.rabbitmq_now(loaded(vhost), name="x").__enter__(), lambda: begins(vhost)):
        with pytest.raises(Unavailable) as raised:
            opened()
        assert "connection limit (0) is reached" in raised.value.what
        assert "Client was disconnected" not in raised.value.what
        assert shlex.split(raised.value.remedy.partition("raise it: ")[2])[:4] == [
            *("rabbitmqctl", "set_vhost_limits", "-p", vhost.name)
        ]  # fmt: skip


@pytest.mark.parametrize("limit", ["max-connections", "max-channels"])
def test_a_limit_of_the_user_is_told_with_its_command(
    vhost: Vhost, script: Make, endpoint: Endpoint, limit: str
) -> None:
    user = f"limited-{vhost.name}"
    vhost.broker.add_user(user, "secret", vhost.name)
    vhost.broker.api("PUT", f"/user-limits/{user}/{limit}", {"value": 0})
    url = vhost.broker.url(vhost.name, user, "secret")
    receiver = script("receiver.py", settings(vhost, endpoint, RABBITMQ_URL=url))
    receiver.start()
    receiver.wait_for_log("state=waiting")
    remedy = f"-> raise it: rabbitmqctl set_user_limits {user} '{{\"{limit}\": NUMBER}}'"
    assert remedy in receiver.log()
    checked = run(receiver, "check")
    assert (checked.returncode, remedy in checked.stdout) == (75, True), checked.stdout
    vhost.broker.api("DELETE", f"/user-limits/{user}/{limit}")
    receiver.wait_for_log("consuming")


@pytest.mark.parametrize("name", ["odoo.lease", "odoo.control"])
def test_a_plain_queue_in_the_place_of_an_exclusive_one_is_no_other_receiver(vhost: Vhost, name: str) -> None:
    vhost.channel().queue_declare(name, durable=True)
    with wired(vhost) as wire, pytest.raises(ConfigError) as raised:
        wire.run(topology.exclusive(wire.session, name))
    assert f"a queue {name} that is not exclusive is in the place of ours" in str(raised.value)
    assert f"rabbitmqctl delete_queue -p {vhost.name} {name}" in str(raised.value)


def test_a_lease_that_is_held_is(vhost: Vhost) -> None:
    vhost.channel().queue_declare("odoo.lease", exclusive=True)
    with wired(vhost) as wire, pytest.raises(Standby):
        wire.run(lease.take(wire.session, "odoo"))


@pytest.mark.parametrize("name", ["odoo", "odoo.parked", "odoo.control", "odoo.lanes", "odoo.holder"])
def test_a_queue_that_another_connection_has_is_awaited_and_who_has_it_can_be_asked(
    vhost: Vhost, script: Make, endpoint: Endpoint, name: str
) -> None:
    """Whoever may declare a queue can have one of our names; it falls with the connection."""
    stranger = vhost.connection()
    stranger.channel().queue_declare(name, exclusive=True)
    receiver = script("receiver.py", settings(vhost, endpoint))
    receiver.start()
    receiver.wait_for_log("state=waiting")
    said = receiver.log()
    assert f"queue {name} is another connection's alone while that lives: RESOURCE_LOCKED" in said
    assert f"-> who holds it: rabbitmqctl list_queues -p {vhost.name} name owner_pid, the line {name}; who" in said
    stranger.close()
    receiver.wait_for_log("consuming")


LANES: list[dict[str, Any]] = [
    {"durable": True},
    {"durable": True, "arguments": {"x-queue-type": "quorum"}},
    {"durable": True, "arguments": {"x-queue-type": "stream"}},
    {"auto_delete": True},
]


@pytest.mark.parametrize("made", LANES)
def test_a_strangers_queue_in_the_place_of_the_lanes_is_told_with_what_differs(
    vhost: Vhost, script: Make, endpoint: Endpoint, made: dict[str, Any]
) -> None:
    channel = vhost.channel()
    channel.queue_declare("odoo.lanes", **made)
    receiver = script("receiver.py", settings(vhost, endpoint))
    for command in ((), ("lanes", "--to", "2")):
        if command:
            said = run(receiver, *command).stderr
        else:
            receiver.start()
            assert receiver.wait() == 78
            said = receiver.log()
        assert "queue odoo.lanes exists with other arguments: PRECONDITION_FAILED - inequivalent arg" in said, said
        assert f"-> look what is in it, then rabbitmqctl delete_queue -p {vhost.name} odoo.lanes" in said, said
    channel.queue_delete("odoo.lanes")
    receiver.start()
    receiver.wait_for_log("consuming")


@pytest.mark.parametrize("name", ["odoo", "odoo.parked"])
def test_what_existing_would_not_take_either_gets_no_such_remedy(
    vhost: Vhost, script: Make, endpoint: Endpoint, name: str
) -> None:
    """Here, or in `check`."""
    vhost.channel().queue_declare(name, durable=True, arguments={"x-queue-type": "stream"})
    receiver = script("receiver.py", settings(vhost, endpoint))
    receiver.start()
    assert receiver.wait() == 78
    remedy = f"-> empty it, and let receiver.py make it anew: rabbitmqctl delete_queue -p {vhost.name} {name}"
    assert remedy in receiver.log()
    checked = run(receiver, "check").stdout
    assert remedy.removeprefix("-> ") in checked, checked
    assert "QUEUE_TYPE=existing takes it" not in checked
