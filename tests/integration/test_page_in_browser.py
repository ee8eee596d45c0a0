"""The pages of both daemons in Debian's chromium: light and dark, phone and desktop, by keyboard and screen reader."""

from __future__ import annotations

import itertools
import json
import os
import re
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dev import chromium
from dev.browser import Browser, Page
from dev.database import Database
from dev.doubles.endpoint import Answer, Endpoint
from dev.process import ServerError, free_port, wait_until
from dev.script import Script
from dev.vhost import Vhost
from relay.status.history import History, Sample
from relay.status.page import page as rendered
from relay.status.report import Fact, Report
from tests import messages
from tests.listening import Listening
from tests.receiving import settings, with_constants
from tests.status import get, numbers

Make = Callable[..., Script]
KEYS = 100
SCREENS = {"phone": (360, 740), "desktop": (1280, 900)}
QUICK, BUSY = 0.1, 1.0  # seconds for the page; and where other tests run beside this one
CHARTS = with_constants(
    *("relay.status.board.SAMPLE_SECONDS=0.2", "relay.status.board.LOOK_SECONDS=0.2"),
    "relay.listening.inspection.INSPECT_INTERVAL=0.2",
)
# What a person reads is readable: the contrast of all text with what lies behind it, as WCAG 2 counts it.
CONTRAST = """
(() => {
  const parts = colour => colour.match(/[\\d.]+/g).map(Number);
  const light = colour => {
    const [r, g, b] = parts(colour).map(v => v / 255).map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const behind = element => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if ((parts(colour)[3] ?? 1) > 0) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || ["SCRIPT", "STYLE"].includes(element.tagName)) continue;
    const style = getComputedStyle(element);
    const [a, b] = [light(element.closest("svg") ? style.fill : style.color), light(behind(element))].sort((x, y) => y - x);
    found.push((a + .05) / (b + .05));
  }
  return Math.min(...found);
})()
"""  # noqa: E501


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    try:
        release = chromium.find()
    except ServerError as error:
        pytest.skip(f"Debian's chromium can't be had: {error}")
    with Browser(release) as running:
        yield running


@pytest.fixture
def page(browser: Browser) -> Page:
    return browser.page()


@pytest.fixture
def port() -> int:
    return free_port()


def charted(page: Page, port: int) -> bool:
    """Open the page; are there labels in its charts? It draws once it has looked twice."""
    page.open(f"http://127.0.0.1:{port}/")
    return bool(page.value("document.querySelectorAll('svg text').length"))


def look_at(page: Page, port: int, name: str) -> None:
    """On each screen, in each colour scheme: all fits, is readable, reachable and named; nothing is complained of.

    With PICTURES=DIRECTORY the pictures are kept there.
    """
    for (screen, size), dark in itertools.product(SCREENS.items(), (False, True)):
        page.look(*size, dark=dark, touch=screen == "phone")
        wait_until(lambda: charted(page, port), 20, "something to draw")
        where = f"{name}, {screen}, {'dark' if dark else 'light'}"
        assert page.value("document.documentElement.scrollWidth") <= size[0], where
        ground = page.value("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", ground))) < 200) == dark, f"{where}: {ground}"
        assert page.value(CONTRAST) >= 4.5, where
        assert page.value("Math.min(...[...document.querySelectorAll('svg text')]"
                          ".map(text => text.getBoundingClientRect().height))") >= 9, f"{where}: labels"  # fmt: skip
        if pictures := os.environ.get("PICTURES"):
            page.picture(Path(pictures) / f"{name}-{screen}-{'dark' if dark else 'light'}.png")
    regions = page.value("document.querySelectorAll('[tabindex]').length")
    assert regions > 0, "tables that can be scrolled"
    for _ in range(regions):
        page.press("Tab", 9)
        seen = page.value(
            "[document.activeElement.getAttribute('role'), getComputedStyle(document.activeElement).outlineStyle]"
        )
        assert seen == ["region", "solid"], "what has the focus, and that this is seen"
    heard = page.accessible()
    roles = [role for role, _name in heard]
    unnamed = {role for role, name in heard if role in {"region", "image", "columnheader", "heading"} and not name}
    assert not unnamed
    assert {"banner", "main", "contentinfo", "heading", "status", "region", "columnheader", "term"} <= set(roles)
    assert [name for role, name in heard if role == "image"], "the charts are told in words"
    assert page.errors == []
    assert {re.sub(r"^(data|http://127\.0\.0\.1:\d+/).*", r"\1", one) for one in page.requests} <= {
        "data", f"http://127.0.0.1:{port}/", "about:blank"
    }  # fmt: skip


def seconds(page: Page, port: int) -> float:
    """How long the page takes, from the request to all that it says; the least of five: others may be at work."""
    taken = []
    for _ in range(5):
        page.open(f"http://127.0.0.1:{port}/")
        taken.append(page.value("performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd / 1000"))
    return min(taken)


def park(vhost: Vhost, count: int) -> None:
    """Put events into the parking lot, as a receiver does that has always had the same answer."""
    channel = vhost.channel()
    for n in range(count):
        event_id, key = str(uuid.uuid4()), f"key {n % KEYS}"
        properties = messages.properties(event_id, key, "public.t", "update")
        properties.headers = {
            **properties.headers, "relay-parked-lane": key, "relay-parked-why": "dead",
            "relay-parked-reason": "HTTP 422: " + "no such unit " * 20, "relay-parked-attempts": 1,
            "relay-parked-since": 1_700_000_000, "relay-parked-topic": "public.t", "relay-parked-handle": f"{n:012x}",
        }  # fmt: skip
        channel.basic_publish("", "odoo.parked", json.dumps({"id": event_id, "pad": "x" * 200}).encode(), properties)


@pytest.mark.parametrize("parked", [KEYS, pytest.param(10_000, marks=pytest.mark.long)])
def test_the_receiver_s_page_whatever_is_parked(
    vhost: Vhost, script: Make, endpoint: Endpoint, page: Page, port: int, parked: int
) -> None:
    given = settings(vhost, endpoint, STATUS_ADDR=f"127.0.0.1:{port}")
    receiver = script("receiver.py", given, environment=CHARTS)
    receiver.start()
    receiver.wait_for_log("consuming")
    receiver.terminate()
    assert receiver.wait() == 0
    park(vhost, parked)
    receiver.start()
    receiver.wait_for_log("consuming", count=2)
    wait_until(lambda: numbers(port).get("relay_parked_events") == parked, 60, "parked events")
    assert seconds(page, port) < (QUICK if parked > 100 else BUSY)
    look_at(page, port, "receiver")
    assert page.value("document.querySelector('h1').textContent").startswith("receiver of odoo: at work")
    assert "receiver.py parked, then replay or discard" in page.value("document.body.innerText")
    # It refreshes itself: what has the focus keeps it, and a daemon that is gone is told.
    page.press("Tab", 9)
    focus = page.value("document.activeElement.id")
    endpoint.rule = lambda _request: Answer(503, b"at lunch")
    messages.Publisher(vhost).event("another", n=1)
    state = "document.querySelector('h1').textContent"
    wait_until(lambda: "waiting for the endpoint" in page.value(state), 15, "the change of state, without a reload")
    assert page.value("document.title").startswith("!! ")
    assert page.value("document.activeElement.id") == focus
    assert page.errors == []
    receiver.kill()
    told = "document.getElementById('told').textContent"
    wait_until(lambda: "The daemon does not answer" in page.value(told), 15, "that it does not answer")


LARGE = [0.0, 3.0, 950.0, 9_000.0, 86_400.0, 2_000_000.0, 4e9]
FITS = """
[...document.querySelectorAll("svg text")].map(text => {
  const [inner, outer] = [text, text.closest("svg")].map(one => one.getBoundingClientRect());
  return Math.min(inner.left - outer.left, outer.right - inner.right);
})
"""


@pytest.mark.parametrize("top", LARGE)
def test_the_charts_labels_fit_however_large_the_numbers(page: Page, tmp_path: Path, top: float) -> None:
    history = History()
    for at in range(100):
        history.samples.append(Sample(1.8e9 + 60 * at, *(top * at / 99 for _ in range(4))))
    file = tmp_path / "page.html"
    file.write_text(rendered(Report("receiver of odoo", "at work", [Fact("a", "b")]), history, 1.8e9, "n"))
    for width, height in SCREENS.values():
        page.look(width, height)
        page.open(file.as_uri())
        room = page.value(FITS)
        assert len(room) == 12
        assert min(room) > -0.5
        assert page.value("document.documentElement.scrollWidth") <= width


def test_the_listener_s_page(script: Make, database: Database, vhost: Vhost, page: Page, port: int) -> None:
    listening = Listening(script, database, vhost, STATUS_ADDR=f"127.0.0.1:{port}")
    listening.bind()
    listening.table()
    listener = script("listen.py", listening.settings, environment=CHARTS)
    listener.start()
    listener.wait_for_log("relaying")
    listening.execute("insert into t select i from generate_series(1, 500) i")
    listening.await_empty()
    vhost.channel().queue_unbind("out", "relay", "#")
    listening.execute("insert into t select i from generate_series(501, 520) i")
    wait_until(lambda: numbers(port)["relay_outbox_events"] == 20, 20, "what waits to be measured")
    listening.admin("alter table t disable trigger user")
    wait_until(lambda: get(port, "/healthz")[0] == 503, 20, "the disabled trigger to be seen")
    assert seconds(page, port) < BUSY
    look_at(page, port, "listener")
