"""How fast one receiver is, and how much memory it takes, beside the broker and the endpoint on one machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.measures.deliver import bare_rate, rate_of, serving
from dev.process import wait_until
from dev.script import Script
from dev.vhost import Vhost
from relay.receiving.queues import queue_arguments
from tests.messages import properties

Make = Callable[..., Script]


def fill(vhost: Vhost, count: int, size: int = 300, queue: str = "odoo") -> None:
    """`count` events of `size` bytes."""
    channel = vhost.channel()
    channel.exchange_declare("relay", "topic", durable=True)
    channel.queue_declare(queue, durable=True, arguments=queue_arguments("quorum"))
    channel.queue_bind(queue, "relay", queue)
    body = b'{"filler":"' + b"x" * (size - 13) + b'"}'
    for n in range(count):
        own = properties(f"00000000-0000-4000-8000-{n:012d}", f"t {n % 1000}", "t", "update")
        channel.basic_publish("relay", queue, body, own)
    wait_until(lambda: vhost.queue_depth(queue) >= count, 120, "a full queue")


def peak_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def peak_of(vhost: Vhost, script: Make, queue: str, delivered: int, delay: float) -> float:
    """MiB that a receiver takes to deliver so many of those that wait, with a full window."""
    with serving(delay, delivered) as (port, endpoint):
        url = f"http://127.0.0.1:{port}/"
        own = {"RABBITMQ_URL": vhost.url, "QUEUE": queue, "BINDING_KEYS": queue, "HTTP_URL": url}
        receiver = script("receiver.py", own)
        receiver.start()
        rate_of(endpoint, delivered)  # awaits the last one
        found = peak_mb(receiver.pid)
        receiver.terminate()
        assert receiver.wait() == 0
    return found


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_a_million_events_that_wait_take_no_more_memory_than_a_thousand(vhost: Vhost, script: Make) -> None:
    few, many, delivered, delay = 1000, 1_000_000, 4000, 0.02
    fill(vhost, few, queue="few")
    fill(vhost, many, queue="many")
    small, large = peak_of(vhost, script, "few", few, delay), peak_of(vhost, script, "many", delivered, delay)
    print(f"memory with {few} waiting: {small:.1f} MiB; with {many}: {large:.1f} MiB")  # noqa: T201
    assert large < 70
    assert large < small + 10


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_two_thousand_events_of_a_megabyte_do_not_fill_the_memory(vhost: Vhost, script: Make) -> None:
    count = 2000
    fill(vhost, count, 1_000_000)
    peak = peak_of(vhost, script, "odoo", count, 0.1)
    print(f"memory with {count} events of 1 MB: {peak:.1f} MiB")  # noqa: T201
    assert peak < 128


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("delay", "workers"), [(0.02, 16), (0.0, 4)])
def test_deliveries_a_second(vhost: Vhost, script: Make, delay: float, workers: int) -> None:
    """16 workers, 20 ms: 800 a second if nothing else took time, of which a bare client in the same run gets 750."""
    count = 12_000
    fill(vhost, count)
    with serving(delay, count) as (port, endpoint):
        url = f"http://127.0.0.1:{port}/"
        receiver = script(
            "receiver.py", {"RABBITMQ_URL": vhost.url, "QUEUE": "odoo", "HTTP_URL": url, "WORKERS": workers}
        )
        receiver.start()
        rate = rate_of(endpoint, count)
        peak = peak_mb(receiver.pid)
    bare = bare_rate(count, delay, workers)
    print(f"delay={delay} workers={workers} rate={rate:.0f}/s bare={bare:.0f}/s memory={peak:.0f} MB")  # noqa: T201
    assert rate >= (0.9 * min(bare, workers / delay) if delay else 1000)
    assert peak < 70
