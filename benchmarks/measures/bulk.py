"""What a watch costs a bulk load: one INSERT of 100,000 rows, with row triggers and with relay.watch(bulk => true)."""

from __future__ import annotations

import time

from benchmarks.keys import Key
from benchmarks.site import ROWS, Site

KEYS = (
    Key("bulk_insert_ratio", "rows a second into a watched table to an unwatched one's, one INSERT of 100,000"),
    Key("bulk_insert_ratio_bulk", "the same with bulk => true"),
    Key("bulk_insert_s", "row triggers", unit="s"),
    Key("bulk_insert_s_bulk", "bulk => true", unit="s"),
    Key("bulk_insert_s_unwatched", "the bare table", unit="s"),
)
COUNT = 100_000


def measure(site: Site) -> dict[str, float]:
    """One round; the listener is stopped."""
    bare, row, bulk = (_seconds(site, watch) for watch in (None, "", ", bulk => true"))
    return {
        "bulk_insert_ratio": bare / row,
        "bulk_insert_ratio_bulk": bare / bulk,
        "bulk_insert_s": row,
        "bulk_insert_s_bulk": bulk,
        "bulk_insert_s_unwatched": bare,
    }


def _seconds(site: Site, watch: str | None) -> float:
    with site.table(watch=watch) as table:
        site.settle()
        started = time.monotonic()
        site.sql(f"insert into {table} {ROWS.format(first=1, last=site.sizes.events(COUNT))}")
        taken = time.monotonic() - started
    site.forget_events()
    return taken
