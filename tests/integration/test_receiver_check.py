"""`receiver.py check` as monitoring: rights, alarms, who is at work, how much waits; it changes nothing."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from dev.doubles.endpoint import OK, Answer, Endpoint
from dev.process import wait_until
from dev.script import Script
from dev.vhost import Vhost
from tests.messages import Publisher
from tests.receiving import run, settings

Make = Callable[..., Script]
RIGHTS = {  # the patterns of README.md (Install)
    "configure": r"^(relay|odoo|odoo\.(lease|parked|control|holder))$",
    "write": r"^(amq\.default|odoo)$",
    "read": r"^(relay|odoo|odoo\.(parked|control))$",
}


def lines(receiver: Script, status: int, *options: str) -> dict[str, str]:
    """What `check` finds, by name, with its level before it."""
    shown = run(receiver, "check", *options)
    assert shown.returncode == status, shown.stdout + shown.stderr
    assert shown.stderr == ""
    found = {}
    for line in shown.stdout.splitlines():
        name, _, said = line[8:].partition(": ")
        found[name] = f"{line[:6].strip()} {said}"
    return found


@pytest.fixture
def receiver(vhost: Vhost, script: Make, endpoint: Endpoint) -> Script:
    """Its queue is there, as it made it, and it is at work no more."""
    made = script("receiver.py", settings(vhost, endpoint, MAX_ATTEMPTS=1))
    made.start()
    made.wait_for_log("consuming")
    made.terminate()
    assert made.wait() == 0
    return made


@pytest.mark.parametrize("kind", ["configure", "write", "read"])
def test_a_right_that_is_missing_is_named_with_the_command_that_gives_it(
    vhost: Vhost, receiver: Script, endpoint: Endpoint, kind: str
) -> None:
    user = f"reader-{vhost.name}"
    vhost.broker.add_user(user, "secret", vhost.name)
    vhost.broker.grant(vhost.name, user, **RIGHTS)
    url = vhost.broker.url(vhost.name, user, "secret")
    receiver.configure(settings(vhost, endpoint, RABBITMQ_URL=url))
    assert lines(receiver, 0)["rights"] == f"ok {user} may do what the receiver does"
    queues = vhost.broker.api("GET", f"/queues/{vhost.name}?columns=name,messages")
    vhost.broker.grant(vhost.name, user, **{**RIGHTS, kind: "^$"})
    found = [said for said in lines(receiver, 78).values() if said.startswith("FAILED")]
    assert found
    assert all("refused for user" in said and "rabbitmqctl set_permissions -p " in said for said in found)
    assert queues == vhost.broker.api("GET", f"/queues/{vhost.name}?columns=name,messages"), "nothing was made"


def test_who_is_at_work_and_what_waits(vhost: Vhost, receiver: Script, endpoint: Endpoint) -> None:
    assert lines(receiver, 0)["receiver"] == "ok none is at work"
    endpoint.rule = lambda request: Answer(422) if request.json["n"] == 0 else OK
    publisher = Publisher(vhost)
    for n in range(3):
        publisher.event(f"key {n}", n=n)
    wait_until(lambda: vhost.queue_depth("odoo") == 3, 10, "three messages")
    idle = lines(receiver, 0)
    assert idle["receiver"].startswith("WARN none is at work -> ")
    assert idle["waiting"].startswith("ok 3 messages ready in odoo")
    assert lines(receiver, 78, "--fail-waiting", "2")["waiting"].startswith("FAILED 3 messages ready in odoo")
    receiver.start()
    wait_until(lambda: vhost.queue_depth("odoo.parked") == 1, 20, "the refused event in the parking lot")
    busy = lines(receiver, 0)
    assert busy["receiver"].startswith(f"ok one is at work on {socket.gethostname()}, process {receiver.pid}, since 20")
    assert busy["parked"].startswith("WARN 1 key refused -> receiver.py parked")
    shown = run(receiver, "check", "--nagios")
    assert shown.returncode == 1
    assert shown.stdout.startswith("RELAY WARNING - ")
    assert " | waiting=0;;;0 parked=1;0;;0\n" in shown.stdout


@pytest.mark.parametrize("alarm", ["memory", "disk"])
def test_an_alarm_is_named_and_nothing_hangs(
    private_vhost: Vhost, script: Make, endpoint: Endpoint, alarm: str
) -> None:
    receiver = script("receiver.py", settings(private_vhost, endpoint))
    receiver.start()
    receiver.wait_for_log("consuming")
    set_alarm = getattr(private_vhost.broker, f"set_{alarm}_alarm")
    set_alarm(True)
    found = lines(receiver, 75)
    set_alarm(False)
    assert found["RabbitMQ"].startswith("FAILED ")
    assert "has an alarm, of memory or disk" in found["RabbitMQ"]


def test_a_receiver_that_hangs_is_named(vhost: Vhost, receiver: Script, endpoint: Endpoint) -> None:
    receiver.configure(settings(vhost, endpoint, HEARTBEAT=60))
    receiver.start()
    receiver.wait_for_log("consuming", count=2)
    receiver.pause()
    found = lines(receiver, 0)["receiver"]
    shown = run(receiver, "status")
    receiver.resume()
    assert found.startswith("WARN one is at work, and no answer within 2 s -> ")
    assert "!  at work       a receiver is at work, and does not answer: see its log" in shown.stdout
