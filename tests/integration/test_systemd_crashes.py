"""Who is told of a daemon's end, by the units as they are, under a systemd: this machine's, Debian 12's or 13's."""

from __future__ import annotations

import collections
from pathlib import Path

from dev.process import wait_until
from tests import booted

# In place of Python. Each instance ends in a way of its own, and counts its starts.
DAEMON = """#!/bin/sh
echo start
case $(basename "${5:-$3}" .env) in
    defect|listen) exit 70 ;;
    killed) kill -KILL $$ ;;
    wrong) exit 78 ;;
    away) exit 75 ;;
    silent) exit 0 ;;  # without a word that it is ready: not as it should be
    ends) exec perl -MIO::Socket::UNIX -e '
        IO::Socket::UNIX->new(Type => SOCK_DGRAM, Peer => $ENV{NOTIFY_SOCKET})->send("READY=1")' ;;
esac
"""
ALERT = "#!/bin/sh\necho $RELAY_STATE $RELAY_CAUSE $RELAY_NAME\n"
STUBBORN = "#!/bin/sh\n[ -e /mnt/broken ] || echo $RELAY_CAUSE $RELAY_NAME\n[ ! -e /mnt/broken ]\n"
QUICK = "[Service]\nRestartSec=100ms\nRestartSteps=0\nStandardOutput=append:/mnt/starts-{}\n"
DAEMONS = {
    "/opt/relay/.venv/bin/python": DAEMON,
    "/etc/systemd/system/relay-receiver@.service.d/test.conf": QUICK.format("%i"),
    "/etc/systemd/system/relay-listen.service.d/test.conf": QUICK.format("listen"),
}


def starts(told: Path, name: str) -> int:
    path = told.with_name(f"starts-{name}")
    return len(path.read_text().splitlines()) if path.exists() else 0


@booted.needed
def test_a_crash_is_told_once_however_often_it_comes_and_an_outage_never(tmp_path: Path) -> None:
    restarted = ("defect", "killed", "silent", "away", "ends")
    units = " ".join(f"relay-receiver@{name}.service" for name in (*restarted, "wrong")) + " relay-listen.service"
    with booted.systemd(tmp_path, {**DAEMONS, "/etc/relay/alert": ALERT}, units) as told:
        wait_until(lambda: all(starts(told, name) >= 6 for name in (*restarted, "listen")), 30, "crashes")
        wait_until(lambda: len(told.read_text().splitlines()) >= 5, 10, "alerts")
    lines = collections.Counter(told.read_text().splitlines())
    assert lines == {
        "raised crashed relay-receiver@defect.service": 1,
        "raised crashed relay-receiver@killed.service": 1,
        "raised crashed relay-receiver@silent.service": 1,
        "raised crashed relay-listen.service": 1,
        "raised failed relay-receiver@wrong.service": 1,
    }
    assert starts(told, "wrong") == 1


@booted.needed
def test_where_nobody_could_be_told_it_is_tried_with_the_next_crash(tmp_path: Path) -> None:
    (tmp_path / "broken").touch()
    files = {**DAEMONS, "/etc/relay/alert": STUBBORN}
    with booted.systemd(tmp_path, files, "relay-receiver@defect.service") as told:
        wait_until(lambda: starts(told, "defect") >= 4, 30, "crashes")
        (tmp_path / "broken").unlink()
        wait_until(lambda: told.read_text() == "crashed relay-receiver@defect.service\n", 10, "an alert")
