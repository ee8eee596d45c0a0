"""The commands of receiver.py as a person meets them: interrupted, piped, given what is not there or not allowed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from dev.doubles.endpoint import OK, Answer, Endpoint, Request
from dev.process import wait_until
from dev.script import ROOT, Script
from dev.vhost import Vhost
from tests.messages import Publisher
from tests.receiving import done, run, settings
from tests.terminal import Terminal

Make = Callable[..., Script]


def start(script: Make, vhost: Vhost, endpoint: Endpoint) -> Script:
    """A receiver at work, with one key of two events parked."""
    endpoint.rule = lambda request: Answer(422) if request.json["n"] == 0 else OK
    receiver = script("receiver.py", settings(vhost, endpoint, MAX_ATTEMPTS=2))
    receiver.start()
    receiver.wait_for_log("consuming")
    publisher = Publisher(vhost)
    for n, key in enumerate(("bad", "good", "bad")):
        publisher.event(key, n=n)
    wait_until(lambda: vhost.queue_depth("odoo.parked") == 2, 20, "the key in the parking lot")
    return receiver


def on_terminal(receiver: Script, *arguments: str) -> Terminal:
    command = [sys.executable, str(ROOT / "receiver.py"), "--env-file", str(receiver.env_file), *arguments]
    return Terminal(command, {"PATH": os.environ["PATH"]})


def test_what_is_not_parked_is_a_failure_that_says_so(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    receiver = start(script, vhost, endpoint)
    for arguments in (["replay", "--id", "5"], ["discard", "--key", "x", "--yes"]):
        shown = run(receiver, *arguments)
        assert (shown.returncode, shown.stdout) == (1, "")
        assert shown.stderr == f"receiver.py {arguments[0]}: no parked key matches; receiver.py parked lists them\n"
    assert "receiver.py parked shows them" in run(receiver, "discard", "--id", "5", "--yes").stderr
    assert "receiver.py parked shows them" in run(receiver, "discard", "5", "--yes").stderr
    assert done(run(receiver, "parked", "--key", "good")) == "nothing that matches is waiting\n"
    assert "1 key waiting" in done(run(receiver, "parked"))


def test_discarding_one_event_is_done_also_if_the_next_of_its_key_is_refused(
    vhost: Vhost, script: Make, endpoint: Endpoint
) -> None:
    receiver = start(script, vhost, endpoint)
    endpoint.rule = lambda _request: Answer(422)
    first = done(run(receiver, "parked")).split()[0]
    shown = done(run(receiver, "discard", first, "--yes"))
    assert "discarded, and the key's next event refused" in shown
    assert "discard: 1 of 1 keys done" in shown


def test_a_command_for_a_queue_that_does_not_exist_makes_none(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    receiver = script("receiver.py", settings(vhost, endpoint, QUEUE="odo"))
    for arguments in (["parked"], ["replay", "--all"]):
        shown = run(receiver, *arguments)
        assert shown.returncode == 78
        assert shown.stderr == (
            "receiver.py: queue odo does not exist -> correct QUEUE; receiver.py makes the queue when it runs\n"
        )
    assert "queue odo: not there yet" in done(run(receiver, "check"))
    assert vhost.broker.api("GET", f"/queues/{vhost.name}") == []


def test_a_command_without_the_right_names_the_grant(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    receiver = start(script, vhost, endpoint)
    vhost.broker.add_user("looker", "secret")
    vhost.broker.grant(vhost.name, "looker", configure="^$", write="^$")
    address = vhost.url.partition("@")[2]
    receiver.configure(settings(vhost, endpoint, RABBITMQ_URL=f"amqp://looker:secret@{address}"))
    shown = run(receiver, "parked")
    assert shown.returncode == 78
    assert "refuses: ACCESS_REFUSED" in shown.stderr
    assert f"rabbitmqctl set_permissions -p {vhost.name} looker" in shown.stderr
    assert "Traceback" not in shown.stderr


def test_options_of_drain_without_it_are_refused(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    receiver = script("receiver.py", settings(vhost, endpoint))
    for arguments in (["--limit", "3"], ["--max-seconds", "3"]):
        shown = run(receiver, *arguments)
        assert shown.returncode == 2, "it would have run until stopped"
        assert "--limit and --max-seconds need --drain" in shown.stderr


@pytest.mark.parametrize("arguments", [["parked"], ["check"]])
def test_a_reader_that_has_seen_enough_is_no_traceback(
    vhost: Vhost, script: Make, endpoint: Endpoint, arguments: list[str]
) -> None:
    receiver = start(script, vhost, endpoint)
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, str(ROOT / "receiver.py"), "--env-file", str(receiver.env_file), *arguments]
    shown = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False, timeout=60)
    os.close(writer)
    assert (shown.returncode, shown.stderr) == (1, b"")


def test_ctrl_c_and_a_lost_connection_in_a_replay_say_who_goes_on(
    vhost: Vhost, script: Make, endpoint: Endpoint
) -> None:
    receiver = start(script, vhost, endpoint)
    answered = threading.Event()

    def held(_request: Request) -> Answer:
        answered.wait(30)
        return OK

    endpoint.rule = held
    try:
        terminal = on_terminal(receiver, "replay", "--all")
        terminal.wait_for("replay: 0 of 1 keys done")
        vhost.broker.close_connections()
        assert terminal.end() == 75
        # Whichever comes first: the end of its own connection, or the last word over the one for answers.
        assert re.search("has gone away|connection to RabbitMQ ended, or it was stopped; try again", terminal.shown)
        assert "Traceback" not in terminal.shown
        receiver.wait_for_log("recovered")
        terminal = on_terminal(receiver, "replay", "--all")
        terminal.wait_for("replay: 0 of 1 keys done")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.end() == 130
        assert "the running receiver goes on with the replay; receiver.py parked shows what is left" in terminal.shown
    finally:
        answered.set()
    wait_until(lambda: len(endpoint.completed) >= 3, 20, "the replay to have gone on")


def test_a_closed_input_and_an_interrupted_question_discard_nothing(
    vhost: Vhost, script: Make, endpoint: Endpoint
) -> None:
    receiver = start(script, vhost, endpoint)
    for press, status in (("\x04", 2), ("\x03", 130)):
        terminal = on_terminal(receiver, "discard", "--all")
        terminal.wait_for("Write yes to throw them away")
        if press == "\x03":
            terminal.process.send_signal(signal.SIGINT)
        else:
            terminal.type(press)
        assert terminal.end() == status, terminal.shown
        assert "Traceback" not in terminal.shown
    assert vhost.queue_depth("odoo.parked") == 2
