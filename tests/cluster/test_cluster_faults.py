"""The whole way, on three nodes, under faults of nodes: nothing lost, invented or out of order."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable

import pytest

from dev.cluster import Cluster
from dev.database import Database
from dev.doubles.endpoint import Answer, Endpoint
from dev.process import wait_until
from dev.script import Script
from tests.cluster.conftest import Shared
from tests.cluster.counted import Writer, await_all, distinct
from tests.listening import QUICK
from tests.receiving import settings

FAULTS = int(os.environ.get("FAULTS", "30"))
RESUME = {"kill": 15.0, "hang": 120.0, "cut": 60.0, "two": 60.0}  # seconds until events go on

pytestmark = pytest.mark.timeout(3600)

Make = Callable[..., Script]


@pytest.mark.long
def test_nothing_is_lost_or_out_of_order_whatever_becomes_of_the_nodes(
    script: Make, database: Database, cluster: Cluster, shared: Shared, endpoint: Endpoint
) -> None:
    """FAULTS of them. It is told, with -s, how long events took to go on."""
    endpoint.rule = lambda _request: Answer(work=0.005)
    listen = {"DATABASE_URL": database.listener_dsn, "RABBITMQ_URL": shared.urls(), "REQUIRED_QUEUES": "odoo", **QUICK}
    receive = {**settings(shared, endpoint), "RABBITMQ_URL": shared.urls(), "QUEUE_TYPE": "failover"}
    scripts = [script("receiver.py", receive) for _ in range(2)] + [script("listen.py", listen) for _ in range(2)]
    writer = Writer(database)
    for one in scripts:
        one.start()
    wait_until(lambda: any("consuming" in one.log() for one in scripts[:2]), 60, "a receiver at work")
    wait_until(lambda: any("relaying" in one.log() for one in scripts[2:]), 60, "a listener at work")
    writer.start()
    try:
        for number in range(FAULTS):
            _fault(number, cluster, shared, endpoint)
    finally:
        writer.end()
    repeated = await_all(endpoint, writer)
    print(f"{sum(writer.committed.values())} events, {repeated} of them twice, {FAULTS} faults")  # noqa: T201


def _fault(number: int, cluster: Cluster, shared: Shared, endpoint: Endpoint) -> None:
    """One fault, until events go on; and its end."""
    kind = ("kill", "kill", "cut", "kill", "two", "kill", "kill", "hang", "cut", "kill")[number % 10]
    leader = cluster.leader(shared.name, "odoo") or cluster.nodes[0]
    node = leader if number % 3 == 0 else random.choice(cluster.nodes)
    before = len(endpoint.bodies())
    wait_until(lambda: len(endpoint.bodies()) > before + 20, 120, f"traffic before fault {number}")
    if kind == "kill":
        node.kill()
    elif kind == "cut":
        cluster.cut(node)
    elif kind == "two":
        for one in cluster.others(node):
            one.kill()
        time.sleep(3.0)
    else:
        node.pause()
        time.sleep(30.0)
        node.resume()
    began = time.monotonic()
    if kind == "two":
        cluster.start()
    seen = distinct(endpoint)
    if kind == "cut" and number % 4 == 0:
        time.sleep(20.0)
        cluster.heal(node)
        began = time.monotonic()

    def goes_on() -> bool:
        return distinct(endpoint) > seen + 20  # more than what was at the endpoint, or on its way, when the node fell

    wait_until(goes_on, RESUME[kind], f"events after fault {number}, {kind} of {node.node}")
    what = kind + (" of the leader" if node is leader else "")
    print(f"fault {number}: {what}: on after {time.monotonic() - began:.1f} s")  # noqa: T201
    if kind == "cut":
        cluster.heal(node)
    cluster.start()
