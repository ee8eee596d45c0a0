"""Odoo's failures, each as measured on real servers: whose it is, how long it is waited, what the log says.

An event goes through the target, its workers and the dispatcher as in the receiver; only RabbitMQ is left out.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dev.doubles.odoo.handle import Standin
from relay.delivery import DONE, Event, Target, Verdict
from relay.log import Log
from relay.receiving.breaker import LOGIN_INTERVAL, Breaker
from relay.receiving.dispatcher import Dispatcher
from relay.receiving.strands import Strands
from relay.receiving.workers import Workers
from relay.targets.odoo.load import OdooLoadTarget
from tests.links import Link
from tests.odoo_rows import PARTNERS, customer, deliver, target

MESSAGE, ENDPOINT, UNCLEAR, CONFLICT = Verdict.MESSAGE, Verdict.ENDPOINT, Verdict.UNCLEAR, Verdict.CONFLICT
HTML = {"Content-Type": "text/html; charset=utf-8"}


@dataclasses.dataclass
class Run:
    """One event on its way, and what the receiver's parts know afterwards."""

    dispatcher: Dispatcher
    strands: Strands
    acknowledged: list[str]


def run(made: Target, event: Event) -> Run:
    """Give it to the parts that receiver.py wires, with waits of 1 s, until its first try has ended."""
    return asyncio.run(asyncio.wait_for(_run(made, event), 20))


async def _run(made: Target, event: Event) -> Run:
    strands = Strands("key", made.group)
    workers = Workers(made, 2)
    dispatcher = Dispatcher(
        strands,
        workers,
        Breaker(streak=3, minimum=1.0),
        batch_size=made.batch_size,
        retry=(1.0, 60.0),
        max_attempts=8,
        max_rate=0,
        clock=time.monotonic,
        log=Log("receiver"),
    )
    made_run = Run(dispatcher, strands, [])
    strands.add(event, lambda: made_run.acknowledged.append(event.id), time.monotonic())
    ended = asyncio.Event()
    workers.report_to(ended.set)
    dispatcher.start_ready()
    await ended.wait()
    for receipt in dispatcher.collect():
        receipt()
    await workers.end()
    return made_run


def hide(made: OdooLoadTarget) -> None:
    """What is asked once has been asked: the trouble meets the rows themselves."""
    assert deliver(made, customer(1)) == [DONE]


# trouble, whose failure, part of the reason; "login" if it is one; seconds until the next try at least
COMMON: list[tuple[dict[str, Any], Verdict, str, bool, float]] = [
    ({"kind": "error", "name": "odoo.exceptions.UserError"}, MESSAGE, "UserError: It was told to fail", False, 0.5),
    ({"kind": "error", "name": "odoo.exceptions.ValidationError"}, MESSAGE, "ValidationError", False, 0.5),
    ({"kind": "error", "name": "builtins.ValueError"}, MESSAGE, "ValueError", False, 0.5),
    ({"kind": "error", "name": "builtins.KeyError"}, MESSAGE, "KeyError", False, 0.5),
    ({"kind": "error", "name": "psycopg2.errors.NotNullViolation"}, MESSAGE, "NotNullViolation", False, 0.5),
    ({"kind": "error", "name": "odoo.exceptions.AccessError"}, UNCLEAR, "AccessError", False, 0.5),
    ({"kind": "error", "name": "odoo.addons.own.Strange"}, UNCLEAR, "Strange", False, 0.5),
    ({"kind": "error", "name": "odoo.exceptions.LockError"}, CONFLICT, "LockError", False, 0.5),
    ({"kind": "error", "name": "psycopg2.errors.SerializationFailure"}, CONFLICT, "SerializationFailure", False, 0.5),
    ({"kind": "error", "name": "psycopg2.pool.PoolError"}, ENDPOINT, "PoolError", False, 0.5),
    ({"kind": "error", "name": "odoo.exceptions.AccessDenied"}, ENDPOINT, "AccessDenied", True, LOGIN_INTERVAL),
    ({"kind": "conflict"}, CONFLICT, "could not serialize access", False, 0.5),
    ({"kind": "access", "model": "res.partner"}, MESSAGE, "not allowed", False, 0.5),
    ({"kind": "key"}, ENDPOINT, "", True, LOGIN_INTERVAL),
    ({"kind": "session"}, ENDPOINT, "", True, LOGIN_INTERVAL),
    ({"kind": "reset"}, UNCLEAR, "the connection broke", False, 0.5),
    ({"kind": "half"}, UNCLEAR, "the connection broke", False, 0.5),
    ({"kind": "slow", "after": 1.5}, UNCLEAR, "no answer in time", False, 2.5),
    ({"kind": "status", "status": 502, "headers": HTML}, UNCLEAR, "HTTP 502", False, 0.5),
    ({"kind": "status", "status": 429, "headers": {"Retry-After": "7"}}, ENDPOINT, "HTTP 429", False, 7),
    ({"kind": "status", "status": 413, "headers": HTML}, MESSAGE, "HTTP 413", False, 0.5),
    ({"kind": "status", "status": 303, "headers": {"Location": "/web/login"}}, ENDPOINT, "HTTP 303", False, 0.5),
    ({"kind": "status", "status": 200, "headers": HTML}, ENDPOINT, "a web page", False, 0.5),
]
CASES = [
    *(("17", *case) for case in COMMON),
    *(("19", *case) for case in COMMON),
    ("17", {"kind": "database"}, ENDPOINT, "OperationalError", False, 0.5),
    ("19", {"kind": "database"}, ENDPOINT, "HTTP 404 with a web page", False, 0.5),
]


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, Standin]]:
    found = {version: Standin(version) for version in ("17", "19")}
    yield found
    for one in found.values():
        one.end()


@pytest.mark.parametrize(
    ("version", "trouble", "verdict", "reason", "login", "wait"),
    CASES,
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_whose_failure_it_is_how_long_it_waits_and_what_the_log_says(
    servers: dict[str, Standin],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    version: str,
    trouble: dict[str, Any],
    verdict: Verdict,
    reason: str,
    login: bool,
    wait: float,
) -> None:
    odoo = servers[version]
    odoo.mend()
    made = target(tmp_path, odoo, HTTP_READ_TIMEOUT="1", HTTP_TIME_LIMIT="4")
    hide(made)
    caplog.set_level(logging.DEBUG, "receiver")
    odoo.break_(**trouble)
    event, started = customer(2), time.monotonic()
    ran = run(made, event)
    odoo.mend()
    ended = time.monotonic()

    assert not ran.acknowledged
    strand = ran.strands.strand(event.key)
    assert strand is not None
    [item] = strand.items
    assert item.tries.attempts == (verdict is MESSAGE)
    assert reason in item.tries.reason
    breaker = ran.dispatcher.breaker
    assert breaker.is_open == (verdict is ENDPOINT)
    next_try = breaker.next_probe() if breaker.is_open else item.tries.not_before
    assert next_try is not None
    assert next_try >= (started if login else ended) + wait - 0.5
    assert (next_try >= ended + LOGIN_INTERVAL - 5) == login
    sentence = "endpoint does not work, pausing" if verdict is ENDPOINT else "not delivered, will try again"
    [line] = [record for record in caplog.records if record.getMessage().startswith(sentence)]
    assert line.levelno == (logging.DEBUG if verdict is CONFLICT else logging.WARNING)
    assert reason.split(":")[0] in line.getMessage()


def test_a_mapped_model_that_is_not_there_is_the_rows_failure(servers: dict[str, Standin], tmp_path: Path) -> None:
    for odoo in servers.values():
        odoo.mend()
        [outcome] = deliver(target(tmp_path, odoo, PARTNERS.replace('res.partner"', 'res.nobody"')), customer(1))
        assert outcome.verdict is MESSAGE
        assert "res.nobody" in outcome.reason


def test_a_wrong_key_is_tried_once_by_all_threads_together(servers: dict[str, Standin], tmp_path: Path) -> None:
    for odoo in servers.values():
        odoo.mend()
        made = target(tmp_path, odoo, ODOO_API_KEY="wrong")
        odoo.forget_requests()
        outcomes = [deliver(made, customer(key))[0] for key in range(5)]
        assert {(one.verdict, one.login) for one in outcomes} == {(ENDPOINT, True)}
        knocks = [one for one in odoo.requests() if "version_info" not in one["path"]]
        assert len(knocks) == 1


def test_the_probe_asks_with_the_login_and_needs_the_database(servers: dict[str, Standin], tmp_path: Path) -> None:
    for odoo in servers.values():
        odoo.mend()
        link = Link(target(tmp_path, odoo))
        assert link.probe() == DONE
        odoo.break_("database")
        assert link.probe().verdict is ENDPOINT  # type: ignore[union-attr]
        odoo.mend()
        link.close()
