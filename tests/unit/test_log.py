"""Log lines: one event, one line, whatever is in the values."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import cli, daemon, findings
from relay.errors import ConfigError, RelayError
from relay.findings import Finding
from relay.log import Log, printable, setup

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


def test_every_way_out_escapes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "log"
    before = logging.root.handlers[:]
    setup("debug", str(file))
    Log("t").error(f"sentence {EVIL}", key=EVIL, a=["x", EVIL])
    logging.getLogger("a library").error("says %s", EVIL)
    logging.root.handlers[:] = before
    cli.say(EVIL)
    cli.complain(EVIL)
    findings.tell([Finding(EVIL, ok=False, said=EVIL, remedy=EVIL)], as_json=False)
    daemon.report(RelayError(EVIL, EVIL))
    daemon.report(ConfigError((EVIL, EVIL), (EVIL, EVIL)))
    out, err = capsys.readouterr()
    lines = [file.read_text().splitlines(), out.splitlines(), err.splitlines()]
    assert [len(each) for each in lines] == [2, 2, 4]
    assert all(line.isprintable() for each in lines for line in each)
    findings.tell([Finding(EVIL, ok=True)], as_json=True)
    assert json.loads(capsys.readouterr().out)[0]["name"] == EVIL


def test_a_terminal_without_unicode_gets_what_it_can_show(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with (tmp_path / "out").open("w", encoding="latin-1") as out:
        monkeypatch.setattr(sys, "stdout", out)
        cli.say("Größe 大")
    assert (tmp_path / "out").read_text(encoding="latin-1") == "Größe \\u5927\n"


def test_what_systemd_is_told_is_one_assignment(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []
    stop = daemon.Stop()
    tested = daemon.Daemon(stop, Log("t"), daemon.Backoff(0.01, 0.01))
    monkeypatch.setattr(tested.systemd, "send", lambda *assignments: sent.extend(assignments))

    def session() -> None:
        stop.requested = True
        raise RelayError("the server says\nMAINPID=1")

    assert tested.run(session) == 0
    assert all("\n" not in one for one in sent)
    assert any("MAINPID" in one for one in sent)
