"""What is counted for status and metrics: histograms, rates, times from commit, and what is made of it for people."""

from __future__ import annotations

import bisect
import contextlib
import datetime
import io
import time
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.config import Listen, load
from relay.delivery import Event
from relay.findings import Level
from relay.listening import backlog as backlog_module
from relay.listening.backlog import Backlog
from relay.listening.event import OutboxEvent
from relay.listening.overview import show
from relay.listening.postgres import Postgres
from relay.listening.status import report
from relay.listening.tally import REFUSED_KEPT, Tally
from relay.log import Log
from relay.receiving.latency import Latency, written
from relay.receiving.strand import Item, Strand
from relay.status.by_table import OTHERS, TABLES_MAX, ByTable
from relay.status.histogram import BOUNDS, Histogram
from relay.status.rate import Rate
from relay.status.report import lines

NOW = 1_800_000_000_000_000  # microseconds


@given(st.lists(st.integers(-(10**7), 10**11), min_size=1, max_size=30))
def test_a_batch_is_counted_as_its_events_one_by_one_are(lags: list[int]) -> None:
    batch, each = Histogram(), Histogram()
    batch.observe_until(NOW, [NOW - lag for lag in lags])
    for lag in lags:
        each.observe(lag / 1e6)
    assert batch.buckets() == each.buckets()
    assert batch.sum == pytest.approx(each.sum)
    assert batch.buckets()[-1] == ("+Inf", len(lags))
    for bound, (name, count) in zip(BOUNDS, batch.buckets(), strict=False):
        assert (float(name), count) == (bound, sum(lag / 1e6 <= bound for lag in lags))


def test_a_bound_itself_is_in_its_bucket() -> None:
    histogram = Histogram()
    histogram.observe(BOUNDS[3])
    assert [count for _name, count in histogram.buckets()].index(1.0) == bisect.bisect_left(BOUNDS, BOUNDS[3])


def test_a_rate_is_of_the_last_minute() -> None:
    rate = Rate(0.0, 2)
    assert rate.a_minute(30.0, 50, 0) == [50.0, 0.0]
    for second in range(1, 301):
        rate.tick(float(second), second, 2 * second)
    assert rate.a_minute(300.0, 300, 600) == [60.0, 120.0]
    for second in range(301, 601):
        rate.tick(float(second), 300, 600)
    assert rate.a_minute(600.0, 300, 600) == [0.0, 0.0]


def row(at: int, seq: int = 1) -> OutboxEvent:
    return OutboxEvent(seq, f"id-{seq}", at, 1, "t", "t", "insert", f"t {seq}", b"{}")


def test_confirms_of_one_batch_are_looked_at_once_and_refusals_are_bounded() -> None:
    soon: list[Any] = []
    tally = Tally(Log("test"), soon.append)
    before = int(time.time() * 1e6)
    for seq in range(5):
        tally.confirmed(row(before - 2_000_000, seq))
    assert (tally.published, len(soon)) == (5, 1)
    soon.pop()()
    assert tally.lag.buckets()[-1][1] == 5
    assert 2 <= tally.last_lag < 10
    tally.confirmed(row(before))
    assert len(soon) == 1, "the next batch"
    for seq in range(3 * REFUSED_KEPT):
        tally.declined(row(0, seq), "why")
    assert (tally.refused, len(tally.refusals), tally.refusals[-1].id) == (30, REFUSED_KEPT, "id-29")


AT = datetime.datetime(2026, 11, 22, 16, 0, 0, 123456, datetime.UTC)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"id":"5cfb6e63-0000-0000-0000-000000000001","at":"2026-11-22T16:00:00.123456+00:00"', AT.timestamp()),
        (b'{"id":"5cfb6e63-0000-0000-0000-000000000001","at":"2026-11-22T16:00:00+00:00","xid"', int(AT.timestamp())),
        (b'{"id":"5cfb6e63-0000-0000-0000-000000000001","at":"2026-13-41T25:00:00+00:00","xid"', 7.0),
        (b'{"id":"5cfb6e63-0000-0000-0000-000000000001","at":"infinity","xid"', 7.0),
        (b'{"at":"2026-11-22T16:00:00+00:00"}', 7.0),
        (b"", 7.0),
        (b"\xff" * 1000, 7.0),
    ],
)  # fmt: skip
def test_when_a_row_was_written_is_read_from_its_event_or_the_message(body: bytes, expected: float) -> None:
    assert written(Event(body, "t", timestamp=7)) == pytest.approx(expected, abs=1e-6)


def test_an_event_of_unknown_time_counts_from_the_queue_only() -> None:
    latency = Latency()
    latency.delivered(Item(Event(b"x", "t"), None, Strand("x"), arrived=10.0), 10.3)
    assert latency.from_queue.buckets()[-1][1] == 1
    assert latency.from_queue.sum == pytest.approx(0.3)
    assert latency.from_commit.buckets()[-1][1] == 0


def document(**changes: Any) -> dict[str, Any]:
    """Of a listener at work that has nothing to do."""
    return {
        "host": "db1", "process": 7, "state": "at work", "state_since": 0.0, "published": 3, "published_a_minute": 1.0,
        "last_published": None, "last_lag_seconds": None, "refused": 0, "last_refused": [], "unconfirmed": 0,
        "alarm": None, "wake_up": "asleep", "held": {"groups": 0, "keys": 0, "first": []}, "outbox": None,
        "incomplete": [], "last_error": None, **changes,
    }  # fmt: skip


TOPICS = [{"topic": "public.t", "events": 3, "oldest": 40.0, "refused": 1}]
OUTBOX = {"at": 90.0, "events": 3, "is_more": False, "oldest": 40.0, "refused": 1, "topics": TOPICS, "come": 3}


@pytest.mark.parametrize(
    ("changes", "state", "level", "line"),
    [
        ({}, "at work", Level.OK, "   at work    on db1, process 7, for 2 min"),
        ({"state": "waiting: RabbitMQ is away"},
         "waiting", Level.FAILED, "!! waiting    on db1, process 7, for 2 min: RabbitMQ is away"),
        ({"state": "standby: another one"},
         "standby", Level.OK, "   standby    on db1, process 7, for 2 min: another one"),
        ({"alarm": {"reason": "low on memory", "since": 95.0}},
         "waiting for RabbitMQ", Level.FAILED, "!! RabbitMQ   takes nothing, for 30 s: low on memory"),
        ({"outbox": OUTBOX}, "at work", Level.WARNING, "   outbox     3 events in the outbox, the oldest for 85 s"),
        ({"outbox": OUTBOX | {"is_more": True, "events": 11}},
         "at work", Level.WARNING, "   outbox     more than 10 events in the outbox, the oldest for 85 s"),
        ({"outbox": OUTBOX | {"oldest": -300.0, "refused": 0}},
         "at work", Level.WARNING, "!  outbox     3 events in the outbox, the oldest for 7 min"),
        ({"incomplete": [{"table": "t", "note": "gone", "remedy": "do"}]},
         "at work", Level.FAILED, "!! t          NOT COMPLETE: gone -> do"),
        ({"last_error": {"what": "x", "at": 120.0}}, "at work", Level.OK, "   last error  5 s ago: x"),
        ({"wake_up": "waking"}, "at work", Level.OK, "   wake-up    awake (waking)"),
    ],
)  # fmt: skip
def test_how_a_listener_is_in_words(changes: dict[str, Any], state: str, level: Level, line: str) -> None:
    made = report("erp", document(**changes), None, 125.0)
    shown = [" ".join(one.split()) for one in lines(made)]
    assert (made.title, made.state, made.level) == ("listener of erp", state, level)
    assert any(one.startswith(" ".join(line.split())) for one in shown), shown


HELD = {"what": 5, "reason": [], "since": 1.0, "next_try_seconds": 1.0}
ODD: list[Any] = [
    None, "", "x", -1, 1e400, [], {}, [[]], {"a": 1}, "\x1b[2J\n", {"groups": 1, "keys": 0, "first": [HELD]},
    [{"id": 5, "key": 6, "reason": None, "at": 1.0}], {"what": None, "at": 1.0},
]  # fmt: skip


@given(
    st.dictionaries(st.sampled_from(sorted(document())), st.sampled_from(ODD), max_size=3),
    st.sampled_from([*sorted(document()), ""]),
)
def test_whatever_answers_in_the_listeners_name_is_told_in_words(changes: dict[str, Any], gone: str) -> None:
    config = load(Listen, None, {"DATABASE_URL": "postgresql://h/erp", "RABBITMQ_URL": "amqp://h/v"})
    found = {name: value for name, value in document(**changes).items() if name != gone}
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        show(config, found, "", None, None, as_json=False)
    said = shown.getvalue()
    assert said.startswith("listener of erp: ")
    assert all(line.isprintable() for line in said.split("\n"))


def source(asked: list[Any]) -> Postgres:
    """PostgreSQL, which keeps what it is asked."""
    database = SimpleNamespace(run=lambda *statement: asked.append(statement))
    session = SimpleNamespace(fail=None)
    return Postgres(session, database, 1, 5.0, notify=True, log=Log("test"))  # type: ignore[arg-type]


def measured(backlog: Backlog, rows: list[tuple[Any, ...]], undeleted: int = 0) -> str:
    """Have it look, and answer; return the statement."""
    asked: list[Any] = []
    database = source(asked)
    assert backlog.measure(database, undeleted, lambda: None)
    ((sql, _parameters, found, _failed),) = asked
    found(rows)
    return str(sql)


def test_a_long_outbox_is_told_once_and_its_end_too(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog_module, "SHOWN_INTERVAL", 0.0)
    monkeypatch.setattr(backlog_module, "SHARE", 1e9)
    tally = Tally(Log("test"), lambda _call: None)
    backlog = Backlog(2, tally, Log("test"), is_shown=True)
    with caplog.at_level("INFO"):
        for events in (2, 3, 4, 2, 0):
            measured(backlog, [(None, events, 1.0, 0, 0.5), ("t", events, 1.0, 0, 0.5)])
    assert [one.getMessage().partition(" events")[0] for one in caplog.records] == [
        "the outbox is long", "the outbox is short again"
    ]  # fmt: skip


def test_what_came_in_is_what_left_and_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Events that are published and not deleted yet are in both."""
    monkeypatch.setattr(backlog_module, "SHOWN_INTERVAL", 0.0)
    monkeypatch.setattr(backlog_module, "SHARE", 1e9)
    tally = Tally(Log("test"), lambda _call: None)
    for seq in range(5):
        tally.confirmed(row(0, seq))
    backlog = Backlog(0, tally, Log("test"), is_shown=True)
    measured(backlog, [(None, 7, 1.0, 1, 0.5), ("t", 4, 2.0, 1, 0.5), ("u", 3, 1.0, 0, 0.5)], undeleted=2)
    found = backlog.measured
    assert found is not None
    assert (found.come, found.events, found.refused, found.is_more, len(found.topics)) == (10, 7, 1, False, 2)
    measured(backlog, [(None, backlog_module.COUNTED_MIN + 1, 1.0, 0, 0.5)])
    assert backlog.measured is not None
    assert backlog.measured.is_more


def test_looking_takes_a_hundredth_of_the_time_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(backlog_module.time, "monotonic", lambda: now[0])
    tally = Tally(Log("test"), lambda _call: None)
    backlog = Backlog(0, tally, Log("test"), is_shown=True)
    asked: list[Any] = []
    database = source(asked)
    backlog.measure(database, 0, lambda: None)
    now[0] = 2.0
    asked.pop()[2]([(None, 0, None, 0, None)])
    now[0] = 199.0
    assert not backlog.measure(database, 0, lambda: None)
    now[0] = 200.0
    assert backlog.measure(database, 0, lambda: None)
    assert not Backlog(0, tally, Log("test"), is_shown=False).measure(database, 0, lambda: None)


def test_counts_by_table_are_bounded_whatever_tables_messages_name() -> None:
    counts = ByTable("verdict")
    odd = ["x" * 10_000, "half \ud800", "line\nbreak"]
    for table in [*odd, *(f"public.t{n}" for n in range(2 * TABLES_MAX)), "public.t0", ""]:
        counts.add(table, "done")
    found = {sample.labels["table"]: sample.value for sample in counts.metric("tries", "-").samples}
    assert len(found) == TABLES_MAX + 1
    assert (found["public.t0"], found[OTHERS]) == (2, len(odd) + TABLES_MAX + 1)
