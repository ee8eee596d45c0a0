"""Several receivers of one queue, each on its own lane: order of each key, other numbers of lanes, what is refused."""

from __future__ import annotations

import itertools
import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import pika
import pytest

from dev import forkserver
from dev.doubles.endpoint import OK, Answer, Endpoint
from dev.process import wait_until
from dev.script import ROOT, Script
from dev.vhost import Vhost
from relay import config
from relay.amqp import rights
from relay.amqp.headers import slot
from relay.receiving.lanes import ring
from relay.receiving.lanes.declared import ELSEWHERE
from relay.receiving.lanes.names import Generation
from tests import raw
from tests.messages import NEW_QUEUE_SECONDS, Publisher
from tests.receiving import assert_order, bare, by_key, done, settings, with_constants
from tests.wired import wired

Make = Callable[..., Script]
QUICK = with_constants("relay.receiving.lanes.change.REGISTERED=0.1", "relay.receiving.lanes.seat.LOOK_EVERY=0.3")


def run_of(receiver: Script, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Run a command of receiver.py with the settings of `receiver`, and short waits."""
    command = [sys.executable, str(ROOT / "receiver.py"), "--env-file", str(receiver.env_file), *arguments]
    return forkserver.run(command, timeout=timeout, env=bare() | QUICK)


class Site:
    """A queue `odoo` whose number of lanes changes, and its receivers."""

    def __init__(self, make: Make, vhost: Vhost, endpoint: Endpoint) -> None:
        self.make, self.vhost, self.endpoint = make, vhost, endpoint
        self.settings: dict[str, object] = {}
        self.plain = self.script()
        self._numbers = itertools.count(1)

    def script(self, environment: Mapping[str, str] = QUICK, **more: object) -> Script:
        given = settings(self.vhost, self.endpoint, **{**self.settings, **more})
        return self.make("receiver.py", given, environment=environment)

    def receiver(self, lane: str, environment: Mapping[str, str] = QUICK, **more: object) -> Script:
        made = self.script(environment, **({"LANE": lane} if lane else {}), **more)
        made.start()
        return made

    def lanes(self, total: int, environment: Mapping[str, str] = QUICK, **more: object) -> list[Script]:
        return [self.receiver(f"{lane}/{total}", environment, **more) for lane in range(total)]

    def to(self, total: int, timeout: float = 60) -> str:
        return str(done(self.command("lanes", "--to", str(total), timeout=timeout)))

    def command(self, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        return run_of(self.plain, *arguments, timeout=timeout)

    def publish(self, keys: int, each: int, publisher: Publisher | None = None) -> None:
        publisher = publisher or Publisher(self.vhost)
        for _ in range(each):
            n = next(self._numbers)
            for key in range(keys):
                publisher.event(f"t {key}", n=n)

    def await_all(self, keys: int, numbers: int) -> None:
        def all_there() -> bool:
            found = by_key(self.endpoint)
            return len(found) == keys and all(len(set(own)) >= numbers for own in found.values())

        wait_until(all_there, 120, "all events")


@pytest.fixture
def site(script: Make, vhost: Vhost, endpoint: Endpoint) -> Site:
    return Site(script, vhost, endpoint)


def test_two_lanes_share_the_keys_and_keep_the_order_of_each(site: Site) -> None:
    site.to(2)
    receivers = site.lanes(2)
    site.publish(20, 10)
    site.await_all(20, 10)
    assert_order(site.endpoint)
    for receiver in receivers:
        receiver.terminate()
        assert receiver.wait() == 0
        assert receiver.log().count("delivered") or True


class Traffic:
    """Publishes event after event, of each key in turn, until it is stopped."""

    def __init__(self, vhost: Vhost, keys: int, pause: float = 0.01) -> None:
        self.keys, self.pause, self.rounds = keys, pause, 0
        self._stop = threading.Event()
        self._publisher = Publisher(vhost)
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def _work(self) -> None:
        while not self._stop.is_set():
            self.rounds += 1
            for key in range(self.keys):
                self._publisher.event(f"t {key}", n=self.rounds)
                time.sleep(self.pause)

    def end(self) -> int:
        """Return how many events of each key there are."""
        self._stop.set()
        self._thread.join()
        return self.rounds


def test_the_number_changes_and_changes_back_while_events_go_on(site: Site) -> None:
    plain = site.receiver("")
    plain.wait_for_log("consuming")
    traffic = Traffic(site.vhost, 8)
    receivers = [plain]
    try:
        for total in (3, 2, 1):
            assert "in force" in site.to(total)
            for one in receivers:
                assert one.wait() == 78, "it had another number"
                assert "receiver.py lanes --to" in one.log().splitlines()[-1]
            receivers = site.lanes(total) if total > 1 else [site.receiver("")]
            for one in receivers:
                one.wait_for_log("consuming")
    finally:
        rounds = traffic.end()
    site.await_all(8, rounds)
    assert_order(site.endpoint)
    for one in receivers:
        one.terminate()
        assert one.wait() == 0


def routed(vhost: Vhost, generation: Generation, keys: int) -> dict[str, str]:
    """Where each of so many keys goes."""
    channel = vhost.channel()
    for number in range(keys):
        key = f'public.orders {{"id":{number}}}'
        properties = pika.BasicProperties(headers={"relay-key": key, "relay-slot": slot(key.encode())})
        channel.basic_publish(generation.exchange, "", str(number).encode(), properties)
    wait_until(lambda: sum(map(vhost.queue_depth, generation.queues)) == keys, 120, "all of them")
    found: dict[str, str] = {}
    for queue in generation.queues:
        for _method, _properties, body in itertools.islice(
            channel.consume(queue, auto_ack=True), vhost.queue_depth(queue)
        ):
            found[body.decode()] = queue
        channel.cancel()
    return found


@pytest.mark.timeout(400)
def test_each_key_goes_where_it_went_before_a_restart(private_vhost: Vhost) -> None:
    vhost, before = private_vhost, dict[Generation, dict[str, str]]()
    for number, total in enumerate((2, 4, 12), start=1):
        generation = Generation("odoo", number, total)
        with wired(vhost) as wire:
            wire.run(ring.make(wire.session, wire.settings, generation))
        before[generation] = routed(vhost, generation, 1_000)
        assert set(before[generation].values()) == set(generation.queues), "each has its share"
    time.sleep(NEW_QUEUE_SECONDS)
    vhost.close()
    vhost.broker.restart()
    for generation, there in before.items():
        assert routed(vhost, generation, 1_000) == there


def again(one: Script) -> None:
    """Kill a receiver, and start it: it works again, or has nothing to do any more."""
    begun = one.log().count("consuming") + 1
    one.kill()
    one.start()

    def seen() -> bool:
        return one.log().count("consuming") >= begun or "waiting until" in one.log().splitlines()[-1]

    wait_until(lambda: not one.alive() or seen(), 60, "a receiver to be back")


@pytest.mark.timeout(600)
def test_lanes_are_killed_and_their_number_changes_under_traffic(site: Site) -> None:
    """The referee is the order of each key: none lost, none reordered; what comes again comes as a whole."""
    rng = random.Random(19)
    receivers = [site.receiver("")]
    receivers[0].wait_for_log("consuming")
    traffic = Traffic(site.vhost, 12)
    try:
        for total in (2, 4, 1):
            changed = threading.Thread(target=site.to, args=(total, 120))
            changed.start()
            while changed.is_alive():
                one = rng.choice(receivers)
                if one.alive():  # else it has seen that there is another number
                    again(one)
                changed.join(rng.uniform(1, 3))
            for one in receivers:
                one.kill()
            receivers = site.lanes(total) if total > 1 else [site.receiver("")]
            for _ in range(4):
                one = rng.choice(receivers)
                one.wait_for_log("consuming", timeout=60)
                one.kill()
                one.start()
        for one in receivers:
            one.wait_for_log("consuming", timeout=60)
    finally:
        rounds = traffic.end()
    site.await_all(12, rounds)
    assert_order(site.endpoint)


def test_a_truncate_is_parked_alone_or_ignored_and_what_is_parked_moves_along(site: Site) -> None:
    """From the queue itself, where a truncate holds up its table, into lanes, and into others."""
    site.endpoint.rule = lambda request: Answer(422) if request.json["key"] == "t 1" else OK
    plain = site.receiver("", MAX_ATTEMPTS=1)
    plain.wait_for_log("consuming")
    publisher = Publisher(site.vhost)
    for n in (1, 2, 3):
        for key in range(4):
            publisher.event(f"t {key}", n=n)
    publisher.event("t", n=4, op="truncate")
    publisher.event("t 2", n=5)
    wait_until(lambda: len(parked(site)) >= 3, 30, "the truncate to wait behind the refused event")
    assert "in force" in site.to(2)
    assert plain.wait() == 78
    receivers = site.lanes(2, MAX_ATTEMPTS=1)
    wait_until(lambda: by_key(site.endpoint).get("t 2") == [1, 2, 3, 5], 30, "what only waited for it")
    publisher.event("t", n=6, op="truncate")
    publisher.event("t 3", n=7)
    wait_until(lambda: by_key(site.endpoint)["t 3"][-1] == 7, 30, "nothing waits behind a truncate")
    wait_until(lambda: [one["events"] for one in parked(site) if one["key"] == "t"] == [2], 30, "both truncates")
    reasons = {one["key"]: one["reason"] for one in parked(site)}
    assert len(reasons) == 2, "and the refused key"
    assert "reaches one lane only" in reasons["t"]
    for one in receivers:
        one.kill()
    assert "in force" in site.to(3)
    assert len(parked(site)) == 2
    site.endpoint.rule = lambda _request: OK
    receivers = site.lanes(3, MAX_ATTEMPTS=1, LANES_TRUNCATE="ignore")
    assert "1 of 1 keys done" in done(site.command("replay", "--key", "t 1"))
    assert by_key(site.endpoint)["t 1"] == [1, 2, 3]
    seen = len(site.endpoint.completed)
    publisher.event("t", n=8, op="truncate")
    publisher.event("t 3", n=9)
    wait_until(lambda: by_key(site.endpoint)["t 3"][-1] == 9, 30, "what comes behind it")
    wait_until(lambda: sum(site.vhost.queue_depth(f"odoo.lanes.2.{lane:02}") for lane in range(3)) == 0, 30, "all")
    assert [one["key"] for one in parked(site)] == ["t"]
    assert len(site.endpoint.completed) == seen + 1
    shown = done(site.command("status"))
    assert all(f"[odoo.lanes.2.{lane:02}]" in shown for lane in range(3))


def parked(site: Site) -> list[dict[str, Any]]:
    """What `parked` lists, of all lanes."""
    found = json.loads(done(site.command("parked", "--json")))
    return found if isinstance(found, list) else [one for lane in found.values() for one in lane]


@pytest.mark.parametrize("lost", ["queue", "binding"])
def test_what_is_missing_stops_all_lanes_and_new_ones_are_made(site: Site, lost: str) -> None:
    site.to(2)
    quick = QUICK | {"SHORTENED": f"{QUICK['SHORTENED']} relay.receiving.upkeep.LOOK_SECONDS=0.5"}
    receivers = site.lanes(2, environment=quick)
    site.publish(10, 2)
    site.await_all(10, 2)
    channel = site.vhost.channel()
    if lost == "queue":
        channel.queue_delete("odoo.lanes.1.01")
    else:
        for number in range(1, 32, 2):
            arguments = {"x-match": "all", "relay-slot": f"{number:02}"}
            channel.queue_unbind("odoo.lanes.1.01", "odoo.lanes.1", "", arguments)
        site.publish(10, 1)
    for one in receivers:
        one.wait_for_log("receiver.py lanes --to 2 makes new lanes", timeout=40)
    assert "is missing: new lanes are made" in site.to(2)
    for one in receivers:
        one.wait_for_log("consuming queue=odoo.lanes.2", timeout=40)
    site.publish(10, 3)
    site.await_all(10, 5 + (lost == "binding"))
    assert_order(site.endpoint)


def test_what_a_stranger_publishes_stops_no_lane(site: Site) -> None:
    """With any slot, of any type, or with two: by which of them RabbitMQ chooses the lane is its own affair."""
    site.to(2)
    receivers = site.lanes(2)
    for one in receivers:
        one.wait_for_log("consuming")
    channel, zero, one_ = site.vhost.channel(), raw.long(b"S", b"00"), raw.long(b"S", b"01")
    tables = [
        [(b"relay-slot", zero), (b"relay-slot", one_)],
        [(b"relay-slot", one_), (b"relay-slot", zero)],
        *([(b"relay-slot", value), (b"relay-key", raw.long(b"S", key))]
          for key in (b"t 0", b"t 1", b"t 2", b"t 3") for value in (zero, one_)),
        *([(b"relay-slot", value)] for value in (raw.long(b"x", b"01"), b"b\1", b"I\0\0\0\1", b"V", b"t\1")),
    ]  # fmt: skip
    for number, fields in enumerate(tables):
        for exchange, topic in ((b"relay", b"t"), (b"", b"odoo.lanes.1.00"), (b"", b"odoo.lanes.1.01")):
            own = raw.properties(headers=raw.table(fields), message_id=raw.short(b"%d to %b" % (number, topic)))
            raw.publish(channel, topic, own, b'{"key": "stranger", "n": 0}', exchange=exchange)
    channel.connection.process_data_events(0)  # they are sent
    wait_until(lambda: len(parked(site)) >= 10, 30, "what is in the lane of another key")
    site.publish(10, 3)
    for _ in range(2):  # and so do those that come after them
        site.await_all(11, 1)
        for receiver in receivers:
            again(receiver)
    assert not any("keep no order" in receiver.log() for receiver in receivers)
    assert {(one["reason"], one["events"]) for one in parked(site)} == {(ELSEWHERE, 1)}, "no row waits behind them"


def test_check_says_what_is_there_and_the_least_rights_suffice(site: Site) -> None:
    broker, vhost = site.vhost.broker, site.vhost
    broker.add_user("low-lanes", "secret", vhost.name)
    site.settings = {"RABBITMQ_URL": broker.url(vhost.name, "low-lanes", "secret"),
                     "RABBITMQ_MANAGEMENT_URL": ""}  # fmt: skip
    wanted = config.load(config.Receive, None, {"RABBITMQ_URL": vhost.url, "QUEUE": "odoo", "LANE": "0/2"})
    broker.grant(vhost.name, "low-lanes", *rights.patterns(wanted))
    Publisher(vhost)
    site.plain = site.script()
    assert site.command("check").returncode == 0, "without lanes"
    site.to(2)
    site.publish(5, 1)
    lane = site.script(LANE="1/2")
    checked = run_of(lane, "check")
    assert checked.returncode == 0, checked
    assert "none is at work" in checked.stdout
    assert "LANE is not set" in site.command("check").stdout
    receivers = site.lanes(2)
    site.await_all(5, 1)
    assert site.to(1)
    for one in receivers:
        assert one.wait() == 78
        assert "WARN" not in one.log(), "it has all the rights it wants"
