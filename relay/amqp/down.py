"""Which of a cluster's nodes are down, as far as can be seen from here. All of it blocks: for a thread."""

import socket
from collections.abc import Iterator

from relay.amqp import management_api
from relay.config import Common
from relay.errors import RelayError, Unavailable
from relay.findings import Finding, warning
from relay.urls import Address

SECONDS = 2.0  # until a host that says nothing counts as down


def _lets_in(host: Address) -> bool:
    """Does it take connections?"""
    try:
        socket.create_connection((host.host, host.port), SECONDS).close()
    except OSError:
        return False
    return True


def down(config: Common) -> list[str]:
    """The nodes that RabbitMQ's management API says are down; if it does not tell, hosts of RABBITMQ_URL of several."""
    try:
        return [str(one["name"]) for one in management_api.ask(config, "/nodes") if not one["running"]]
    except (RelayError, TypeError, LookupError):
        hosts = config.rabbitmq_url.nodes
        return [f"that of {one}" for one in hosts if not _lets_in(one)] if len(hosts) > 1 else []


def findings(config: Common, remark: str = "") -> Iterator[Finding]:
    """Of `check`, where RABBITMQ_URL has several hosts: is anything down, and what must be set.

    Args:
        remark: what else is to be known.
    """
    if len(config.rabbitmq_url.nodes) == 1:
        return
    if nodes := down(config):
        yield warning("cluster", f"a node is down: {', '.join(nodes)}", "rabbitmqctl cluster_status")
    asked = "cluster_partition_handling must be pause_minority, which only rabbitmqctl environment shows"
    yield Finding("cluster", detail=asked + remark)


def ghost(config: Common, queue: str) -> Unavailable | None:
    """Why a queue has a consumer although nobody reads it, and what to do; None: no node is known to be down."""
    if not (nodes := down(config)):
        return None
    named = ", ".join(nodes)
    return Unavailable(
        f"a node of the cluster is down, {named}, and RabbitMQ keeps its consumer of {queue} until it is back",
        "start that node, and delivery goes on by itself; if it is gone for good, on another one: "
        "rabbitmqctl forget_cluster_node NODE; QUEUE_TYPE=failover does not wait (docs/scaling.md)",
    )
