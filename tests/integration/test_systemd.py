"""The units in systemd/, and what the daemons tell systemd."""

from __future__ import annotations

import configparser
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dev.database import Database
from dev.script import Script
from dev.vhost import Vhost
from tests.listening import Listening

ROOT = Path(__file__).parents[2]
UNITS = sorted((ROOT / "systemd").glob("*.service"))


def test_there_is_a_unit_for_each_daemon() -> None:
    assert [unit.name for unit in UNITS] == ["relay-listen.service", "relay-receiver@.service"]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_waits_for_ready_restarts_always_but_not_on_a_configuration_error(unit: Path) -> None:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(unit)
    service = parser["Service"]
    assert service["Type"] == "notify"
    assert service["Restart"] == "always"
    assert service["RestartPreventExitStatus"] == "78"
    assert int(service["WatchdogSec"]) > 60, "above the longest single step of a session"
    script = service["ExecStart"].split()[1]
    assert (ROOT / Path(script).name).is_file()


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed on this machine")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_accepts_the_unit(unit: Path, tmp_path: Path) -> None:
    here = unit.read_text().replace("/opt/relay/.venv/bin/python", sys.executable).replace("/opt/relay", str(ROOT))
    copy = tmp_path / unit.name.replace("@.", "@odoo.")
    copy.write_text(here)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)], capture_output=True, text=True, check=False
    )
    said = [line for line in done.stderr.splitlines() if copy.name in line]
    assert (done.returncode, said) == (0, []), done.stderr


def test_systemd_hears_ready_the_state_and_the_watchdog(
    script: Callable[..., Script], database: Database, vhost: Vhost, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "notify"))
        server.settimeout(20)
        listening = Listening(script, database, vhost)
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"}
        daemon = script("listen.py", listening.settings, environment=environment)
        daemon.start()
        heard = [server.recv(4096).decode() for _ in range(4)]
        assert heard == ["READY=1\nSTATUS=at work", "WATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1"]
        daemon.terminate()
        assert daemon.wait() == 0
        while (last := server.recv(4096).decode()) == "WATCHDOG=1":
            pass
        assert last == "STOPPING=1"
