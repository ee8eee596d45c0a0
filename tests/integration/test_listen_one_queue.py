"""Events for one queue: through the default exchange, in the order of their row, and to nobody else."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from dev.database import Database
from dev.doubles.endpoint import Answer, Endpoint
from dev.process import wait_until
from dev.script import Script
from dev.vhost import Vhost
from tests.listening import Listening, by_row, run
from tests.receiving import done, settings
from tests.receiving import run as run_receiver

Make = Callable[..., Script]


@pytest.fixture
def listening(script: Make, database: Database, vhost: Vhost) -> Listening:
    made = Listening(script, database, vhost)
    made.bind()
    made.bind("new")
    made.table(count=30)
    return made.start()


def test_a_table_goes_to_one_queue_and_the_others_get_nothing(listening: Listening) -> None:
    told = run(listening, "resend", "public.t", "--queue", "new")
    assert (told.returncode, told.stdout) == (0, "30 rows of public.t sent\n")
    found = listening.messages(30, "new")
    assert {one.properties.headers["relay-topic"] for one in found} == {"public.t"}
    assert {one.routing_key for one in found} == {"new"}
    assert {one.json["op"] for one in found} == {"snapshot"}
    listening.await_empty()
    assert listening.all_messages() == []


def test_they_keep_the_order_of_the_row_s_other_events(listening: Listening) -> None:
    stop = threading.Event()
    written = dict.fromkeys(range(1, 31), 0)

    def write() -> None:
        with listening.database.app().cursor() as cursor:
            while not stop.is_set():
                for number in written:
                    written[number] += 1
                    cursor.execute("update t set n = %s where id = %s", (written[number], number))

    writer = threading.Thread(target=write)
    writer.start()
    for _ in range(5):
        assert run(listening, "resend", "public.t", "--queue", "new", "--chunk", "7").returncode == 0
    stop.set()
    writer.join()
    listening.await_empty()
    total = sum(written.values())
    others = by_row(listening.messages(total))
    assert {number: rows[-1] for number, rows in others.items()} == written
    rows = by_row(listening.messages(total + 150, "new"))
    assert {number: seen[-1] for number, seen in rows.items()} == written
    assert all(seen == sorted(seen) for seen in rows.values())


def test_a_queue_that_is_not_there_is_named_once_and_holds_nobody(listening: Listening) -> None:
    for _ in range(2):
        assert run(listening, "resend", "public.t", "--queue", "gone").returncode == 0
        listening.execute("update t set n = n + 1")
    assert len(listening.messages(60)) == 60
    listening.await_empty()
    assert listening.script.log().count("events for one queue are let go") == 1
    assert "queue=gone" in listening.script.log()
    assert " waits" not in listening.script.log()


def test_a_full_queue_waits_as_any_other(listening: Listening, vhost: Vhost) -> None:
    vhost.channel().queue_declare(
        "full", durable=True, arguments={"x-queue-type": "classic", "x-max-length": 1, "x-overflow": "reject-publish"}
    )
    assert run(listening, "resend", "public.t", "--queue", "full", "--chunk", "1").returncode == 0
    listening.script.wait_for_log('table public.t waits reason="refused by a queue" queue=full')
    assert "make room in it, or delete it" in listening.script.log()
    assert len(listening.all_messages("full")) >= 1
    seen = 1

    def rest() -> bool:
        nonlocal seen
        seen += len(listening.all_messages("full"))
        return listening.pending() == 0

    wait_until(rest, 60, "all of them to be taken")
    seen += len(listening.all_messages("full"))
    assert seen == 30


def test_without_the_right_they_are_let_go_and_nobody_else_waits(
    script: Make, database: Database, vhost: Vhost
) -> None:
    user = f"{vhost.name}-poor"
    vhost.broker.add_user(user, "secret")
    vhost.broker.grant(vhost.name, user, "^relay", "^relay$", "^relay")
    listening = Listening(script, database, vhost, RABBITMQ_URL=vhost.broker.url(vhost.name, user, "secret"))
    listening.bind()
    listening.table(count=30)
    listening.start()
    assert run(listening, "resend", "public.t", "--queue", "out").returncode == 0
    listening.execute("update t set n = 1")
    listening.await_empty()
    assert {one.json["op"] for one in listening.messages(30)} == {"update"}
    assert listening.script.log().count("it has no right to write to the default exchange") == 1
    assert "rabbitmqctl set_permissions" in listening.script.log()


@pytest.mark.parametrize("secret", ["", "x" * 40])
def test_the_receiver_knows_the_topic_in_the_parking_lot_too(
    script: Make, database: Database, vhost: Vhost, endpoint: Endpoint, secret: str
) -> None:
    signed = {"SIGN_EVENTS": secret} if secret else {}
    listening = Listening(script, database, vhost, **signed)
    listening.bind("odoo", **{"x-delivery-limit": 1_000_000})
    listening.table(count=2)
    listening.start()
    endpoint.rule = lambda _request: Answer(422)
    url = endpoint.url + "/{topic}"
    own = settings(vhost, endpoint, MAX_ATTEMPTS=1, BINDING_KEYS="public.#", HTTP_URL=url, **signed)
    receiver = script("receiver.py", own)
    receiver.start()
    receiver.wait_for_log("consuming")
    assert run(listening, "resend", "public.t", "--queue", "odoo").returncode == 0
    wait_until(lambda: vhost.queue_depth("odoo.parked") == 2, 20, "both to be parked")
    endpoint.rule = lambda _request: Answer(200)
    done(run_receiver(receiver, "replay", "--all"))
    assert [request.path[-9:] for request in endpoint.completed] == ["/public.t"] * 2
    assert [request.path[-9:] for request in endpoint.requests] == ["/public.t"] * 4
    assert "an old binding" not in receiver.log()
