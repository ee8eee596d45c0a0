"""The page and the screen: what is foreign is escaped, charts are drawn, nothing comes from elsewhere, it is quick."""

from __future__ import annotations

import math
import re
import time
from html.parser import HTMLParser

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.findings import Level
from relay.status.charts import chart
from relay.status.history import CHANGES, SAMPLES, History, Sample
from relay.status.page import page
from relay.status.report import Fact, Report, Table, lines

EVIL = "<script>alert(1)</script>\x1b[31m\n\"'&"
NOW = 1_800_000_000.0


class Reader(HTMLParser):
    """Takes a page apart: tags, and every attribute."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.ids: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        self.ids += [value or "" for name, value in attrs if name == "id"]


def drawn(text: str) -> list[str]:
    """The lines of a chart."""
    return [value for name, value in Reader(text).attributes if name == "d"]


def shown(report: Report, history: History | None = None) -> str:
    return page(report, history or History(), NOW, "n0nce")


@given(st.text(min_size=1))
def test_whatever_is_foreign_is_text(text: str) -> None:
    report = Report(text, text, [Fact(text, text, Level.FAILED, text)], [Table(text, (text,), [(text,)], 3, text)])
    history = History()
    history.changed(NOW, Level.WARNING, text)
    plain = Report("t", "s", [Fact("n", "x", Level.FAILED, "r")], [Table("a", ("b",), [("c",)], 3, "d")])
    other = History()
    other.changed(NOW, Level.WARNING, "e")
    assert Reader(shown(report, history)).tags == Reader(shown(plain, other)).tags
    assert all(line.isprintable() for line in map(repr, lines(report)))


def test_nothing_comes_from_elsewhere_and_only_its_own_script_may_run() -> None:
    read = Reader(shown(Report("t", "active", [Fact("a", EVIL)])))
    assert not [value for name, value in read.attributes if name in ("src", "href") and value != "data:,"]
    assert [value for name, value in read.attributes if name == "nonce"] == ["n0nce", "n0nce"]
    assert not [name for name, _value in read.attributes if name.startswith("on") or name == "style"]
    assert len(read.ids) == len(set(read.ids))


def test_a_table_can_be_reached_by_keyboard_and_has_headings() -> None:
    text = shown(Report("t", "active", [], [Table("Parked", ("key", "reason"), [("a", "b")], 9, "receiver.py replay")]))
    assert 'tabindex="0" role="region" aria-labelledby="t0h"' in text
    assert '<th scope="col">key</th>' in text
    assert "and 9 more" in text
    assert "<code>receiver.py replay</code>" in text


def test_the_worst_fact_is_in_the_title_and_never_by_colour_alone() -> None:
    report = Report("receiver odoo", "active", [Fact("rate", "5"), Fact("endpoint", "down", Level.FAILED, "look")])
    text = shown(report)
    assert "<title>!! receiver odoo: active</title>" in text
    assert ">active, FAILED: endpoint</span>" in text
    assert '<dd class="failed">FAILED: down → <code>look</code></dd>' in text
    assert list(lines(report)) == ["receiver odoo: active", "   rate      5", "!! endpoint  down -> look"]


@given(
    st.lists(
        st.tuples(st.floats(0, 1e12, allow_nan=False) | st.just(math.nan), st.floats(0, 1e12) | st.just(math.nan)),
        max_size=50,
    )
)
@example([(math.nan, math.nan), (math.nan, 5e-324)])
def test_every_chart_is_a_drawing_within_its_frame(values: list[tuple[float, float]]) -> None:
    times = [NOW + 60 * at for at in range(len(values))]
    text = chart("flow <1>", times, [("in", [a for a, _ in values]), ("out", [b for _, b in values])])
    for path in drawn(text):
        for x, y in re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", path):
            assert 0 <= float(x) <= 640
            assert 0 <= float(y) <= 140


def test_a_gap_in_what_is_known_is_a_gap_in_the_line() -> None:
    text = chart("x", [0.0, 60, 120, 180], [("a", [1.0, math.nan, 1.0, 2.0])])
    (path,) = drawn(text)
    assert path.count("M") == 2
    assert 'aria-label="x: now a 2"' in text


def test_history_is_bounded_and_says_a_thing_once() -> None:
    history = History()
    for at in range(2 * SAMPLES):
        history.samples.append(Sample(at, 1, 1, 1, 1))
        history.changed(at, Level.OK, f"state {chr(97 + at // 100)}: {at} events")
    assert len(history.samples) == SAMPLES
    assert [one.text for one in history.changes] == [
        f"state {chr(97 + n)}: {100 * n} events" for n in range((2 * SAMPLES + 99) // 100)
    ], "a number that changes is no change of state"
    for at in range(2 * CHANGES):
        history.changed(at, Level.OK, "at work" if at % 2 else "standby")
    assert len(history.changes) == CHANGES


@pytest.mark.parametrize("rows", [10_000])
def test_the_page_is_quick_whatever_waits(rows: int) -> None:
    """Whoever makes the tables cuts them; what is left is rendered in no time."""
    history = History()
    for at in range(SAMPLES):
        history.samples.append(Sample(NOW + 60 * at, at, at / 2, at * 7, at * 3))
    shown_rows = [(f"k{n}", "public.t", "3", "422 " * 20) for n in range(50)]
    table = Table("Parked", ("key", "table", "events", "reason"), shown_rows, rows - 50, "receiver.py parked")
    report = Report("receiver", "active", [Fact(f"f{n}", "x" * 50) for n in range(20)], [table])
    before = time.process_time()
    text = shown(report, history)
    assert time.process_time() - before < 0.1
    assert len(text) < 100_000
