"""How fast one receiver is, and how much memory it takes, beside the broker and the endpoint on one machine."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dev.process import wait_until
from dev.script import ROOT, Script
from dev.vhost import Vhost
from tests.messages import properties

Make = Callable[..., Script]


@pytest.fixture
def fast_endpoint() -> Iterator[Callable[[float], str]]:
    made: list[subprocess.Popen[str]] = []

    def start(delay: float) -> str:
        command = [sys.executable, str(ROOT / "tests" / "fast_endpoint.py"), str(delay)]
        made.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert made[-1].stdout
        return f"http://127.0.0.1:{made[-1].stdout.readline().strip()}/"

    yield start
    for process in made:
        process.kill()
        process.wait()


def fill(vhost: Vhost, count: int) -> None:
    channel = vhost.channel()
    channel.exchange_declare("relay", "topic", durable=True)
    arguments = {"x-queue-type": "quorum", "x-delivery-limit": 1_000_000}
    channel.queue_declare("odoo", durable=True, arguments=arguments)
    channel.queue_bind("odoo", "relay", "#")
    body = b'{"filler":"' + b"x" * 280 + b'"}'
    for n in range(count):
        own = properties(f"00000000-0000-4000-8000-{n:012d}", f"t {n % 1000}", "t", "update")
        channel.basic_publish("relay", "t", body, own)
    wait_until(lambda: vhost.queue_depth("odoo") >= count, 120, "a full queue")


def peak_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("delay", "workers", "least"), [(0.02, 16, 0.9 * 800), (0.0, 4, 1000)])
def test_deliveries_a_second(
    vhost: Vhost, script: Make, fast_endpoint: Callable[[float], str], delay: float, workers: int, least: float
) -> None:
    count = 12_000
    fill(vhost, count)
    url = fast_endpoint(delay)
    receiver = script("receiver.py", {"RABBITMQ_URL": vhost.url, "QUEUE": "odoo", "HTTP_URL": url, "WORKERS": workers})
    receiver.start()
    receiver.wait_for_log("connected")
    began = time.monotonic()
    channel = vhost.channel()
    name = "odoo"

    def left() -> int:
        return int(channel.queue_declare(name, passive=True).method.message_count)

    wait_until(lambda: left() <= 500, 120, "most deliveries")
    rate = (count - 500) / (time.monotonic() - began)
    print(f"delay={delay} workers={workers} rate={rate:.0f}/s memory={peak_mb(receiver.pid):.0f} MB")  # noqa: T201
    assert rate >= least
    assert peak_mb(receiver.pid) < 70
