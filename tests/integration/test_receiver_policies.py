"""Arguments and policies that would have RabbitMQ drop events: named by `check` and by the running receiver."""

from __future__ import annotations

import functools
import shlex
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import connection
from dev.doubles.endpoint import Endpoint
from dev.process import wait_until
from dev.script import Script
from dev.vhost import Vhost
from relay import config
from relay.amqp import management_api
from relay.checks import Limits
from relay.findings import Finding
from relay.receiving import check
from tests.integration.test_receiver_queues import begins
from tests.receiving import run, settings, with_constants

Make = Callable[..., Script]
WHO = "relay_odoo"


def management(vhost: Vhost) -> str:
    return f"http://127.0.0.1:{vhost.broker.management_port}"


def looked(vhost: Vhost, **more: str) -> list[Finding]:
    """What `receiver.py check` finds in RabbitMQ."""
    environ = {"RABBITMQ_URL": vhost.url, "QUEUE": "odoo", "HTTP_URL": "http://127.0.0.1:1/",
               "RABBITMQ_MANAGEMENT_URL": management(vhost), **more}  # fmt: skip
    made = config.load(config.Receive, None, environ)
    with connection.rabbitmq_now(made, name="test") as handle:
        return list(check.rabbitmq(handle, made, functools.partial(management_api.ask, made), Limits()))


def put(vhost: Vhost, kind: str, name: str, definition: dict[str, Any], **more: object) -> None:
    path = f"/{kind}/{vhost.name}/{name}"
    vhost.broker.api("PUT", path, {"pattern": ".*", "definition": definition, **more})


BOTH, ALL = "odoo and odoo.parked", "odoo and odoo.parked and odoo.lease"
POLICIES: list[tuple[dict[str, Any], list[str]]] = [
    ({"message-ttl": 5000}, [f"message-ttl=5000 on {BOTH}: an event that waits for 5000 ms is dropped"]),
    ({"expires": 60000}, [f"expires=60000 on {ALL}: the queue is deleted, and all that is in it, when nobody"]),
    ({"max-length": 9}, [f"max-length=9 on {BOTH}: with more than 9 messages the oldest is dropped"]),
    ({"max-length-bytes": 9, "overflow": "drop-head"}, [
        f"max-length-bytes=9 on {BOTH}: with more than 9 bytes the oldest event is dropped"
    ]),
    ({"max-length": 9, "max-length-bytes": 99, "overflow": "reject-publish"}, []),
    ({"delivery-limit": 20}, [f"delivery-limit=20 on {BOTH}: an event that was handed out 20 times is dropped"]),
    ({"delivery-limit": 2_000_000}, ["delivery-limit=2000000 on odoo.parked: an event that"]),
    ({"dead-letter-exchange": "dlx"}, [f"pattern .*, dead-letter-exchange=dlx on {BOTH}: what is dropped"]),
    ({"max-in-memory-length": 5}, []),
    ({"message-ttl": 5, "max-length": 7, "max-in-memory-length": 3}, ["message-ttl=5 on", "max-length=7 on"]),
]  # fmt: skip


def test_every_policy_that_takes_events_away_is_named_with_what_mends_it(vhost: Vhost) -> None:
    begins(vhost)
    for definition, named in POLICIES:
        for kind, called in (("policies", "policy"), ("operator-policies", "operator policy")):
            if kind == "operator-policies" and not definition.keys() <= {
                "message-ttl",
                "expires",
                "max-length",
                "delivery-limit",
            }:
                continue  # the others are not for operators
            put(vhost, kind, "for all", definition)
            found = [one for one in looked(vhost) if one.name == f"{called} for all"]
            assert len(found) == len(named), found
            for one, said in zip(found, named, strict=True):
                assert said in one.detail
                assert one.ok is ("dead-letter-exchange" in said)
                assert f"-p {vhost.name} " in one.remedy
                assert "'for all'" in one.remedy or "'keep odoo'" in one.remedy
            vhost.broker.api("DELETE", f"/{kind}/{vhost.name}/for%20all")
    assert [one for one in looked(vhost) if "policies" in one.name] == [
        Finding("policies", detail="none that takes events away")
    ]


def test_the_remedy_of_a_policy_mends_it_and_leaves_the_rest_of_it(vhost: Vhost) -> None:
    begins(vhost)
    put(vhost, "policies", "all", {"message-ttl": 5, "queue-mode": "lazy"}, priority=7)
    put(vhost, "operator-policies", "ops", {"expires": 5000})
    remedies = {one.name: one.remedy for one in looked(vhost) if not one.ok}
    vhost.broker.ctl(*shlex.split(remedies["policy all"])[1:])
    vhost.broker.ctl(*shlex.split(remedies["operator policy ops"].partition(" or rabbitmqctl ")[2]))
    assert all(one.ok for one in looked(vhost))
    (made,) = [one for one in vhost.broker.api("GET", f"/policies/{vhost.name}") if one["name"] != "all"]
    assert (made["definition"], made["priority"]) == ({"queue-mode": "lazy"}, 8)


def test_a_limit_that_refuses_what_comes_in_takes_nothing_away(vhost: Vhost) -> None:
    """Whoever says so: of one policy or the other."""
    put(vhost, "operator-policies", "ops", {"max-length": 5})
    assert [one.name for one in looked(vhost) if not one.ok] == ["operator policy ops"]
    put(vhost, "policies", "all", {"overflow": "reject-publish", "max-length-bytes": 9})
    assert all(one.ok for one in looked(vhost))


@pytest.mark.parametrize(
    ("policy", "found"),
    [({"pattern": "^odoo$"}, ["odoo"]), ({"pattern": "parked$", "apply-to": "queues"}, ["odoo.parked"]),
     ({"apply-to": "exchanges"}, []), ({"pattern": "^other"}, []), ({"pattern": "(?i)ODOO\\.P"}, ["odoo.parked"])],
)  # fmt: skip
def test_a_policy_is_matched_as_rabbitmq_matches_it(vhost: Vhost, policy: dict[str, Any], found: list[str]) -> None:
    """Also before the queues are there, and by the highest priority alone."""
    put(vhost, "policies", "low", {"max-length": 1})
    put(vhost, "policies", "some", {"message-ttl": 5}, **{"priority": 3, **policy})
    named = [one.detail for one in looked(vhost) if one.name == "policy some"]
    assert named == (
        []
        if not found
        else [f"pattern {policy['pattern']}, message-ttl=5 on {found[0]}: an event that waits for 5 ms is dropped"]
    )
    other = {"odoo", "odoo.parked"} - set(found)
    (low,) = [one.detail for one in looked(vhost) if one.name == "policy low"]
    assert low.partition(" on ")[2].partition(":")[0] == " and ".join(sorted(other))


@pytest.mark.parametrize(
    ("made", "named"),
    [({"x-queue-type": "quorum", "x-delivery-limit": 1_000_000, "x-message-ttl": 7, "x-dead-letter-exchange": "d"}, [
        "x-message-ttl=7: an event that waits for 7 ms", "x-dead-letter-exchange=d"]),
     ({"x-max-length": 3}, ["x-max-length=3: with more than 3"]),
     ({"x-max-length": 3, "x-overflow": "reject-publish"}, []),
     ({"x-queue-type": "quorum", "x-delivery-limit": 9}, ["x-delivery-limit=9: an event"]),
     ({"x-expires": 90_000_000}, ["x-expires=90000000: the queue is deleted"]),
     ({"durable": False}, ["it is not durable"]), ({"auto-delete": True}, ["it is auto-delete"])],
)  # fmt: skip
def test_arguments_of_a_queue_that_was_made_beforehand_are_named_by_check_and_at_the_start(
    vhost: Vhost, script: Make, endpoint: Endpoint, made: dict[str, Any], named: list[str]
) -> None:
    arguments = {key: value for key, value in made.items() if key[:2] == "x-"}
    durable, auto_delete = made.get("durable", True), made.get("auto-delete", False)
    vhost.channel().queue_declare("odoo", durable=durable, auto_delete=auto_delete, arguments=arguments)
    (other,) = [one for one in looked(vhost) if one.name == "queue odoo"]
    remedy = "empty it, and let receiver.py make it anew: " if auto_delete else "QUEUE_TYPE=existing takes it as it is"
    assert (other.ok, other.remedy.startswith(remedy)) == (False, True)
    found = [one for one in looked(vhost, QUEUE_TYPE="existing") if one.name == "queue odoo"]
    assert found[0] == Finding("queue odoo", detail="0 messages ready")
    assert len(found) == 1 + len(named)
    assert all(said in one.detail for one, said in zip(found[1:], named, strict=True))
    assert all(one.ok is ("dead-letter-exchange" in one.detail) for one in found[1:])
    assert all(f"rabbitmqctl delete_queue -p {vhost.name} odoo" in one.remedy for one in found[1:])
    if not made.get("durable", True):  # one will do
        receiver = script("receiver.py", settings(vhost, endpoint, QUEUE_TYPE="existing"))
        receiver.start()
        receiver.wait_for_log("ERROR   receiver: queue odoo: it is not durable")


def test_bindings_are_compared_where_the_management_api_answers(vhost: Vhost) -> None:
    begins(vhost)
    assert Finding("bindings", detail="odoo is bound to relay by #") in looked(vhost)
    found = [one for one in looked(vhost, BINDING_KEYS="a.*") if "bound" in one.detail]
    assert [(one.name, one.ok) for one in found] == [("bindings", False), ("bindings", True)]
    assert "odoo is not bound to relay by a.*: nothing comes by it" in found[0].detail
    assert "odoo is bound to relay by #, which BINDING_KEYS does not name" in found[1].detail
    assert found[1].remedy.startswith("receiver.py unbind '#'")
    vhost.channel().exchange_delete("relay")
    assert "not there: no event comes" in next(one.detail for one in looked(vhost) if one.name == "exchange relay")


def test_the_running_receiver_tells_what_comes_up_while_it_runs(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    begins(vhost)
    put(vhost, "policies", "early", {"max-length": 5})
    receiver = script(
        "receiver.py", settings(vhost, endpoint, RABBITMQ_MANAGEMENT_URL=management(vhost), BINDING_KEYS="a,b"),
        environment=with_constants("relay.receiving.upkeep.LOOK_SECONDS=0.2"),
    )  # fmt: skip
    receiver.start()
    receiver.wait_for_log("ERROR   receiver: policy early: pattern .*, max-length=5 on odoo and odoo.parked")
    receiver.wait_for_log("WARNING receiver: bindings: odoo is bound to relay by #, which BINDING_KEYS does not name")
    put(vhost, "policies", "late", {"message-ttl": 86_400_000}, priority=1)
    receiver.wait_for_log("ERROR   receiver: policy late: pattern .*, message-ttl=86400000 on odoo and odoo.parked")
    channel = vhost.channel()

    def told() -> bool:
        """Unbound between the look and the binding that follows it, it is made again and not told."""
        channel.queue_unbind("odoo", "relay", "b")
        return "WARNING receiver: bindings: odoo is not bound to relay by b: nothing comes by it" in receiver.log()

    wait_until(told, 10, "the binding that was lost")
    for said in ("policy early", "policy late", "by #, which"):
        assert receiver.log().count(said) == 1
    assert vhost.broker.password not in receiver.log()


@pytest.fixture
def rabbitmqctl(vhost: Vhost, tmp_path: Path) -> str:
    """A PATH with the broker's rabbitmqctl, as on its host."""
    broker = vhost.broker
    program = tmp_path / "rabbitmqctl"
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in broker._environment().items())
    program.write_text(f'#!/bin/sh\n{exports}exec {shlex.quote(str(broker.release.sbin / "rabbitmqctl"))} "$@"\n')
    program.chmod(0o755)
    return str(tmp_path)


def test_without_the_management_api_rabbitmqctl_is_asked_or_what_to_run_is_told(
    vhost: Vhost, rabbitmqctl: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begins(vhost)
    vhost.broker.add_user(WHO, "secret", vhost.name)
    url = vhost.broker.url(vhost.name, WHO, "secret")
    monkeypatch.setenv("PATH", "")
    for more, why in (
        ({"RABBITMQ_MANAGEMENT_URL": "off"}, "RABBITMQ_MANAGEMENT_URL=off"),
        ({"RABBITMQ_MANAGEMENT_URL": f"http://127.0.0.1:{_closed_port()}"}, "does not answer: Connection refused"),
        ({"RABBITMQ_URL": url}, f"wants the tag management of {WHO} -> rabbitmqctl set_user_tags {WHO} management"),
    ):
        found = {one.name: one for one in looked(vhost, **more)}
        assert found["policies"].ok
        assert found["policies"].detail.startswith("not looked at: ")
        assert f"rabbitmqctl list_policies -p {vhost.name}" in found["policies"].remedy
        assert f"rabbitmqctl list_operator_policies -p {vhost.name}" in found["policies"].remedy
        assert why in found["bindings"].detail
        assert f"rabbitmqctl list_bindings -p {vhost.name}" in found["bindings"].remedy
    monkeypatch.setenv("PATH", f"{rabbitmqctl}:/usr/bin:/bin")
    found = {one.name: one for one in looked(vhost, RABBITMQ_MANAGEMENT_URL="off")}
    assert found["policies"] == Finding("policies", detail="none that takes events away (by rabbitmqctl)")
    put(vhost, "policies", "all", {"message-ttl": 5})
    found = {one.name: one for one in looked(vhost, RABBITMQ_MANAGEMENT_URL="off")}
    assert "message-ttl=5 on odoo and odoo.parked" in found["policy all"].detail


def test_a_rabbitmqctl_that_hangs_is_not_waited_for(
    vhost: Vhost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "rabbitmqctl"
    program.write_text("#!/bin/sh\nsleep 600\necho '[]'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(check, "CTL_SECONDS", 0.5)
    found = {one.name: one for one in looked(vhost, RABBITMQ_MANAGEMENT_URL="off")}
    assert found["policies"].ok
    assert "rabbitmqctl list_policies takes longer than 0.5 s" in found["policies"].detail


def _closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def test_check_fails_by_a_policy_and_says_no_secret(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    receiver = script("receiver.py", settings(vhost, endpoint, RABBITMQ_MANAGEMENT_URL=management(vhost)))
    result = run(receiver, "check")
    assert result.returncode == 0, result.stdout
    assert "ok      queue odoo: not there yet" in result.stdout
    put(vhost, "policies", "all", {"message-ttl": 5})
    result = run(receiver, "check")
    assert result.returncode == 78
    assert "FAILED  policy all: pattern .*, message-ttl=5 on" in result.stdout
    assert vhost.broker.password not in result.stdout + result.stderr
