"""The examples for ALERT_COMMAND, filled in as their first lines say, against a mail server and an ntfy on loopback."""

from __future__ import annotations

import email
import email.policy
import shutil
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from email.message import EmailMessage
from pathlib import Path

import pytest

from dev.doubles.endpoint import Answer, Endpoint
from tests import confined

ROOT = Path(__file__).parents[2]
TOLD = {
    "RELAY_STATE": "raised", "RELAY_CAUSE": "parked", "RELAY_REASON": "@ 1 key refused: \u00fc $(id) \"x\" http://a/?b",
    "RELAY_HOST": "odoo1", "RELAY_NAME": "receiver of odoo", "RELAY_SINCE": "2026-11-22T16:14:10Z",
}  # fmt: skip
DEAD = {name: value for name, value in TOLD.items() if name != "RELAY_SINCE"} | {"RELAY_CAUSE": "failed"}
CONFINED = "import os, sys; os.execv(sys.argv[1], sys.argv[1:])"  # once Python's start has confined the process


class Mailbox(socketserver.ThreadingTCPServer):
    """A mail server that keeps what it gets. `refuses`: it takes nobody's mail."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Smtp)
        self.mails: list[EmailMessage] = []
        self.refuses = False
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()


class _Smtp(socketserver.StreamRequestHandler):
    server: Mailbox

    def handle(self) -> None:
        self._say("220 test")
        while line := self.rfile.readline().strip().upper():
            if line.startswith(b"DATA"):
                self._say("354 go on")
                text = b"".join(iter(self.rfile.readline, b".\r\n"))
                self.server.mails.append(email.message_from_bytes(text, policy=email.policy.default))  # type: ignore[arg-type]
            refused = self.server.refuses and line.startswith(b"RCPT")
            self._say("550 no" if refused else "221 bye" if line == b"QUIT" else "250 fine")

    def _say(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    with Mailbox() as server:
        yield server
        server.shutdown()


def filled_in(name: str, directory: Path, **values: str) -> Path:
    """A copy with these values, as an operator makes it."""
    text = (ROOT / "examples" / name).read_text()
    for old, new in values.items():
        line = next(
            line
            for line in text.splitlines()
            if line.startswith((f"{old}=", f"{old.replace('_', ', ')} = ", f"{old} ="))
        )
        text = text.replace(line, new)
    copy = directory / "alert"
    copy.write_text(text.replace("#!/usr/bin/python3 ", f"#!{sys.executable} "))
    copy.chmod(0o755)
    return copy


def run(program: Path, told: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """As the daemons and the unit run it; confined as the units are, where that can be had."""
    command, environ = [str(program)], {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", **told}
    if not confined.needed.args[0]:
        command = [sys.executable, "-c", CONFINED, *command]
        environ |= confined.environment()
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize("told", [TOLD, DEAD], ids=["daemon", "unit"])
def test_a_mail(mailbox: Mailbox, tmp_path: Path, told: Mapping[str, str]) -> None:
    port = mailbox.server_address[1]
    program = filled_in("alert-mail", tmp_path, HOST_PORT=f"HOST, PORT = '127.0.0.1', {port}", TLS="TLS = 'no'")
    done = run(program, told)
    assert (done.returncode, done.stderr) == (0, "")
    (mail,) = mailbox.mails
    assert mail["Subject"] == f"ALERT: receiver of odoo on odoo1: {told['RELAY_CAUSE']}"
    assert mail["To"] == "admin@example.lan"
    for name, value in told.items():
        assert f"{name.removeprefix('RELAY_').lower()}: {value}" in mail.get_content().splitlines()
    assert run(program, {**told, "RELAY_STATE": "ended"}).returncode == 0
    assert mailbox.mails[1]["Subject"].startswith("OVER: receiver of odoo")
    mailbox.refuses = True
    done = run(program, told)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not shutil.which("curl"), reason="no curl here")
@pytest.mark.parametrize("told", [TOLD, DEAD], ids=["daemon", "unit"])
def test_a_message_by_ntfy(endpoint: Endpoint, tmp_path: Path, told: Mapping[str, str]) -> None:
    header = tmp_path / "header"
    header.write_text("Authorization: Bearer tk_secret\n")
    program = filled_in("alert-ntfy", tmp_path, URL=f"URL={endpoint.url}", HEADER_FILE=f"HEADER_FILE={header}")
    done = run(program, told)
    assert (done.returncode, done.stderr) == (0, "")
    (request,) = endpoint.requests
    since = told.get("RELAY_SINCE", "now")
    assert request.body.decode() == f"{told['RELAY_CAUSE']}: {told['RELAY_REASON']} (since {since})"
    assert request.headers["Title"] == "ALERT: receiver of odoo on odoo1"
    assert request.headers["Authorization"] == "Bearer tk_secret"
    assert run(program, {**told, "RELAY_STATE": "ended"}).returncode == 0
    assert endpoint.requests[1].headers["Title"].startswith("over: ")
    endpoint.rule = lambda _request: Answer(401)
    assert run(program, told).returncode == 22
