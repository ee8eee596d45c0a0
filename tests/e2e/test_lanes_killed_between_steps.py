"""Kill -9 of `receiver.py lanes --to` between every two of its steps, under traffic: none lost, each key in order.

The test reads the old queues as their receivers would, and the new ones when the change has ended.
"""

from __future__ import annotations

import collections
import contextlib
import json
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pika.exceptions
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from dev import forkserver
from dev.script import ROOT
from dev.vhost import Vhost
from relay.amqp.headers import slot
from relay.delivery import Event, Tries, key_name
from relay.receiving.lanes import plan, ring
from relay.receiving.lanes.change import Change
from relay.receiving.lanes.moving import Mover
from relay.receiving.parking.codec import new_handle, parked_properties
from relay.receiving.parking.index import Entry, Why
from tests.messages import Publisher
from tests.receiving import bare, with_constants
from tests.steps import places

KEYS = 8
STEPS = (
    *(Change.run, Change._begin, Change._make, Change._switch, Change._finish, Change._is_empty),
    *(ring.make, ring.bind, ring.unbind, ring.remove, plan.write, plan.make),
    *(Mover.run, Mover._move, Mover._put),
)
SHORT = ["relay.receiving.lanes.change.REGISTERED=0.05", "relay.receiving.lanes.change.LOOK_EVERY=0.1",
         "relay.receiving.lanes.change.UNSURE=1.5"]  # fmt: skip


class Bench:
    """One queue, whose number of lanes is changed while events come, and are read as receivers read."""

    def __init__(self, vhost: Vhost, directory: Path, queue: str) -> None:
        self.vhost, self.queue = vhost, queue
        self.env_file = directory / f"{queue}.env"
        self.env_file.touch(0o600)
        self.env_file.write_text(f"RABBITMQ_URL={vhost.url}\nQUEUE={queue}\nHTTP_URL=http://127.0.0.1:1/\n"
                                 f"EXCHANGE=relay-{queue}\n")  # fmt: skip
        self.publisher = Publisher(vhost, f"relay-{queue}")
        self.channel = vhost.channel()
        self.read: dict[str, list[int]] = collections.defaultdict(list)
        self.parked: dict[str, list[str]] = {}
        self._n = 0

    def begin(self, total: int) -> None:
        """As many lanes, made by nobody who is killed; with something in each parking lot."""
        if total > 1:
            assert self.lanes(total)[0] == 0
        else:
            self.channel.queue_declare(self.queue, durable=True)
            self.channel.queue_bind(self.queue, f"relay-{self.queue}", "#")
            self.channel.queue_declare(f"{self.queue}.parked", durable=True)
        for key in range(KEYS):
            self._park(f"t {key}", self._room(f"t {key}", total))
        self.publish()

    def _room(self, key: str, total: int) -> str:
        """The parking lot of a key's lane."""
        return f"{self.queues(1, total)[int(slot(key.encode())) % total]}.parked"

    def queues(self, generation: int, total: int) -> list[str]:
        if total == 1:
            return [self.queue]
        return [f"{self.queue}.lanes.{generation}.{lane:02}" for lane in range(total)]

    def _park(self, key: str, room: str) -> None:
        ids = self.parked[key] = [str(uuid.uuid4()) for _ in range(3)]
        for number, event_id in enumerate(ids):
            event = Event(b"{}", "t", event_id, "update", key, "t", number + 1, slot=slot(key.encode()))
            why = Why.BEHIND if number else Why.DEAD
            entry = Entry(key, key_name(key), "t", event_id, new_handle(), why, Tries(8, reason="422"), 1, 0.0)
            self.channel.basic_publish("", room, event.body, parked_properties(event, entry, 131_072))

    def publish(self) -> None:
        self._n += 1
        for key in range(KEYS):
            self.publisher.event(f"t {key}", n=self._n)

    def lanes(self, total: int, kill_at: str = "") -> tuple[int, str]:
        command = [
            sys.executable,
            str(ROOT / "receiver.py"),
            "--env-file",
            str(self.env_file),
            "lanes",
            "--to",
            str(total),
        ]
        env = bare() | with_constants(*SHORT)
        if kill_at:
            killing = {"KILL_AT": kill_at, "PYTHONPATH": f"{ROOT / 'tests' / 'killing'}:{env['PYTHONPATH']}"}
            env |= killing
        ended = forkserver.run(command, timeout=60, env=env)
        return ended.returncode, ended.stdout + ended.stderr

    @contextlib.contextmanager
    def traffic(self, queues: list[str]) -> Iterator[None]:
        """Events come, and the old queues are read, until both are ended."""
        over = threading.Event()

        def work() -> None:
            while not over.is_set():
                began = time.monotonic()
                self.publish()
                self.take(queues)
                time.sleep(max(0.02, time.monotonic() - began))  # or the change hardly ever meets the leases free

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def take(self, queues: list[str]) -> None:
        """Read all that is there, in its order, with the lease of each, as a receiver does."""
        for queue in queues:
            channel = self.vhost.channel() if not self.channel.is_open else self.channel
            self.channel = channel
            try:
                channel.queue_declare(f"{queue}.lease", exclusive=True)
                while (found := channel.basic_get(queue, auto_ack=True))[0]:
                    if found[2]:  # else it means nothing
                        event = json.loads(found[2])
                        self.read[event["key"]].append(event["n"])
                channel.queue_delete(f"{queue}.lease")
            except pika.exceptions.ChannelClosedByBroker as closed:
                # The change has the lease; or it has deleted the queue, and a receiver would leave, with its lease.
                assert closed.reply_code in (404, 405), closed  # noqa: PT017
                if closed.reply_code == 404:
                    channel.connection.close()

    def judge(self, where: str, queues: list[str]) -> None:
        self.take(queues)
        for key, numbers in self.read.items():
            firsts = list(dict.fromkeys(numbers))
            assert firsts == list(range(1, self._n + 1)), f"{where}: {key}: {numbers}"
            assert numbers[-1] == self._n, f"{where}: {key}: an older event came last: {numbers}"
        assert len(self.read) == KEYS
        found: dict[str, list[tuple[str, str]]] = collections.defaultdict(list)
        for queue in queues:
            for message in _all(self.vhost.channel(), f"{queue}.parked"):
                found[str((message.headers or {})["relay-key"])].append((queue, str(message.message_id)))
        assert {key: [one for _, one in ids] for key, ids in found.items()} == self.parked, where
        assert all(len({queue for queue, _ in ids}) == 1 for ids in found.values()), where


def _all(channel: BlockingChannel, queue: str) -> list[pika.BasicProperties]:
    found = []
    while (message := channel.basic_get(queue, auto_ack=True))[0]:
        if message[2]:
            found.append(message[1])
    return found


def killed_at(vhost: Vhost, directory: Path, where: str, number: int, before: int, after: int) -> bool:
    """Change the number, with a kill at this place, and once more; True if the place was reached."""
    bench = Bench(vhost, directory, f"q{number}")
    bench.begin(before)
    made = 1 if before > 1 else 0
    with bench.traffic(bench.queues(made, before)):
        status, said = bench.lanes(after, where)
        reached = status == -9
        assert reached or status == 0, f"{where}: {status} {said}"
        if reached:
            status, said = bench.lanes(after)
            assert status == 0, f"{where}: {status} {said}"
    bench.judge(where, bench.queues(made + 1, after))
    assert bench.lanes(1, "")[0] == 0 or after > 1
    vhost.close()  # the many connections of a round
    return reached


@pytest.mark.timeout(600)
def test_killed_at_some_of_the_steps(vhost: Vhost, tmp_path: Path) -> None:
    ways = [(1, 3), (3, 2), (2, 1)]
    reached = [killed_at(vhost, tmp_path, where, n, *ways[n % 3]) for n, where in enumerate(places(STEPS, 2, 47))]
    assert sum(reached) > len(reached) // 2


@pytest.mark.long
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("hit", [1, 2])
@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 2), (2, 1)])
def test_killed_at_every_step(vhost: Vhost, tmp_path: Path, before: int, after: int, hit: int) -> None:
    reached = [killed_at(vhost, tmp_path, where, n, before, after) for n, where in enumerate(places(STEPS, 0, 1, hit))]
    assert sum(reached) >= len(reached) // (3 * hit), "most of these lines are on the way"
