"""STATUS_ADDR of a real listener: page, metrics and health while it works, while a server is away, on standby."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from dev.database import Database
from dev.process import free_port, wait_until
from dev.script import Script
from dev.vhost import Vhost
from tests.listening import Listening
from tests.status import by_labels, get, numbers

Make = Callable[..., Script]
TOKEN = "a-token-of-the-test"


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def listening(script: Make, database: Database, vhost: Vhost, port: int) -> Listening:
    made = Listening(script, database, vhost, STATUS_ADDR=f"127.0.0.1:{port}")
    made.bind()
    made.table()
    return made


def test_page_metrics_and_health_follow_what_happens(listening: Listening, port: int) -> None:
    listening.vhost.channel().queue_unbind("out", "relay", "#")
    listening.script.start()
    listening.script.wait_for_log("status is shown")
    listening.script.wait_for_log("relaying")
    assert get(port, "/healthz") == (200, "at work\n")
    listening.execute("insert into t select i from generate_series(1, 5) i")
    listening.script.wait_for_log("table public.t waits")
    wait_until(lambda: numbers(port).get("relay_outbox_events") == 5, 20, "the five to be measured")
    found = numbers(port)
    assert (found["relay_active"], found["relay_held_tables"], found["relay_published_total"]) == (1, 1, 0)
    page = get(port, "/")[1]
    assert "<td>table public.t</td><td>unroutable</td>" in page
    assert re.search(r"<td>public\.t</td><td>5</td>", page)
    listening.bind()
    listening.await_empty()
    wait_until(lambda: numbers(port)["relay_outbox_events"] == 0, 20, "none to be measured")
    found = numbers(port)
    assert (found["relay_published_total"], found["relay_commit_to_queue_seconds_count"]) == (5, 5)
    assert by_labels(port, "relay_table_published_total") == {("public.t",): 5}
    listening.admin("alter table t disable trigger user")
    listening.script.terminate()
    assert listening.script.wait() == 0
    listening.script.start()
    listening.script.wait_for_log("capture is not complete")
    wait_until(lambda: get(port, "/healthz")[0] == 503, 20, "the disabled trigger to be seen")
    assert "NOT COMPLETE: a trigger is disabled" in get(port, "/healthz")[1]
    assert numbers(port)["relay_incomplete_tables"] == 1


@pytest.mark.parametrize("alarm", ["memory", "disk"])
def test_an_alarm_is_shown(script: Make, database: Database, private_vhost: Vhost, port: int, alarm: str) -> None:
    listening = Listening(script, database, private_vhost, STATUS_ADDR=f"127.0.0.1:{port}")
    listening.bind()
    listening.table()
    listening.start()
    set_alarm = getattr(private_vhost.broker, f"set_{alarm}_alarm")
    set_alarm(True)
    try:
        listening.execute("insert into t values (1)")
        wait_until(lambda: numbers(port)["relay_broker_alarm"] == 1, 20, "the alarm")
        status, said = get(port, "/healthz")
        assert status == 503
        assert said.startswith("RabbitMQ: takes nothing, for ")
        assert "waiting for RabbitMQ" in get(port, "/")[1]
    finally:
        set_alarm(False)
    listening.await_empty()
    assert numbers(port)["relay_broker_alarm"] == 0
    assert get(port, "/healthz") == (200, "at work\n")


def test_it_answers_while_a_server_is_away_and_shows_no_secret(listening: Listening, port: int) -> None:
    url = f"amqp://guest:s3cret@127.0.0.1:{free_port()}/"
    script = listening.another(RABBITMQ_URL=url, STATUS_TOKEN=TOKEN)
    script.start()
    script.wait_for_log("state=waiting")
    assert get(port, "/")[0] == 401
    wait_until(lambda: get(port, "/healthz", TOKEN)[0] == 503, 10, "the state")
    shown = "".join(get(port, path, TOKEN)[1] for path in ("/", "/metrics", "/healthz"))
    assert "guest@127.0.0.1" in shown
    for secret in ("s3cret", TOKEN, f":{Database.PASSWORD}@"):
        assert secret not in shown
    script.terminate()
    assert script.wait() == 0
    assert TOKEN not in script.log()


def test_a_standby_is_healthy_and_says_nothing_of_an_outbox_it_does_not_look_at(
    listening: Listening, port: int
) -> None:
    """Not even if it was at work before: what it saw then grows older and older."""
    former = listening.another(RECONNECT_MIN=3, RECONNECT_MAX=4)
    former.start()
    former.wait_for_log("relaying")
    wait_until(lambda: "relay_outbox_events" in numbers(port), 10, "a look at the outbox")
    other = listening.another(STATUS_ADDR="")
    other.start()
    other.wait_for_log("state=standby")
    listening.vhost.broker.close_connections()
    other.wait_for_log("relaying")
    former.wait_for_log("state=standby")
    wait_until(lambda: get(port, "/healthz") == (200, "standby\n"), 10, "the standby to be healthy")
    found = numbers(port)
    assert (found["relay_active"], found["relay_standby"]) == (0, 1)
    assert "relay_outbox_events" not in found
    assert "in the outbox" not in get(port, "/")[1]


def test_another_address_than_loopback_needs_a_token(listening: Listening) -> None:
    script = listening.another(STATUS_ADDR="0.0.0.0:9464")
    script.start()
    assert script.wait() == 78
    assert "STATUS_ADDR=0.0.0.0:9464 can be reached from other hosts, and STATUS_TOKEN is not set" in script.log()
