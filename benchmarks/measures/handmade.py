"""Beside the scripts that people write by hand: a burst into the queue, and a full queue into an instant endpoint."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from benchmarks.handwritten import TRIGGER
from benchmarks.keys import Key
from benchmarks.measures import deliver
from benchmarks.meters import await_filled
from benchmarks.site import QUEUE, Site, fill
from dev.process import Process, start, tail, wait_until

KEYS = (
    Key("burst_per_s", "rows inserted in one transaction, listener at work, into the quorum queue", unit="/s"),
    Key("burst_per_s_handwritten", "the same of a LISTEN loop with one confirmed publish after another", unit="/s"),
    Key("burst_vs_handwritten", "burst_per_s to that"),
    Key("deliver_instant_per_s_handwritten", "one message, one POST, one acknowledgement", unit="/s"),
    Key("deliver_instant_vs_handwritten", "4 workers, an endpoint that answers at once, to that"),
)
COUNT = 10_000
TIMEOUT = 300


def measure(site: Site) -> dict[str, float]:
    """One round."""
    count = site.sizes.events(COUNT)
    ours, theirs = _ours(site, count), _theirs(site, count)
    instant, _ = deliver.by_receiver(site, count, count, 0.0, 4)
    by_hand = _deliver(site, count)
    return {
        "burst_per_s": ours,
        "burst_per_s_handwritten": theirs,
        "burst_vs_handwritten": ours / theirs,
        "deliver_instant_per_s_handwritten": by_hand,
        "deliver_instant_vs_handwritten": instant / by_hand,
    }


@contextlib.contextmanager
def script(site: Site, *arguments: str) -> Iterator[Process]:
    """One of the two, from its first line of output on."""
    log = site.directory / f"{site.new_name()}.log"
    process = start([sys.executable, "-u", "-m", "benchmarks.handwritten", *arguments], log)
    try:
        wait_until(lambda: "ing" in log.read_text(), 20, "the hand-written script")
        yield process
    except AssertionError as error:
        raise AssertionError(f"{error}\n{tail(log)}") from None
    finally:
        process.kill()


def _rate(url: str, count: int, alive: Callable[[], bool]) -> float:
    """From the return of the COMMIT to the last message in the queue."""
    committed = time.monotonic()
    await_filled(url, QUEUE, count, TIMEOUT, alive)
    return count / (time.monotonic() - committed)


def _ours(site: Site, count: int) -> float:
    with site.table() as table, site.queue() as url, site.listening() as listener:
        site.settle()
        fill(site.admin, table, 1, count, chunk=count)
        rate = _rate(url, count, listener.alive)
        site.await_empty()
        return rate


def _theirs(site: Site, count: int) -> float:
    with site.table(watch=None) as table, site.queue() as url:
        site.sql(TRIGGER.format(table=table))
        with script(site, "listen", site.database.admin_dsn, url, QUEUE) as process:
            site.settle()
            fill(site.admin, table, 1, count, chunk=count)
            rate = _rate(url, count, process.alive)
    site.sql("drop function notify_row()")
    return rate


def _deliver(site: Site, count: int) -> float:
    deliver.fill_queue(site, QUEUE, count, "quorum")
    site.settle()
    with (
        deliver.serving(0.0, count) as (port, process),
        script(site, "receive", site.vhost.url, QUEUE, f"http://127.0.0.1:{port}/"),
    ):
        rate = deliver.rate_of(process, count)
    site.drop_queues(QUEUE)
    return rate
