"""The pictures in docs/performance.md, drawn from results.json and soak.json: python -m benchmarks.chart."""

from __future__ import annotations

import itertools
import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from benchmarks.measures import rates

RESULTS = Path(__file__).resolve().parent / "results.json"
SOAK = RESULTS.with_name("soak.json")  # of benchmarks.soak
DOCS = Path(__file__).resolve().parent.parent / "docs"

OURS, PEER, LIMIT = "#2a6f97", "#b0b7bf", "#e0a458"
# Title, then (label, key, colour) of each bar. Bars of a group share a scale.
GROUPS: tuple[tuple[str, tuple[tuple[str, str, str], ...]], ...] = (
    (
        "Commits a second, 16 writers, one row each (more is better)",
        (
            ("table not watched", "writer_commits_per_s_unwatched", LIMIT),
            ("watched, listener stopped", "writer_commits_per_s_watched_idle", OURS),
            ("watched, listener draining", "writer_commits_per_s_watched", OURS),
            ("trigger that sends the row by NOTIFY", "writer_commits_per_s_notify", PEER),
        ),
    ),
    (
        "Backlog into a quorum queue, events a second (more is better)",
        (
            ("frames encoded beforehand", "drain_per_s_limit", LIMIT),
            ("listen.py", "drain_per_s", OURS),
            ("mq-bridge", "drain_per_s_mq_bridge", PEER),
            ("hand-written listener", "burst_per_s_handwritten", PEER),
        ),
    ),
    (
        "Queue to an endpoint that answers at once, requests a second (more is better)",
        (
            ("receiver.py, 4 workers", "deliver_instant_per_s", OURS),
            ("mq-bridge, 4 at a time", "deliver_instant_per_s_mq_bridge", PEER),
            ("hand-written receiver", "deliver_instant_per_s_handwritten", PEER),
        ),
    ),
    (
        "Commit to endpoint, milliseconds, median, 100 events a second (less is better)",
        (
            ("listen.py and receiver.py", "latency_commit_to_endpoint_p50_ms", OURS),
            ("mq-bridge", "mq_bridge_latency_p50_ms", PEER),
            ("hand-written scripts", "handwritten_latency_p50_ms", PEER),
        ),
    ),
    (
        "Rows a second into Odoo (more is better)",
        (
            ("bare loop of load", "odoo_rows_per_s_limit", LIMIT),
            ("receiver.py, odoo-load", "odoo_rows_per_s", OURS),
            ("one POST a row", "odoo_rows_per_s_one_post_per_row", PEER),
        ),
    ),
)
WIDTH, LEFT, RIGHT, BAR, GAP = 820, 290, 110, 20, 6


def draw(results: Mapping[str, Mapping[str, float]]) -> str:
    """The SVG. Bars are medians, the thin line runs from the least to the most of the rounds."""
    parts, top = [], 16
    for title, bars in GROUPS:
        known = [(label, results[key], colour) for label, key, colour in bars if key in results]
        if not known:
            continue
        parts.append(f'<text x="8" y="{top + 12}" font-weight="bold">{escape(title)}</text>')
        top += 24
        scale = (WIDTH - LEFT - RIGHT) / max(figures["max"] for _, figures, _ in known)
        for label, figures, colour in known:
            parts.append(_bar(top, label, figures, colour, scale))
            top += BAR + GAP
        top += 16
    return _framed(WIDTH, top, parts)


def _bar(top: int, label: str, figures: Mapping[str, float], colour: str, scale: float) -> str:
    median, low, high = (figures[name] for name in ("median", "min", "max"))
    width, middle = max(1.0, median * scale), top + BAR / 2
    said = f"{median:,.0f}" if median >= 100 else f"{median:.1f}"
    end = LEFT + max(width, high * scale) + 8
    return (
        f'<text x="{LEFT - 8}" y="{middle + 4}" text-anchor="end">{escape(label)}</text>'
        f'<rect x="{LEFT}" y="{top}" width="{width:.1f}" height="{BAR}" fill="{colour}"/>'
        f'<line x1="{LEFT + low * scale:.1f}" y1="{middle}" x2="{LEFT + high * scale:.1f}" y2="{middle}" '
        f'stroke="#222" stroke-width="1.5"/>'
        f'<text x="{end:.1f}" y="{middle + 4}">{said}</text>'
    )


DASHED = ' stroke-dasharray="5 4" stroke-opacity="0.7"'
COLOURS = {"ours": OURS, "mq_bridge": "#6b7480", "handwritten": LIMIT}
PLOT, DEEP, TICKS = 620, 300, (1, 3, 10, 30, 100, 300, 1000, 3000, 10_000, 30_000)  # wide and high; milliseconds


def draw_rates(results: Mapping[str, Mapping[str, float]]) -> str:
    """The SVG of latency against rate, both logarithmic: medians of the rounds. Nothing without such figures."""
    curves = {
        (system, percent): [
            (rate, results[key]["median"])
            for rate in rates.RATES
            if (key := f"{rates.key(system, rate)}_p{percent}_ms") in results
        ]
        for system, percent in itertools.product(rates.SYSTEMS, (50, 99))
    }
    values = [value for points in curves.values() for _, value in points]
    if not values:
        return ""
    ticks = [tick for tick in TICKS if min(values) / 3.4 < tick < max(values) * 3.4]

    def x(rate: float) -> float:
        return 70 + PLOT * math.log(rate / rates.RATES[0]) / math.log(rates.RATES[-1] / rates.RATES[0])

    def y(milliseconds: float) -> float:
        return 40 + DEEP * (1 - math.log(milliseconds / ticks[0]) / math.log(ticks[-1] / ticks[0]))

    parts = ['<text x="8" y="20" font-weight="bold">Commit to queue, milliseconds, by events a second</text>']
    for tick in ticks:
        parts.append(f'<line x1="70" y1="{y(tick):.1f}" x2="{70 + PLOT}" y2="{y(tick):.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="62" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:,}</text>')
    parts += [f'<text x="{x(rate):.1f}" y="{DEEP + 62}" text-anchor="middle">{rate:,}</text>' for rate in rates.RATES]
    for (system, percent), points in curves.items():
        line = " ".join(f"{x(rate):.1f},{y(value):.1f}" for rate, value in points)
        look = f'fill="none" stroke="{COLOURS[system]}" stroke-width="2"'
        parts.append(f'<polyline points="{line}" {look}{"" if percent == 50 else DASHED}/>')
    for number, (system, name) in enumerate(rates.SYSTEMS.items()):
        parts.append(f'<text x="90" y="{60 + 18 * number}" fill="{COLOURS[system]}">{escape(name)}</text>')
    parts.append(f'<text x="90" y="{60 + 18 * len(rates.SYSTEMS)}">median; dashed: 99 of 100</text>')
    return _framed(WIDTH, DEEP + 80, parts)


PANELS = (
    ("Write to endpoint, milliseconds", (("p50", "median"), ("p99", "99 of 100"))),
    ("Memory, MiB", (("listener_mb", "listen.py"), ("receiver_mb", "receiver.py"))),
    ("Open files", (("listener_files", "listen.py"), ("receiver_files", "receiver.py"))),
    ("RabbitMQ's memory, MiB", (("broker_mb", "the node"),)),
    ("Outbox on disk, MiB", (("outbox_mb", "relay.outbox and its index"),)),
)
PANEL = 90  # high


def draw_soak(found: Mapping[str, Any]) -> str:
    """The SVG of a soak: what was held, sample by sample, from zero to the most."""
    samples = [sample for sample in found["samples"] if sample["p50"] is not None]
    minutes = len(samples) * found["about"]["sample"] / 60
    parts = []
    for number, (title, curves) in enumerate(PANELS):
        top = 16 + number * (PANEL + 44)
        most = max(sample[key] for key, _ in curves for sample in samples) or 1
        parts.append(f'<text x="8" y="{top + 4}" font-weight="bold">{escape(title)}</text>')
        for value, y in ((most, top + 16), (0, top + 16 + PANEL)):
            parts.append(f'<line x1="70" y1="{y}" x2="{70 + PLOT}" y2="{y}" stroke="#ddd"/>')
            said = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
            parts.append(f'<text x="62" y="{y + 4}" text-anchor="end">{said}</text>')
        for place, (key, name) in enumerate(curves):
            line = " ".join(
                f"{70 + PLOT * i / max(1, len(samples) - 1):.1f},{top + 16 + PANEL * (1 - sample[key] / most):.1f}"
                for i, sample in enumerate(samples)
            )
            colour = (OURS, LIMIT)[place]
            parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
            parts.append(f'<text x="{260 + 130 * place}" y="{top + 4}" fill="{colour}">{escape(name)}</text>')
    bottom = 16 + len(PANELS) * (PANEL + 44)
    parts.append(f'<text x="70" y="{bottom}">0</text>')
    parts.append(f'<text x="{70 + PLOT}" y="{bottom}" text-anchor="end">{minutes:,.0f} minutes</text>')
    return _framed(WIDTH, bottom + 12, parts)


def _framed(width: int, height: int, parts: list[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    style = ' font-family="sans-serif" font-size="13" fill="#222">'
    return f'{head}{style}\n<rect width="100%" height="100%" fill="#fff"/>\n' + "\n".join(parts) + "\n</svg>\n"


def write(results: Path = RESULTS, docs: Path = DOCS, soak: Path = SOAK) -> list[Path]:
    """Draw what `results` and `soak` have. Return the files written."""
    found = json.loads(results.read_text())
    pictures = {"performance.svg": draw(found), "latency.svg": draw_rates(found)}
    if soak.is_file():
        pictures["soak.svg"] = draw_soak(json.loads(soak.read_text()))
    for name, text in pictures.items():
        if text:
            (docs / name).write_text(text, encoding="utf-8")
    return [docs / name for name, text in pictures.items() if text]


if __name__ == "__main__":
    sys.stdout.write("".join(f"written: {path}\n" for path in write()))
