"""A drain while an old snapshot is held open, as pg_dump does: 500,000 relayed rows are dead and can't be removed.

The listener is at work and asleep; a backlog of 100,000 is committed at once, before and with the dead rows.
"""

from __future__ import annotations

import contextlib

from benchmarks.keys import Key
from benchmarks.meters import await_filled
from benchmarks.site import QUEUE, Site, fill
from dev.database import connect

KEYS = (
    Key("drain_held_snapshot_ratio", "drain with 500,000 dead rows under an open snapshot, to drain without", 0.95),
    Key("drain_held_snapshot_per_s", "that drain", unit="/s"),
)
COUNT = 100_000
DEAD = 500_000


def measure(site: Site) -> dict[str, float]:
    """One round."""
    count, dead = site.sizes.events(COUNT), site.sizes.events(DEAD)
    with site.table(watch=", bulk => true") as table:
        with site.listening():
            free = _drain(site, table, 1, count)
            with contextlib.closing(connect(site.database.admin_dsn)) as holder, holder.cursor() as cursor:
                cursor.execute("begin isolation level repeatable read")
                cursor.execute("select count(*) from relay.outbox")
                with site.queue():
                    fill(site.admin, table, count + 1, dead)
                    site.await_empty()
                held = _drain(site, table, count + dead + 1, count)
        site.forget_events()
    return {"drain_held_snapshot_ratio": held / free, "drain_held_snapshot_per_s": held}


def _drain(site: Site, table: str, first: int, count: int) -> float:
    site.settle()
    with site.queue() as url:
        fill(site.admin, table, first, count, chunk=count)
        filled = await_filled(url, QUEUE, count, 600, lambda: True)
        site.await_empty()
    return filled.rate
