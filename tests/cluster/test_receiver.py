"""receiver.py on a cluster whose nodes fail."""

from __future__ import annotations

import itertools
import math
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dev.cluster import Cluster
from dev.doubles.endpoint import Answer, Endpoint
from dev.process import wait_until
from dev.rabbitmq import RabbitMQ
from dev.script import Script
from relay.receiving.lease import holder_names
from tests.cluster.conftest import Shared
from tests.cluster.traffic import Traffic
from tests.receiving import assert_order, by_key, done, run, settings

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]
RESUME = 15.0  # seconds after a node's death until events go on

Make = Callable[..., Script]


def in_use(cluster: Cluster, receiver: Script) -> RabbitMQ:
    """The node over which a receiver reads."""
    *_, port = re.findall(r"connected to RabbitMQ host=127\.0\.0\.1:(\d+) name=\"relay receiver odoo\"", receiver.log())
    return next(one for one in cluster.nodes if one.port == int(port))


def await_all(endpoint: Endpoint, traffic: Traffic, timeout: float = 60) -> None:
    """All that was published has arrived, in order."""

    def arrived() -> bool:
        return {key: max(numbers) for key, numbers in by_key(endpoint).items()} == traffic.published

    wait_until(arrived, timeout, "all events at the endpoint")
    assert {key: set(numbers) for key, numbers in by_key(endpoint).items()} == {
        key: set(range(last + 1)) for key, last in traffic.published.items()
    }
    assert_order(endpoint)


@pytest.mark.parametrize("prefetch", [3, 500])
def test_events_go_on_while_the_node_over_which_they_were_read_stays_down(
    script: Make, cluster: Cluster, shared: Shared, endpoint: Endpoint, prefetch: int
) -> None:
    """And they stay in order when it comes back: with a full window, and with one that is not."""
    more = {"RABBITMQ_URL": shared.urls(), "QUEUE_TYPE": "failover", "PREFETCH": prefetch}
    receiver = script("receiver.py", settings(shared, endpoint, **more))
    receiver.start()
    receiver.wait_for_log("consuming")
    with Traffic(shared) as traffic:
        for _ in range(3):
            before = len(endpoint.bodies())
            wait_until(lambda before=before: len(endpoint.bodies()) > before + 50, 30, "traffic")
            node = in_use(cluster, receiver)
            node.kill()
            seen = traffic.count
            wait_until(
                lambda seen=seen: sum(max(found) + 1 for found in by_key(endpoint).values()) > seen + 50,
                RESUME,
                "events that were published after the node's death",
            )
            assert not node.process
            node.start()
            cluster.await_all()
        time.sleep(1.0)  # a node's return is felt after it has said that it works
    await_all(endpoint, traffic)


def events_of(endpoint: Endpoint) -> int:
    """How many have arrived, of all keys."""
    return sum(max(numbers) + 1 for numbers in by_key(endpoint).values())


def test_another_receiver_goes_on_while_the_node_of_the_one_before_stays_down(
    script: Make, cluster: Cluster, shared: Shared, endpoint: Endpoint
) -> None:
    """Both are gone at once: host and node. It waits until the one before would not begin a request any more."""
    more = {"RABBITMQ_URL": shared.urls(), "QUEUE_TYPE": "failover"}
    receiver, standby = (script("receiver.py", settings(shared, endpoint, **more)) for _ in range(2))
    receiver.start()
    receiver.wait_for_log("consuming")
    standby.start()
    standby.wait_for_log("another receiver is at work")
    with Traffic(shared) as traffic:
        wait_until(lambda: events_of(endpoint) > 50, 30, "traffic")
        node = in_use(cluster, receiver)
        receiver.kill()
        node.kill()
        seen = traffic.count
        wait_until(
            lambda: events_of(endpoint) > seen + 50, RESUME, "events that were published after the death of both"
        )
        assert not node.process
        node.start()
        cluster.await_all()
        time.sleep(1.0)
    await_all(endpoint, traffic)


def elect(cluster: Cluster, vhost: str, queue: str, times: int) -> None:
    """Have a quorum queue change its leader so often: the terms in its log rise."""
    name = f'rabbit_misc:r(<<"{vhost}">>, queue, <<"{queue}">>)'
    found = f"{{ok, Queue}} = rabbit_amqqueue:lookup({name}), {{Name, _}} = Leader = amqqueue:get_pid(Queue)"
    for node in itertools.islice(itertools.cycle(cluster.nodes), times):
        before = cluster.leader(vhost, queue)
        if node is not before:
            node.evaluate(f"{found}, ra:transfer_leadership(Leader, {{Name, node()}})")
            wait_until(lambda: cluster.leader(vhost, queue) is not before, 20, "another leader")  # noqa: B023


def test_a_mark_that_was_made_while_a_node_was_down_works_when_it_is_back(
    script: Make, cluster: Cluster, shared: Shared, endpoint: Endpoint
) -> None:
    """The node has the log of the one before, and in it terms that the new one has not come to yet."""
    more = {"RABBITMQ_URL": shared.urls(), "QUEUE_TYPE": "failover"}
    receiver = script("receiver.py", settings(shared, endpoint, **more))
    receiver.start()
    receiver.wait_for_log("consuming")
    names = holder_names("odoo", in_cluster=True)
    with Traffic(shared) as traffic:
        wait_until(lambda: events_of(endpoint) > 50, 30, "traffic")
        elect(cluster, shared.name, next(name for name in names if cluster.leader(shared.name, name)), 8)
        node = next(one for one in cluster.nodes if one is not in_use(cluster, receiver))
        node.kill()
        receiver.kill()
        receiver.start()
        receiver.wait_for_log("consuming", count=2)
        seen = traffic.count
        wait_until(lambda: events_of(endpoint) > seen + 50, 30, "events without that node")
        node.start()
        cluster.await_all()
        until = time.monotonic() + 20  # seconds: as long as a leader may take to find that it is none
        while time.monotonic() < until:
            seen = traffic.count
            wait_until(lambda seen=seen: events_of(endpoint) > seen + 50, RESUME, "events with it")
    await_all(endpoint, traffic)
    assert "majority does not answer" not in receiver.log()


def test_a_receiver_of_a_plain_queue_waits_for_the_node_and_says_so(
    script: Make, cluster: Cluster, shared: Shared, endpoint: Endpoint
) -> None:
    receiver = script("receiver.py", settings(shared, endpoint, RABBITMQ_URL=shared.urls()))
    receiver.start()
    receiver.wait_for_log("consuming")
    with Traffic(shared) as traffic:
        wait_until(lambda: events_of(endpoint) > 50, 30, "traffic")
        node = in_use(cluster, receiver)
        node.kill()
        said = f"a node of the cluster is down, that of 127.0.0.1:{node.port}, and RabbitMQ keeps its consumer of odoo"
        receiver.wait_for_log(said, 150)
        assert "forget_cluster_node" in receiver.log()
        assert "another program consumes" not in receiver.log()
        assert said in done(run(receiver, "status"))
        node.start()
        seen = traffic.count
        wait_until(lambda: events_of(endpoint) > seen, 60, "events after the node's return")
    await_all(endpoint, traffic)


@pytest.mark.parametrize("kind", ["quorum", "failover"])
def test_a_node_that_is_gone_for_good_is_forgotten_and_events_go_on(
    script: Make, cluster: Cluster, shared: Shared, endpoint: Endpoint, kind: str
) -> None:
    """The remedy of the line above."""
    receiver = script("receiver.py", settings(shared, endpoint, RABBITMQ_URL=shared.urls(), QUEUE_TYPE=kind))
    receiver.start()
    receiver.wait_for_log("consuming")
    with Traffic(shared) as traffic:
        wait_until(lambda: events_of(endpoint) > 50, 30, "traffic")
        node = in_use(cluster, receiver)
        node.remove()
        cluster.living[0].ctl("forget_cluster_node", node.node)
        seen = traffic.count
        wait_until(lambda: events_of(endpoint) > seen + 50, 60, "events after the node was forgotten")
    await_all(endpoint, traffic)
    cluster.remove()  # it has two nodes now


def overlapping(endpoint: Endpoint) -> list[str]:
    """Keys of which two requests were at the endpoint at once."""
    spans: dict[str, list[tuple[float, float]]] = {}
    for request in endpoint.requests:
        spans.setdefault(request.json["key"], []).append((request.started, request.done or math.inf))
    return [key for key, found in spans.items() if any(b[0] < a[1] for a, b in itertools.pairwise(sorted(found)))]


@pytest.mark.long
@pytest.mark.parametrize("partitions", ["pause_minority", "ignore"])
def test_a_receiver_that_is_cut_off_with_its_node_and_the_next_one_are_never_at_work_at_once(
    script: Make, run_directory: Path, endpoint: Endpoint, partitions: str
) -> None:
    """The one knows nothing of the cut: its node goes on talking to it, and it has a full window."""
    endpoint.rule = lambda _request: Answer(work=0.3)
    cluster = Cluster(run_directory / partitions, partitions=partitions)
    try:
        cluster.start()
        cluster.nodes[0].add_vhost("v")
        shared = Shared(cluster, "v")
        node, *others = cluster.nodes
        more = {"QUEUE_TYPE": "failover", "WORKERS": 2}
        cut_off = script("receiver.py", settings(shared, endpoint, RABBITMQ_URL=node.url("v"), **more))
        cut_off.start()
        cut_off.wait_for_log("consuming")
        successor = script("receiver.py", settings(shared, endpoint, RABBITMQ_URL=shared.urls(*others), **more))
        successor.start()
        successor.wait_for_log("another receiver is at work")
        with Traffic(shared, keys=2, pause=0.02, nodes=others) as traffic:
            wait_until(lambda: events_of(endpoint) > 20, 30, "traffic")
            cluster.cut(node)
            successor.wait_for_log("consuming", 60)
            seen = events_of(endpoint)
            wait_until(lambda: events_of(endpoint) > seen + 10, 30, "events by the successor")
            time.sleep(10.0)
            endpoint.rule = lambda _request: Answer(work=0.01)
            cluster.heal(node)
            time.sleep(10.0)
        await_all(endpoint, traffic, 300)
        assert overlapping(endpoint) == []
    finally:
        cluster.remove()
