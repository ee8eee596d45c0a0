"""What `check` finds, and how it is told: levels, exit statuses, and the line for a monitoring system."""

from __future__ import annotations

import json
import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from dev.process import free_port
from relay import checks
from relay.errors import ConfigError, Unavailable
from relay.findings import Finding, Level, Measure, failed, measured, of_error, report, warning
from relay.urls import Address

FINE = Finding("rights", detail="enough")
ODD = warning("clock of PostgreSQL", "7 s ahead of this host's", "timedatectl")
BAD = failed("queue odoo", "required, and not there", "start its receiver")
AWAY = of_error("RabbitMQ", Unavailable("it does not answer"))
WRONG = of_error("RabbitMQ", ConfigError(("wrong password", "correct it")))
MANY = measured("waiting", Measure("waiting", 7, "", 5, 9), "7 messages", "is it at work?")


@pytest.mark.parametrize(
    ("found", "status", "nagios", "word"),
    [
        ([FINE], 0, 0, "OK"),
        ([FINE, ODD], 0, 1, "WARNING"),
        ([FINE, MANY], 0, 1, "WARNING"),
        ([BAD, ODD], 78, 2, "CRITICAL"),
        ([AWAY, ODD], 75, 2, "CRITICAL"),
        ([AWAY, BAD], 78, 2, "CRITICAL"),
        ([WRONG], 78, 2, "CRITICAL"),
        ([], 0, 0, "OK"),
    ],
)
def test_the_worst_decides(
    found: list[Finding], status: int, nagios: int, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(found, style="text") == status
    assert len(capsys.readouterr().out.splitlines()) == len(found)
    assert report(found, style="json") == status
    assert [one["name"] for one in json.loads(capsys.readouterr().out)] == [one.name for one in found]
    assert report(found, style="nagios") == nagios
    assert capsys.readouterr().out.startswith(f"RELAY {word} - ")


def test_a_person_sees_level_name_what_and_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    report([FINE, ODD, BAD], style="text")
    assert capsys.readouterr().out.splitlines() == [
        "ok      rights: enough",
        "WARN    clock of PostgreSQL: 7 s ahead of this host's -> timedatectl",
        "FAILED  queue odoo: required, and not there -> start its receiver",
    ]


def test_a_monitoring_system_gets_one_line_with_numbers_and_the_rest_below(capsys: pytest.CaptureFixture[str]) -> None:
    odd = failed("policy a|b", "drops | what waits", "rabbitmqctl x | y")
    age = measured("oldest event", Measure("oldest", 3.25, "s", 300), "3 s old")
    report([FINE, MANY, odd, age], style="nagios")
    first, *rest = capsys.readouterr().out.splitlines()
    assert first == "RELAY CRITICAL - policy a/b: drops / what waits | waiting=7;5;9;0 oldest=3.25s;300;;0"
    assert rest == [
        "FAILED policy a/b: drops / what waits -> rabbitmqctl x / y",
        "WARNING waiting: 7 messages -> is it at work?",
    ]
    for number in first.partition(" | ")[2].split():  # Monitoring Plugins Guidelines, 2.6
        assert re.fullmatch(r"[a-z_]+=[0-9.]+(s|B)?;[0-9.]*;[0-9.]*;0", number)


def test_what_cannot_be_looked_at_is_unknown_to_a_monitoring_system(capsys: pytest.CaptureFixture[str]) -> None:
    def look() -> Iterator[Finding]:
        yield FINE
        raise ConfigError(("RABBITMQ_URL is not set", "write one"))

    assert report(look(), style="nagios") == 3
    assert capsys.readouterr().out.startswith("RELAY UNKNOWN - ")
    with pytest.raises(ConfigError):
        report(look(), style="json")


@pytest.mark.parametrize(
    ("value", "warn", "fail", "level"),
    [(5, 5, 9, Level.OK), (6, 5, 9, Level.WARNING), (10, 5, 9, Level.FAILED), (10, None, None, Level.OK),
     (10, None, 9, Level.FAILED), (0, 0, None, Level.OK), (1, 0, None, Level.WARNING)],
)  # fmt: skip
def test_a_limit_is_passed_when_the_number_is_above_it(
    value: float, warn: float | None, fail: float | None, level: Level
) -> None:
    assert Measure("n", value, "", warn, fail).level is level


def test_clocks_within_a_few_seconds_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    assert checks.of_clock("x", now, now - 1, now + 1).level is Level.OK
    assert checks.of_clock("x", now + 30, now, now + 28).level is Level.OK, "a slow answer proves nothing"
    ahead = checks.of_clock("x", now + 600, now, now)
    assert (ahead.level, ahead.detail) == (Level.WARNING, "600 s ahead of this host's")
    assert checks.of_clock("x", now - 600, now, now).detail == "600 s behind this host's"


def test_a_log_file_is_looked_at_and_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "relay.log"
    assert list(checks.log_file("")) == []
    assert list(checks.log_file(str(file))) == []
    assert not file.exists()
    with monkeypatch.context() as full:
        full.setattr(os, "statvfs", lambda _path: SimpleNamespace(f_bavail=0, f_flag=0))
        (full_disk,) = checks.log_file(str(file))
        full.setattr(os, "statvfs", lambda _path: SimpleNamespace(f_bavail=1, f_flag=os.ST_RDONLY))
        (read_only,) = checks.log_file(str(file))
    assert full_disk.level is Level.WARNING
    assert f"the disk of {tmp_path} is full" in full_disk.detail
    assert (read_only.ok, read_only.detail) == (False, f"{tmp_path} is on a read-only file system")
    (gone,) = checks.log_file(str(tmp_path / "gone" / "relay.log"))
    assert not gone.ok
    assert f"no directory {tmp_path / 'gone'}" in gone.detail
    (taken,) = checks.log_file(str(tmp_path))
    assert "is a directory" in taken.detail
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    (shut,) = checks.log_file(str(file))
    assert f"may not write {file}" in shut.detail


def test_a_pipe_in_the_place_of_the_log_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "relay.log")
    (found,) = checks.log_file(str(tmp_path / "relay.log"))
    assert (found.ok, found.detail) == (
        False,
        f"{tmp_path}/relay.log is a pipe: who writes into it waits for who reads",
    )


def test_an_address_that_nobody_can_listen_on_is_named() -> None:
    assert list(checks.status_addr(None)) == []
    assert list(checks.status_addr(Address("127.0.0.1", free_port()))) == []
    (elsewhere,) = checks.status_addr(Address("192.0.2.1", 9464))
    assert (elsewhere.ok, elsewhere.detail) == (False, "192.0.2.1:9464 can't be used: Cannot assign requested address")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        (found,) = checks.status_addr(Address("127.0.0.1", port))
    assert (found.ok, found.detail) == (True, f"127.0.0.1:{port} is in use: by the daemon, if it is at work")


@pytest.mark.parametrize(
    ("come", "go", "said"),
    [(0, 0, "none comes and none goes"), (20, 70, "20 a second come, 70 go: gone in about 10 s"),
     (70, 20, "70 a second come, 20 go: it grows"), (20, 20, "20 a second come, 20 go"),
     (0, -0.5, "none comes and none goes")],
)  # fmt: skip
def test_how_a_backlog_moves(come: float, go: float, said: str) -> None:
    assert checks.flow(come, go, 500) == said


@pytest.mark.parametrize(
    ("octets", "said"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (40 << 10, "40 KiB"), (12 << 20, "12 MiB"), (3 << 30, "3 GiB")],
)
def test_bytes_for_people(octets: int, said: str) -> None:
    assert checks.size(octets) == said
