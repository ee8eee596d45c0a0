"""What both command lines share."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import listen
import relay
from relay.receiving import arguments

ROOT = Path(__file__).parents[2]
PARSERS: list[Callable[[], argparse.ArgumentParser]] = [listen.parser, arguments.parser]


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["check"], None),
        (["--env-file", "a.env"], "a.env"),
        (["--env-file", "a.env", "check"], "a.env"),
        (["check", "--env-file", "b.env"], "b.env"),
        (["--env-file", "a.env", "check", "--env-file", "b.env"], "b.env"),
    ],
)
def test_the_settings_file_stands_before_or_after_the_command(
    parser: Callable[[], argparse.ArgumentParser], words: list[str], expected: str | None
) -> None:
    assert parser().parse_args(words).env_file == (Path(expected) if expected else None)


@pytest.mark.parametrize("parser", PARSERS)
def test_both_say_their_version(
    parser: Callable[[], argparse.ArgumentParser], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parser().parse_args(["--version"])
    assert (ended.value.code, capsys.readouterr().out) == (0, f"relay {relay.__version__}\n")


@pytest.mark.parametrize("script", ["listen.py", "receiver.py"])
def test_without_settings_the_first_line_says_that_no_file_was_read(script: str, tmp_path: Path) -> None:
    def lines(*arguments: str, **environment: str) -> list[str]:
        command = [sys.executable, str(ROOT / script), "check", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=30)
        assert done.returncode == 78
        return done.stderr.splitlines()

    first, second, *_ = lines()
    assert first.startswith(f"{script}: no settings file was read -> give --env-file FILE")
    assert second.startswith(f"{script}: RABBITMQ_URL is not set")
    (tmp_path / "empty.env").touch()
    assert "no settings file" not in "".join(lines("--env-file", str(tmp_path / "empty.env"))), "one was read"
    everything = {"RABBITMQ_URL": "amqp://127.0.0.1", "DATABASE_URL": "dbname=x", "QUEUE": "q", "HEARTBEAT": "x"}
    assert "no settings file" not in "".join(lines(HTTP_URL="http://x", **everything)), "that is not why"
