"""listen.py on a cluster whose nodes fail."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from dev.cluster import Cluster
from dev.database import Database
from dev.process import wait_until
from dev.script import Script
from tests.cluster.conftest import Shared
from tests.listening import Listening

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]


def test_a_channel_that_began_without_a_leader_is_not_the_last_word(
    script: Callable[..., Script], database: Database, cluster: Cluster, shared: Shared
) -> None:
    """RabbitMQ nacks on it for ever, however long there has been another leader."""
    first, *others = cluster.nodes
    listening = Listening(script, database, shared, RABBITMQ_URL=shared.urls(*others))
    channel = shared.channel_of(first)
    channel.exchange_declare("relay", "topic", durable=True)
    channel.queue_declare("out", durable=True, arguments={"x-queue-type": "quorum"})
    channel.queue_bind("out", "relay", "#")
    assert cluster.leader(shared.name, "out") is first
    listening.table(count=0)
    member = f"'{shared.name}_out'"
    for node in others:
        node.evaluate(f"sys:suspend({member})")
    first.kill()
    listening.start()
    listening.execute("insert into t values (1)", "update t set n = 1", "insert into t values (2)")
    if cluster.release.version.startswith("3."):  # RabbitMQ 4 does not answer
        listening.script.wait_for_log('table public.t waits reason="refused by a queue"')
    else:
        time.sleep(1.0)
    for node in others:
        node.evaluate(f"sys:resume({member})")
    wait_until(lambda: cluster.leader(shared.name, "out") in others, 20, "another leader")
    listening.await_empty(timeout=12)
    found = [(one.json["key"]["id"], one.json["new"]["n"]) for one in listening.messages(3)]
    assert sorted(found) == [(1, 0), (1, 1), (2, 0)]
    assert found.index((1, 0)) < found.index((1, 1))
    assert not first.process
