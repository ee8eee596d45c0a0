"""The parking lot against what RabbitMQ, an operator and bad timing can do to it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable

import pika
import pytest

from dev.doubles.endpoint import OK, Answer, Endpoint, Request
from dev.process import wait_until
from dev.script import ROOT, Script
from dev.vhost import Vhost
from tests.messages import Publisher
from tests.receiving import assert_order, by_key, done, parked, run, settings, with_constants

Make = Callable[..., Script]
POISON = "t 0"
MANY = 2000  # events that are not parked at once


def start(script: Make, vhost: Vhost, endpoint: Endpoint, **more: object) -> Script:
    looks = with_constants("relay.receiving.parking.lot.COUNT_SECONDS=0.2")
    receiver = script("receiver.py", settings(vhost, endpoint, **{"MAX_ATTEMPTS": 1, **more}), environment=looks)
    receiver.start()
    receiver.wait_for_log("consuming")
    return receiver


def refuses(status: int = 422) -> Callable[[Request], Answer]:
    return lambda request: Answer(status) if request.json["key"] == POISON else OK


def publish(vhost: Vhost, count: int, key: str = POISON, first: int = 0) -> None:
    publisher = Publisher(vhost)
    for n in range(first, first + count):
        publisher.event(key, n=n)


def park(vhost: Vhost, endpoint: Endpoint, count: int) -> None:
    endpoint.rule = refuses()
    publish(vhost, count)
    wait_until(lambda: vhost.queue_depth("odoo.parked") == count, 20, "the key in the parking lot")


def test_acknowledgements_that_rabbitmq_forgets_are_noticed(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    """A discard acknowledges all at once; of more than 32 outstanding ones some come back as the channel is closed."""
    receiver = start(script, vhost, endpoint)
    for part in range(4):
        park(vhost, endpoint, 60)
        requests = len(endpoint.requests)
        done(run(receiver, "discard", "--all", "--yes"))
        assert vhost.queue_depth("odoo.parked") == 0
        endpoint.rule = lambda _request: OK
        publish(vhost, 1, first=1000 + part)
        wait_until(lambda part=part: by_key(endpoint)[POISON] == list(range(1000, 1001 + part)), 10, "the next one")  # type: ignore[misc]
        assert len(endpoint.requests) == requests + 1, "nothing that was discarded"
        assert vhost.queue_depth("odoo.parked") == 0


@pytest.mark.parametrize("running", [True, False])
def test_a_replayed_event_that_fails_unclearly_is_refused_again(
    vhost: Vhost, script: Make, endpoint: Endpoint, running: bool
) -> None:
    """A person asked for one try: no evidence is awaited."""
    receiver = start(script, vhost, endpoint)
    park(vhost, endpoint, 3)
    if not running:
        receiver.terminate()
        receiver.wait()
    endpoint.rule = refuses(500)
    result = run(receiver, "replay", "--key", POISON)
    assert result.returncode == 1
    assert "HTTP 500" in result.stdout
    wait_until(lambda: vhost.queue_depth("odoo.parked") == 3, 5, "all of it back in its place")


def test_an_unclear_failure_in_the_waiting_room_counts_once_another_key_succeeds(
    vhost: Vhost, script: Make, endpoint: Endpoint
) -> None:
    """A row that overflows before its attempts are spent: they go on counting, and in the end it waits for a person."""
    endpoint.rule = refuses(500)
    receiver = start(script, vhost, endpoint, MAX_ATTEMPTS=3, PREFETCH=20, RETRY_MIN="0.2", RETRY_MAX="0.4")
    publish(vhost, 40)
    publisher, n = Publisher(vhost), 0
    while "refused" not in receiver.log() and n < 1000:
        publisher.event("t 1", n=n)
        n += 1
        time.sleep(0.01)
    receiver.wait_for_log("refused", timeout=1)
    [one] = json.loads(done(run(receiver, "parked", "--json")))
    assert (one["why"], one["events"], one["attempts"]) == ("dead", 40, 3)
    assert "HTTP 500" in one["reason"]


def test_a_waiting_room_that_was_deleted_loses_no_event_that_comes_later(
    vhost: Vhost, script: Make, endpoint: Endpoint
) -> None:
    receiver = start(script, vhost, endpoint)
    vhost.channel().queue_delete("odoo.parked")
    endpoint.rule = refuses()
    publish(vhost, 3)
    receiver.wait_for_log("queue odoo.parked is gone")
    wait_until(lambda: receiver.log().count("consuming") == 2, 10, "a new session")
    wait_until(lambda: vhost.queue_depth("odoo.parked") == 3, 10, "all of the key")


def _take(vhost: Vhost, count: int) -> list[tuple[pika.BasicProperties, bytes]]:
    channel = vhost.channel()
    return [channel.basic_get("odoo.parked", auto_ack=True)[1:] for _ in range(count)]


def _remake(vhost: Vhost) -> None:
    channel, arguments = vhost.channel(), {"x-queue-type": "quorum", "x-delivery-limit": 1_000_000_000}
    channel.queue_delete("odoo.parked")
    channel.queue_declare("odoo.parked", durable=True, arguments=arguments)


CHANGES: dict[str, tuple[Callable[[Vhost], object], list[int]]] = {
    "purged": (lambda vhost: vhost.channel().queue_purge("odoo.parked"), []),
    "deleted and made again": (_remake, []),
    "its first event was taken": (lambda vhost: _take(vhost, 1), [1, 2, 3, 4]),
    "all but the last were": (lambda vhost: _take(vhost, 4), [4]),
}


@pytest.mark.parametrize("changed", CHANGES)
def test_a_waiting_room_that_others_change_blocks_no_key(
    vhost: Vhost, script: Make, endpoint: Endpoint, changed: str
) -> None:
    """It is noticed without a pass, without a command, and without the loss of a session."""
    change, left = CHANGES[changed]
    receiver = start(script, vhost, endpoint)
    park(vhost, endpoint, 5)
    endpoint.rule = lambda _request: OK
    change(vhost)
    receiver.wait_for_log(f"queue odoo.parked holds {len(left)} messages and not 5: it is read anew")
    publish(vhost, 1, first=9)
    wait_until(lambda: by_key(endpoint)[POISON] == [*left, 9], 10, "what waited behind the refused one, and the next")
    assert receiver.log().count("consuming") == 1
    assert receiver.log().count("read anew") == 1


def test_what_others_put_into_the_waiting_room_is_seen(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    receiver = start(script, vhost, endpoint)
    park(vhost, endpoint, 2)
    vhost.channel().basic_publish("", "odoo.parked", b"{}")
    receiver.wait_for_log("queue odoo.parked holds 3 messages and not 2: it is read anew")
    assert len(parked(receiver)) == 2


def test_who_only_looks_into_the_waiting_room_changes_nothing(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    receiver = start(script, vhost, endpoint)
    park(vhost, endpoint, 3)
    for _ in range(40):
        channel = vhost.connection().channel()
        channel.basic_get("odoo.parked")
        channel.connection.close()
        time.sleep(0.03)
    assert "read anew" not in receiver.log()


@pytest.mark.parametrize("command", ["replay", "discard"])
@pytest.mark.parametrize("running", [True, False])
def test_a_command_for_what_has_gone_is_answered_at_once(
    vhost: Vhost, script: Make, endpoint: Endpoint, command: str, running: bool
) -> None:
    receiver = start(script, vhost, endpoint)
    park(vhost, endpoint, 5)
    endpoint.rule = lambda _request: OK
    if not running:
        receiver.terminate()
        receiver.wait()
    vhost.channel().queue_purge("odoo.parked")
    words = [command, "--key", POISON, *(["--yes"] if command == "discard" else [])]
    result = run(receiver, *words, timeout=20)
    assert (result.returncode == 75 and "has been read anew; try again" in result.stderr) or (
        result.returncode == 1 and "no parked key matches" in result.stderr
    ), result
    assert run(receiver, *words, timeout=20).returncode == 1


def test_a_command_is_answered_when_the_receiver_stops(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    receiver = start(script, vhost, endpoint)
    park(vhost, endpoint, 2)
    endpoint.rule = lambda _request: Answer(work=3)
    command = [sys.executable, str(ROOT / "receiver.py"), "--env-file", str(receiver.env_file), "replay", "--all"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as replay:
        wait_until(lambda: len(endpoint.requests) == 2, 10, "the request")
        receiver.terminate()
        assert receiver.wait() == 0
        assert replay.wait(5) == 75
        assert "or it was stopped; try again" in replay.communicate()[1]


def test_events_that_a_policy_expires_do_not_block_their_key(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    vhost.broker.api("PUT", f"/policies/{vhost.name}/ttl", {"pattern": ".*", "definition": {"message-ttl": 1500}})
    receiver = start(script, vhost, endpoint)
    park(vhost, endpoint, 3)
    receiver.wait_for_log("queue odoo.parked holds 0 messages and not 3: it is read anew")
    assert "receiver.py check looks what takes them away" in receiver.log()
    vhost.broker.api("DELETE", f"/policies/{vhost.name}/ttl")
    endpoint.rule = lambda _request: OK
    publish(vhost, 1, first=9)
    wait_until(lambda: by_key(endpoint)[POISON] == [9], 10, "the next event")


def test_a_stop_does_not_wait_until_everything_is_parked(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    endpoint.rule = refuses()
    receiver = start(script, vhost, endpoint, PREFETCH=10_000, RETRY_MIN="0.5", RETRY_MAX="0.5", MAX_ATTEMPTS=2)
    receiver.terminate()
    assert receiver.wait() == 0
    Publisher(vhost).fill("odoo", POISON, MANY)  # all before the receiver begins: it parks as quickly as others publish
    receiver.start()
    receiver.wait_for_log("event refused and parked")
    receiver.terminate()
    assert receiver.wait(5) == 0
    parked = vhost.queue_depth("odoo.parked")
    assert 0 < parked < MANY
    assert parked + vhost.queue_depth("odoo") == MANY
    receiver.start()
    wait_until(lambda: vhost.queue_depth("odoo.parked") == MANY, 60, "the rest")


def test_a_drain_ends_when_the_waiting_room_is_full(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    receiver = start(script, vhost, endpoint, PARKED_MAX=2, WORKERS=1)
    endpoint.rule = lambda _request: Answer(422)
    for n in range(10):
        publish(vhost, 1, key=f"t {n}")
    receiver.wait_for_log("the parking lot is full")
    receiver.terminate()
    receiver.wait()
    result = run(receiver, "--drain", timeout=20)
    assert result.returncode == 75
    assert "the parking lot is full" in result.stderr


def test_what_waits_behind_a_refused_event_ends_a_replay_and_a_drain(
    vhost: Vhost, script: Make, endpoint: Endpoint
) -> None:
    receiver = start(script, vhost, endpoint)
    park(vhost, endpoint, 1)
    Publisher(vhost).event("t", n=1, op="truncate")
    publish(vhost, 1, key="t 2", first=2)
    wait_until(lambda: vhost.queue_depth("odoo.parked") == 3, 10, "the truncate and what follows it")
    result = run(receiver, "replay", "--all", timeout=20)
    assert result.returncode == 1
    assert "waits behind a refused event" in result.stdout
    receiver.terminate()
    receiver.wait()
    assert run(receiver, "--drain", timeout=20).returncode == 0
    assert vhost.queue_depth("odoo.parked") == 3
    receiver.start()
    endpoint.rule = lambda _request: OK
    done(run(receiver, "replay", "--all"))
    assert [body["n"] for body in endpoint.bodies()] == [0, 1, 2]


def test_events_that_come_after_a_discard_are_not_discarded(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    receiver = start(script, vhost, endpoint)
    park(vhost, endpoint, 500)
    endpoint.rule = lambda _request: OK
    publisher = Publisher(vhost)
    command = run(receiver, "discard", "--key", POISON, "--yes")
    for n in range(1000, 1020):
        publisher.event(POISON, n=n)
    assert command.returncode == 0
    wait_until(lambda: by_key(endpoint)[POISON] == list(range(1000, 1020)), 10, "the later ones, in order")


def test_an_unknown_event_is_said_to_be_unknown_at_once(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    receiver = start(script, vhost, endpoint)
    park(vhost, endpoint, 2)
    result = run(receiver, "show", "no-such-event", timeout=10)
    assert result.returncode == 1
    assert "event no-such-event is not in the parking lot" in result.stderr
    assert run(receiver, "discard", "--id", "no-such-event", "--yes").returncode == 1


def test_a_table_that_moves_while_its_requests_run_is_acknowledged_once(
    vhost: Vhost, script: Make, endpoint: Endpoint
) -> None:
    """With a truncate behind it a refused row takes its whole table along, also rows whose requests just succeed."""

    def rule(request: Request) -> Answer:
        time.sleep(0.003)
        return Answer(422) if request.json["n"] == 3 else OK

    endpoint.rule = rule
    receiver = start(script, vhost, endpoint, WORKERS=8)
    publisher = Publisher(vhost)
    receiver.pause()
    for n in range(60):
        publisher.event(f"t {n}", n=n)
    publisher.event("t", n=60, op="truncate")
    receiver.resume()
    receiver.wait_for_log("event refused and parked")
    wait_until(lambda: len(endpoint.completed) >= 59, 10, "all but the refused one and the truncate")
    endpoint.rule = lambda _request: OK
    run(receiver, "replay", "--all")
    wait_until(lambda: len(endpoint.completed) == 61, 10, "all")
    assert endpoint.bodies()[-1]["n"] == 60
    assert_order(endpoint)
    assert receiver.log().count("consuming") == 1, "no session was lost"


def test_the_delivery_limit_of_the_waiting_room_is_out_of_reach(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    """RabbitMQ counts each pass for each event that stays, and drops an event at the limit without a word."""
    start(script, vhost, endpoint)
    channel = vhost.channel()
    arguments = {"x-queue-type": "quorum", "x-delivery-limit": 1_000_000_000}
    channel.queue_declare("odoo.parked", durable=True, arguments=arguments)  # refused if it has others


def test_more_than_can_be_read_is_a_full_parking_lot_and_can_be_discarded(
    vhost: Vhost, script: Make, endpoint: Endpoint
) -> None:
    """Who may publish into any queue could put more there: the receiver waited for ever for what it had counted."""
    fewer = with_constants("relay.receiving.whole.READ_MOST=200")
    receiver = script("receiver.py", settings(vhost, endpoint), environment=fewer)
    receiver.start()
    receiver.wait_for_log("consuming")
    receiver.terminate()
    receiver.wait()
    channel = vhost.channel()
    for n in range(450):
        channel.basic_publish("", "odoo.parked", str(n).encode())
    wait_until(lambda: vhost.queue_depth("odoo.parked") == 450, 20, "a stranger's messages")
    publish(vhost, 1)
    receiver.start()
    receiver.wait_for_log("the parking lot is full, pausing")
    assert len(json.loads(done(run(receiver, "parked", "--json")))) == 200
    assert not endpoint.requests
    while "the parking lot has room again" not in receiver.log():
        assert not endpoint.requests, "not while there is something that nobody has read"
        run(receiver, "discard", "--all", "--yes")
    wait_until(lambda: by_key(endpoint)[POISON] == [0], 20, "what waited in the main queue")
    done(run(receiver, "discard", "--all", "--yes"))
    assert vhost.queue_depth("odoo.parked") == 0
