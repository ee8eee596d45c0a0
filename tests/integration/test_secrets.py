"""No secret in a log, and no file with secrets that others may read without a word; and what a user got wrong, said in
one line by daemons and commands alike."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dev.database import Database
from dev.doubles.endpoint import Endpoint
from dev.doubles.odoo.handle import Odoo
from dev.process import wait_until
from dev.script import ROOT, Script
from dev.vhost import Vhost
from tests.listening import Listening
from tests.odoo_rows import credentials
from tests.receiving import run, settings

Make = Callable[..., Script]
EXPOSED = "every user of this host may read this file"


@pytest.mark.parametrize("odoo", ["17", "19"], indirect=True)
@pytest.mark.parametrize(
    "payload", [r'{"id":"x","new":{"j":"\ud800"}}', "[" * 990 + "]" * 990], ids=["lone surrogate", "nested deeply"]
)
def test_what_odoo_can_not_be_sent_writes_no_secret_into_the_log(
    database: Database, vhost: Vhost, script: Make, odoo: Odoo, payload: str
) -> None:
    """From SQL to the end: the request that can't be made has the password, or the key, in it."""
    listening = Listening(script, database, vhost)
    own = {
        "RABBITMQ_URL": vhost.url, "QUEUE": "odoo", "TARGET": "odoo-call", "ODOO_MODEL": "res.partner",
        "ODOO_METHOD": "create", "MAX_ATTEMPTS": 2, "RETRY_MIN": "0.05", "RETRY_MAX": "0.2", "LOG_LEVEL": "debug",
        **credentials(odoo),
    }  # fmt: skip
    receiver = script("receiver.py", own)
    receiver.start()
    receiver.wait_for_log("consuming")
    listening.start()
    listening.admin(f"select relay.publish('t', '{payload}')")
    wait_until(
        lambda: re.search(r"defect|parked|recurs|surrogate|paus|open", receiver.log().partition("consuming")[2]),
        20,
        "a word",
    )
    shown = run(receiver, "parked", "--json")
    receiver.terminate()
    assert receiver.wait() == 0
    for text in (receiver.log(), listening.script.log(), shown.stdout, shown.stderr):
        assert odoo.api_key not in text
        assert "Traceback" not in text


def test_a_log_file_is_for_its_owner_and_group_also_when_it_is_made_again(
    vhost: Vhost, script: Make, endpoint: Endpoint, tmp_path: Path
) -> None:
    file = tmp_path / "logs" / "relay.log"
    file.parent.mkdir()
    receiver = script("receiver.py", {**settings(vhost, endpoint), "LOG_FILE": file})
    receiver.start()
    wait_until(lambda: file.exists() and "consuming" in file.read_text(), 20, "the log")
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    file.rename(file.with_suffix(".1"))
    vhost.broker.close_connections()
    wait_until(lambda: file.exists() and "consuming" in file.read_text(), 20, "the new log")
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    file.unlink()
    file.parent.rename(tmp_path / "gone")
    vhost.broker.close_connections()
    receiver.wait_for_log(f"LOG_FILE={file}: No such file or directory")
    receiver.terminate()
    assert receiver.wait() == 0, "a log that can't be written ends nothing"


def test_a_file_with_secrets_that_others_may_read_is_told_at_the_start_and_by_check(
    database: Database, vhost: Vhost, script: Make, endpoint: Endpoint, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("s3cret")
    listening = Listening(script, database, vhost)
    receiver = script("receiver.py", {**settings(vhost, endpoint), "HTTP_TOKEN_FILE": token})
    for daemon, up in ((receiver, "consuming"), (listening.script, "relaying")):
        daemon.env_file.chmod(0o644)
        token.chmod(0o604)
        shown = run(daemon, "check") if daemon is receiver else _listen(daemon, "check")
        assert f"WARN    {daemon.env_file}: {EXPOSED}" in shown.stdout
        assert f"-> chmod o= {daemon.env_file}\n" in shown.stdout
        assert (str(token) in shown.stdout) == (daemon is receiver)
        daemon.start()
        daemon.wait_for_log(up)
        warned = [line for line in daemon.log().splitlines() if "WARNING" in line and EXPOSED in line]
        assert len(warned) == (2 if daemon is receiver else 1)
        daemon.terminate()
        assert daemon.wait() == 0
        daemon.env_file.chmod(0o640)
        token.chmod(0o600)
        shown = run(daemon, "check") if daemon is receiver else _listen(daemon, "check")
        assert "WARNING" not in shown.stdout


def _listen(script: Script, *arguments: str, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [*prefix, sys.executable, str(ROOT / "listen.py"), "--env-file", str(script.env_file), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


HOSTS = [
    ("no-such-host.invalid", "no host of this name is known", 75),
    ("127.0.0.1:1", "Connection refused", 75),
    ("[::1]:1", "", 75),
    ("224.0.0.1:1", "Network is unreachable", 75),
    ("a b", "not an AMQP URL", 78),
    ("a..b", "not an AMQP URL", 78),
]


@pytest.mark.parametrize(("host", "said", "status"), HOSTS)
def test_a_rabbitmq_that_can_not_be_reached_is_one_line_of_every_command(
    database: Database, vhost: Vhost, script: Make, endpoint: Endpoint, host: str, said: str, status: int
) -> None:
    url = f"amqp://u:s3cret@{host}/%2F"
    receiver = script("receiver.py", {**settings(vhost, endpoint), "RABBITMQ_URL": url})
    listening = Listening(script, database, vhost, RABBITMQ_URL=url)
    for shown in (
        run(receiver, "parked"),
        run(receiver, "check"),
        run(receiver, "--drain"),
        _listen(listening.script, "check"),
    ):
        assert "Traceback" not in shown.stderr
        assert "s3cret" not in shown.stdout + shown.stderr
        assert said in shown.stdout + shown.stderr
        assert shown.returncode in (status, 78)
        assert len(shown.stderr.splitlines()) <= 1
    daemon = listening.script
    daemon.start()
    if status == 75:
        daemon.wait_for_log("is not reachable")
        daemon.terminate()
    assert daemon.wait() == (0 if status == 75 else 78)
    assert said in daemon.log()
    assert "s3cret" not in daemon.log()


# Root may enter every directory; without its capabilities it is as any other user.
POWERLESS = ("setpriv", "--bounding-set=-all", "--inh-caps=-all") if os.geteuid() == 0 else ()


@pytest.mark.parametrize("program", ["listen.py", "receiver.py"])
def test_an_env_file_or_a_secret_in_a_directory_that_one_may_not_enter_is_one_line(
    program: str, tmp_path: Path
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    (closed / "config.env").write_text("")
    own = tmp_path / "own.env"
    own.write_text(
        f"RABBITMQ_URL_FILE={closed}/config.env\nRABBITMQ_CA_FILE={closed}/config.env\nLOG_FILE={closed}/log\n"
    )
    closed.chmod(0)
    try:
        for env_file, status in ((closed / "config.env", 78), (own, 78)):
            for arguments in ([], ["check"]):
                command = [*POWERLESS, sys.executable, str(ROOT / program), "--env-file", str(env_file), *arguments]
                shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
                assert shown.returncode == status
                assert "Traceback" not in shown.stderr
                assert "Permission denied" in shown.stderr
    finally:
        closed.chmod(0o700)


def test_an_output_that_takes_nothing_is_one_line(database: Database, vhost: Vhost, script: Make) -> None:
    listening = Listening(script, database, vhost)
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, str(ROOT / "listen.py"), "--env-file", str(listening.script.env_file), "status"]
        shown = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert shown.returncode == 1
    assert re.fullmatch(r"listen.py: No space left on device \(\w+.py:\d+.*\)\n", shown.stderr)
