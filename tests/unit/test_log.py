"""Log lines: one event, one line, whatever is in the values."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dev import forkserver
from relay import cli, daemon, findings
from relay.errors import ConfigError, RelayError
from relay.findings import Finding, failed
from relay.log import Log, complain, printable, setup

ROOT = Path(__file__).resolve().parents[2]
EVIL = "\x1b[2K\rok\n2026-01-01 ERROR\u202eevil\x9b2J\u2028\x00\t\u200b"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain", "k=plain"),
        ("two words", 'k="two words"'),
        ("a\nb\x1b[31m", 'k="a\\nb\\u001b[31m"'),
        (1.23456, "k=1.23"),
        ("", 'k=""'),
        ("a=b", 'k="a=b"'),
    ],
)
def test_a_value_can_neither_break_the_line_nor_pose_as_a_field(
    value: object, shown: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    Log("t").info("sentence", k=value)
    assert caplog.records[0].message == f"sentence {shown}"


def test_a_field_without_a_value_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    Log("t").info("sentence", k=None)
    assert caplog.records[0].message == "sentence"


@given(st.text())
def test_what_is_shown_is_one_line_without_power_over_the_terminal(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert json.loads(f'"{shown}"' if '"' not in text and "\\" not in text else json.dumps(text)) == text


@contextlib.contextmanager
def logging_to(file: Path, style: str = "text") -> Iterator[None]:
    """As a daemon does; afterwards nothing of it is left for other tests."""
    levels = {logger: logger.level for logger in (logging.root, logging.getLogger("pika"))}
    handlers = logging.root.handlers[:]
    setup("debug", str(file), style)
    try:
        yield
    finally:
        logging.root.handlers[:] = handlers
        for logger, level in levels.items():
            logger.setLevel(level)


def test_every_way_out_escapes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "log"
    with logging_to(file):
        Log("t").error(f"sentence {EVIL}", key=EVIL, a=["x", EVIL])
        logging.getLogger("a library").error("says %s", EVIL)
    cli.print_line(EVIL)
    complain(EVIL)
    findings.report([failed(EVIL, EVIL, EVIL)], style="text")
    daemon.report(RelayError(EVIL, EVIL))
    daemon.report(ConfigError((EVIL, EVIL), (EVIL, EVIL)))
    out, err = capsys.readouterr()
    lines = [file.read_text().splitlines(), out.splitlines(), err.splitlines()]
    assert [len(each) for each in lines] == [2, 2, 4]
    assert all(line.isprintable() for each in lines for line in each)
    findings.report([Finding(EVIL)], style="json")
    assert json.loads(capsys.readouterr().out)[0]["name"] == EVIL


def test_a_terminal_without_unicode_gets_what_it_can_show(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with (tmp_path / "out").open("w", encoding="latin-1") as out:
        monkeypatch.setattr(sys, "stdout", out)
        cli.print_line("Größe 大")
    assert (tmp_path / "out").read_text(encoding="latin-1") == "Größe \\u5927\n"


def test_what_systemd_is_told_is_one_assignment(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []
    stop = daemon.Stop()
    tested = daemon.Daemon(stop, Log("t"), daemon.Backoff(0.01, 0.01))
    monkeypatch.setattr(tested.systemd, "send", lambda *assignments: sent.extend(assignments))

    async def session() -> None:
        stop.set()
        raise RelayError("the server says\nMAINPID=1")

    assert asyncio.run(tested.run(session)) == 0
    assert all("\n" not in one for one in sent)
    assert any("MAINPID" in one for one in sent)


WRITER = """
import sys
import signal
from relay.log import Log, reopen, setup
setup("debug", sys.argv[1], sys.argv[2])
signal.signal(signal.SIGHUP, lambda *_: reopen())
print("ready", flush=True)
for line in sys.stdin:
    Log("t").warning(line.strip(), n=1, key="a b", none=None)
    print("written", flush=True)
"""


class Writer:
    """A program that logs each line that it is told."""

    def __init__(self, file: Path | str, style: str = "text", journal: bool = False) -> None:
        self.stderr, theirs = os.pipe()
        found = os.fstat(theirs)
        environment = {**os.environ, "JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino + (not journal)}"}
        self._process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(file), style], env=environment, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=theirs, text=True,
        )  # fmt: skip
        os.close(theirs)
        self._await("ready")

    def write(self, line: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        self._await("written")

    def hang_up(self) -> None:
        self._process.send_signal(signal.SIGHUP)

    def end(self) -> str:
        """What it wrote to standard error."""
        assert self._process.stdin
        self._process.stdin.close()
        assert self._process.wait(10) == 0
        with os.fdopen(self.stderr) as stderr:
            return stderr.read()

    def _await(self, word: str) -> None:
        assert self._process.stdout
        assert self._process.stdout.readline() == f"{word}\n"


def test_a_log_file_follows_its_name(tmp_path: Path) -> None:
    file, moved = tmp_path / "log", tmp_path / "log.1"
    writer = Writer(file)
    writer.write("one")
    file.rename(moved)
    writer.write("two")
    assert (moved.read_text().count("one n=1"), file.read_text().count("two n=1")) == (1, 1)
    file.write_text("")  # logrotate's copytruncate
    writer.write("three")
    assert file.read_bytes().startswith(b"20"), "no hole, and a stamp although the journal is near"
    file.unlink()
    writer.hang_up()
    writer.write("four")
    assert "four" in file.read_text()
    assert writer.end() == ""


def test_a_full_disk_is_one_line_and_what_can_not_be_written_is_on_standard_error(tmp_path: Path) -> None:
    file, real = tmp_path / "log", tmp_path / "real"
    file.symlink_to("/dev/full")
    writer = Writer(file)
    for line in ("one", "two", "three"):
        writer.write(line)
    file.unlink()
    file.symlink_to(real)
    writer.write("four")
    lines = writer.end().splitlines()
    assert [line for line in lines if "LOG_FILE" in line] == [
        f"LOG_FILE={file}: No space left on device; until it can be written, lines come here"
    ]
    assert [line.split()[3] for line in lines[1:]] == ["one", "two", "three"]
    assert [line.partition(": ")[2] for line in real.read_text().splitlines()] == [
        "log written again, lines missing here: 3", 'four n=1 key="a b"',
    ]  # fmt: skip


@pytest.mark.parametrize(("read", "lines"), [(False, 30), (True, 75)])  # a pipe takes 48 such lines
def test_a_pipe_in_its_place_holds_up_nothing(tmp_path: Path, read: bool, lines: int) -> None:
    """Whoever may write in the directory can put one there; it has no reader, or a reader that reads nothing."""
    file = tmp_path / "log"
    writer = Writer(file)
    file.unlink()
    os.mkfifo(file)
    reader = os.open(file, os.O_RDONLY | os.O_NONBLOCK) if read else None
    for n in range(lines):
        writer.write("x" * 1000 + str(n))
    file.unlink()
    writer.write("last")
    assert "last" in file.read_text()
    assert f"x{lines - 1} n=1" in writer.end()
    if reader is not None:
        os.close(reader)


@pytest.mark.parametrize("journal", [False, True])
def test_the_journal_gets_priorities_and_no_stamps(journal: bool) -> None:
    writer = Writer("", journal=journal)
    writer.write("line")
    line = writer.end()
    assert line.startswith("<4>WARNING t: line n=1" if journal else "20")


def test_json_has_the_fields_by_their_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "log"
    with logging_to(file, "json"):
        Log("t").info(EVIL, n=1, ratio=0.5, ok=True, none=None, list=[EVIL], message="m", long="x" * 5000)
        logging.getLogger("library").warning("says %s", EVIL)
    first, second = map(json.loads, file.read_text(encoding="ascii").splitlines())
    assert (first["level"], first["part"], first["message"]) == ("info", "t", EVIL)
    assert (first["n"], first["ratio"], first["ok"], first["message_"], first["list"]) == (
        1,
        0.5,
        True,
        "m",
        str([EVIL]),
    )
    assert len(first["long"]) < 1100
    assert "none" not in first
    assert second["message"] == f"says {EVIL}"


@pytest.mark.parametrize("script", ["listen.py", "receiver.py"])
def test_settings_that_are_wrong_are_told_in_the_log_file_that_they_name(script: str, tmp_path: Path) -> None:
    file, env = tmp_path / "log", tmp_path / "env"
    env.write_text(f"LOG_FILE={file}\nHEARTBEAT=no number\n")
    for command in (["status"] if script == "listen.py" else ["parked"], []):
        done = forkserver.run([sys.executable, str(ROOT / script), "--env-file", str(env), *command], timeout=60)
        assert (done.returncode, "HEARTBEAT=no number" in done.stderr) == (78, True)
        assert file.exists() == (not command), "a command's user is another one than the daemon's"
    assert file.read_text().count("HEARTBEAT=no number") == 1
