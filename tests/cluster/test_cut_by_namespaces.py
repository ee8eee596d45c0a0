"""The whole way, on three hosts in network namespaces that are cut apart: packets vanish, and nobody is told.

A connection hangs then until a heartbeat, the kernel or net_ticktime (60 s) gives it up. Beside it nodes are killed and
stopped. Root is needed, and iproute2; -s shows how long events stood still, and how soon they went on.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import re
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dev.cluster import Cluster
from dev.database import Database
from dev.doubles.endpoint import Answer, Endpoint
from dev.namespaces import Host, Network
from dev.process import ServerError, wait_until
from dev.rabbitmq import RabbitMQ
from dev.script import Script
from tests.cluster.conftest import Shared
from tests.cluster.counted import ROWS, Writer, await_all
from tests.listening import QUICK
from tests.receiving import settings

pytestmark = [
    pytest.mark.timeout(7200),
    pytest.mark.skipif(bool(Network.missing()), reason=f"needed here: {Network.missing()}"),
]
FAULTS = int(os.environ.get("FAULTS", "30"))  # of each plan
AFTER_KILL = 15.0  # seconds until events go on, while the node stays down
AFTER_HEAL = 60.0  # the same from a cut's heal, or a hung node's return, on
FAST, SLOW = Answer(work=0.005), Answer(work=0.3)

Make = Callable[..., Script]
Fault = tuple[str, float]  # what becomes of whom, and for how many seconds

# Of the nodes: with the queue's leader, with the listener's lease, over which the receiver at work is connected; one
# with nothing of that. "with its receiver": both on one side, the receiver with a slow endpoint and a full window.
PLANS: dict[str, tuple[Fault, ...]] = {
    "pause_minority": (
        ("kill leader", 20),
        ("kill connected", 20),
        ("kill lease", 20),
        ("cut leader", 5),
        ("cut connected", 5),
        ("cut lease", 30),
        ("cut leader", 30),
        ("cut connected", 30),
        ("cut receiver", 30),
        ("cut connected with its receiver", 30),
        ("cut other", 30),
        ("hang leader", 30),
        ("kill two", 10),
        ("cut leader", 90),
        ("cut connected", 90),
        ("cut lease", 90),
        ("cut other", 90),
        ("cut connected with its receiver", 90),
        ("cut listeners with other", 90),
        ("cut all", 90),
        ("part leader", 90),
    ),
    "pause_minority, net_ticktime 15": (
        ("cut leader", 60),
        ("cut connected", 60),
        ("cut lease", 60),
        ("cut other", 60),
        ("cut connected with its receiver", 60),
        ("cut leader", 20),
        ("kill connected", 20),
    ),
    "ignore": (
        ("cut leader", 5),
        ("cut leader", 30),
        ("cut connected with its receiver", 30),
        ("kill connected", 20),
        ("cut leader", 90),
        ("cut connected", 90),
        ("cut connected with its receiver", 90),
        ("cut listeners with other", 90),
        ("cut all", 90),
        ("part leader", 90),
    ),
}


@pytest.fixture
def network(run_directory: Path) -> Iterator[Network]:
    """Hosts a, b, c for the nodes, d and e for receivers."""
    made = Network(run_directory / "network", "a", "b", "c", "d", "e")
    try:
        made.start()
        yield made
    finally:
        made.remove()


class Ground:
    """Three nodes on three hosts, a receiver on each of two more, writer and two listeners here; and its faults.

    Args:
        limit: seconds until events go on after a fault's end.
    """

    def __init__(self, network: Network, cluster: Cluster, endpoint: Endpoint, writer: Writer, limit: float) -> None:
        self._network = network
        self._cluster = cluster
        self._endpoint = endpoint
        self._writer = writer
        self._limit = limit
        self._hosts = dict(zip(cluster.nodes, network.hosts, strict=False))
        self._read = 0
        self._highest = dict.fromkeys(range(ROWS), 0)
        self.late: list[str] = []
        self.seconds: list[float] = []  # after heals

    def strike(self, what: str, seconds: float) -> None:
        """One fault, its end, and until events go on."""
        self._await_events(120)
        deed, _, whom = what.partition(" ")
        roles = self._roles()
        node, is_slow = self._node(whom, roles), whom.endswith("with its receiver")
        had = " ".join(role for role, one in roles.items() if one is node)
        if is_slow:
            self._endpoint.rule = lambda _request: SLOW
            time.sleep(20.0)  # its window fills
        began = time.monotonic()
        self._begin(deed, whom, node)
        during = self._await_events(seconds)
        time.sleep(max(0.0, began + seconds - time.monotonic()))
        self._endpoint.rule = lambda _request: FAST
        self._end(deed)
        after = self._await_events(180)
        still = self._longest_standstill(began)
        print(  # noqa: T201
            f"{what} {seconds:g} s (node: {had}): {_told(during)} during it, {_told(after)} after its end, "
            f"stood still for {still:.1f} s"
        )
        if (deed == "kill" and whom != "two" and during > AFTER_KILL) or after > self._limit:
            self.late.append(f"{what} {seconds:g}: {during:.1f}, {after:.1f}")
        self.seconds.append(after)
        self._repair(node)

    def overlapping(self) -> list[int]:
        """Rows of which two requests were at the endpoint at once."""
        spans: dict[int, list[tuple[float, float]]] = {row: [] for row in range(ROWS)}
        for request in self._endpoint.requests:
            spans[request.json["new"]["id"]].append((request.started, request.done or math.inf))
        return [row for row, found in spans.items() if any(b[0] < a[1] for a, b in itertools.pairwise(sorted(found)))]

    def _roles(self) -> dict[str, RabbitMQ]:
        found = {
            "leader": self._cluster.leader("v", "odoo"),
            "connected": self._owner("odoo.lease")[0],
            "lease": self._owner("relay.lease.cuts")[0],
        }
        return {role: node for role, node in found.items() if node}

    def _owner(self, queue: str) -> tuple[RabbitMQ | None, str]:
        """The node with an exclusive queue, and the address of who holds it."""
        name = f'rabbit_misc:r(<<"v">>, queue, <<"{queue}">>)'
        asked = f"{{ok, Q}} = rabbit_amqqueue:lookup({name}), P = amqqueue:get_exclusive_owner(Q), "
        asked += "[{peer_host, A}] = rabbit_networking:connection_info(P, [peer_host]), {node(P), A}"
        for one in self._cluster.nodes:
            try:
                said = one.evaluate(asked)
            except ServerError:
                continue
            address = ".".join(re.findall(r"\d+", said.rpartition("{")[2]))
            return next(node for node in self._cluster.nodes if node.node in said), address
        return None, ""

    def _node(self, whom: str, roles: dict[str, RabbitMQ]) -> RabbitMQ:
        free = [one for one in self._cluster.nodes if one not in roles.values()]
        spare = [one for one in self._cluster.nodes if one is not roles["leader"]]
        return roles.get(whom.partition(" ")[0]) or (free or spare)[0]

    def _begin(self, deed: str, whom: str, node: RabbitMQ) -> None:
        host = self._hosts[node]
        address = self._owner("odoo.lease")[1]
        receiver = next((one for one in self._network.hosts if one.address == address), self._network.hosts[3])
        if deed == "part":
            other = next(one for one in self._cluster.nodes if one is not node)
            self._network.part(host, self._hosts[other])
        elif whom == "all":
            self._network.cut(*([one] for one in self._hosts.values()))
        elif deed == "cut":
            groups: dict[str, list[Host]] = {
                "receiver": [receiver],
                "connected with its receiver": [host, receiver],
                "listeners with other": [host, self._network.here],
            }
            self._network.cut(groups.get(whom, [host]))
        elif deed == "hang":
            node.pause()
        else:
            for one in self._cluster.others(node) if whom == "two" else [node]:
                one.kill()

    def _end(self, deed: str) -> None:
        if deed in {"cut", "part"}:
            self._network.heal()
        elif deed == "hang":
            for node in self._cluster.nodes:
                node.resume()
        else:
            self._cluster.start()

    def _repair(self, node: RabbitMQ) -> None:
        """What people have to do after a cut, under `ignore`: restart one side."""
        for one in (node, *self._cluster.others(node)):
            if self._is_parted(one):
                one.kill()
                with contextlib.suppress(ServerError):  # it finds no majority yet: once more, below
                    one.start()
        self._cluster.start()

    def _is_parted(self, node: RabbitMQ) -> bool:
        try:
            return node.evaluate("rabbit_node_monitor:partitions()") != "[]"
        except ServerError:  # it begins anew by itself
            return False

    def _await_events(self, timeout: float) -> float:
        """Seconds until events arrive that are written from now on, of half the rows; infinity = not in time."""
        began, seen = time.monotonic(), dict(self._writer.committed)

        def go_on() -> bool:
            self._look()
            return sum(self._highest[row] > last for row, last in seen.items()) >= ROWS // 2

        try:
            wait_until(go_on, timeout, "events")
        except AssertionError:
            return math.inf
        return time.monotonic() - began

    def _look(self) -> None:
        for request in self._endpoint.completed[self._read :]:
            self._read += 1
            new = request.json["new"]
            self._highest[new["id"]] = max(self._highest[new["id"]], new["n"])

    def _longest_standstill(self, since: float) -> float:
        times = [since] + [one.done for one in self._endpoint.completed if one.done and one.done > since]
        return max((b - a for a, b in itertools.pairwise(times)), default=0.0)


def _told(seconds: float) -> str:
    return "not on" if math.isinf(seconds) else f"on after {seconds:.1f} s"


@pytest.mark.long
@pytest.mark.parametrize("plan", PLANS)
def test_nothing_is_lost_or_out_of_order_whoever_is_cut_off_and_however_long(
    script: Make, database: Database, run_directory: Path, network: Network, endpoint: Endpoint, plan: str
) -> None:
    partitions, _, ticktime = plan.partition(", net_ticktime ")
    home = run_directory / partitions
    cluster = Cluster(home, partitions=partitions, ticktime=int(ticktime or 60), hosts=network.hosts[:3])
    served = [host.call(endpoint.serve) for host in network.hosts[3:]]
    try:
        cluster.start()
        cluster.nodes[0].add_vhost("v")
        shared = Shared(cluster, "v")
        endpoint.rule = lambda _request: FAST
        urls = shared.urls()
        receive = {**settings(shared, endpoint), "RABBITMQ_URL": urls, "QUEUE_TYPE": "failover"}
        receivers = [script("receiver.py", receive, prefix=host.prefix) for host in network.hosts[3:]]
        listen = {"DATABASE_URL": database.listener_dsn, "RABBITMQ_URL": urls, "REQUIRED_QUEUES": "odoo", **QUICK}
        listeners = [script("listen.py", {**listen, "SOURCE": "cuts"}) for _ in range(2)]
        writer = Writer(database, pause=0.03)
        for one in (*receivers, *listeners):
            one.start()
        wait_until(lambda: any("consuming" in one.log() for one in receivers), 60, "a receiver at work")
        wait_until(lambda: any("relaying" in one.log() for one in listeners), 60, "a listener at work")
        limit = AFTER_HEAL if partitions == "pause_minority" else math.inf  # the other one takes a person
        ground = Ground(network, cluster, endpoint, writer, limit)
        writer.start()
        try:
            for what, seconds in PLANS[plan][:FAULTS]:
                ground.strike(what, seconds)
        finally:
            writer.end()
        repeated = await_all(endpoint, writer)
        median, worst = statistics.median(ground.seconds), max(ground.seconds)
        print(  # noqa: T201
            f"{len(ground.seconds)} faults, {sum(writer.committed.values())} events, {repeated} of them twice, "
            f"on after {median:.1f} s (median) and {worst:.1f} s (worst)"
        )
        assert ground.overlapping() == []
        assert ground.late == []
    finally:
        for server in served:
            server.end()
        cluster.remove()
