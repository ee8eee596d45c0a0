"""make demo from outside: its last line, its exit status, what it leaves behind, and that it can fail."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pika
import psycopg2
import pytest
from dotenv import dotenv_values

from demo import sources
from demo.site import Site
from dev.process import tail, wait_until
from dev.script import ROOT

pytestmark = pytest.mark.timeout(240)
SMALL = ["--airports", "6000", "--changes", "600", "--quiet-seconds", "1"]
TINY = ["--airports", "1000", "--changes", "200", "--quiet-seconds", "1"]
ENDS_WITHIN = 180


class Demo:
    """A run as a subprocess, its output in a file: no terminal."""

    def __init__(self, log: Path, *arguments: str, **environment: str) -> None:
        self.log = log
        env = {**os.environ, "PYTHONUNBUFFERED": "1", "KEEP": "", **environment}
        with log.open("wb") as output:
            command = [sys.executable, "-m", "demo", *arguments]
            self.child = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output, env=env)
        self.directory = ROOT / ".run" / f"demo-{self.child.pid}"

    def lines(self) -> list[str]:
        return self.log.read_text().splitlines()

    def await_line(self, text: str) -> None:
        wait_until(lambda: text in self.log.read_text() or self.child.poll() is not None, 120, f"{text!r}")
        assert text in self.log.read_text(), tail(self.log)

    def await_end(self) -> int:
        return self.child.wait(ENDS_WITHIN)

    def traces(self) -> list[str]:
        """Command lines of processes that belong to it."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                command, environment = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()
            except OSError:
                continue
            if f"{self.directory}/".encode() in command + environment:
                found.append(command.replace(b"\0", b" ").decode(errors="replace"))
        return found

    def address(self, key: str) -> str:
        return dotenv_values(self.directory / "admin.env", interpolate=False)[key] or ""


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Callable[..., Demo]]:
    made: list[Demo] = []

    def start(*arguments: str, **environment: str) -> Demo:
        made.append(Demo(tmp_path / f"demo-{len(made)}.log", *arguments, **environment))
        return made[-1]

    yield start
    for one in made:
        one.child.send_signal(signal.SIGTERM)
        one.child.wait(60)
        if one.directory.exists():
            Site(one.directory).remove()


def ended_well(run: Demo) -> dict[str, str]:
    """What its last line says, once it has ended well."""
    assert run.await_end() == 0, tail(run.log)
    last = run.lines()[-1]
    assert last.startswith("demo ok: events="), last
    found = dict(word.split("=") for word in last.removeprefix("demo ok: ").split())
    assert list(found) == ["events", "delivered", "lost", "reordered", "duplicates", "p50_ms", "p99_ms", "records"]
    assert found["events"] == found["delivered"]
    assert (found["lost"], found["reordered"]) == ("0", "0")
    assert 0 < float(found["p50_ms"]) <= float(found["p99_ms"])
    assert "kill -9 " in run.log.read_text()
    assert "\r" not in run.log.read_text()
    return found


@pytest.mark.parametrize(
    ("source", "client"),
    [
        ("postgres", ["psql", "-q", "-c"]),
        pytest.param("mariadb", ["mariadb-client", "-e"], marks=pytest.mark.long),
    ],
)
def test_it_ends_well_and_runs_on_until_it_is_stopped(demo: Callable[..., Demo], source: str, client: Sequence[str]):
    run = demo(*TINY, "--source", source, KEEP="1")
    found = ended_well(run)
    assert int(found["events"]) > 1000
    assert int(found["records"]) > 50
    log = run.directory / "endpoint" / "endpoint.log"
    before = log.read_text().count("\n")
    change = "update airports set name = 'My own' where icao = (select min(icao) from airports)"
    subprocess.run([run.directory / client[0], *client[1:], change], check=True)
    wait_until(lambda: log.read_text().count("\n") > before, 10, "the change to arrive")
    Site(run.directory).remove()
    assert run.traces() == []


@pytest.mark.long
def test_it_ends_well_and_leaves_nothing_behind(demo: Callable[..., Demo]) -> None:
    run = demo(*SMALL)
    found = ended_well(run)
    assert int(found["events"]) > 6000
    assert int(found["records"]) > 300
    assert not run.directory.exists()
    assert run.traces() == []


@pytest.mark.long
def test_it_fails_when_one_event_is_taken_out_of_the_queue(demo: Callable[..., Demo]) -> None:
    run = demo(*SMALL)
    run.await_line("writers begin")  # the queue is long now, and holds nothing that has arrived already
    steal_a_message(run)
    assert run.await_end() == 1
    assert run.lines()[-1].startswith("demo FAILED: 1 lost"), tail(run.log)
    assert (run.directory / "receiver" / "receiver.py.log").exists()
    assert (run.directory / "findings.txt").read_text().startswith("lost: ")
    assert not (run.directory / "postgres" / "data").exists()
    assert run.traces() == []


@pytest.mark.long
def test_it_fails_when_a_change_of_mariadb_s_table_is_not_captured(demo: Callable[..., Demo]) -> None:
    run = demo(*TINY, "--source", "mariadb")
    run.await_line("for the latency")
    with contextlib.closing(sources.of("mariadb", run.directory, "").connect()) as connection:
        cursor = connection.cursor()
        cursor.execute("select min(icao) from airports")
        ((key,),) = cursor.fetchall()
        cursor.execute("show create trigger relay_update_airports")
        made = cursor.fetchall()[0][2]
        cursor.execute("lock tables airports write")
        cursor.execute("drop trigger relay_update_airports")
        cursor.execute("update airports set lat = lat + 0.000000000001 where icao = %s", (key,))
        cursor.execute(made)
        cursor.execute("unlock tables")
    assert run.await_end() == 1
    assert run.lines()[-1] == "demo FAILED: 1 rows that differ", tail(run.log)
    assert not (run.directory / "mariadb" / "data").exists()
    assert run.traces() == []


@pytest.mark.long
def test_it_fails_when_a_change_of_the_table_is_not_captured(demo: Callable[..., Demo]) -> None:
    run = demo(*SMALL)
    run.await_line("for the latency")  # the shared rows, of which the first is one, are not written any more
    with psycopg2.connect(run.address("ADMIN_DATABASE_URL")) as connection, connection.cursor() as cursor:
        cursor.execute("set local session_replication_role = replica")  # no trigger fires
        cursor.execute("update airports set lat = lat + 0.000000000001 where icao = (select min(icao) from airports)")
    assert run.await_end() == 1
    assert run.lines()[-1] == "demo FAILED: 1 rows that differ", tail(run.log)


def test_sigterm_ends_it_and_everything_it_has_started(demo: Callable[..., Demo]) -> None:
    run = demo(*TINY)
    run.await_line("RabbitMQ is being restarted")
    assert run.traces()
    run.child.send_signal(signal.SIGTERM)
    assert run.child.wait(30) == 1
    assert run.lines()[-1] == "demo FAILED: interrupted"
    assert not run.directory.exists()
    assert run.traces() == []


def steal_a_message(run: Demo) -> None:
    connection = pika.BlockingConnection(pika.URLParameters(run.address("ADMIN_RABBITMQ_URL")))
    channel = connection.channel()
    deadline = time.monotonic() + 60
    while channel.basic_get("odoo", auto_ack=True)[0] is None:
        assert time.monotonic() < deadline, "the queue was empty all the time"
    connection.close()
