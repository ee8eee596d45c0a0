"""Medians and spread of the rounds: results.json, and the table in the terminal."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.keys import Key

Rounds = dict[str, list[float]]


def machine() -> dict[str, str]:
    """Where and when, and which commit: a figure without them is worth nothing."""
    cpu = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "commit": commit.stdout.strip(),
        "cpu": f"{len(cpu)} x {cpu[0] if cpu else platform.machine()}",
        "python": platform.python_version(),
        "load_before": f"{os.getloadavg()[0]:.2f}",
    }


def summary(rounds: Rounds) -> dict[str, dict[str, object]]:
    """Median, least, most and the single rounds of each key."""
    return {
        name: {
            "median": round(statistics.median(values), 4),
            "min": round(min(values), 4),
            "max": round(max(values), 4),
            "rounds": [round(value, 4) for value in values],
        }
        for name, values in rounds.items()
        if values
    }


def write(path: Path, rounds: Rounds, about: Mapping[str, object]) -> None:
    """Write results.json; keys measured in an earlier run and not in this one are not kept."""
    path.write_text(json.dumps({"about": about, **summary(rounds)}, indent=1) + "\n")


def table(rounds: Rounds, keys: Sequence[Key]) -> str:
    """One line a key: median, spread, target, and whether it is met."""
    lines = [f"{'':38} {'median':>10} {'min':>10} {'max':>10} {'target':>10}"]
    for key in keys:
        values = rounds.get(key.name)
        if not values:
            continue
        median = statistics.median(values)
        target = "" if key.target is None else f"{'<=' if key.low else '>='} {key.target:g}"
        said = {None: "", True: "met", False: "MISSED"}[key.met(median)]
        figures = " ".join(f"{_short(value):>10}" for value in (median, min(values), max(values)))
        lines.append(f"{key.name:38} {figures} {target:>10} {said:7} {key.unit}".rstrip())
    return "\n".join(lines)


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
