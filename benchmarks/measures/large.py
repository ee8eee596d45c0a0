"""The listener's memory with events of 1 MB: 2,000 of them in the outbox."""

from __future__ import annotations

from benchmarks.keys import Key
from benchmarks.meters import await_filled, peak_mb
from benchmarks.site import QUEUE, Site

KEYS = (
    Key("listener_rss_mb_2000x1mb", "most resident memory, backlog of 2,000 events of 1 MB", 128, low=True, unit="MiB"),
    Key("drain_mb_per_s_1mb", "of that backlog", unit="MB/s"),
)
COUNT = 2000


def measure(site: Site) -> dict[str, float]:
    """One round."""
    count = max(100, int(COUNT * site.sizes.scale))
    for _ in range(count // 100):
        site.sql(
            "select relay.publish('bench.large', json_build_object('n', i, 'data', repeat(md5(i::text), 31250))::text,"
            " i::text) from generate_series(1, 100) i"
        )
    site.settle()
    with site.queue() as url, site.listening() as script:
        filled = await_filled(url, QUEUE, count, 1200, script.alive)
        site.await_empty()
        memory = peak_mb(script.pid)
    site.forget_events()
    return {"listener_rss_mb_2000x1mb": memory, "drain_mb_per_s_1mb": filled.rate}
