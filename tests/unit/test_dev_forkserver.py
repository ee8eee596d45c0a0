"""The scripts as tests start them: the same as by a Python of their own."""

from __future__ import annotations

import inspect
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from dev import forkserver
from dev import process as processes
from dev.process import Process, start, wait_until
from relay.receiving import arguments as command_line
from tests.receiving import bare

LISTEN, RECEIVER = sorted(forkserver.SCRIPTS)


def in_own_process(
    command: Sequence[str], env: Mapping[str, str], cwd: Path, given: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=env, cwd=cwd, input=given, capture_output=True, text=True, check=False, timeout=60
    )


def from_server(
    command: Sequence[str], env: Mapping[str, str], cwd: Path, given: str
) -> subprocess.CompletedProcess[str]:
    with forkserver.Popen(
        command, env=env, cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process._ending is not None, "it came out of the server"
        shown, told = process.communicate(given, 60)
    return subprocess.CompletedProcess(command, process.returncode, shown, told)


@pytest.mark.parametrize(("script", "words", "environment"), [
    (LISTEN, ["--help"], {}),
    (RECEIVER, [], {}),  # without settings
    (LISTEN, ["nonsense"], {"PYTHONUNBUFFERED": "1"}),
    (RECEIVER, ["--env-file", "some.env", "check"], {"QUEUE": "\u00fc"}),
    (LISTEN, ["drop", "x", "--yes"], {"DATABASE_URL": "\u2028"}),
    (RECEIVER, ["discard", "--all"], {}),  # asks
])  # fmt: skip
def test_a_script_ends_as_in_a_python_of_its_own(
    tmp_path: Path, script: str, words: list[str], environment: dict[str, str]
) -> None:
    (tmp_path / "some.env").write_text("NO_SUCH_SETTING=1\n")
    (tmp_path / "some.env").chmod(0o600)
    env = {"PATH": os.environ["PATH"], **environment}
    command = [sys.executable, script, *words]
    own, ours = in_own_process(command, env, tmp_path, "no\n"), from_server(command, env, tmp_path, "no\n")
    assert (ours.returncode, ours.stdout, ours.stderr) == (own.returncode, own.stdout, own.stderr)


def test_its_end_by_a_signal_is_known_and_it_has_a_session_of_its_own(tmp_path: Path) -> None:
    endless = [sys.executable, RECEIVER, "--env-file", "one.env"]
    (tmp_path / "one.env").write_text("RABBITMQ_URL=amqp://a:b@127.0.0.1:1/\nQUEUE=q\nHTTP_URL=http://127.0.0.1:1/\n")
    with (tmp_path / "log").open("wb") as log:
        for number in (signal.SIGKILL, signal.SIGTERM):
            process = forkserver.Popen(endless, cwd=tmp_path, stdout=log, stderr=log, start_new_session=True)
            assert process._ending is not None
            assert process.poll() is None
            wait_until(lambda: b"starting" in (tmp_path / "log").read_bytes(), 20, "its start")
            assert os.getsid(process.pid) == process.pid
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.01)
            process.send_signal(number)
            assert process.wait(20) == (-signal.SIGKILL if number == signal.SIGKILL else 0)
            assert Process.of(process.pid) is None
            (tmp_path / "log").write_bytes(b"")


@pytest.mark.parametrize(("before", "environment"), [
    ([], {"PYTHONPATH": "/nowhere"}), ([], {"LC_ALL": "C"}), (["-u"], {}), (["-X", "dev"], {}),
])  # fmt: skip
def test_what_python_looks_at_when_it_starts_has_a_python_of_its_own(
    before: list[str], environment: dict[str, str]
) -> None:
    command = [sys.executable, *before, LISTEN, "--version"]
    env = os.environ | environment
    with forkserver.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process._ending is None
        assert process.wait(60) == 0


def test_each_sitecustomize_of_a_test_works_out_of_the_server() -> None:
    names = [Path(RECEIVER).parent / "tests" / name for name in ("killing", "shortened")]
    env = bare() | {"PYTHONPATH": ":".join(map(str, names)), "SHORTENED": "", "KILL_AT": "no.py:1:1"}

    def ends(**more: str) -> tuple[int, str]:
        command = [sys.executable, RECEIVER, "--version"]
        with forkserver.Popen(
            command, env=env | more, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process._ending is not None
            _shown, said = process.communicate(timeout=60)
            return process.returncode, said

    assert ends() == (0, "")
    assert "NO_SUCH" in ends(SHORTENED="relay.log.NO_SUCH=1")[1]
    line = inspect.getsourcelines(command_line.arguments)[1] + 2
    assert ends(KILL_AT=f"relay/receiving/arguments.py:{line}:1")[0] == -signal.SIGKILL


def test_the_server_ends_with_whoever_started_it_and_with_it_all_that_came_out_of_it(tmp_path: Path) -> None:
    (tmp_path / "one.env").write_text("RABBITMQ_URL=amqp://a:b@127.0.0.1:1/\nQUEUE=q\nHTTP_URL=http://127.0.0.1:1/\n")
    program = f"""
import sys, time
from dev import forkserver
forkserver.enable()
one = forkserver.Popen([sys.executable, {RECEIVER!r}, "--env-file", {str(tmp_path / "one.env")!r}])
print(one.pid, flush=True)
time.sleep(600)
"""
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, cwd=forkserver.ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as starter:
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        assert Process.of(pid) is not None
        starter.kill()
    wait_until(lambda: Process.of(pid) is None, 20, "its end")


def test_whoever_looks_in_the_moment_of_its_end_finds_its_status(tmp_path: Path) -> None:
    """Told, then reaped: between a look for the status and one for the process it may have gone."""
    for _ in range(20):
        one = start([sys.executable, LISTEN, "--version"], tmp_path / "log", cwd=tmp_path)
        while one.alive():
            continue
        assert processes._statuses[one] == 0
