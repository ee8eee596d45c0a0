"""From full lanes to an endpoint that answers at once: one receiver, and two, on the same two cores.

The endpoint is the clock, as in `deliver`, but a light one: it is elsewhere, where lanes earn their place, and the
cores are here for receivers and broker.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pika

from benchmarks.keys import Key
from benchmarks.measures import deliver
from benchmarks.meters import spending
from benchmarks.site import Site
from dev.process import Process, wait_until
from dev.script import ROOT
from relay.amqp.headers import SLOT, slot

KEYS = (
    Key("lanes_1_per_s", "one receiver without lanes, 4 workers, an endpoint that answers at once", unit="/s"),
    Key("lanes_2_per_s", "two lanes, 4 workers each", unit="/s"),
    Key("lanes_2_vs_1", "lanes_2_per_s to lanes_1_per_s", 1.3),
    Key("lanes_1_cpu_us", "processor time an event of receivers and broker, without lanes", unit="us"),
    Key("lanes_2_cpu_us", "processor time an event of receivers and broker, two lanes", unit="us"),
    Key("lanes_2_vs_1_cpu", "lanes_2_cpu_us to lanes_1_cpu_us", 1.3, low=True),
)
COUNT = 10_000
QUEUE = "laned"
COMMAND_SECONDS = 120


def measure(site: Site) -> dict[str, float]:
    """One round."""
    count = site.sizes.events(COUNT)
    (one, one_us), (two, two_us) = (_delivered(site, count, lanes) for lanes in (1, 2))
    return {
        "lanes_1_per_s": one,
        "lanes_2_per_s": two,
        "lanes_2_vs_1": two / one,
        "lanes_1_cpu_us": one_us,
        "lanes_2_cpu_us": two_us,
        "lanes_2_vs_1_cpu": two_us / one_us,
    }


def _delivered(site: Site, count: int, lanes: int) -> tuple[float, float]:
    """Events a second; microseconds of processor time an event."""
    with deliver.serving(0.0, count, light=True) as (port, endpoint):
        settings: dict[str, object] = {"QUEUE": QUEUE, "HTTP_URL": f"http://127.0.0.1:{port}/"}
        each = [{"LANE": f"{lane}/{lanes}"} for lane in range(lanes)] if lanes > 1 else [{}]
        receivers = [site.receiver(**settings, **more) for more in each]
        plain = site.receiver(**settings)
        _run([str(plain.env_file), "--drain"])  # it makes the queue
        if lanes > 1:
            _run([str(plain.env_file), "lanes", "--to", str(lanes)])
        _fill(site, count)
        site.settle()
        for receiver in receivers:  # all at once: the clock begins with the first request of any
            receiver.start()
        with contextlib.ExitStack() as stack:
            for receiver in receivers:
                stack.callback(receiver.kill)
                receiver.await_ready()
            processes = {str(one.pid): one for receiver in receivers if (one := Process.of(receiver.pid))}
            with spending({**processes, "broker": site.servers()["broker"]}) as spent:
                rate = deliver.rate_of(endpoint, count)
            for receiver in receivers:
                receiver.stop()
    _clean(site)
    return rate, sum(spent.values()) / count * 1e6


def _run(arguments: Sequence[str]) -> None:
    command = [sys.executable, str(ROOT / "receiver.py"), "--env-file", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False)
    assert done.returncode == 0, done.stderr


def _fill(site: Site, count: int) -> None:
    """Through the exchange, as the listener does."""
    channel = site.vhost.channel()
    for n in range(count):
        key = f"t {n % deliver.KEYS_OF_ROWS}"
        headers: dict[str, Any] = {"relay-seq": n + 1, "relay-key": key, "relay-table": "t", SLOT: slot(key.encode())}
        event_id = f"00000000-0000-4000-8000-{n:012d}"
        properties = pika.BasicProperties(message_id=event_id, delivery_mode=2, type="update", headers=headers)
        channel.basic_publish("relay", "t", deliver.BODY, properties)
    site.vhost.close()
    wait_until(lambda: _waiting(site) >= count, deliver.TIMEOUT, "full queues")


def _names(site: Site) -> list[str]:
    found = site.rabbitmq.api("GET", f"/queues/{site.vhost.name}")
    return [one["name"] for one in found if one["name"].startswith(QUEUE)]


def _waiting(site: Site) -> int:
    return sum(site.vhost.queue_depth(name) for name in _names(site))


def _clean(site: Site) -> None:
    site.drop_queues(*_names(site))
    for found in site.rabbitmq.api("GET", f"/exchanges/{site.vhost.name}"):
        if found["name"].startswith(QUEUE):
            site.rabbitmq.api("DELETE", f"/exchanges/{site.vhost.name}/{found['name']}")
