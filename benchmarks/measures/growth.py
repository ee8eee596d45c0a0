"""Does a large backlog cost more an event than a small one, and what memory does a million events take?"""

from __future__ import annotations

import math

from benchmarks.keys import Key
from benchmarks.meters import await_filled, peak_mb
from benchmarks.site import QUEUE, Site, fill

KEYS = (
    Key("growth_exponent", "of the time to drain, from 10,000 to 1,000,000 events; 1 = linear", 1.05, low=True),
    Key("listener_rss_mb_1m", "most resident memory, backlog 1,000,000", 45, low=True, unit="MiB"),
    Key("drain_per_s_10k", "of a backlog of 10,000", unit="/s"),
    Key("drain_per_s_1m", "of a backlog of 1,000,000", unit="/s"),
)
SMALL, LARGE = 10_000, 1_000_000
REPEATS = 5  # the small one is over in half a second: its mean of so many


def measure(site: Site) -> dict[str, float]:
    """One round."""
    small, large = site.sizes.events(SMALL), site.sizes.events(LARGE)
    few = sum(_drain(site, small)[0] for _ in range(REPEATS)) / REPEATS
    many, memory = _drain(site, large)
    return {
        "growth_exponent": math.log(many / few) / math.log(large / small),
        "listener_rss_mb_1m": memory,
        "drain_per_s_10k": small / few,
        "drain_per_s_1m": large / many,
    }


def _drain(site: Site, count: int) -> tuple[float, float]:
    """Seconds for `count` events, and the listener's memory."""
    with site.table(watch=", bulk => true") as table:
        fill(site.admin, table, 1, count, chunk=10_000)
        site.settle()
        with site.queue() as url, site.listening() as script:
            filled = await_filled(url, QUEUE, count, 1200, script.alive)
            site.await_empty()
            memory = peak_mb(script.pid)
    site.forget_events()
    return filled.seconds * count / filled.messages, memory
