"""What both command lines share."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import listen
import relay
from relay import cli
from relay.receiving import arguments, commands

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


@pytest.mark.parametrize(
    ("parser", "words"),
    [
        (listen.parser, ["status", "--watch", "99999999999999999"]),
        (listen.parser, ["resend", "t", "--chunk", "9" * 30]),
        (arguments.parser, ["status", "--watch", "99999999999999999"]),
        (arguments.parser, ["--drain", "--limit", "9" * 5000]),
        (arguments.parser, ["--drain", "--max-seconds", "nan"]),
        (arguments.parser, ["--drain", "--max-seconds", "-1"]),
        (arguments.parser, ["--drain", "--max-seconds", "inf"]),
    ],
)
def test_a_number_that_means_nothing_is_refused(
    parser: Callable[[], argparse.ArgumentParser], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parser().parse_args(words)
    assert ended.value.code == 2
    assert "write a number" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["x" * 101, "a b", "\udcff"])
def test_a_source_that_is_no_name_is_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["resend", "t", "--source", name], ["mapping", "t", "m", "--columns", f"@{name}"]):
        with pytest.raises(SystemExit):
            arguments.parser().parse_args(words)
        assert "no usable name: write letters" in capsys.readouterr().err


@pytest.mark.parametrize("script", ["listen.py", "receiver.py"])
@pytest.mark.parametrize("redirection", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_what_is_closed_is_written_to_no_more_and_the_status_is_the_same(
    script: str, redirection: str, tmp_path: Path
) -> None:
    """`check >&-` in a job of cron is asked for its exit status."""
    env = tmp_path / "e.env"
    addresses = "RABBITMQ_URL=amqp://127.0.0.1:1\nDATABASE_URL=postgresql://u@127.0.0.1:1/x"
    env.write_text(f"{addresses}\nHTTP_URL=http://127.0.0.1:1/\nQUEUE=q\nCONNECT_TIMEOUT=1\n")
    command = ["sh", "-c", f"exec {sys.executable} {ROOT / script} --env-file {env} check {redirection}"]
    done = subprocess.run(command, env={}, capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stderr) == (75, "")


@pytest.mark.parametrize("script", ["listen.py", "receiver.py"])
def test_ctrl_c_while_it_imports_is_no_traceback(script: str) -> None:
    """It tells of each import, and gets no further than the pipe holds. (Behind `&` a shell has Ctrl-C ignored.)"""
    python = ["env", "--default-signal=INT", sys.executable, "-X", "importtime"]
    command = [*python, str(ROOT / script), "--env-file", "/dev/null"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, pipesize=4096) as process:
        assert process.stderr is not None
        assert any(" argparse" in line for line in process.stderr)
        process.send_signal(signal.SIGINT)
        assert "Traceback" not in process.stderr.read()
        assert process.wait(30) == -signal.SIGINT


def test_an_input_that_is_closed_is_a_no(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert not cli.agreed("sure? ", ("y",))
    options = argparse.Namespace(command="discard", all=True, yes=False)
    assert commands._command(options) is None
