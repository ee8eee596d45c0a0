"""What a watch costs the application: commits a second of 16 clients that change one row a transaction.

The same table bare, watched (listener stopped, and draining on the same cores), and with the trigger that people write
by hand: the row as the payload of a NOTIFY, with a client that listens.
"""

from __future__ import annotations

import re
import subprocess
import sys

from benchmarks.keys import Key
from benchmarks.meters import spending
from benchmarks.site import Site
from dev.process import Process, start, wait_until

KEYS = (
    Key("writer_commit_ratio", "commits of a watched table to an unwatched one's, listener draining", 0.5),
    Key("writer_commit_ratio_idle", "the same, listener stopped", 0.7),
    Key(
        "writer_vs_notify", "commits, watched and draining, to those with NOTIFY of the row and a listening client", 2.5
    ),
    Key("writer_relayed_share", "events relayed while the writers wrote, to events written"),
    Key("writer_cpu_us_per_event_listener", "processor time a relayed event, while the writers write", unit="us"),
    Key("writer_cpu_us_per_event_broker", "the same, of RabbitMQ", unit="us"),
    Key("writer_cpu_us_per_commit_postgres", "of PostgreSQL, the listener's statements included", unit="us"),
    Key("writer_cpu_us_per_commit_unwatched", "of PostgreSQL, the bare table", unit="us"),
    Key("writer_cpu_us_per_commit_idle", "of PostgreSQL, watched, listener stopped", unit="us"),
    Key("writer_commits_per_s_unwatched", "the bare table", unit="/s"),
    Key("writer_commits_per_s_watched", "listener draining", unit="/s"),
    Key("writer_commits_per_s_watched_idle", "listener stopped", unit="/s"),
    Key("writer_commits_per_s_notify", "hand-written trigger", unit="/s"),
)
CLIENTS = 16
SECONDS = 8
ROWS = 100_000
_TRIGGER = """
create function notify_row() returns trigger language plpgsql as $$
begin perform pg_notify('changes', row_to_json(new)::text); return null; end $$;
create trigger notify_row after update on {table} for each row execute function notify_row();
"""
_LISTEN = """
import psycopg2, select, sys
handle = psycopg2.connect(sys.argv[1]); handle.autocommit = True
handle.cursor().execute("listen changes"); print("listening", flush=True)
while True:
    select.select([handle], [], []); handle.poll(); handle.notifies.clear()
"""


def measure(site: Site) -> dict[str, float]:
    """One round, each table once."""
    spent: dict[str, float] = {}
    bare, idle, notify = _bare(site, spent), _idle(site, spent), _notify(site)
    draining, relayed = _draining(site, spent)
    return spent | {
        "writer_commit_ratio": draining / bare,
        "writer_commit_ratio_idle": idle / bare,
        "writer_vs_notify": draining / notify,
        "writer_relayed_share": relayed,
        "writer_commits_per_s_unwatched": bare,
        "writer_commits_per_s_watched": draining,
        "writer_commits_per_s_watched_idle": idle,
        "writer_commits_per_s_notify": notify,
    }


def _bare(site: Site, spent: dict[str, float]) -> float:
    with site.table(rows=ROWS, watch=None) as table:
        rate, cpu = _commit_rate(site, table)
    spent["writer_cpu_us_per_commit_unwatched"] = cpu["postgres"]
    return rate


def _idle(site: Site, spent: dict[str, float]) -> float:
    with site.table(rows=ROWS) as table:
        rate, cpu = _commit_rate(site, table)
    spent["writer_cpu_us_per_commit_idle"] = cpu["postgres"]
    site.forget_events()
    return rate


def _draining(site: Site, spent: dict[str, float]) -> tuple[float, float]:
    """Commits a second, and the share of the events that were relayed meanwhile."""
    with site.table(rows=ROWS) as table, site.queue(), site.listening() as script:
        before = site.sql("select last_value from relay.outbox_seq_seq")
        rate, cpu = _commit_rate(site, table, Process.of(script.pid))
        left = site.pending()
        written = site.sql("select last_value from relay.outbox_seq_seq") - before
        site.await_empty()
    spent["writer_cpu_us_per_event_listener"] = cpu["listener"]
    spent["writer_cpu_us_per_event_broker"] = cpu["broker"]
    spent["writer_cpu_us_per_commit_postgres"] = cpu["postgres"]
    return rate, 1 - left / written


def _notify(site: Site) -> float:
    with site.table(rows=ROWS, watch=None) as table:
        site.sql(_TRIGGER.format(table=table))
        log = site.directory / "listen.log"
        client = start([sys.executable, "-c", _LISTEN, site.database.admin_dsn], log)
        try:
            wait_until(lambda: "listening" in log.read_text(), 10, "the listening client")
            rate, _ = _commit_rate(site, table)
        finally:
            client.kill()
            log.unlink()
    site.sql("drop function notify_row()")
    return rate


def _commit_rate(site: Site, table: str, listener: Process | None = None) -> tuple[float, dict[str, float]]:
    """Transactions a second, as pgbench says, and microseconds of processor time a transaction of each process."""
    script = site.directory / "writer.sql"
    script.write_text(f"\\set id random(1, {ROWS})\nupdate {table} set n = n + 1 where id = :id;\n")
    site.settle()
    seconds = site.sizes.seconds(SECONDS)
    command = [str(site.postgres.bin / "pgbench"), "-n", "-c", str(CLIENTS), "-j", "2", "-T", str(seconds)]
    processes = site.servers() | ({"listener": listener} if listener else {})
    with spending(processes) as spent:
        done = subprocess.run(
            [*command, "-f", str(script), site.database.admin_dsn], capture_output=True, text=True, check=False
        )
    rate = re.search(r"tps = ([\d.]+)", done.stdout)
    count = re.search(r"actually processed: (\d+)", done.stdout)
    if done.returncode or rate is None or count is None:
        raise RuntimeError(f"pgbench failed:\n{done.stdout}{done.stderr}")
    return float(rate[1]), {name: seconds * 1e6 / int(count[1]) for name, seconds in spent.items()}
