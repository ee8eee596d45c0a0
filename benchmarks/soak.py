"""python -m benchmarks.soak [--minutes 120] [--rate 100]: both daemons for hours, a sample each minute.

A writer changes rows of one table at an even rate; the endpoint sees whether each row's changes come complete, once
and in order, and how long after the write; each sample has what the daemons and the servers hold meanwhile. Writes
soak.json, of which `benchmarks.chart` draws docs/soak.svg. Exit status 1 if something was lost, repeated or reordered.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from benchmarks import programs, results
from benchmarks.meters import status_mb
from benchmarks.site import Site, Sizes
from dev import session
from dev.site import Daemon

OUT = Path(__file__).resolve().parent / "soak.json"
ROWS = 10_000
SAMPLE = 60.0  # seconds
LAST = 3  # samples after the writer has ended
# A row's number is counted up, and when that was is told in its note: microseconds of the monotonic clock.
_WRITE = """
import psycopg2, signal, sys, time
handle = psycopg2.connect(sys.argv[1]); handle.autocommit = True
cursor, table, rate, rows = handle.cursor(), sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
start, count, stopped = time.monotonic(), 0, []
signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
while not stopped:
    time.sleep(max(0.0, start + count / rate - time.monotonic()))
    now = time.monotonic_ns() // 1000
    cursor.execute(f"update {table} set n = n + 1, note = %s where id = %s", (str(now), count * 7919 % rows + 1))
    count += 1
print(count)
"""
# A line for each sample.
_SERVE = """
import asyncio, contextlib, json, re, sys, time
rows, took, come, faults = {}, [], 0, {"repeated": 0, "missing": 0}
def take(body):
    global come
    event = json.loads(body)
    row, n, before = event["new"]["id"], event["new"]["n"], rows.get(event["new"]["id"], 0)
    took.append(time.monotonic_ns() / 1e6 - int(event["new"]["note"]) / 1e3)
    come += 1
    faults["repeated"] += n <= before
    faults["missing"] += max(0, n - before - 1)
    rows[row] = max(n, before)
async def serve(reader, writer):
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            head = await reader.readuntil(b"\\r\\n\\r\\n")
            take(await reader.readexactly(int(re.search(rb"(?i)content-length: *(\\d+)", head)[1])))
            writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\n{}")
    writer.close()
def tell():
    took.sort()
    found = {f"p{p}": took[len(took) * p // 100] if took else None for p in (50, 99)} | {"events": come, **faults}
    took.clear()
    print(json.dumps(found), flush=True)
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    while True:
        await asyncio.sleep(float(sys.argv[1]))
        tell()
asyncio.run(main())
"""


def _sample(site: Site, daemons: dict[str, Daemon], told: dict[str, Any]) -> dict[str, Any]:
    """What the endpoint tells of a minute, and what everything holds at its end."""
    found = dict(told)
    for name, daemon in daemons.items():
        assert daemon.alive(), f"{name} has ended"
        found[f"{name}_mb"] = status_mb(daemon.pid, "VmRSS")
        found[f"{name}_files"] = len(list(Path(f"/proc/{daemon.pid}/fd").iterdir()))
    found["broker_mb"] = sum(status_mb(process.pid, "VmRSS") for process in site.servers()["broker"].tree())
    found["outbox_mb"] = int(site.sql("select pg_total_relation_size('relay.outbox')")) / 2**20
    found["load"] = os.getloadavg()[0]
    return {name: round(value, 2) if isinstance(value, float) else value for name, value in found.items()}


def soak(site: Site, minutes: float, rate: float, sample: float = SAMPLE) -> dict[str, Any]:
    """Run it.

    Args:
        site: the servers.
        minutes: how long changes are written.
        rate: changes a second.
        sample: seconds between two samples.

    Returns:
        `written`: changes; `samples`: one after another.
    """
    samples: list[dict[str, Any]] = []
    with (
        site.table(rows=ROWS) as table,
        programs.running(_SERVE, str(sample)) as endpoint,
        site.receiving(f"http://127.0.0.1:{json.loads(programs.line(endpoint))}/") as receiver,
        site.listening() as listener,
        programs.running(_WRITE, site.database.admin_dsn, table, str(rate), str(ROWS)) as writer,
    ):
        daemons = {"listener": listener, "receiver": receiver}
        for _ in range(max(1, round(minutes * 60 / sample))):
            assert writer.poll() is None, "the writer has ended"
            samples.append(_sample(site, daemons, json.loads(programs.line(endpoint))))
            print(json.dumps(samples[-1]), flush=True)
        writer.terminate()
        written = json.loads(programs.line(writer))
        for _ in range(LAST):  # what was written last is told of in the next one, or the one after it
            samples.append(_sample(site, daemons, json.loads(programs.line(endpoint))))
            if samples[-1]["events"] >= written:
                break
    return {"written": written, "samples": samples}


def _faults(found: dict[str, Any]) -> list[str]:
    """What is wrong with a run, in words."""
    last = found["samples"][-1]
    lost = found["written"] - last["events"]
    counted = {"lost": max(0, lost), "repeated or out of order": last["repeated"], "skipped": last["missing"]}
    return [f"{count} {what}" for what, count in counted.items() if count]


def main() -> int:
    """Exit status 0 if every change came once and in order."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a terminated run cleans up like an interrupted one
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--rate", type=float, default=100, help="changes a second (default 100)")
    parser.add_argument("--sample", type=float, default=SAMPLE, help="seconds between two samples (default 60)")
    parser.add_argument("--pg", default=os.environ.get("PG") or "embedded")
    parser.add_argument("--out", type=Path, default=OUT, help="default: benchmarks/soak.json")
    options = parser.parse_args()
    about = {**results.machine(), "rate": options.rate, "sample": options.sample, "postgres": options.pg}
    session.sweep()
    with Site(options.pg, Sizes(), session.make()) as site:
        found = soak(site, options.minutes, options.rate, options.sample)
    options.out.write_text(json.dumps({"about": about, **found}) + "\n")
    faults = _faults(found)
    print(f"{found['written']} changes, {', '.join(faults) or 'each once and in order'}; written: {options.out}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
