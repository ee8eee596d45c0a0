"""The least rights in RabbitMQ that README.md gives suffice for everything, and a remedy names no more."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dev.database import Database
from dev.doubles.endpoint import OK, Answer, Endpoint
from dev.process import wait_until
from dev.script import ROOT, Script
from dev.vhost import Vhost
from relay import config
from relay.amqp import rights
from relay.errors import ConfigError
from tests.listening import Listening
from tests.listening import run as run_listen
from tests.receiving import done, run, settings

Make = Callable[..., Script]
USERS = ("relay_listen", "relay_odoo")  # of the listener, and of the receiver of queue odoo; SOURCE is erp


def granted(user: str) -> list[str]:
    """Configure, write and read: what README.md gives a user, word for word."""
    (definitions,) = re.findall(
        r"^ +rabbitmqctl import_definitions \S+; rm relay.json' <<'END'\n(.*?)^END$", README, re.DOTALL | re.MULTILINE
    )
    (found,) = (one for one in json.loads(definitions)["permissions"] if one["user"] == user)
    assert found["vhost"] == "relay"
    return [found["configure"], found["write"], found["read"]]


README = (ROOT / "README.md").read_text()


def user_url(vhost: Vhost, user: str, *patterns: str) -> str:
    """The URL of a user who may do no more than `patterns` say."""
    vhost.broker.add_user(user, "secret")
    vhost.broker.grant(vhost.name, user, *patterns)
    return vhost.broker.url(vhost.name, user, "secret")


@pytest.fixture
def listening(script: Make, database: Database, vhost: Vhost) -> Listening:
    """A listener with the rights of README.md; it needs the queue, as in the demo."""
    url = user_url(vhost, USERS[0], *granted(USERS[0]))
    return Listening(script, database, vhost, RABBITMQ_URL=url, SOURCE="erp", REQUIRED_QUEUES="odoo")


@pytest.fixture
def receiver(script: Make, vhost: Vhost, endpoint: Endpoint) -> Script:
    url = user_url(vhost, USERS[1], *granted(USERS[1]))
    return script("receiver.py", settings(vhost, endpoint, RABBITMQ_URL=url, MAX_ATTEMPTS=2))


def test_everything_works_with_the_rights_of_the_readme(
    listening: Listening, receiver: Script, endpoint: Endpoint
) -> None:
    """From nothing there to nothing left: checks, delivery, parking, commands with and without a receiver, --drain."""
    assert "FAILED  queue odoo" in run_listen(listening, "check").stdout
    done(run(receiver, "check"))
    listening.table(count=3)
    receiver.start()
    receiver.wait_for_log("consuming")
    listening.start()
    checked = run_listen(listening, "check")
    assert (checked.returncode, checked.stderr) == (0, ""), checked.stdout
    assert "ok      exchange relay: topic" in checked.stdout
    assert "ok      lease: relay.lease.erp: a listener is at work" in checked.stdout
    assert json.loads(run_listen(listening, "status", "--json").stdout)["listener"]["state"] == "at work"

    endpoint.rule = lambda request: Answer(422) if request.json["key"]["id"] == 1 else OK
    listening.execute("update t set n = 1")
    listening.execute("update t set n = 2")
    wait_until(lambda: listening.vhost.queue_depth("odoo.parked") == 2, 20, "row 1 in the parking lot")
    listening.await_empty()
    (parked,) = json.loads(done(run(receiver, "parked", "--json")))
    assert json.loads(done(run(receiver, "show", parked["id"])))["key"] == parked["key"]
    assert run(receiver, "replay", "--all").returncode == 1, "refused again"
    done(run(receiver, "discard", "--id", parked["id"], "--yes"))
    assert "messages ready" in done(run(receiver, "check"))

    endpoint.rule = lambda _request: OK
    receiver.terminate()
    assert receiver.wait() == 0
    listening.execute("update t set n = 3")
    listening.await_empty()
    assert "1 key waiting" in done(run(receiver, "parked"))
    done(run(receiver, "replay", "--all"))
    done(run(receiver, "--drain"))
    arrived = [(body["key"]["id"], body["new"]["n"]) for body in endpoint.bodies()]
    assert sorted(arrived) == [(1, 2), (1, 3), (2, 1), (2, 2), (2, 3), (3, 1), (3, 2), (3, 3)]
    assert listening.vhost.queue_depth("odoo") == 0
    for log in (receiver.log(), listening.script.log()):
        assert "ACCESS_REFUSED" not in log


@pytest.mark.parametrize(("place", "name"), [(0, "relay.control.erp"), (1, "amq.default"), (2, "relay.control.erp")])
def test_check_names_what_status_needs_and_the_listener_does_not(listening: Listening, place: int, name: str) -> None:
    vhost, whole = listening.vhost, granted(USERS[0])
    less = [*whole]
    less[place] = whole[place].replace("^", f"^(?!{re.escape(name)}$)", 1)
    vhost.broker.grant(vhost.name, USERS[0], *less)
    listening.bind("odoo")
    checked = run_listen(listening, "check")
    assert checked.returncode == 0, checked.stdout
    (said,) = [line for line in checked.stdout.splitlines() if line.startswith("WARN    status: ")]
    assert f"access to {'exchange' if place == 1 else 'queue'} '" in said
    command = shlex.split(said.partition(" -> ")[2], comments=True)
    assert command == ["rabbitmqctl", "set_permissions", "-p", vhost.name, USERS[0], *whole]


def test_an_exchange_that_exists_needs_no_right_to_configure_it(
    listening: Listening, receiver: Script, endpoint: Endpoint
) -> None:
    vhost = listening.vhost
    vhost.channel().exchange_declare("relay", "topic", durable=True)
    for user, (configure, write, read) in zip(USERS, map(granted, USERS), strict=True):
        vhost.broker.grant(vhost.name, user, configure.replace("(relay|", "("), write, read)
    receiver.start()
    receiver.wait_for_log("consuming")
    listening.table()
    listening.start()
    listening.execute("insert into t values (1)")
    wait_until(lambda: len(endpoint.completed) == 1, 20, "the event to arrive")
    checked = run_listen(listening, "check")
    assert checked.returncode == 0, checked.stdout
    assert "ok      exchange relay: there; whether its type is EXCHANGE_TYPE is told only" in checked.stdout


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("there", [True, False])
def test_an_exchange_of_another_type_or_one_that_must_not_be_made_is_told(
    listening: Listening, receiver: Script, user: str, there: bool
) -> None:
    """With the right of README.md a wrong type is told as ever; without it, and no exchange, the command is."""
    vhost = listening.vhost
    listening.bind("odoo")
    vhost.channel().exchange_delete("relay")
    if there:
        vhost.channel().exchange_declare("relay", "fanout", durable=True)
    else:
        configure, write, read = granted(user)
        vhost.broker.grant(vhost.name, user, configure.replace("(relay|", "("), write, read)
    daemon = listening.script if user == USERS[0] else receiver
    daemon.start()
    assert daemon.wait() == 78
    said = daemon.log().splitlines()[-1]
    assert "exchange relay" in said
    if there:
        assert "inequivalent arg 'type' for exchange 'relay'" in said
        assert "EXCHANGE_TYPE" in said
    else:
        assert shlex.split(said.partition(" -> ")[2], comments=True) == [
            *("rabbitmqctl", "set_permissions", "-p", vhost.name, user), *granted(user)
        ]  # fmt: skip


def test_a_receiver_that_may_not_answer_any_more_says_so_once_and_delivers(
    script: Make, receiver: Script, vhost: Vhost, endpoint: Endpoint
) -> None:
    receiver.start()
    receiver.wait_for_log("consuming")
    configure, write, read = granted(USERS[1])
    vhost.broker.grant(vhost.name, USERS[1], configure, write.replace("amq\\.default|", ""), read)
    asking = script("receiver.py", settings(vhost, endpoint))
    for _ in range(2):
        assert json.loads(done(run(asking, "status", "--json")))["problem"].endswith("does not answer: see its log")
    assert receiver.log().count("commands can't be answered: RabbitMQ refuses: ACCESS_REFUSED") == 1
    vhost.channel().basic_publish("relay", "t", b"{}")
    wait_until(lambda: len(endpoint.completed) == 1, 20, "the event")


CONFIGURE, WRITE, READ = range(3)
MISSING = [
    *((USERS[0], CONFIGURE, name) for name in ("relay.lease.erp", "relay.control.erp")),
    (USERS[0], WRITE, "relay"),
    (USERS[0], READ, "relay.control.erp"),
    *((USERS[1], CONFIGURE, name) for name in ("odoo", "odoo.lease", "odoo.parked", "odoo.control")),
    *((USERS[1], WRITE, name) for name in ("amq.default", "odoo")),
    *((USERS[1], READ, name) for name in ("relay", "odoo", "odoo.parked", "odoo.control")),
]


@pytest.mark.parametrize(("user", "place", "name"), MISSING)
def test_each_right_is_needed_and_the_refusal_names_the_command(
    listening: Listening, receiver: Script, user: str, place: int, name: str
) -> None:
    vhost, whole = listening.vhost, granted(user)
    less = [*whole]
    less[place] = whole[place].replace("^", f"^(?!{re.escape(name)}$)", 1)
    vhost.broker.grant(vhost.name, user, *less)
    daemon = listening.script if user == USERS[0] else receiver
    listening.bind("odoo", **{"x-delivery-limit": 1_000_000})
    channel = vhost.channel()
    channel.queue_declare(
        "odoo.parked", durable=True, arguments={"x-queue-type": "quorum", "x-delivery-limit": 1_000_000_000}
    )
    channel.basic_publish("", "odoo.parked", b"{}")
    listening.table()
    listening.execute("insert into t values (1)")
    daemon.start()
    daemon.wait_for_log("ACCESS_REFUSED")
    said = next(line for line in daemon.log().splitlines() if "ACCESS_REFUSED" in line)
    assert f"'{name}' in vhost" in said
    command = re.search(r"-> (rabbitmqctl set_permissions .*?) # ", said)
    assert command, said
    assert shlex.split(command[1])[3:] == [vhost.name, user, *whole]


@pytest.mark.parametrize(("user", "kind"), [(USERS[0], config.Listen), (USERS[1], config.Receive)])
def test_the_remedy_of_an_error_gives_what_the_readme_gives(user: str, kind: type[config.Common]) -> None:
    made = config.load(kind, None, {
        "DATABASE_URL": "postgresql://h/erp", "RABBITMQ_URL": f"amqps://{user}:x@h/relay", "QUEUE": "odoo",
        "HTTP_URL": "https://h/",
    })  # fmt: skip
    command = shlex.split(rights.command(made).partition(" # ")[0])
    assert command == ["rabbitmqctl", "set_permissions", "-p", "relay", user, *granted(user)]


names = st.text(min_size=1, max_size=20).filter(lambda name: "," not in name and name == name.strip())


@given(queue=names, exchange=names, vhost=names, other=names)
def test_whatever_the_names_are_the_patterns_match_them_and_nothing_else(
    queue: str, exchange: str, vhost: str, other: str
) -> None:
    try:
        made = config.load(config.Receive, None, {
            "RABBITMQ_URL": "amqp://h/v", "QUEUE": queue, "EXCHANGE": exchange, "HTTP_URL": "http://h/",
        })  # fmt: skip
    except ConfigError:
        return
    configure, write, read = rights.patterns(made)
    own = {queue, f"{queue}.parked", f"{queue}.control", exchange}
    for pattern, allowed in ((configure, own | {f"{queue}.lease"}), (write, {queue, "amq.default"}), (read, own)):
        assert all(re.search(pattern, name) for name in allowed)
        for name in (other, queue + other, other + queue, exchange + other, other + exchange, f"{queue}x{other}"):
            assert bool(re.search(pattern, name)) is (name in allowed)
    assert shlex.split(rights.command(made), comments=True)[5:] == [configure, write, read]


@given(source=names, exchange=names, other=names)
def test_the_same_of_a_listeners_names(source: str, exchange: str, other: str) -> None:
    try:
        made = config.load(config.Listen, None, {
            "RABBITMQ_URL": "amqp://h/v", "SOURCE": source, "EXCHANGE": exchange, "DATABASE_URL": "postgresql://h/db",
        })  # fmt: skip
    except ConfigError:
        return
    configure, write, read = rights.patterns(made)
    lease, control = f"relay.lease.{source}", f"relay.control.{source}"
    for pattern, allowed in (
        (configure, {exchange, lease, control}), (write, {exchange, "amq.default"}), (read, {control})
    ):  # fmt: skip
        assert all(re.search(pattern, name) for name in allowed)
        for name in (other, lease + other, control + other, other + control, exchange + other, f"relaycontrol{source}"):
            assert bool(re.search(pattern, name)) is (name in allowed)
