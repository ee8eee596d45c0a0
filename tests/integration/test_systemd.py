"""The units in systemd/, and what the daemons tell systemd."""

from __future__ import annotations

import configparser
import json
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pika
import pytest

from dev.database import Database
from dev.doubles.endpoint import Answer, Endpoint
from dev.process import wait_until
from dev.script import Script
from dev.vhost import Vhost
from relay import config, setting, targets
from tests import confined
from tests.listening import Listening
from tests.receiving import settings

ROOT = Path(__file__).parents[2]
UNITS = sorted((ROOT / "systemd").glob("*.service"))
DAEMONS = [unit for unit in UNITS if unit.name.startswith(("relay-listen", "relay-receiver"))]


def test_there_is_a_unit_for_each_daemon_and_two_that_tell_of_its_end() -> None:
    """Which of them runs when: test_systemd_crashes.py."""
    names = ["relay-alert@", "relay-crashed@", "relay-listen", "relay-listen@", "relay-receiver@"]
    assert [unit.stem for unit in UNITS] == names
    assert all("\nOnFailure=relay-alert@%n.service\n" in unit.read_text() for unit in DAEMONS)
    assert all(" sh relay-crashed@%n.service\n" in unit.read_text() for unit in DAEMONS)


@pytest.mark.parametrize("name", ["alert", "crashed"])
def test_the_alert_s_unit_tells_what_the_daemons_tell(name: str) -> None:
    told = re.findall(r"(RELAY_[A-Z]+)=", (ROOT / "systemd" / f"relay-{name}@.service").read_text())
    known = re.findall(r'"(RELAY_[A-Z]+)"', (ROOT / "relay" / "alert_command.py").read_text())
    assert {*told, "RELAY_SINCE"} == set(known), "all but since when, which the unit can't know"


def test_the_unit_for_one_of_several_databases_is_that_for_one() -> None:
    one, several = ((ROOT / "systemd" / f"relay-listen{at}.service").read_text() for at in ("", "@"))
    several = several[several.index("# Paths") :]  # below who it is
    for instance, alone in (("@erp", ""), ("@NAME", ""), ("%i.env", "listen.env"), (" of %i", "")):
        several = several.replace(instance, alone)
    assert several == one[one.index("# Paths") :]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed on this machine")
@pytest.mark.parametrize("unit", DAEMONS, ids=lambda unit: unit.name)
def test_the_commented_lines_for_secrets_are_what_systemd_takes(unit: Path, tmp_path: Path) -> None:
    text, count = re.subn(r"^#(LoadCredential|Environment)=", r"\1=", unit.read_text(), flags=re.MULTILINE)
    assert count == 4
    keys = re.findall(r"^Environment=(\w+)=", text, re.MULTILINE)
    assert set(keys) <= {*setting.keys(config.Listen, config.Receive), *targets.setting_names()}
    assert verify(text, tmp_path / unit.name.replace("@.", "@odoo.")) == []


@pytest.mark.parametrize("unit", DAEMONS, ids=lambda unit: unit.name)
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
    assert verify(unit.read_text(), tmp_path / unit.name.replace("@.", "@odoo.")) == []


def verify(text: str, copy: Path) -> list[str]:
    """What systemd says of a unit that runs this checkout, but that it does not know how to back off yet."""
    for path, here in (
        ("/opt/relay/.venv/bin/python", sys.executable),
        ("/opt/relay", str(ROOT)),
        ("/etc/relay/alert", str(ROOT / "examples" / "alert-mail")),
    ):
        text = text.replace(path, here)
    copy.write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    known = re.compile(r"Unknown key (name )?'(RestartSteps|RestartMaxDelaySec|RestartMode)' in section .*, ignoring")
    return [line for line in done.stderr.splitlines() if copy.name in line and not known.search(line)]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed on this machine")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_the_exposure_stays_below_two(unit: Path) -> None:
    command = ["systemd-analyze", "security", "--offline=yes", "--no-pager", "--threshold=19", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and "unrecognized" in done.stderr:
        pytest.skip("this systemd does not judge files")
    assert done.returncode == 0, done.stdout.splitlines()[-1:]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed on this machine")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_nothing_is_left_open_that_the_daemon_does_not_need(unit: Path) -> None:
    """What remains is the network, the host's files (read-only) and a log that the group may read."""
    command = ["systemd-analyze", "security", "--offline=yes", "--no-pager", "--json=short", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and "unrecognized" in done.stderr:
        pytest.skip("this systemd does not judge files")
    left = {one["name"].rstrip("=") for one in json.loads(done.stdout) if one["set"] is False}
    assert left <= {
        "RootDirectory=/RootImage", "PrivateMounts", "PrivateNetwork", "DeviceAllow", "IPAddressDeny", "UMask",
        "RestrictAddressFamilies=~AF_UNIX", "RestrictAddressFamilies=~AF_(INET|INET6)",
    }, done.stdout  # fmt: skip
    assert "\nLimitCORE=0\n" in unit.read_text(), "a core dump would hold every secret"


@confined.needed
def test_the_daemons_work_within_the_units_system_calls(
    script: Callable[..., Script], database: Database, vhost: Vhost, endpoint: Endpoint, tmp_path: Path
) -> None:
    told = tmp_path / "told"
    alert = {"ALERT_COMMAND": f"/bin/sh -c 'echo $RELAY_CAUSE >{told}'"}
    receiver = script("receiver.py", settings(vhost, endpoint, **alert), environment=confined.environment())
    receiver.start()
    receiver.wait_for_log("consuming")
    listening = Listening(script, database, vhost)
    listener = script("listen.py", listening.settings, environment=confined.environment())
    listener.start()
    listener.wait_for_log("relaying")
    status = Path(f"/proc/{listener.pid}/status").read_text()
    assert "Seccomp:\t2" in status, "it is confined"
    listening.admin("select relay.publish('t', '{}')")
    wait_until(lambda: endpoint.completed, 20, "the event")
    endpoint.rule = lambda _request: Answer(422)
    vhost.channel().basic_publish("", "odoo", b"{}", pika.BasicProperties(headers={"relay-key": "k"}))
    wait_until(lambda: told.exists() and told.read_text() == "parked\n", 30, "an alert")
    for daemon in (listener, receiver):
        daemon.terminate()
        assert daemon.wait() == 0
        assert "not permitted" not in daemon.log()


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
        while (heard := server.recv(4096).decode()) == "WATCHDOG=1":
            pass  # fed from the beginning: to be ready may take a while
        assert heard == "READY=1\nSTATUS=at work"
        assert [server.recv(4096).decode() for _ in range(3)] == ["WATCHDOG=1"] * 3
        daemon.terminate()
        assert daemon.wait() == 0
        while (last := server.recv(4096).decode()) == "WATCHDOG=1":
            pass
        assert last == "STOPPING=1"
