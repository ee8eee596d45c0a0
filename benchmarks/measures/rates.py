"""From commit to the quorum queue at rising rates: the listener, mq-bridge, and the hand-written one.

Where one can't keep up its latency is that of a backlog, and grows with the length of the run. At 1,000 a second and
above a transaction writes several rows: 500 transactions a second.
"""

from __future__ import annotations

from benchmarks import bridge, handwritten
from benchmarks.keys import Key
from benchmarks.measures import handmade, latency
from benchmarks.site import COLUMNS, QUEUE, Site

RATES = (100, 300, 1000, 3000, 10_000)  # events a second
SECONDS = 5
SYSTEMS = {"ours": "listen.py", "mq_bridge": "mq-bridge", "handwritten": "the hand-written listener"}


def key(system: str, rate: int) -> str:
    """What a run's figures are called; `_p50_ms` and `_p99_ms` follow."""
    return f"rate_{rate}_{system}"


KEYS = tuple(
    Key(f"{key(system, rate)}_p{percent}_ms", f"{name}, {rate} events a second", low=True, unit="ms")
    for system, name in SYSTEMS.items()
    for rate in RATES
    for percent in (50, 99)
)


def measure(site: Site) -> dict[str, float]:
    """One round."""
    found: dict[str, float] = {}
    for rate in RATES:
        for system, run in (("ours", _ours), ("mq_bridge", _bridge), ("handwritten", _by_hand)):
            site.settle()
            found |= latency.summary(key(system, rate), run(site, rate * site.sizes.seconds(SECONDS), rate))
    return found


def _ours(site: Site, count: int, rate: int) -> list[float]:
    with site.table() as table, site.queue() as url, site.listening():
        return _written(site.database.admin_dsn, table, url, count, rate)


def _bridge(site: Site, count: int, rate: int) -> list[float]:
    source = bridge.Source(site)
    source.make(COLUMNS)
    with site.queue() as url, source.running(url) as process:
        latency.await_slot(source, process)
        found = _written(source.database.admin_dsn, source.name, url, count, rate)
    source.drop()
    return found


def _by_hand(site: Site, count: int, rate: int) -> list[float]:
    with site.table(watch=None) as table, site.queue() as url:
        site.sql(handwritten.TRIGGER.format(table=table))
        with handmade.script(site, "listen", site.database.admin_dsn, url, QUEUE):
            found = _written(site.database.admin_dsn, table, url, count, rate)
    site.sql("drop function notify_row()")
    return found


def _written(dsn: str, table: str, url: str, count: int, rate: int) -> list[float]:
    return latency.run(latency.writer(dsn, table), count, latency.consumer(url, count), rate)
