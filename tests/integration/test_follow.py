"""An event's life by its id through both logs, at level debug; the receiver's state as systemd shows it; SIGHUP."""

from __future__ import annotations

import re
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pika

from dev.database import Database
from dev.doubles.endpoint import Answer, Endpoint
from dev.process import wait_until
from dev.script import Script
from dev.vhost import Vhost
from tests.listening import Listening
from tests.receiving import run, settings


def life(log: str, event_id: str) -> list[str]:
    """What is said of an event at level debug, in order, without repetitions."""
    found = re.findall(rf" DEBUG   \w+: (.*?) (?:id|event)={event_id}\b", log)
    return list(dict.fromkeys(found))


def test_an_event_is_followed_by_its_id_through_both_logs(
    script: Callable[..., Script], database: Database, vhost: Vhost, endpoint: Endpoint
) -> None:
    endpoint.rule = lambda request: Answer(422 if request.json["n"] == 2 else 200)
    receiver = script("receiver.py", settings(vhost, endpoint, MAX_ATTEMPTS=1, LOG_LEVEL="debug"))
    receiver.start()
    receiver.wait_for_log("consuming")
    listening = Listening(script, database, vhost, LOG_LEVEL="debug").start()
    for n in (1, 2):
        listening.admin(f"select relay.publish('t', '{{\"n\": {n}}}', key => 'k{n}')")
    listening.await_empty()
    receiver.wait_for_log("event acknowledged", count=2)
    first, second = dict.fromkeys(re.findall(r"event read id=(\S+)", listening.script.log()))
    wait_until(lambda: listening.script.log().count("event deleted") == 2, 10, "the last line")
    for one in (first, second):
        said = life(listening.script.log(), one)
        assert said == ["event read", "event published", "event confirmed", "event deleted"]
    assert life(receiver.log(), first) == ["event received", "event sent", "event answered", "event acknowledged"]
    assert life(receiver.log(), second) == [
        "event received", "event sent", "event answered", "event stored in the parking lot", "event acknowledged",
    ]  # fmt: skip
    endpoint.rule = lambda _request: Answer()
    assert run(receiver, "replay", "--all").returncode == 0
    assert life(receiver.log(), second)[-1] == "event acknowledged, out of the parking lot"
    assert re.search(rf"event answered event={first} verdict=done\n", receiver.log())


def test_without_debug_nothing_of_it_is_said(
    script: Callable[..., Script], database: Database, vhost: Vhost, endpoint: Endpoint
) -> None:
    receiver = script("receiver.py", settings(vhost, endpoint))
    receiver.start()
    receiver.wait_for_log("consuming")
    listening = Listening(script, database, vhost).start()
    listening.admin("select relay.publish('t', '{}')")
    wait_until(lambda: endpoint.completed, 20, "the event")
    listening.await_empty()
    for daemon in (receiver, listening.script):
        daemon.terminate()
        assert daemon.wait() == 0
        assert "DEBUG" not in daemon.log()
        assert "event " not in daemon.log()


def test_systemd_shows_the_state_that_the_log_tells(
    script: Callable[..., Script], vhost: Vhost, endpoint: Endpoint, tmp_path: Path
) -> None:
    endpoint.rule = lambda _request: Answer(503, b"at lunch\nSTATUS=forged")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "notify"))
        server.settimeout(20)
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
        made = settings(vhost, endpoint, MAX_ATTEMPTS=1, PARKED_MAX=1)
        daemon = script("receiver.py", made, environment=environment)
        daemon.start()
        assert server.recv(4096) == b"READY=1\nSTATUS=at work"
        vhost.channel().basic_publish("", "odoo", b"{}", pika.BasicProperties(headers={"relay-key": "k"}))
        assert server.recv(4096) == b"STATUS=waiting for the endpoint: HTTP 503: at lunch STATUS=forged"
        daemon.wait_for_log("endpoint does not work, pausing")
        endpoint.rule = lambda _request: Answer(422)
        heard = [server.recv(4096)]
        while heard[-1] != b"STATUS=paused: the parking lot is full":
            heard.append(server.recv(4096))
        assert set(heard[:-1]) <= {b"STATUS=at work"}
        daemon.wait_for_log("the parking lot is full, pausing")
        endpoint.rule = lambda _request: Answer()
        assert run(daemon, "replay", "--all").returncode == 0
        assert server.recv(4096) == b"STATUS=at work"
        daemon.terminate()
        assert server.recv(4096) == b"STOPPING=1"


def test_sighup_opens_the_log_anew_and_changes_nothing_else(
    script: Callable[..., Script], database: Database, vhost: Vhost, endpoint: Endpoint, tmp_path: Path
) -> None:
    for daemon, sentence in (
        (Listening(script, database, vhost, LOG_FILE=tmp_path / "listen.log", LOG_LEVEL="debug").script, "relaying"),
        (script("receiver.py", settings(vhost, endpoint, LOG_FILE=tmp_path / "receiver.log")), "consuming"),
    ):
        path = tmp_path / daemon.name.replace(".py", ".log")
        daemon.start()
        wait_until(lambda path=path, word=sentence: path.exists() and word in path.read_text(), 20, sentence)
        path.rename(tmp_path / "moved")
        daemon.configure({"LOG_LEVEL": "error", "LOG_FORMAT": "json"})
        daemon.signal(signal.SIGHUP)
        daemon.signal(signal.SIGHUP)
        daemon.terminate()
        assert daemon.wait() == 0
        assert re.fullmatch(r"(\S+Z (INFO|DEBUG) .*\n)*\S+Z INFO +\w+: stopped\n", path.read_text()), path.read_text()
