"""A private RabbitMQ cluster of three nodes, on loopback or on hosts: killed, hung and cut apart, a node at a time."""

from __future__ import annotations

import contextlib
import secrets
import shutil
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

from dev import debian
from dev.namespaces import Host
from dev.node import ADMIN, Group, node_name, start_epmd
from dev.process import Process, ServerError, free_port, wait_until
from dev.rabbitmq import RabbitMQ

TOGETHER_SECONDS = 90


class Cluster:
    """Made by `start`, removed by `remove`.

    Args:
        directory: of its own.
        partitions: cluster_partition_handling.
        suite: as of a node.
        ticktime: net_ticktime, seconds.
        hosts: where each of them runs (namespaces.py), instead of on loopback.
    """

    def __init__(
        self,
        directory: Path,
        *,
        partitions: str = "pause_minority",
        suite: str | None = None,
        ticktime: int = 60,
        hosts: Sequence[Host | None] = (None, None, None),
    ) -> None:
        self.directory = directory.resolve()
        homes = [self.directory / name for name in ("a", "b", "c")]
        first = node_name(homes[0], hosts[0])
        self._group = Group(free_port(), secrets.token_hex(20), secrets.token_hex(16), partitions, first, ticktime)
        self._has_hosts = hosts[0] is not None
        where = zip(homes, hosts, strict=True)
        self.nodes = [RabbitMQ(home, suite=suite, group=self._group, host=host) for home, host in where]
        self._epmd: Process | None = None

    @property
    def release(self) -> debian.Release:
        return self.nodes[0].release

    def start(self) -> None:
        """Start whatever does not run, and await that all are together. ServerError if one does not start."""
        if not (self._has_hosts or (self._epmd and self._epmd.alive())):
            self.directory.mkdir(parents=True, exist_ok=True)
            self._epmd = start_epmd(self.release, self._group.epmd, self.directory)
        first, *others = self.nodes
        if not (others[0].directory / "settings.json").exists():
            first.start()
        with ThreadPoolExecutor() as pool:
            list(pool.map(RabbitMQ.start, self.nodes))
        self.await_all()

    def await_all(self, nodes: Iterable[RabbitMQ] = ()) -> None:
        """Until each of these nodes, or of all, sees all of them run."""
        nodes = list(nodes) or self.nodes
        names = {one.node for one in nodes}
        for node in nodes:
            wait_until(lambda: node.running() == names, TOGETHER_SECONDS, f"{node.node} to see all")  # noqa: B023

    def url(self, vhost: str = "/", nodes: Iterable[RabbitMQ] = ()) -> str:
        """RABBITMQ_URL of these nodes, or of all."""
        hosts = ",".join(f"{one.address}:{one.port}" for one in list(nodes) or self.nodes)
        return f"amqp://{ADMIN}:{self._group.password}@{hosts}/{quote(vhost, safe='')}"

    @property
    def living(self) -> list[RabbitMQ]:
        """The nodes whose process runs, hung ones as well."""
        return [one for one in self.nodes if one.process]

    def mend(self) -> None:
        """All nodes run, together, and without what was in them."""
        for node in self.living:
            node.resume()
        self.start()
        for node in self.nodes:
            self.heal(node)
        self.await_all()
        self.nodes[0].mend()

    def others(self, node: RabbitMQ) -> list[RabbitMQ]:
        return [one for one in self.nodes if one is not node]

    def leader(self, vhost: str, queue: str) -> RabbitMQ | None:
        """The node with a quorum queue's leader, as the first node that answers knows it."""
        name = f'rabbit_misc:r(<<"{vhost}">>, queue, <<"{queue}">>)'
        asked = f"{{ok, Queue}} = rabbit_amqqueue:lookup({name}), element(2, amqqueue:get_pid(Queue))"
        for one in self.living:
            with contextlib.suppress(ServerError):
                found = one.evaluate(asked).strip("'")
                return next((node for node in self.nodes if node.node == found), None)
        return None

    def cut(self, node: RabbitMQ) -> None:
        """Part a node from the others, as a network does that breaks the links between them; clients reach it still."""
        others = self.others(node)
        for one in others:
            one.refuse(node.node)
        # At once: while one of them still saw the node that another one does not, both would pause (partial partition).
        node.part_from(*(one.node for one in others))

    def heal(self, node: RabbitMQ) -> None:
        """Undo `cut`."""
        for one in self.others(node):
            node.join(one.node, self._group.cookie)
            one.join(node.node, self._group.cookie)

    def remove(self) -> None:
        """Kill all of it and delete its directory."""
        for node in self.nodes:
            node.kill()
        if self._epmd:
            self._epmd.kill()
        shutil.rmtree(self.directory, ignore_errors=True)
