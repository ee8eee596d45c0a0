"""Both daemons with one SIGN_EVENTS: whatever the listener publishes, the receiver believes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from dev.database import Database
from dev.doubles.endpoint import Answer, Endpoint
from dev.process import wait_until
from dev.script import Script
from dev.vhost import Vhost
from tests.listening import Listening
from tests.receiving import done, run, settings

SECRET = "a secret of the two of them"


@pytest.mark.parametrize("same", [True, False])
def test_every_kind_of_event_is_signed_and_believed(
    database: Database, vhost: Vhost, script: Callable[..., Script], endpoint: Endpoint, tmp_path: Path, same: bool
) -> None:
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    receiver = script("receiver.py", settings(vhost, endpoint, SIGN_EVENTS_FILE=tmp_path / "secret"))
    receiver.start()
    receiver.wait_for_log("consuming")
    secret = SECRET if same else "a secret of somebody else, as long"
    listening = Listening(script, database, vhost, SIGN_EVENTS=secret, LISTEN_CHANNELS="own").start()
    listening.table()
    listening.execute(
        "insert into t values (1), (2)", "update t set n = 5", "delete from t where id = 1", "truncate t",
        """select pg_notify('own', '{"größe": "大"}')""",
    )  # fmt: skip
    listening.admin("""select relay.publish('app.größe', '{"a": 1}', 'ключ', '{"x": "y", "relay-signature": "z"}')""")
    listening.admin("""select relay.publish('app', '{"a": 2}')""")
    listening.await_empty()
    if same:
        wait_until(lambda: len(endpoint.completed) == 9, 20, "all of them")
        assert vhost.queue_depth("odoo.parked") == 0
    else:
        wait_until(lambda: vhost.queue_depth("odoo.parked") == 9, 20, "all of them in the parking lot")
        assert not endpoint.requests
    for log in (receiver.log(), listening.script.log()):
        assert secret not in log
        assert SECRET not in log


def test_a_secret_that_is_too_short_is_refused_without_being_shown(
    vhost: Vhost, script: Callable[..., Script], endpoint: Endpoint
) -> None:
    for key in ("SIGN_EVENTS", "CONTROL_SECRET"):
        receiver = script("receiver.py", settings(vhost, endpoint, **{key: "hunter2"}))
        receiver.start()
        assert receiver.wait() == 78
        assert f"{key}=***: too short" in receiver.log()
        assert "hunter2" not in receiver.log()


def test_signed_events_can_not_be_asked_for_where_nothing_is_parked(
    vhost: Vhost, script: Callable[..., Script], endpoint: Endpoint
) -> None:
    receiver = script("receiver.py", settings(vhost, endpoint, SIGN_EVENTS=SECRET, ORDER="global"))
    receiver.start()
    assert receiver.wait() == 78
    assert "ORDER=global never parks" in receiver.log()


def test_what_is_not_signed_is_discarded_and_nothing_else(
    database: Database, vhost: Vhost, script: Callable[..., Script], endpoint: Endpoint
) -> None:
    """Whatever an endpoint says is a reason, and may have a writer's value in it."""
    endpoint.rule = lambda _request: Answer(422, b'{"error": "name may not be: SIGN_EVENTS"}')
    receiver = script("receiver.py", settings(vhost, endpoint, SIGN_EVENTS=SECRET, MAX_ATTEMPTS=1))
    receiver.start()
    receiver.wait_for_log("consuming")
    listening = Listening(script, database, vhost, SIGN_EVENTS=SECRET).start()
    listening.table()
    listening.execute("insert into t values (1)")
    vhost.channel().basic_publish("relay", "public.t", b"junk")
    wait_until(lambda: vhost.queue_depth("odoo.parked") == 2, 20, "both in the parking lot")
    assert len(json.loads(done(run(receiver, "parked", "--reason", "SIGN_EVENTS", "--json")))) == 2
    done(run(receiver, "discard", "--unsigned", "--yes"))
    [left] = json.loads(done(run(receiver, "parked", "--json")))
    assert left["table"] == "public.t"
    assert "nothing that matches" in done(run(receiver, "parked", "--unsigned"))
