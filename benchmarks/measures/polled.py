"""The listener on MariaDB, a polled source: a backlog, the way from a commit to the queue, and what polling costs."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator

from benchmarks.keys import Key
from benchmarks.measures import latency
from benchmarks.meters import await_filled, cpu_seconds
from benchmarks.site import QUEUE, Site
from dev.mariadb import MariaDB
from dev.process import Process, wait_until
from dev.site import Daemon

KEYS = (
    Key("polled_drain_per_s", "MariaDB: events of a backlog into a quorum queue", 5000, unit="/s"),
    Key("polled_cpu_us_an_event", "MariaDB: the listener's processor time while draining", 25, low=True, unit="us"),
    Key("polled_latency_p50_ms", "MariaDB: commit to queue, at 100 events a second", 15, low=True, unit="ms"),
    Key("polled_latency_p99_ms", "MariaDB: commit to queue, at 100 events a second", unit="ms"),
    Key("polled_idle_percent", "MariaDB: of a core, in the four seconds after an event", 3, low=True, unit="%"),
    Key("polled_quiet_percent", "MariaDB: of a core, when nothing has come for some seconds", unit="%"),
)
COUNT = 50_000
TIMEOUT = 600
SECONDS = 10
POLLS_QUICKLY, IS_QUIET = 4.0, 15.0  # seconds after the last event, see relay/listening/polled/poll.py
_FILL = """insert into shop.orders select seq, seq % 97, 'confirmed', 12.50, 'a note', utc_timestamp(3)
    from shop.seq_{first}_to_{last}"""
_WRITE = """
import json, pymysql, sys, time
port, password, rate, count = int(sys.argv[1]), sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
handle = pymysql.connect(host="127.0.0.1", port=port, user="root", password=password, autocommit=True)
cursor = handle.cursor(); committed = {}; start = time.monotonic()
for i in range(count):
    time.sleep(max(0.0, start + i / rate - time.monotonic()))
    cursor.execute("insert into shop.orders values (%s, 1, 'confirmed', 12.50, 'a note', utc_timestamp(3))", (i,))
    committed[i] = time.monotonic()
print(json.dumps(committed))
"""


def measure(site: Site) -> dict[str, float]:
    """One round."""
    server = MariaDB(site.directory / "mariadb")
    server.start()
    try:
        server.renew()
        _prepare(site, server)
        with site.queue() as url:
            found = _drain(site, server, url) | _latency(site, server, url)
    finally:
        server.remove()
    return found


def _prepare(site: Site, server: MariaDB) -> None:
    server.add_listener("listen", "listens")
    server.execute(
        "create database shop character set utf8mb4",
        "create table shop.orders (id int primary key, customer int, state varchar(20), total decimal(10,2), "
        "note varchar(200), at datetime(3))",
    )  # fmt: skip
    listener = site.listener(DATABASE_URL=server.url("shop"))
    command = [sys.executable, "listen.py", "--env-file", str(listener.env_file), "watch", "shop.orders"]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)


@contextlib.contextmanager
def _listening(site: Site, server: MariaDB) -> Iterator[Daemon]:
    with site.listening(DATABASE_URL=server.url("shop", "listen", "listens")) as daemon:
        yield daemon


def _spent(daemon: Daemon) -> float:
    process = Process.of(daemon.pid)
    assert process is not None
    return cpu_seconds(process)


def _drain(site: Site, server: MariaDB, url: str) -> dict[str, float]:
    count = site.sizes.events(COUNT)
    for first in range(1, count + 1, 10_000):
        server.execute(_FILL.format(first=first, last=min(first + 9_999, count)))
    with _listening(site, server) as daemon:
        start = _spent(daemon)
        filled = await_filled(url, QUEUE, count, TIMEOUT, daemon.alive)
        wait_until(lambda: not _pending(server), TIMEOUT, "the outbox to be empty")
        spent = _spent(daemon) - start
    site.vhost.channel().queue_purge(QUEUE)
    site.vhost.close()
    server.execute("truncate shop.orders")
    return {"polled_drain_per_s": filled.rate, "polled_cpu_us_an_event": spent / count * 1e6}


def _pending(server: MariaDB) -> bool:
    with contextlib.closing(server.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("select 1 from relay.outbox limit 1")
        return bool(cursor.fetchall())


def _latency(site: Site, server: MariaDB, url: str) -> dict[str, float]:
    count = latency.PER_SECOND * site.sizes.seconds(SECONDS)
    with _listening(site, server) as daemon:
        write = [sys.executable, "-c", _WRITE, str(server.port), server.password]
        found = latency.summary("polled_latency", latency.run(write, count, latency.consumer(url, count)))
        idle = _share(daemon, POLLS_QUICKLY)
        time.sleep(IS_QUIET)
        quiet = _share(daemon, site.sizes.seconds(SECONDS))
    return found | {"polled_idle_percent": idle, "polled_quiet_percent": quiet}


def _share(daemon: Daemon, seconds: float) -> float:
    before = _spent(daemon)
    time.sleep(seconds)
    return (_spent(daemon) - before) / seconds * 100
