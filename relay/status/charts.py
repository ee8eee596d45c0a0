"""Small charts as SVG: lines over time, drawn by the server, without scripts. Pure."""

import html
import math
import time
from collections.abc import Sequence

WIDTH, HEIGHT = 400, 120  # units of the drawing; the page scales it
LEFT, BOTTOM, TOP = 66, 20, 12  # room for the labels


def chart(name: str, times: Sequence[float], lines: Sequence[tuple[str, Sequence[float]]], unit: str = "") -> str:
    """Draw lines over time.

    Args:
        name: what is shown; read aloud with the last values.
        times: seconds of the epoch, ascending.
        lines: a name and a value for each time; NaN leaves a gap. At most three.
        unit: of the values.
    """
    known = [value for _name, values in lines for value in values if not math.isnan(value)]
    if len(times) < 2 or not known:
        return f'<figure><figcaption>{html.escape(name)}</figcaption><p class="none">nothing yet</p></figure>'
    top = _round_up(max(known))
    keys = "".join(
        f'<span class="key l{at}">{html.escape(line)} {_shown(values[-1])}{unit}</span>'
        for at, (line, values) in enumerate(lines)
    )
    drawn = "".join(f'<path class="l{at}" d="{_path(times, values, top)}"/>' for at, (_n, values) in enumerate(lines))
    grid = "".join(
        f'<line x1="{LEFT}" x2="{WIDTH}" y1="{y}" y2="{y}"/>'
        f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{text}</text>'
        for y, text in ((TOP, f"{_short(top)}{unit}"), (HEIGHT - BOTTOM, "0"))
    )
    ends = "".join(
        f'<text x="{x}" y="{HEIGHT - 4}" text-anchor="{anchor}">{time.strftime("%H:%M", time.localtime(at))}</text>'
        for x, anchor, at in ((LEFT, "start", times[0]), (WIDTH, "end", times[-1]))
    )
    said = ", ".join(f"{line} {_shown(values[-1])}{unit}" for line, values in lines)
    return (
        f"<figure><figcaption>{html.escape(name)} {keys}</figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(f"{name}: now {said}")}">'
        f"<g>{grid}{ends}</g>{drawn}</svg></figure>"
    )


def _path(times: Sequence[float], values: Sequence[float], top: float) -> str:
    span = (times[-1] - times[0]) or 1.0
    steps, pen = [], "M"
    for at, value in zip(times, values, strict=True):
        if math.isnan(value):
            pen = "M"
            continue
        x = LEFT + (at - times[0]) / span * (WIDTH - LEFT)
        y = HEIGHT - BOTTOM - value / top * (HEIGHT - BOTTOM - TOP)
        steps.append(f"{pen}{x:.1f} {y:.1f}")
        pen = "L"
    return "".join(steps)


def _round_up(value: float) -> float:
    """1, 2 or 5 times a power of ten."""
    if value < 1e-9:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value * 0.999)


def _short(value: float) -> str:
    """For the axis, where there is room for seven characters."""
    for least, power, letter in ((1e12, 1e12, "T"), (1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if value >= least:
            return f"{value / power:.0f}{letter}"
    return _shown(value)


def _shown(value: float) -> str:
    if math.isnan(value):
        return "?"
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.1f}"
