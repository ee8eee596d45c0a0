"""python -m benchmarks [--rounds N] [--only NAME[,NAME]]: measure, print a table, write results.json."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path
from types import ModuleType

from benchmarks import results
from benchmarks.measures import (
    bulk,
    deliver,
    drain,
    functions,
    growth,
    handmade,
    held,
    lanes,
    large,
    latency,
    odoo,
    polled,
    rates,
    requests,
    watched,
    writers,
)
from benchmarks.results import Rounds
from benchmarks.site import Site, Sizes
from dev import session

GROUPS: tuple[ModuleType, ...] = (
    writers,
    bulk,
    drain,
    held,
    latency,
    growth,
    large,
    deliver,
    lanes,
    functions,
    watched,
    handmade,
    odoo,
    polled,
    rates,
    requests,
)
RESULTS = Path(__file__).resolve().parent / "results.json"
BUSY_LOAD = 0.7


def main() -> int:
    """Exit status 0 if everything could be measured, whatever the figures say."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a terminated run cleans up like an interrupted one
    options = _parser().parse_args()
    chosen = _chosen(options.only)
    about = {**results.machine(), "rounds": options.rounds, "scale": options.scale, "postgres": options.pg}
    if os.getloadavg()[0] > BUSY_LOAD:
        print(f"this machine is busy (load {about['load_before']}): the figures will be worse and noisier than it is")
    session.sweep()
    rounds: Rounds = {}
    try:
        with Site(options.pg, Sizes(options.scale), session.make()) as site:
            _run(site, chosen, options.rounds, rounds)
    finally:
        keys = [key for group in GROUPS for key in group.KEYS]
        print(results.table(rounds, keys))
        if rounds and options.out:
            results.write(options.out, rounds, about)
            print(f"written: {options.out}")
    return 0


def _run(site: Site, chosen: list[ModuleType], count: int, rounds: Rounds) -> None:
    """Rounds outside, groups inside: what disturbs the machine for a minute does not hit one measure alone."""
    for number in range(1, count + 1):
        for group in chosen:
            name = group.__name__.rpartition(".")[2]
            started = time.monotonic()
            found = group.measure(site)
            for key, value in found.items():
                rounds.setdefault(key, []).append(value)
            said = ", ".join(f"{key} {value:.4g}" for key, value in found.items())
            print(f"round {number} {name} {time.monotonic() - started:.0f} s: {said}", flush=True)


def _chosen(only: str | None) -> list[ModuleType]:
    """The groups named, or that hold a key named; all if none is."""
    if not only:
        return list(GROUPS)
    names = set(only.split(","))
    known = {
        name for group in GROUPS for name in (group.__name__.rpartition(".")[2], *(key.name for key in group.KEYS))
    }
    if unknown := names - known:
        sys.exit(f"no measure called {', '.join(sorted(unknown))}; there are: {', '.join(sorted(known))}")
    return [g for g in GROUPS if names & {g.__name__.rpartition(".")[2], *(key.name for key in g.KEYS)}]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default 5)")
    parser.add_argument("--only", metavar="NAME[,NAME]", help="only these groups, or the groups of these keys")
    parser.add_argument("--scale", type=float, default=1.0, help="fraction of the sizes, to try it out")
    parser.add_argument("--pg", default=os.environ.get("PG") or "embedded")
    parser.add_argument("--out", type=Path, default=RESULTS, help="default: benchmarks/results.json")
    return parser


if __name__ == "__main__":
    sys.exit(main())
