"""What the receiver says once a minute, and during an outage. The clock is the test's own."""

from __future__ import annotations

import math
import time

import pytest

from relay.delivery import Outcome, Verdict
from relay.log import Log
from relay.receiving.outage import REMIND_EVERY
from relay.receiving.parking.index import ParkedIndex
from relay.receiving.summary import EVERY, Summary
from tests.unit.test_batches import Bench


def test_a_minute_with_deliveries_is_one_line_and_one_without_is_none(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    bench = Bench(batch=1)
    summary = Summary(bench.dispatcher, bench.strands, ParkedIndex(), Log("test"))
    begin = float(math.ceil(time.monotonic()))  # sums of whole seconds are exact
    summary.tick(begin + EVERY + 1)
    assert caplog.messages == []
    bench.arrive(3)
    bench.workers.finish(Outcome(Verdict.DONE), bench.now)
    bench.dispatcher.collect()
    bench.dispatcher.start_ready()
    bench.workers.finish(Outcome(Verdict.MESSAGE, "422"), bench.now)
    bench.dispatcher.collect()
    for second in range(1, 200):
        summary.tick(begin + EVERY + 1 + second)
    lines = [message for message in caplog.messages if message.startswith("deliveries")]
    assert lines == ["deliveries delivered=1 failed=1 in_s=60 here=2"]


def test_an_outage_is_three_lines_and_a_reminder_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    bench = Bench(batch=1)
    summary = Summary(bench.dispatcher, bench.strands, ParkedIndex(), Log("test"))
    bench.arrive(1)
    bench.workers.finish(Outcome(Verdict.ENDPOINT, "HTTP 503"), bench.now)
    bench.dispatcher.collect()
    opened = bench.breaker.opened_at
    assert opened == bench.now
    for second in range(int(2.5 * REMIND_EVERY)):
        summary.tick(opened + second)
    bench.breaker.close()
    summary.tick(opened + 3 * REMIND_EVERY)
    told = [message.split(" reason")[0] for message in caplog.messages if "endpoint" in message]
    assert told == ["endpoint does not work, pausing"] + [
        f"endpoint still does not work since_s={n * REMIND_EVERY:.0f}" for n in (1, 2)
    ]
