"""The command lines of README.md, run as they stand there, in a copy of this clone; or the reason why not."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dev import process
from dev.process import wait_until
from dev.script import ROOT

DAEMONS = {"listen.py": "relaying", "receiver.py": "consuming"}
ELSEWHERE = {  # what a line begins with: why it is not run here
    "make demo": "tests/e2e/test_demo.py",
    "make test": "this is it",
    "listen.py check": "tests/integration/test_listen_check.py",
    "sudo -u relay /opt/relay/.venv/bin/python /opt/relay/listen.py": "tests/integration/test_listen_commands.py",
    "sudo -u postgres psql": "tests/sql/test_install.py",
    "sudo /opt/relay/.venv/bin/pip install": "tests/unit/test_requirements.py",
    "sudo apt install": "packaging/try.sh",
    "sudo sh": "packaging/try.sh; RabbitMQ's rights: tests/integration/test_rights.py",
    "sudo relay-listen check": "packaging/try.sh",
    "sudo git": "no network",
    "sudo python3 -m venv": "make venv does the same",
    "sudo useradd": "it would change this machine",
    "sudo install": "it would change this machine",
    "sudo cp": "it would change this machine",
    "sudo systemctl": "tests/integration/test_systemd.py looks at the units",
}


def lines() -> list[str]:
    """The command lines of the README's code blocks, in order."""
    text = (ROOT / "README.md").read_text()
    typed = re.findall(r"^\$ (.+)", text, re.MULTILINE)
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    blocks = [re.sub(r" <<'END'\n.*?\nEND$|\\\n", "", block, flags=re.DOTALL | re.MULTILINE) for block in blocks]
    scripts = [line for block in blocks for line in block.splitlines() if not re.match(r"#|[A-Z_]+=|$", line)]
    return [*typed, *scripts]


def here() -> list[str]:
    return [line for line in lines() if not line.startswith(tuple(ELSEWHERE))]


def test_every_line_is_run_or_has_a_reason() -> None:
    assert [word for line in here() for word in line.split()[:2]] == [
        "make", "up", ".venv/bin/python", "listen.py", ".venv/bin/python", "receiver.py", "make", "down",
    ]  # fmt: skip
    assert [start for start in ELSEWHERE if not any(line.startswith(start) for line in lines())] == [], "gone"


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Path]:
    """A copy of this clone, with its virtual environment; what runs in it is stopped."""
    made = tmp_path / "relay"
    ignored = shutil.ignore_patterns(".git", ".run", ".venv", ".cache", "__pycache__", ".*_cache", ".hypothesis")
    shutil.copytree(ROOT, made, ignore=ignored)
    for name in (".venv", ".cache"):
        (made / name).symlink_to((ROOT / name).resolve())
    yield made
    subprocess.run(["make", "down"], cwd=made, capture_output=True, check=False)


def run(line: str, clone: Path) -> str:
    """Run a line to its end; return what it said."""
    own = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "ARGS"))}  # make test's own
    done = subprocess.run(
        shlex.split(line), cwd=clone, env=own, capture_output=True, text=True, check=False, timeout=110
    )
    assert done.returncode == 0, f"{line}: {done.returncode}\n{done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr
    return done.stdout


def test_the_lines_work_one_after_another_and_leave_nothing(clone: Path) -> None:
    running = []
    for line in here():
        if line == "make down":
            for daemon in running:
                daemon.signal(signal.SIGTERM)
                assert daemon.wait_status(30) == 0
        if name := next((name for name in DAEMONS if name in line), None):
            log = clone / f"{name}.log"
            running.append(process.start(shlex.split(line), log, dict(os.environ), clone))
            wait_until(lambda log=log, name=name: DAEMONS[name] in log.read_text(), 30, f"{line}")  # type: ignore[misc]
        else:
            run(line, clone)
    assert len(running) == len(DAEMONS)
    assert not (clone / ".run").exists(), "its secrets"
    assert run("make down", clone) == "nothing runs\n"
