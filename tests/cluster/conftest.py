"""A real RabbitMQ cluster of three nodes for the tests that kill, hang and part them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from dev.cluster import Cluster
from dev.process import ServerError
from dev.rabbitmq import RabbitMQ
from dev.vhost import Vhost

_names = itertools.count(1)


class Shared(Vhost):
    """A virtual host of the cluster; what is asked of it here is asked of a node that lives."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        super().__init__(cluster.nodes[0], name)
        self.cluster = cluster

    @property
    def url(self) -> str:
        return self.cluster.living[-1].url(self.name)

    def channel_of(self, node: RabbitMQ) -> BlockingChannel:
        """A channel on a connection of its own to this node: what is declared on it lives there first."""
        opened = pika.BlockingConnection(pika.URLParameters(node.url(self.name)))
        self._open.append(opened)
        return opened.channel()

    def urls(self, *nodes: RabbitMQ) -> str:
        """RABBITMQ_URL of these nodes, or of all."""
        return self.cluster.url(self.name, nodes)


@pytest.fixture(scope="session")
def three(run_directory: Path) -> Iterator[Cluster]:
    made = Cluster(run_directory / "cluster")
    yield made
    made.remove()


@pytest.fixture
def cluster(three: Cluster) -> Cluster:
    """Three nodes, whatever the test before did to them."""
    try:
        three.mend()
    except (ServerError, AssertionError):  # beyond repair
        three.remove()
        three.mend()
    return three


@pytest.fixture
def shared(cluster: Cluster) -> Iterator[Shared]:
    """A virtual host on it."""
    name = f"test-{next(_names)}"
    cluster.nodes[0].add_vhost(name)
    made = Shared(cluster, name)
    yield made
    made.close()
