"""What it costs the receiver that somebody looks at it: page and /metrics once a second, beside an endpoint at once.

One process, in turns watched and not, so that what disturbs the machine meets both. Processor time for each event.
"""

from __future__ import annotations

import re
import time
import urllib.request
from pathlib import Path
from typing import NamedTuple

from benchmarks.keys import Key
from benchmarks.measures.deliver import fill_queue, serving
from benchmarks.site import QUEUE, Site
from dev.process import free_port, wait_until
from dev.site import Daemon

KEYS = (
    Key("receiver_watched_cpu_ratio", "processor time an event, looked at each second, to not", 1.02, low=True),
    Key("receiver_cpu_us", "processor time of the receiver an event, nobody looks", unit="us"),
)
COUNT, LEAST = 100_000, 60_000  # fewer than the latter are delivered before there were turns of both kinds
TURNS = 20
TURN_SECONDS = 2


class Mark(NamedTuple):
    """At one moment: processor time in nanoseconds, and deliveries since the start."""

    cpu: int
    events: int


def measure(site: Site) -> dict[str, float]:
    """One round."""
    count = max(LEAST, site.sizes.events(COUNT))
    fill_queue(site, QUEUE, count, "quorum")
    site.settle()
    port = free_port()
    spent = {True: Mark(0, 0), False: Mark(0, 0)}
    with serving(0.0, count + 1) as (endpoint, _process):
        url = f"http://127.0.0.1:{endpoint}/"
        receiver = site.receiver(QUEUE=QUEUE, HTTP_URL=url, WORKERS=4, STATUS_ADDR=f"127.0.0.1:{port}")
        with site.at_work(receiver):
            wait_until(lambda: _events(port) > 0, 60, "the first delivery")
            for turn in range(TURNS):
                watched = turn % 2 == 0
                before = _mark(receiver, port)
                _wait(port if watched else 0)
                after = _mark(receiver, port)
                if after.events > count * 0.98:
                    break  # nothing left to deliver: an idle receiver is no measure
                cpu, events = spent[watched]
                spent[watched] = Mark(cpu + after.cpu - before.cpu, events + after.events - before.events)
    site.drop_queues(QUEUE, f"{QUEUE}.parked")
    each = {watched: cpu / events / 1000 for watched, (cpu, events) in spent.items()}
    return {"receiver_watched_cpu_ratio": each[True] / each[False], "receiver_cpu_us": each[False]}


def _wait(port: int) -> None:
    """One turn; with a port somebody looks each second."""
    for _ in range(TURN_SECONDS):
        end = time.monotonic() + 1
        if port:
            for path in ("/", "/metrics"):
                _get(port, path)
        time.sleep(max(0.0, end - time.monotonic()))


def _mark(process: Daemon, port: int) -> Mark:
    events = _events(port)
    tasks = Path(f"/proc/{process.pid}/task").glob("*/schedstat")
    return Mark(sum(int(task.read_text().split()[0]) for task in tasks), events)


def _events(port: int) -> int:
    try:
        found = re.search(r"^relay_deliveries_total (\S+)", _get(port, "/metrics"), re.MULTILINE)
    except OSError:
        return 0  # it does not listen yet
    return int(float(found[1])) if found else 0


def _get(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as answer:
        text: str = answer.read().decode()
    return text
