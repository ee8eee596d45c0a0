"""RABBITMQ_URL with several hosts: which is tried first, which is in use, and that all are one cluster.

What is known lives as long as the process.
"""

import dataclasses
import random
from collections.abc import Mapping

from relay.errors import ConfigError, RelayError, Unavailable
from relay.urls import Address, AmqpUrl

_in_use: dict[AmqpUrl, Address] = {}
_clusters: dict[AmqpUrl, str] = {}


def order(url: AmqpUrl) -> list[AmqpUrl]:
    """The same URL with one host each, in the order in which to try them.

    Shuffled, so that daemons do not all lie on one node; the one that was used last comes last: it may hang.
    """
    last = _in_use.get(url)
    return sorted(singly(url), key=lambda one: (one.nodes[0] == last, random.random()))


def singly(url: AmqpUrl) -> list[AmqpUrl]:
    """The same URL with one host each."""
    return [dataclasses.replace(url, nodes=(node,)) for node in url.nodes]


def joined(url: AmqpUrl, one: AmqpUrl, properties: Mapping[str, object] | None) -> None:
    """A connection is open to one of the URL's hosts.

    Args:
        properties: the server's, of connection.start.

    Raises:
        ConfigError: the host is of another cluster than one before, by the names that were given to them: two clusters
            would give the same lease twice.
    """
    if len(url.nodes) > 1:
        said = (properties or {}).get("cluster_name", "")
        name = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
        # Without `rabbitmqctl set_cluster_name` each node says its own, rabbit@host (seen on 3.10.8 and 4.0.5).
        known = name if "@" in name else _clusters.setdefault(url, name)
        if name != known:
            (node,), before = one.nodes, _in_use.get(url)
            problem = f"RABBITMQ_URL names hosts of two clusters: {node} is of {name}, {before} of {known}"
            raise ConfigError((problem, "take those of one out; rabbitmqctl cluster_status says who belongs together"))
    (_in_use[url],) = one.nodes


def in_use(url: AmqpUrl) -> str:
    """The host that was connected to last; empty = none yet, or the URL names no other."""
    return str(_in_use.get(url, "")) if len(url.nodes) > 1 else ""


def of_all(url: AmqpUrl, errors: list[RelayError]) -> RelayError:
    """What it means that no host lets us in: a mistake in the settings only if each says so."""
    last = errors[-1]
    if len(errors) == 1 or all(isinstance(error, ConfigError) for error in errors):
        return errors[0]
    return Unavailable(f"RabbitMQ {url.shown()}: no host lets us in; of the last one: {last.what}", last.remedy)
