"""FROM_START: a new queue is filled with tables that are there, once, whatever dies meanwhile; others get nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pika
import pytest

from dev.database import Database
from dev.doubles.endpoint import Answer, Endpoint
from dev.process import wait_until
from dev.script import Script
from dev.vhost import Vhost
from tests.integration.test_receiver_flooded import peak
from tests.listening import Listening
from tests.messages import Publisher
from tests.receiving import done, run, settings

Make = Callable[..., Script]


@pytest.fixture
def listening(script: Make, database: Database, vhost: Vhost) -> Listening:
    made = Listening(script, database, vhost, REQUESTS="on")
    made.bind()
    made.table(count=1200)
    made.table("u", count=3)
    return made


def receiver(script: Make, vhost: Vhost, endpoint: Endpoint, database: Database, **more: object) -> Script:
    own = {"FROM_START": "public.t,public.u", "SOURCE": database.name, "BINDING_KEYS": "public.#", **more}
    made = script("receiver.py", settings(vhost, endpoint, **own))
    made.start()
    return made


def picture(endpoint: Endpoint, table: str = "public.t") -> dict[int, int]:
    """The rows as a consumer that believes each event has them, in order."""
    rows: dict[int, int] = {}
    for body in endpoint.bodies():
        if body["table"] != table:
            continue
        if body["new"] is None:
            rows.pop(body["key"]["id"], None)
        else:
            rows[body["new"]["id"]] = body["new"]["n"]
    return rows


def is_filled(vhost: Vhost) -> bool:
    return vhost.queue_depth("odoo") == 0 == vhost.queue_depth("odoo.fill")


def test_a_new_queue_gets_the_tables_once_and_the_others_nothing(
    script: Make, listening: Listening, vhost: Vhost, endpoint: Endpoint
) -> None:
    listening.start()
    made = receiver(script, vhost, endpoint, listening.database)
    wait_until(lambda: len(endpoint.completed) == 1203, 30, "all rows")
    wait_until(lambda: is_filled(vhost), 20, "the wish to go")
    assert picture(endpoint) == dict.fromkeys(range(1, 1201), 0)
    assert picture(endpoint, "public.u") == dict.fromkeys(range(1, 4), 0)
    assert listening.all_messages() == []
    made.terminate()
    assert made.wait() == 0
    made.start()
    made.wait_for_log("consuming", count=2)
    listening.execute("update u set n = 1 where id = 1")
    wait_until(lambda: len(endpoint.completed) == 1204, 10, "what comes now")


def test_without_it_a_new_queue_begins_from_now(
    script: Make, listening: Listening, vhost: Vhost, endpoint: Endpoint
) -> None:
    listening.start()
    receiver(script, vhost, endpoint, listening.database, FROM_START="").wait_for_log("consuming")
    listening.execute("update u set n = 1 where id = 1")
    wait_until(lambda: endpoint.completed, 10, "what comes now")
    assert len(endpoint.completed) == 1


def test_a_queue_that_is_there_already_is_not_filled(
    script: Make, listening: Listening, vhost: Vhost, endpoint: Endpoint
) -> None:
    listening.start()
    first = receiver(script, vhost, endpoint, listening.database, FROM_START="")
    first.wait_for_log("consuming")
    first.terminate()
    first.wait()
    receiver(script, vhost, endpoint, listening.database).wait_for_log("consuming")
    listening.execute("update u set n = 1 where id = 1")
    wait_until(lambda: endpoint.completed, 10, "what comes now")
    assert len(endpoint.completed) == 1


@pytest.mark.timeout(300)
def test_under_writers_its_picture_is_the_table_s(
    script: Make, listening: Listening, vhost: Vhost, endpoint: Endpoint
) -> None:
    listening.start()
    stop, written = threading.Event(), [0]

    def write() -> None:
        with listening.database.app().cursor() as cursor:
            while not stop.wait(0.006):
                written[0] += 1
                n = written[0]
                cursor.execute("update t set n = %s where id = %s", (n, n * 7 % 1200 + 1))
                if n % 5 == 0:
                    cursor.execute("delete from t where id = %s", (n * 11 % 1200 + 1,))
                    cursor.execute("insert into t values (%s, %s)", (10_000 + n, n))

    writer = threading.Thread(target=write)
    writer.start()
    receiver(script, vhost, endpoint, listening.database)
    try:
        wait_until(lambda: len(endpoint.completed) > 200, 30, "some events")
        listening.script.kill()
        listening.script = listening.another()
        listening.start()
        wait_until(lambda: vhost.queue_depth("odoo.fill") == 0, 60, "the fill to be complete")
    finally:
        stop.set()
        writer.join()
    listening.await_empty()
    wait_until(lambda: picture(endpoint) == dict(listening.admin("select id, n from t")), 120, "the table's picture")
    others = listening.all_messages()
    assert {one.json["op"] for one in others} <= {"insert", "update", "delete"}


def test_it_waits_for_a_listener_that_answers_and_status_tells(
    script: Make, listening: Listening, vhost: Vhost, endpoint: Endpoint
) -> None:
    made = receiver(script, vhost, endpoint, listening.database)
    made.wait_for_log("the new queue can't be filled yet")
    assert "no listener of source" in made.log()
    shown = done(run(made, "status"))
    assert "public.t is still to be sent, 0 rows so far" in shown
    silent = listening.another(REQUESTS="off")
    silent.start()
    silent.wait_for_log("relaying")
    made.wait_for_log("REQUESTS=on in its settings lets it", timeout=30)
    silent.terminate()
    silent.wait()
    listening.start()
    wait_until(lambda: len(endpoint.completed) == 1203, 60, "all rows")
    assert vhost.queue_depth("odoo.fill") == 0
    assert "is still to be sent" not in done(run(made, "status"))


def test_a_queue_that_is_made_anew_asks_again(
    script: Make, listening: Listening, vhost: Vhost, endpoint: Endpoint
) -> None:
    listening.start()
    made = receiver(script, vhost, endpoint, listening.database, FROM_START="public.u")
    wait_until(lambda: len(endpoint.completed) == 3, 30, "all rows")
    wait_until(lambda: is_filled(vhost), 20, "the wish to go")
    vhost.channel().queue_delete("odoo")
    wait_until(lambda: len(endpoint.completed) == 6, 40, "all rows again")
    assert "was missing" in made.log()


def test_a_table_that_is_not_watched_is_named_and_comes_once_it_is(
    script: Make, listening: Listening, vhost: Vhost, endpoint: Endpoint
) -> None:
    listening.start()
    listening.execute("create table late (id int primary key, n int); insert into late values (1, 1)")
    made = receiver(script, vhost, endpoint, listening.database, FROM_START="public.late")
    made.wait_for_log("no tables named 'public.late' are watched")
    listening.admin("select relay.watch('public.late')")
    wait_until(lambda: len(endpoint.completed) == 1, 30, "its row")


def test_what_it_fills_is_parked_like_any_other(
    script: Make, listening: Listening, vhost: Vhost, endpoint: Endpoint
) -> None:
    listening.start()
    endpoint.rule = lambda request: Answer(422 if request.json["key"]["id"] == 2 else 200)
    made = receiver(script, vhost, endpoint, listening.database, FROM_START="public.u", MAX_ATTEMPTS=1)
    made.wait_for_log("event refused and parked")
    wait_until(lambda: vhost.queue_depth("odoo.parked") == 1, 30, "the bad row to be parked")


@pytest.mark.parametrize(
    ("more", "why"),
    [({"SOURCE": ""}, "SOURCE is not: whose tables?"), ({"QUEUE_TYPE": "existing"}, "QUEUE_TYPE=existing makes none")],
)
def test_settings_that_do_not_fit(
    script: Make, listening: Listening, vhost: Vhost, endpoint: Endpoint, more: dict[str, object], why: str
) -> None:
    made = receiver(script, vhost, endpoint, listening.database, **more)
    assert made.wait() == 78
    assert why in made.log()


@pytest.mark.parametrize(
    "body",
    [
        b'{"number": 1e999, "tables": []}',
        b'{"number": ' + b"9" * 4300 + b', "tables": []}',
        b'{"number": 9007199254740992, "tables": [["public.u", null, false]]}',
        b'{"number": 1, "tables": [' + b"{}," * (20 << 20) + b"1]}",
    ],
    ids=["infinite", "of thousands of digits", "the last one", "large"],
)
def test_what_a_stranger_writes_as_a_wish_ends_nothing(
    script: Make, listening: Listening, vhost: Vhost, endpoint: Endpoint, body: bytes
) -> None:
    """Whoever has write on the default exchange: the receiver ended by it, whenever it was started."""
    channel = vhost.channel()
    channel.queue_declare("odoo.fill", durable=True, arguments={"x-queue-type": "classic"})
    channel.basic_publish("", "odoo.fill", body, pika.BasicProperties(delivery_mode=2))
    listening.start()
    made = receiver(script, vhost, endpoint, listening.database)
    wait_until(lambda: len(endpoint.completed) == 1203, 30, "all rows")
    wait_until(lambda: is_filled(vhost), 20, "the wish to go")
    assert made.log().count("consuming") == 1
    assert peak(made) < 200


@pytest.mark.parametrize(
    "said", [b'{"rows": 1e999}', b'{"rows": 1, "none": 7}', b'{"rows": 1, "waits": ' + b"[" * 5000]
)
def test_an_answer_in_the_listener_s_name_that_makes_no_sense_ends_nothing(
    script: Make, vhost: Vhost, endpoint: Endpoint, said: bytes
) -> None:
    """Whoever may configure declares its queue first: a number that is infinite ended the receiver."""
    opened = vhost.connection()
    channel, stop = opened.channel(), threading.Event()
    channel.queue_declare("relay.control.erp", exclusive=True)

    def forge(_channel: object, _method: object, asked: pika.BasicProperties, _body: bytes) -> None:
        own = pika.BasicProperties(correlation_id=asked.correlation_id)
        channel.basic_publish("", asked.reply_to or "", said, own)

    def serve() -> None:
        channel.basic_consume("relay.control.erp", forge, auto_ack=True)
        while not stop.is_set():
            opened.process_data_events(0.1)

    forger = threading.Thread(target=serve)
    forger.start()
    try:
        made = script("receiver.py", settings(vhost, endpoint, FROM_START="public.t", SOURCE="erp"))
        made.start()
        made.wait_for_log("the answer of the listener of erp makes no sense")
    finally:
        stop.set()
        forger.join()
    Publisher(vhost).event("t 1")
    wait_until(lambda: endpoint.completed, 10, "what comes now")
    assert made.log().count("consuming") == 1
