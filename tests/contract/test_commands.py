"""listen.py's commands on every source: what they say, and what they do beside a running listener."""

from __future__ import annotations

import json

import pytest

from dev.process import wait_until
from tests.contract.sources import Relayed, Source
from tests.listening import run


def test_status_tells_what_waits_and_what_was_refused(relayed: Relayed, source: Source) -> None:
    source.commit(("t", 1, "bad"), headers='{"CC": ["elsewhere"]}')
    relayed.start()
    source.commit(("t", 2, "bad"))
    wait_until(lambda: source.ask(f"select 1 from {source.outbox} where error is not null"), 10, "the mark")
    done = run(relayed, "status", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [(one["topic"], one["events"], one["errors"]) for one in found["pending"]] == [("t", 2, 1)]
    ((refused),) = found["refused"]
    assert "CC" in refused["error"]
    assert found["listener"]["held"]["keys"] == 1
    done = run(relayed, "status")
    assert "1 refused by the broker" in done.stdout, done.stderr


def test_a_refused_event_is_dropped_and_its_key_flows_at_once(relayed: Relayed, source: Source) -> None:
    source.commit(("t", 1, "bad"), headers='{"CC": ["elsewhere"]}')
    source.commit(("t", 2, "bad"))
    relayed.start()
    wait_until(lambda: source.ask(f"select 1 from {source.outbox} where error is not null"), 10, "the mark")
    event = json.loads(run(relayed, "status", "--json").stdout)["refused"][0]["id"]
    assert run(relayed, "drop", "00000000-0000-0000-0000-000000000000", "--yes").returncode == 1
    done = run(relayed, "drop", event, "--yes")
    assert (done.returncode, done.stdout) == (0, "1 event dropped\n"), done.stderr
    assert [message.json["n"] for message in relayed.messages(1)] == [2]
    relayed.await_empty()


@pytest.mark.parametrize("secret", ["", "s" * 40], ids=["", "with a secret"])
def test_what_is_released_is_tried_again_at_once(relayed: Relayed, source: Source, secret: str) -> None:
    relayed.settings["CONTROL_SECRET"] = secret
    relayed.script = relayed.another()
    source.commit(("t", 1, "bad"), headers='{"CC": ["elsewhere"]}')
    source.commit(("t", 2, "bad"))
    relayed.start()
    wait_until(lambda: source.ask(f"select 1 from {source.outbox} where error is not null"), 10, "the mark")
    source.ask(f"update {source.outbox} set headers = null where error is not null")
    done = run(relayed, "release", "--all")
    assert (done.returncode, done.stdout) == (0, "1 event released\n"), done.stderr
    assert [message.json["n"] for message in relayed.messages(2)] == [1, 2]
    relayed.await_empty()


def test_check_finds_nothing_wrong_and_names_what_is(relayed: Relayed, source: Source) -> None:
    relayed.start()
    done = run(relayed, "check")
    assert "FAILED" not in done.stdout, done.stdout + done.stderr
    assert "what was confirmed can leave" in done.stdout or "may do what the listener does" in done.stdout
    source.commit(("t", 1, "bad"), headers='{"CC": ["elsewhere"]}')
    wait_until(lambda: source.ask(f"select 1 from {source.outbox} where error is not null"), 10, "the mark")
    done = run(relayed, "check")
    assert done.returncode == 78
    assert "1 event refused by the broker" in done.stdout
