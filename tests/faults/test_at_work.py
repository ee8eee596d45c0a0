"""What goes wrong while a daemon is at work: one line with the remedy; check and status name it; it mends itself."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from dev.database import Database
from dev.doubles.endpoint import OK, Answer
from dev.script import Script
from dev.vhost import Vhost
from relay.findings import Finding
from tests.faults.conftest import LISTEN, RECEIVE, Ground, Make, bad, findings, status, told
from tests.listening import Listening
from tests.messages import Publisher
from tests.receiving import with_constants

PAGE = b"<!doctype html><html>no such page</html>"
ANSWERS = {
    "401": Answer(401),
    "403": Answer(403),
    "404 as HTML": Answer(404, PAGE),
    "500": Answer(500),
    "hanging": Answer(hang=2, commit=False),
}


@pytest.fixture
def receiving(ground: Ground, script: Make) -> Script:
    """A receiver at work; one for each outage, since what comes and goes is not told each time."""
    changed = {"WORKERS": 1, "HTTP_READ_TIMEOUT": "0.6", "HTTP_TIME_LIMIT": 0}
    soon = with_constants("relay.receiving.breaker.LOGIN_INTERVAL=0.6")
    made = script(RECEIVE, {**ground.settings(RECEIVE), **changed}, (), soon)
    made.start()
    made.wait_for_log("consuming")
    return made


@pytest.mark.parametrize("kind", [*ANSWERS, "down"])
def test_an_endpoint_that_does_not_work(ground: Ground, receiving: Script, kind: str) -> None:
    endpoint, publisher = ground.endpoint, Publisher(ground.vhost)
    if kind == "down":
        endpoint.stop()
    else:
        endpoint.rule, endpoint.options = lambda _request: ANSWERS[kind], ANSWERS[kind]
    try:
        for n in range(4):
            publisher.event(f"key {n}", n=n)
        receiving.wait_for_log("endpoint does not work")
        (named,) = [one for one in bad(receiving) if one.name.startswith("endpoint ")]
        shown = status(receiving)
    finally:
        endpoint.rule, endpoint.options = lambda _request: OK, OK
        if kind == "down":
            endpoint.start()
    line = told(receiving, "endpoint does not work")
    assert named.remedy
    (seen,) = [one for one in shown.splitlines() if one.startswith("!! endpoint")]
    if kind[:3].isdigit():
        assert all(f"HTTP {kind[:3]}" in text for text in (line, seen, named.detail))
        assert ("with a web page" in named.detail) is (kind == "404 as HTML")
    receiving.wait_for_log("endpoint works again")


def test_a_slow_endpoint_is_no_fault(ground: Ground, receiving: Script) -> None:
    before = receiving.log().count("WARNING")
    ground.endpoint.rule = lambda _request: Answer(work=0.2)
    done = len(ground.endpoint.completed)
    Publisher(ground.vhost).event("slow", n=1)
    try:
        while len(ground.endpoint.completed) == done:
            assert "!!" not in status(receiving)
    finally:
        ground.endpoint.rule = lambda _request: OK
    assert receiving.log().count("WARNING") == before


@pytest.fixture(scope="module")
def listening(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Script]:
    """A listener at work that looks often whether all is captured."""
    often = with_constants("relay.listening.inspection.INSPECT_INTERVAL=0.2")
    made = Script(
        LISTEN, {**ground.settings(LISTEN), "POLL_INTERVAL": "0.1"}, tmp_path_factory.mktemp("listener"), (), often
    )
    made.start()
    made.wait_for_log("relaying")
    yield made
    made.kill()


AGAIN = "create table t (id int primary key, n int); select relay.watch('public.t')"
LOST = {
    "a trigger is disabled": (
        'alter table t disable trigger "!relay_insert"',
        "a trigger is disabled",
        'alter table t enable trigger "!relay_insert"',
    ),
    "a role's writers fire no trigger": (
        f"alter role {Database.APP} set session_replication_role = replica",
        "no trigger fires where session_replication_role is replica",
        f"alter role {Database.APP} reset session_replication_role",
    ),
    "a watched table is dropped": (
        "drop table t",
        "the table was dropped",
        f"delete from relay.wanted where name = 'public.t'; {AGAIN}",
    ),
}


@pytest.mark.parametrize("kind", LOST)
def test_what_is_not_captured_any_more(ground: Ground, listening: Script, kind: str) -> None:
    made, said, mended = LOST[kind]
    again = listening.log().count("capture is complete again")
    ground.sql(made)
    try:
        listening.wait_for_log(said)
        (named,) = [one for one in bad(listening) if one.name.startswith("watched ")]
        shown = status(listening)
    finally:
        ground.sql(mended)
    line = told(listening, said)
    assert " ERROR " in line
    assert said in named.detail
    assert named.remedy
    assert said in shown
    listening.wait_for_log("capture is complete again", count=again + 1)


def test_clocks_that_are_ten_minutes_apart(ground: Ground, script: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours is wrong; so are then all others."""
    real = time.time
    wrong = SimpleNamespace(time=lambda: real() + 600, monotonic=time.monotonic)
    for module in ("relay.listening.check.time", "relay.targets.http_check.time", "relay.amqp.management_api.time"):
        monkeypatch.setattr(module, wrong)
    ground.endpoint.options = Answer(headers={"Date": time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime())})
    found: list[Finding] = []
    for name in (LISTEN, RECEIVE):
        found += [one for one in findings(script(name, ground.settings(name))) if one.name.startswith("clock of ")]
    ground.endpoint.options = OK
    names = ["PostgreSQL", "RabbitMQ", "RabbitMQ", f"127.0.0.1:{ground.endpoint.port}"]
    assert [one.name for one in found] == [f"clock of {name}" for name in names]
    for one in found:
        assert one.detail.endswith(" s behind this host's")
        assert one.remedy == "timedatectl on both hosts: is NTP at work?"


@pytest.mark.parametrize("name", [LISTEN, RECEIVE])
def test_a_log_disk_that_is_full_costs_one_line(ground: Ground, script: Make, name: str) -> None:
    daemon = script(name, {**ground.settings(name), "LOG_FILE": "/dev/full", "QUEUE": "full", "SOURCE": "full"})
    daemon.start()
    daemon.wait_for_log("starting")
    daemon.wait_for_log("relaying" if name == LISTEN else "consuming")
    (line,) = [line for line in daemon.log().splitlines() if "/dev/full" in line]
    assert "No space left on device; until it can be written, lines come here" in line
    daemon.terminate()
    assert daemon.wait() == 0
    assert "Traceback" not in daemon.log()


@pytest.mark.parametrize("alarm", ["memory", "disk"])
def test_an_alarm_at_the_start(script: Make, database: Database, private_vhost: Vhost, alarm: str) -> None:
    listener = Listening(script, database, private_vhost)
    listener.bind()
    listener.table()
    listener.execute("insert into t values (1)")
    set_alarm = getattr(private_vhost.broker, f"set_{alarm}_alarm")
    set_alarm(True)
    listener.script.start()
    listener.script.wait_for_log("RabbitMQ blocks this connection")
    (named,) = [one for one in bad(listener.script) if one.name == "RabbitMQ"]
    set_alarm(False)
    assert named.outage
    assert "rabbitmq-diagnostics alarms" in named.remedy
    assert "remedy=" in told(listener.script, "RabbitMQ blocks this connection")
    assert len(listener.messages(1)) == 1
    listener.script.wait_for_log("RabbitMQ no longer blocks this connection")
