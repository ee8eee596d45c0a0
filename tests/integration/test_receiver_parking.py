"""The parking lot: refused events park, their key waits behind them, the rest goes on; replay, discard, crashes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from dev.doubles.endpoint import OK, Answer, Endpoint, Request
from dev.process import wait_until
from dev.script import ROOT, Script
from dev.vhost import Vhost
from tests.messages import Publisher
from tests.receiving import assert_order, by_key, done, run, settings, with_constants

Make = Callable[..., Script]
POISON = "t 0"


def refuses(key: str = POISON, status: int = 422) -> Callable[[Request], Answer]:
    return lambda request: Answer(status, b"no such partner") if request.json["key"] == key else OK


def start(script: Make, vhost: Vhost, endpoint: Endpoint, **more: object) -> Script:
    receiver = script("receiver.py", settings(vhost, endpoint, **{"MAX_ATTEMPTS": 2, **more}))
    receiver.start()
    receiver.wait_for_log("consuming")
    return receiver


def publish(vhost: Vhost, keys: int, count: int, first: int = 0) -> None:
    publisher = Publisher(vhost)
    for n in range(first, first + count):
        publisher.event(f"t {n % keys}", n=n)


def parked(receiver: Script, *filters: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(done(run(receiver, "parked", "--json", *filters)))
    return found


def test_a_refused_event_parks_with_its_key_and_the_others_go_on(
    vhost: Vhost, script: Make, endpoint: Endpoint
) -> None:
    endpoint.rule = refuses()
    receiver = start(script, vhost, endpoint)
    publish(vhost, 4, 40)
    wait_until(lambda: len(endpoint.completed) == 30, 20, "the others")
    wait_until(lambda: vhost.queue_depth("odoo.parked") == 10, 20, "the key in the parking lot")
    Publisher(vhost).event(POISON, n=10)
    wait_until(lambda: vhost.queue_depth("odoo.parked") == 11, 20, "what comes later of it")
    assert len(endpoint.requests) == 32, "two attempts, and nothing of its key after it"
    [one] = parked(receiver)
    assert (one["key"], one["why"], one["events"], one["attempts"]) == (POISON, "dead", 11, 2)
    assert "422" in str(one["reason"])
    assert parked(receiver, "--table", "other") == []
    shown = json.loads(done(run(receiver, "show", str(one["id"]))))
    assert json.loads(shown["body"])["n"] == 0


@pytest.mark.parametrize("running", [True, False])
def test_replay_delivers_the_key_in_order_with_and_without_a_running_receiver(
    vhost: Vhost, script: Make, endpoint: Endpoint, running: bool
) -> None:
    endpoint.rule = refuses()
    receiver = start(script, vhost, endpoint)
    publish(vhost, 2, 10)
    wait_until(lambda: vhost.queue_depth("odoo.parked") == 5, 20, "the key in the parking lot")
    endpoint.rule = lambda _request: OK
    publish(vhost, 2, 10, first=10)
    wait_until(lambda: vhost.queue_depth("odoo.parked") == 10, 20, "what comes later of it")
    wait_until(lambda: sum(map(len, by_key(endpoint).values())) >= 10, 20, "the other key to be delivered")
    if not running:
        receiver.terminate()
        assert receiver.wait() == 0
        wait_until(lambda: vhost.queue_depth("odoo") == 0, 20, "the other key's acknowledgements")
        Publisher(vhost).event("for the receiver", n=0)
        assert [one["key"] for one in parked(receiver)] == [POISON]
    assert "1 of 1 keys done" in done(run(receiver, "replay", "--key", POISON))
    assert by_key(endpoint)[POISON] == list(range(0, 20, 2))
    assert vhost.queue_depth("odoo.parked") == 0
    assert parked(receiver) == []
    assert vhost.queue_depth("odoo") == (0 if running else 1), "a command leaves the main queue alone"


def test_replay_of_what_is_still_refused_says_so_and_keeps_it(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    endpoint.rule = refuses()
    receiver = start(script, vhost, endpoint)
    publish(vhost, 2, 20)
    wait_until(lambda: vhost.queue_depth("odoo.parked") == 10, 20, "the key in the parking lot")
    result = run(receiver, "replay", "--all")
    assert result.returncode == 1
    assert "refused again" in result.stdout
    wait_until(lambda: vhost.queue_depth("odoo.parked") == 10, 5, "all of it back in its place")


def test_discarding_the_refused_event_lets_those_behind_it_go(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    endpoint.rule = lambda request: Answer(422) if request.json["n"] == 0 else OK
    receiver = start(script, vhost, endpoint)
    publish(vhost, 2, 20)
    wait_until(lambda: vhost.queue_depth("odoo.parked") == 10, 20, "the key in the parking lot")
    assert run(receiver, "discard", "--key", POISON).returncode == 2, "not without a yes"
    [one] = parked(receiver)
    done(run(receiver, "discard", "--id", str(one["id"]), "--yes"))
    wait_until(lambda: len(endpoint.completed) == 19, 10, "those behind it")
    assert by_key(endpoint)[POISON] == list(range(2, 20, 2))


def test_discarding_a_key_leaves_the_others(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    endpoint.rule = lambda _request: Answer(422)
    receiver = start(script, vhost, endpoint)
    publish(vhost, 3, 9)
    wait_until(lambda: vhost.queue_depth("odoo.parked") == 9, 20, "all in the parking lot")
    done(run(receiver, "discard", "--key", POISON, "--yes"))
    assert {one["key"] for one in parked(receiver)} == {"t 1", "t 2"}
    wait_until(lambda: vhost.queue_depth("odoo.parked") == 6, 5, "the others' events")


def test_a_restart_knows_the_parked_keys_again(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    endpoint.rule = refuses()
    receiver = start(script, vhost, endpoint)
    publish(vhost, 2, 4)
    wait_until(lambda: vhost.queue_depth("odoo.parked") == 2, 20, "the key in the parking lot")
    receiver.kill()
    receiver.start()
    receiver.wait_for_log("consuming", count=2)
    publish(vhost, 2, 6, first=4)
    wait_until(lambda: vhost.queue_depth("odoo.parked") == 5, 20, "its later events behind it")
    wait_until(lambda: len(by_key(endpoint)["t 1"]) == 5, 10, "the other key's events")
    assert parked(receiver)[0]["events"] == 5


def test_replay_keeps_the_order_while_events_of_the_key_keep_coming(
    vhost: Vhost, script: Make, endpoint: Endpoint
) -> None:
    endpoint.rule = refuses()
    receiver = start(script, vhost, endpoint)
    publish(vhost, 2, 40)
    wait_until(lambda: vhost.queue_depth("odoo.parked") == 20, 20, "the key in the parking lot")
    publisher = Publisher(vhost)
    endpoint.rule = lambda _request: Answer(work=0.005)
    for n in range(40, 400, 2):
        publisher.event(POISON, n=n)
        if n == 60:
            done(run(receiver, "replay", "--key", POISON))
    wait_until(lambda: len(by_key(endpoint)[POISON]) == 200, 30, "all of the key")
    assert by_key(endpoint)[POISON] == list(range(0, 400, 2))
    assert vhost.queue_depth("odoo.parked") == 0


def test_two_thousand_events_that_wait_for_one_behind_them_come_back_by_themselves(
    vhost: Vhost, script: Make, endpoint: Endpoint
) -> None:
    """Orders before their customer: the window is overrun by events in back-off, and what flows still flows."""
    parent = [False]

    def rule(request: Request) -> Answer:
        key = request.json["key"]
        parent[0] = parent[0] or key == "parent"
        return OK if not key.startswith("orphan") or parent[0] else Answer(422, b"no such customer")

    endpoint.rule = rule
    receiver = start(script, vhost, endpoint, PREFETCH=100, MAX_ATTEMPTS=30, RETRY_MIN="0.5", RETRY_MAX="2")
    publisher = Publisher(vhost)
    for n in range(600):
        publisher.event(f"orphan {n}", n=n)
    publisher.event("parent", n=1)
    wait_until(lambda: len(endpoint.completed) == 601, 60, "everything")
    wait_until(lambda: vhost.queue_depth("odoo.parked") == 0, 10, "an empty parking lot")
    assert parked(receiver) == []


def test_updates_of_a_poison_row_do_not_fill_the_window(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    endpoint.rule = refuses()
    start(script, vhost, endpoint, PREFETCH=50, RETRY_MIN="5", RETRY_MAX="5")
    publisher = Publisher(vhost)
    for n in range(200):
        publisher.event(POISON, n=n)
    for n in range(20):
        publisher.event("t 1", n=n)
    wait_until(lambda: len(by_key(endpoint)["t 1"]) == 20, 4, "the other key")


def test_a_truncate_behind_a_parked_row_waits_with_its_table(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    endpoint.rule = lambda request: Answer(422) if request.json["n"] == 0 else OK
    receiver = start(script, vhost, endpoint)
    publisher = Publisher(vhost)
    publisher.event("t 0", n=0)
    publisher.event("t 1", n=1)
    wait_until(lambda: vhost.queue_depth("odoo.parked") == 1, 10, "the refused event")
    publisher.event("t", n=2, op="truncate")
    publisher.event("t 1", n=3)
    publisher.event("u 1", n=4, table="u")
    wait_until(lambda: vhost.queue_depth("odoo.parked") == 3, 10, "the truncate and what follows it")
    wait_until(lambda: by_key(endpoint)["u 1"] == [4], 10, "the other table")
    assert by_key(endpoint)["t 1"] == [1]
    endpoint.rule = lambda _request: OK
    run(receiver, "replay", "--all")
    wait_until(lambda: len(endpoint.completed) == 5, 20, "all")
    in_order = [body["n"] for body in endpoint.bodies() if body["n"] != 4]
    assert in_order == [1, 0, 2, 3]


def test_no_row_passes_a_truncate_that_waits_in_the_room_longer_than_itself(
    vhost: Vhost, script: Make, endpoint: Endpoint
) -> None:
    endpoint.rule = lambda request: Answer(422) if request.json["n"] == 0 else OK
    receiver = start(script, vhost, endpoint)
    publisher = Publisher(vhost)
    publisher.event("t 0", n=0)
    wait_until(lambda: vhost.queue_depth("odoo.parked") == 1, 10, "the refused event")
    publisher.event("t", n=1, op="truncate")
    for n in range(2, 12):  # the truncate could not move, and rests for 2 s; each of these rows is due at once
        publisher.event(f"t {n}", n=n)
        publisher.event(f"u {n}", n=n, table="u")
        wait_until(lambda n=n: by_key(endpoint)[f"u {n}"] == [n], 10, "the other table")
    wait_until(lambda: vhost.queue_depth("odoo.parked") == 12, 10, "the truncate and what follows it")
    assert [body["n"] for body in endpoint.bodies() if body["key"].startswith("t")] == []
    endpoint.rule = lambda _request: OK
    run(receiver, "replay", "--all")
    wait_until(lambda: len(endpoint.completed) == 22, 20, "all")
    assert [body["n"] for body in endpoint.bodies() if body["key"].startswith("t")][:2] == [0, 1]


def test_a_waiting_room_whose_leader_is_not_there_yet_is_not_taken_for_empty(
    vhost: Vhost, script: Make, endpoint: Endpoint
) -> None:
    """As after a crash of RabbitMQ: until the queue has recovered, it is said to hold nothing."""
    endpoint.rule = lambda request: Answer(422) if request.json["n"] == 0 else OK
    receiver = start(script, vhost, endpoint)
    publisher = Publisher(vhost)
    publisher.event("t 0", n=0)
    wait_until(lambda: vhost.queue_depth("odoo.parked") == 1, 10, "the refused event")
    receiver.kill()
    vhost.broker.evaluate(leader_of_the_room(vhost, "stop"))
    receiver.start()
    receiver.wait_for_log("starting", count=2)
    with pytest.raises(AssertionError, match="in vain"):
        receiver.wait_for_log("consuming", timeout=3, count=2)
    vhost.broker.evaluate(leader_of_the_room(vhost, "restart"))
    receiver.wait_for_log("parked queue read keys=1", timeout=90)
    publisher.event("t 0", n=1)
    wait_until(lambda: vhost.queue_depth("odoo.parked") == 2, 20, "the later event behind it")
    assert endpoint.completed == []


def leader_of_the_room(vhost: Vhost, do: str) -> str:
    """Erlang: stop or restart it."""
    return (
        f'[ra:{do}_server(quorum_queues, amqqueue:get_pid(Q)) || Q <- rabbit_amqqueue:list(<<"{vhost.name}">>), '
        'element(4, amqqueue:get_name(Q)) =:= <<"odoo.parked">>]'
    )


def test_a_waiting_room_whose_leader_goes_is_not_taken_for_purged(
    vhost: Vhost, script: Make, endpoint: Endpoint
) -> None:
    """While it has none, it is said to hold nothing."""
    endpoint.rule = lambda request: Answer(422) if request.json["n"] == 0 else OK
    looks = with_constants("relay.receiving.parking.lot.COUNT_SECONDS=0.2")
    receiver = script("receiver.py", settings(vhost, endpoint, MAX_ATTEMPTS=1), environment=looks)
    receiver.start()
    receiver.wait_for_log("consuming")
    publisher = Publisher(vhost)
    publisher.event("t 0", n=0)
    wait_until(lambda: vhost.queue_depth("odoo.parked") == 1, 10, "the refused event")
    vhost.broker.evaluate(leader_of_the_room(vhost, "stop"))
    receiver.wait_for_log("queue odoo.parked holds 0 messages and not 1: it is read anew")
    publisher.event("t 0", n=1)  # it would be delivered long before rabbitmqctl has begun
    vhost.broker.ctl("eval", leader_of_the_room(vhost, "restart") + ".")
    receiver.wait_for_log("parked queue read keys=1", timeout=60)
    wait_until(lambda: vhost.queue_depth("odoo.parked") >= 2, 20, "the later event behind it")
    assert endpoint.completed == []


def test_kills_while_parking_and_replaying_lose_and_double_nothing(
    vhost: Vhost, script: Make, endpoint: Endpoint
) -> None:
    endpoint.rule = refuses()
    receiver = start(script, vhost, endpoint, PREFETCH=60)
    publish(vhost, 3, 300)
    for part in range(8):
        wait_until(lambda: len(receiver.log()) > 0 and receiver.alive(), 5, "the receiver")
        time.sleep(0.08 + 0.03 * part)  # any moment will do
        receiver.kill()
        receiver.start()
    wait_until(lambda: vhost.queue_depth("odoo.parked") == 100, 30, "the key in the parking lot")
    wait_until(lambda: vhost.queue_depth("odoo") == 0, 30, "an empty queue")
    receiver.terminate()
    receiver.wait()
    endpoint.rule = lambda _request: Answer(work=0.002)
    receiver.start()
    for part in range(6):
        run_until_killed(receiver, 0.1 + 0.05 * part)
    done(run(receiver, "replay", "--all"))
    wait_until(lambda: len({r.event_id for r in endpoint.completed}) == 300, 30, "all events")
    assert_order(endpoint)
    assert vhost.queue_depth("odoo.parked") == 0


def run_until_killed(receiver: Script, seconds: float) -> None:
    command = [sys.executable, str(ROOT / "receiver.py"), "--env-file", str(receiver.env_file), "replay", "--all"]
    replay = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(0.4 + seconds)
    receiver.kill()
    replay.kill()
    replay.wait()
    before = receiver.log().count("consuming")
    receiver.start()
    receiver.wait_for_log("consuming", count=before + 1)


def test_a_waiting_room_of_thousands_is_read_to_its_end(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    """A quorum queue's consumer without a prefetch number gets 2,000 messages and then no more."""
    endpoint.rule = lambda request: OK if request.json["key"] == "t 1" else Answer(422)
    receiver = start(script, vhost, endpoint, MAX_ATTEMPTS=1)
    publisher = Publisher(vhost)
    for n in range(2500):
        publisher.event(POISON, n=n)
    publisher.event("t 1", n=0)
    publisher.event("t 2", n=0)
    wait_until(lambda: vhost.queue_depth("odoo.parked") == 2501, 30, "all of it in the parking lot")
    receiver.kill()
    receiver.start()
    wait_until(lambda: len(parked(receiver)) == 2, 20, "the index")
    endpoint.rule = lambda _request: OK
    done(run(receiver, "replay", "--key", "t 2"))
    assert by_key(endpoint)["t 2"] == [0]
    wait_until(lambda: vhost.queue_depth("odoo.parked") == 2500, 5, "the rest back in its place")


def test_at_parked_max_the_receiver_pauses_and_goes_on_after_a_replay(
    vhost: Vhost, script: Make, endpoint: Endpoint
) -> None:
    endpoint.rule = lambda _request: Answer(422)
    receiver = start(script, vhost, endpoint, MAX_ATTEMPTS=1, PARKED_MAX=3, WORKERS=1)
    publish(vhost, 20, 20)
    receiver.wait_for_log("the parking lot is full, pausing")
    wait_until(lambda: vhost.queue_depth("odoo") > 0, 5, "the rest given back")
    endpoint.rule = lambda _request: OK
    done(run(receiver, "replay", "--all"))
    receiver.wait_for_log("the parking lot has room again")
    wait_until(lambda: len(endpoint.completed) == 20, 10, "all events")
