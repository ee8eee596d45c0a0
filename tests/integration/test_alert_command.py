"""ALERT_COMMAND of running daemons: what it is told, and that whatever it does holds up nothing."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pika
import pytest

from dev.database import Database
from dev.doubles.endpoint import Answer, Endpoint
from dev.process import Process, wait_until
from dev.rabbitmq import RabbitMQ
from dev.script import Script
from dev.vhost import Vhost
from tests.listening import Listening
from tests.receiving import settings, with_constants

QUICK = with_constants(
    "relay.alert_command.LOOK_SECONDS=0.05",
    "relay.alert_command.KEEP_SECONDS=0.3",
    *("relay.receiving.status.PARKED_EVERY=0.1", "relay.listening.backlog.MEASURE_INTERVAL=0.1"),
    "relay.listening.inspection.INSPECT_INTERVAL=0.1",
)
KEEPS = f"""#!{sys.executable}
import json, os
with open({{path!r}}, "a") as file:
    file.write(json.dumps(dict(os.environ)) + "\\n")
"""


class Command:
    """A program that writes down its environment."""

    def __init__(self, directory: Path, then: str = "") -> None:
        self.program, self.told = directory / "alert", directory / "told"
        self.program.write_text(KEEPS.format(path=str(self.told)) + then)
        self.program.chmod(0o755)

    @property
    def runs(self) -> list[dict[str, str]]:
        lines = self.told.read_text().splitlines() if self.told.exists() else []
        return [json.loads(line) for line in lines]

    def words(self) -> list[str]:
        return [f"{run['RELAY_CAUSE']} {run['RELAY_STATE']}" for run in self.runs]

    def wait_for(self, *words: str) -> None:
        wait_until(lambda: len(self.words()) >= len(words), 20, f"{words}")
        assert self.words() == list(words)


def receiver(
    script: Callable[..., Script], vhost: Vhost, endpoint: Endpoint, command: object, **more: object
) -> Script:
    given = {"ALERT_COMMAND": command, "ALERT_AFTER": "0.2", "SHUTDOWN_GRACE": "1", **more}
    made = script("receiver.py", settings(vhost, endpoint, **given), environment={"SECRET": "s3cret", **QUICK})
    made.start()
    made.wait_for_log("consuming")
    return made


def publish(vhost: Vhost, n: int, **properties: object) -> None:
    vhost.channel().basic_publish("", "odoo", json.dumps({"n": n}).encode(), pika.BasicProperties(**properties))  # type: ignore[arg-type]


def stopped(daemon: Script) -> str:
    """Its log, once it has ended well, and quickly."""
    daemon.terminate()
    assert daemon.wait(5) == 0
    return daemon.log()


def test_an_endpoint_that_does_not_work_is_told_once_and_that_it_works_again(
    script: Callable[..., Script], vhost: Vhost, endpoint: Endpoint, tmp_path: Path
) -> None:
    command = Command(tmp_path)
    endpoint.rule = lambda _request: Answer(503, b"at lunch\x1b[2J")
    daemon = receiver(script, vhost, endpoint, command.program)
    publish(vhost, 1)
    command.wait_for("endpoint raised")
    endpoint.rule = lambda _request: Answer()
    command.wait_for("endpoint raised", "endpoint ended")
    raised, ended = command.runs
    assert set(raised) <= {"PATH", "LANG", "LC_CTYPE"} | {name for name in raised if name.startswith("RELAY_")}
    assert raised["RELAY_REASON"].startswith(f"http://127.0.0.1:{endpoint.port} does not work: HTTP 503: at lunch")
    assert raised["RELAY_REASON"].isprintable()
    assert raised["RELAY_NAME"] == "receiver of odoo"
    assert raised["RELAY_HOST"]
    assert raised["RELAY_SINCE"] == ended["RELAY_SINCE"]
    log = stopped(daemon)
    assert log.count("alert raised cause=endpoint") == log.count("alert ended cause=endpoint") == 1


def test_a_parked_event_is_told_and_that_it_was_replayed(
    script: Callable[..., Script], vhost: Vhost, endpoint: Endpoint, tmp_path: Path
) -> None:
    from tests.receiving import done, run

    command = Command(tmp_path)
    endpoint.rule = lambda _request: Answer(422, b"no such unit")
    daemon = receiver(script, vhost, endpoint, f"{command.program} 'one argument'", MAX_ATTEMPTS=1)
    publish(vhost, 1)
    command.wait_for("parked raised")
    assert command.runs[0]["RELAY_REASON"] == "1 key refused: HTTP 422: no such unit"
    publish(vhost, 2)
    daemon.wait_for_log("event refused and parked", count=2)
    endpoint.rule = lambda _request: Answer()
    done(run(daemon, "replay", "--all"))
    command.wait_for("parked raised", "parked ended")


def test_an_event_that_waits_for_too_long_is_told(
    script: Callable[..., Script], vhost: Vhost, endpoint: Endpoint, tmp_path: Path
) -> None:
    command = Command(tmp_path)
    endpoint.rule = lambda _request: Answer(503)
    receiver(script, vhost, endpoint, command.program, ALERT_AFTER=3600, ALERT_AGE=1)
    publish(vhost, 1, timestamp=1_000_000_000)
    command.wait_for("age raised")
    assert command.runs[0]["RELAY_REASON"].startswith("the oldest event is ")
    endpoint.rule = lambda _request: Answer()
    command.wait_for("age raised", "age ended")


@pytest.mark.parametrize(
    ("then", "said"),
    [
        ("import time; time.sleep(600)", "it had not ended after 1 s, and was killed"),
        ("import os, time\nif os.fork(): raise SystemExit(1)\ntime.sleep(600)", 'reason="exit status 1"'),
        ("import os, signal; os.kill(0, signal.SIGTERM)", "it was ended by signal 15"),
        ("import os\nfor fd in (1, 2):\n for _ in range(160): os.write(fd, b'x' * 65536)\n", None),
    ],
    ids=["hangs", "fails", "kills its group", "writes 20 MB"],
)
def test_whatever_the_command_does_holds_up_nothing(
    script: Callable[..., Script], vhost: Vhost, endpoint: Endpoint, tmp_path: Path, then: str, said: str | None
) -> None:
    command = Command(tmp_path, then)
    endpoint.rule = lambda request: Answer(422) if request.json["n"] == 1 else Answer()
    daemon = receiver(script, vhost, endpoint, command.program, MAX_ATTEMPTS=1, ALERT_TIMEOUT=1)
    publish(vhost, 1)
    command.wait_for("parked raised")
    publish(vhost, 2)
    wait_until(lambda: {"n": 2} in endpoint.bodies(), 5, "a delivery meanwhile")
    if said:
        daemon.wait_for_log("ALERT_COMMAND failed: nobody was told")
    log = stopped(daemon)
    assert log.count("ALERT_COMMAND failed") == (1 if said else 0)
    assert said is None or said in log
    assert "x" * 1000 not in log
    assert "Traceback" not in log
    assert "s3cret" not in log


def test_with_its_process_group_it_is_killed_and_a_stop_does_not_wait_for_it(
    script: Callable[..., Script], vhost: Vhost, endpoint: Endpoint, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    then = f"import pathlib, time\nos.fork()\nopen({str(pids)!r}, 'a').write(f'{{os.getpid()}} ')\ntime.sleep(600)"
    command = Command(tmp_path, then)
    endpoint.rule = lambda _request: Answer(422)
    daemon = receiver(script, vhost, endpoint, command.program, MAX_ATTEMPTS=1, ALERT_TIMEOUT=600)
    publish(vhost, 1)
    wait_until(lambda: pids.exists() and len(pids.read_text().split()) == 2, 20, "two processes")
    log = stopped(daemon)
    assert "ALERT_COMMAND" not in log
    wait_until(lambda: not any(map(Process.of, map(int, pids.read_text().split()))), 5, "the end of both")


def test_what_it_leaves_behind_is_ended_with_it(
    script: Callable[..., Script], vhost: Vhost, endpoint: Endpoint, tmp_path: Path
) -> None:
    left = tmp_path / "left"
    then = f"import time\nif (pid := os.fork()): open({str(left)!r}, 'w').write(str(pid))\nelse: time.sleep(600)"
    command = Command(tmp_path, then)
    endpoint.rule = lambda _request: Answer(422)
    daemon = receiver(script, vhost, endpoint, command.program, MAX_ATTEMPTS=1)
    publish(vhost, 1)
    wait_until(lambda: left.exists() and left.read_text(), 20, "a process")
    wait_until(lambda: Process.of(int(left.read_text())) is None, 5, "its end")
    assert "ALERT_COMMAND" not in stopped(daemon)


def test_two_alerts_run_one_after_another(
    script: Callable[..., Script], vhost: Vhost, endpoint: Endpoint, tmp_path: Path
) -> None:
    busy, met = tmp_path / "busy", tmp_path / "met"
    then = f"import pathlib, time\nbusy = pathlib.Path({str(busy)!r})\nif busy.exists(): open({str(met)!r}, 'w')\n"
    then += "busy.touch(); time.sleep(0.5); busy.unlink()"
    command = Command(tmp_path, then)
    endpoint.rule = lambda request: Answer(422 if request.json["n"] == 1 else 503)
    receiver(script, vhost, endpoint, command.program, MAX_ATTEMPTS=1)
    publish(vhost, 1)
    publish(vhost, 2)
    wait_until(lambda: sorted(command.words()) == ["endpoint raised", "parked raised"], 20, "both")
    wait_until(lambda: not busy.exists(), 5, "the second one's end")
    assert not met.exists()


def test_a_command_that_is_missing_is_named_at_the_start_by_check_and_when_it_fails(
    script: Callable[..., Script], vhost: Vhost, endpoint: Endpoint
) -> None:
    from tests.receiving import run

    endpoint.rule = lambda _request: Answer(422)
    daemon = receiver(script, vhost, endpoint, "/nowhere/alert --to me", MAX_ATTEMPTS=1)
    publish(vhost, 1)
    daemon.wait_for_log("ALERT_COMMAND failed: nobody was told")
    assert "ALERT_COMMAND can't be run" in daemon.log()
    assert 'reason="No such file or directory" command=/nowhere/alert' in daemon.log()
    found = run(daemon, "check")
    assert "WARN    ALERT_COMMAND: there is no program /nowhere/alert" in found.stdout
    assert "Traceback" not in stopped(daemon)


def test_the_listener_tells_of_incomplete_capture_and_of_what_waits(
    script: Callable[..., Script], database: Database, vhost: Vhost, tmp_path: Path
) -> None:
    command = Command(tmp_path)
    listening = Listening(script, database, vhost, ALERT_COMMAND=command.program, ALERT_AGE=1)
    listening.table()
    daemon = script("listen.py", listening.settings, environment=QUICK)
    daemon.start()
    daemon.wait_for_log("relaying")
    listening.execute("alter table t disable trigger all")
    command.wait_for("capture raised")
    assert "table public.t: a trigger is disabled" in command.runs[0]["RELAY_REASON"]
    assert command.runs[0]["RELAY_NAME"].startswith("listener of ")
    listening.execute("alter table t enable trigger all")
    listening.admin("select relay.watch('public.t')")
    command.wait_for("capture raised", "capture ended")
    listening.execute("insert into t values (1)")  # no queue is bound
    command.wait_for("capture raised", "capture ended", "age raised")
    listening.bind()
    command.wait_for("capture raised", "capture ended", "age raised", "age ended")
    assert daemon.log().count("ALERT_COMMAND") == 0


def test_the_listener_tells_of_a_refused_event(
    script: Callable[..., Script], database: Database, vhost: Vhost, tmp_path: Path
) -> None:
    from tests.listening import run

    command = Command(tmp_path)
    listening = Listening(script, database, vhost, ALERT_COMMAND=command.program)
    listening.bind()
    daemon = script("listen.py", listening.settings, environment=QUICK)
    daemon.start()
    daemon.wait_for_log("relaying")
    listening.admin("select relay.publish('t', '{}', headers => '{\"CC\": \"x\"}')")
    command.wait_for("refused raised")
    assert command.runs[0]["RELAY_REASON"] == "RabbitMQ refused 1 event: listen.py status"
    ((event_id,),) = listening.admin("select id from relay.outbox")
    assert run(listening, "drop", str(event_id), "--yes").returncode == 0
    command.wait_for("refused raised", "refused ended")


def test_a_server_that_is_away_is_told(
    script: Callable[..., Script],
    database: Database,
    private_rabbitmq: RabbitMQ,
    private_vhost: Vhost,
    endpoint: Endpoint,
    tmp_path: Path,
) -> None:
    commands, daemons = [], []
    for name, sign in (("receiver.py", "consuming"), ("listen.py", "relaying")):
        directory = tmp_path / name
        directory.mkdir()
        command = Command(directory)
        given = {"ALERT_COMMAND": command.program, "ALERT_AFTER": "0.2"}
        if name == "listen.py":
            own = Listening(script, database, private_vhost, **given).settings
        else:
            own = settings(private_vhost, endpoint, **given)
        daemon = script(name, own, environment=QUICK)
        daemon.start()
        daemon.wait_for_log(sign)
        commands.append(command)
        daemons.append(daemon)
    private_rabbitmq.stop()
    for command in commands:
        command.wait_for("server raised")
        assert "RabbitMQ" in command.runs[0]["RELAY_REASON"]
    private_rabbitmq.start()
    for command in commands:
        command.wait_for("server raised", "server ended")
    for daemon in daemons:
        stopped(daemon)
