"""Requests over the queue (REQUESTS=on): the present row, a table sent again to one queue; and what is refused."""

from __future__ import annotations

import contextlib
import decimal
import functools
import json
import statistics
import threading
import time
from collections.abc import Callable, Iterator

import pika
import pytest

from dev.database import Database
from dev.doubles.endpoint import Endpoint
from dev.process import wait_until
from dev.script import Script
from dev.vhost import Vhost
from relay.amqp.ask import REPLY_TO
from relay.amqp.command_queue import QUEUED_BYTES, WAITING_MAX
from relay.ask import Client, NoListener, NotAnswered, Refused
from relay.listening.fills import FILLS_MAX
from tests.listening import Listening
from tests.listening import run as run_listener
from tests.receiving import run as run_receiver
from tests.receiving import settings, with_constants

Make = Callable[..., Script]


@pytest.fixture
def listening(script: Make, database: Database, vhost: Vhost) -> Listening:
    made = Listening(script, database, vhost, REQUESTS="on")
    made.bind()
    made.bind("odoo", "public.#", **{"x-delivery-limit": 1_000_000})
    made.table(count=30)
    made.execute("create table secret (id int primary key); insert into secret values (1)")
    return made.start()


@pytest.fixture
def client(listening: Listening) -> Iterator[Client]:
    with Client(listening.vhost.url, listening.database.name) as made:
        yield made


def test_the_present_row_comes_or_none(listening: Listening, client: Client) -> None:
    assert client.get("public.t", {"id": 7}) == {"id": 7, "n": 0}
    listening.execute("update t set n = 5 where id = 7")
    assert client.get("public.t", '{"id": 7}') == {"id": 7, "n": 5}
    assert client.get("public.t", {"id": 31}) is None


def test_many_at_once_come_in_their_order(client: Client) -> None:
    keys = [{"id": number % 40} for number in range(1000)]
    found = client.get_many("public.t", keys)
    assert found == [{"id": key["id"], "n": 0} if 1 <= key["id"] <= 30 else None for key in keys]
    assert client.get_many("public.t", []) == []


def test_every_digit_is_kept(listening: Listening, client: Client) -> None:
    listening.execute(
        "create table v (id numeric primary key, n numeric); insert into v values (1.10, 0.1000000000000000055)"
    )
    listening.admin("select relay.watch('public.v')")
    row = client.get("public.v", '{"id": 1.10}')
    assert row == {"id": decimal.Decimal("1.10"), "n": decimal.Decimal("0.1000000000000000055")}
    listening.execute("update v set n = 1e6000")  # more digits than Python makes an int of
    assert client.get("public.v", '{"id": 1.10}') == {"id": decimal.Decimal("1.10"), "n": decimal.Decimal("1e6000")}


def test_a_row_that_can_t_be_read_is_refused(listening: Listening, client: Client) -> None:
    """Whoever writes rows had the application meet a RecursionError."""
    listening.execute("create table v (id int primary key, j json)")
    listening.admin("select relay.watch('public.v')")
    listening.execute(f"insert into v values (1, '{'[' * 5000}{']' * 5000}')")
    with pytest.raises(Refused, match="nested too deep"):
        client.get("public.v", {"id": 1})


def test_the_columns_and_the_condition_of_the_watch_hold(listening: Listening, client: Client) -> None:
    listening.admin("""select relay.watch('public.t', columns => '{id}', "when" => 'id < 5')""")
    assert client.get_many("public.t", [{"id": 4}, {"id": 5}]) == [{"id": 4}, None]


@pytest.mark.parametrize(
    ("table", "key", "why"),
    [
        ("public.secret", {"id": 1}, "no tables named 'public.secret' are watched"),
        ("pg_catalog.pg_authid", {"oid": 10}, "are watched"),
        ("public.t; drop table t", {"id": 1}, "are watched"),
        ("", {"id": 1}, "are watched"),
        ("x" * 300, {"id": 1}, "at most 255 characters"),
        ("public.t\0", {"id": 1}, "a command is a JSON object of texts"),
        ("public.t\ud800", {"id": 1}, "a command is a JSON object of texts"),
        ("public.t", {"id": "1; drop table t"}, "invalid input syntax for type integer"),
        ("public.t", {"id": "1' or true --"}, "invalid input syntax for type integer"),
        ("public.t", {"nr": 1}, "is not a key of"),
        ("public.t", {"id": None}, "is not a key of"),
        ("public.t", {"id": [1]}, "of an array or hstore the text that PostgreSQL has"),
        ("public.t", {"id": 10**400}, "out of range"),
        ("public.t", "[" * 60_000, "at most 2000 characters"),
        ("public.t", "[" * 1999, "a key is a JSON object"),
        ("public.t", "select 1", "a key is a JSON object"),
        ("public.t", {"id": "\0"}, "nsupported Unicode escape"),
        ("public.t", {"id": "x" * 1_000_000}, "longer than 65536 bytes"),
    ],
)  # fmt: skip
def test_what_is_hostile_is_refused_in_one_line(
    listening: Listening, client: Client, table: str, key: object, why: str
) -> None:
    for _ in range(3):
        with pytest.raises(Refused, match=why) as refused:
            client.get(table, key)  # type: ignore[arg-type]
        assert "\n" not in str(refused.value)
        assert len(str(refused.value)) < 1500
    log = listening.script.log()
    assert log.count(" was refused") <= 1
    assert "Traceback" not in log
    assert client.get("public.t", {"id": 1}) == {"id": 1, "n": 0}
    assert listening.admin("select count(*) from t") == [(30,)]


def test_one_bad_key_spoils_no_other_client_s(listening: Listening, client: Client) -> None:
    stop, found = threading.Event(), list[object]()

    def ask_badly() -> None:
        with Client(listening.vhost.url, listening.database.name) as other:
            while not stop.is_set():
                with pytest.raises(Refused):
                    other.get_many("public.t", [{"id": "x"}, {"id": 1}, {"id": "y"}])

    bad = threading.Thread(target=ask_badly)
    bad.start()
    for number in range(100):
        found.append(client.get("public.t", {"id": number % 30 + 1}))
    stop.set()
    bad.join()
    assert found == [{"id": number % 30 + 1, "n": 0} for number in range(100)]


def test_a_bad_key_of_any_type_spoils_no_other(listening: Listening, client: Client) -> None:
    """Of some, ltree and hstore among them, PostgreSQL says that they are bad by another class of errors."""
    listening.admin("create extension ltree")
    listening.execute("create table k (id ltree primary key)", "insert into k values ('a.b')")
    listening.admin("select relay.watch('public.k')")
    client.get("public.k", {"id": "a.b"})
    opened = listening.vhost.connection()
    channel, answers = opened.channel(), list[dict[str, object]]()
    channel.basic_consume(REPLY_TO, lambda _c, _m, _p, body: answers.append(json.loads(body)), auto_ack=True)
    for key in ("a.b", "a..b", "a.b"):
        asked = {"command": "get", "table": "public.k", "keys": json.dumps({"id": key})}
        properties = pika.BasicProperties(reply_to=REPLY_TO, correlation_id=key)
        channel.basic_publish("", f"relay.control.{listening.database.name}", json.dumps(asked).encode(), properties)
    wait_until(lambda: opened.process_data_events(0.05) or len(answers) == 3, 10, "the answers")
    assert [answer.get("rows") for answer in answers if "errors" not in answer] == [['{"id":"a.b"}']] * 2
    assert "ltree syntax error" in str([answer for answer in answers if "errors" in answer])


def test_a_row_that_is_too_large_is_told(listening: Listening, client: Client) -> None:
    listening.execute(
        "create table v (id int primary key, n text); insert into v values (1, repeat('x', 300000)), (2, 'y')"
    )
    listening.admin("select relay.watch('public.v')")
    with pytest.raises(Refused, match="larger than 256 KiB"):
        client.get("public.v", {"id": 1})
    assert client.get("public.v", {"id": 2}) == {"id": 2, "n": "y"}


def test_a_table_that_is_being_maintained_is_told_and_its_vacuum_goes_on(listening: Listening, client: Client) -> None:
    with listening.database.admin() as holding, holding.cursor() as cursor:
        cursor.execute("begin; lock table t in share update exclusive mode")
        with pytest.raises(Refused, match=r"public\.t is locked by another session: VACUUM"):
            client.get("public.t", {"id": 1})
        cursor.execute("rollback")
    assert client.get("public.t", {"id": 1}) == {"id": 1, "n": 0}


def test_rights_that_are_missing_are_printed(listening: Listening, client: Client) -> None:
    listening.admin("revoke all on t from relay_trigger")
    with pytest.raises(Refused, match=r"grant select, update on public\.t to relay_trigger"):
        client.get("public.t", {"id": 1})


def test_who_does_not_answer_is_told(script: Make, database: Database, vhost: Vhost) -> None:
    with Client(f"{vhost.url}?source=nobody", timeout=2) as client, pytest.raises(NoListener, match="source nobody"):
        client.get("public.t", {"id": 1})
    listening = Listening(script, database, vhost)
    listening.bind()
    listening.start()
    with Client(vhost.url, database.name) as client, pytest.raises(Refused, match="REQUESTS=on"):
        client.get("public.t", {"id": 1})
    listening.script.kill()
    with pytest.raises(ValueError, match="whose rows"):
        Client(vhost.url)


def test_a_secret_is_asked_for(script: Make, database: Database, vhost: Vhost, endpoint: Endpoint) -> None:
    secret = "s" * 40
    listening = Listening(script, database, vhost, REQUESTS="on", CONTROL_SECRET=secret)
    listening.bind()
    listening.table(count=1)
    listening.start()
    with Client(vhost.url, database.name) as client, pytest.raises(Refused, match="not signed"):
        client.get("public.t", {"id": 1})
    with Client(vhost.url, database.name, secret=secret) as client:
        assert client.get("public.t", {"id": 1}) == {"id": 1, "n": 0}
    receiver = script("receiver.py", settings(vhost, endpoint, SOURCE=database.name, CONTROL_SECRET=secret))
    listening.bind("odoo", "public.#", **{"x-delivery-limit": 1_000_000})
    told = run_receiver(receiver, "resend", "public.t")
    assert (told.returncode, told.stdout) == (0, "1 row of public.t sent to queue odoo\n")
    done = run_listener(listening, "status")
    assert "at work" in done.stdout, "an answer with signature"


@pytest.mark.parametrize("secret", ["", "s" * 40], ids=["", "with a secret"])
def test_who_answers_in_the_listener_s_name_is_believed_without_a_secret_only(
    script: Make, vhost: Vhost, endpoint: Endpoint, secret: str
) -> None:
    """Whoever may configure declares the queue first: a table was taken for sent, and a row for what he said."""
    opened = vhost.connection()
    channel = opened.channel()
    channel.queue_declare("relay.control.erp", exclusive=True)
    channel.queue_declare("odoo", durable=True, arguments={"x-queue-type": "quorum", "x-delivery-limit": 1_000_000})
    row = b'{"done":true,"rows":["{\\"id\\":1,\\"n\\":666}"]}'

    def forge(_channel: object, _method: object, asked: pika.BasicProperties, body: bytes) -> None:
        own = pika.BasicProperties(correlation_id=asked.correlation_id)
        channel.basic_publish("", asked.reply_to or "", row if b'"get"' in body else b'{"done":true,"rows":1}', own)

    channel.basic_consume("relay.control.erp", forge, auto_ack=True)
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            opened.process_data_events(0.1)

    forger = threading.Thread(target=serve)
    forger.start()
    try:
        _who_is_believed(script, vhost, endpoint, secret)
    finally:
        stop.set()
        forger.join()


def _who_is_believed(script: Make, vhost: Vhost, endpoint: Endpoint, secret: str) -> None:
    receiver = script("receiver.py", settings(vhost, endpoint, SOURCE="erp", CONTROL_SECRET=secret))
    told = run_receiver(receiver, "resend", "public.t")
    with Client(vhost.url, "erp", secret=secret) as client:
        if secret:
            assert (told.returncode, told.stdout) == (1, "")
            assert "not signed with CONTROL_SECRET" in told.stderr
            with pytest.raises(Refused, match="not signed with CONTROL_SECRET"):
                client.get("public.t", {"id": 1})
        else:
            assert told.returncode == 0
            assert client.get("public.t", {"id": 1}) == {"id": 1, "n": 666}


def test_the_client_outlives_a_listener_and_a_connection(listening: Listening, client: Client) -> None:
    assert client.get("public.t", {"id": 1})
    assert client._line is not None
    client._line.close()
    assert client.get("public.t", {"id": 1})
    listening.script.kill()
    with pytest.raises((NoListener, NotAnswered)):
        client.get("public.t", {"id": 1})
    listening.script = listening.another()
    listening.start()
    assert client.get("public.t", {"id": 1})


def test_postgresql_s_connections_for_requests_end_without_the_relay(listening: Listening, client: Client) -> None:
    assert client.get("public.t", {"id": 1})
    listening.admin("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'relay requests'")
    for _ in range(5):  # the first may come too soon after
        with contextlib.suppress(Refused, NotAnswered):
            client.get("public.t", {"id": 1})
    assert client.get("public.t", {"id": 1})
    listening.execute("update t set n = 1")
    assert len(listening.messages(30)) == 30
    assert listening.script.log().count("relaying") == 1


def test_thousand_a_second_on_a_quiet_database(listening: Listening) -> None:
    """Sixteen clients, each in a thread; a looser limit than measured alone, for a busy machine."""
    times, each = list[float](), 60

    def ask(number: int) -> None:
        with Client(listening.vhost.url, listening.database.name) as own:
            own.get("public.t", {"id": 1})
            for n in range(each):
                began = time.monotonic()
                assert own.get("public.t", {"id": (number + n) % 30 + 1})
                times.append(time.monotonic() - began)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(times) == 16 * each
    assert statistics.quantiles(times, n=100)[98] < 1.0


def test_a_table_is_sent_again_to_this_queue_only(
    listening: Listening, script: Make, vhost: Vhost, endpoint: Endpoint
) -> None:
    receiver = script("receiver.py", settings(vhost, endpoint, SOURCE=listening.database.name))
    told = run_receiver(receiver, "resend", "public.t")
    assert (told.returncode, told.stdout) == (0, "30 rows of public.t sent to queue odoo\n")
    assert len(listening.messages(30, "odoo")) == 30
    told = run_receiver(receiver, "resend", "public.t", "--key", '{"id": 3}', "--source", listening.database.name)
    assert (told.returncode, told.stdout) == (0, "1 row of public.t sent to queue odoo\n")
    (message,) = listening.messages(1, "odoo")
    assert message.json["key"] == {"id": 3}
    told = run_receiver(receiver, "resend", "public.t", "--after", '{"id": 28}')
    assert (told.returncode, told.stdout) == (0, "2 rows of public.t sent to queue odoo\n")
    listening.messages(2, "odoo")
    listening.await_empty()
    assert listening.all_messages() == []


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["public.secret"], "no tables named 'public.secret' are watched"),
        (["public.t", "--key", "x"], "a key is a JSON object"),
        (["public.t", "--key", '{"nr": 1}'], "is not a key of"),
        (["public.t", "--after", '{"id": "x"}'], "invalid input syntax"),
        (["public.t", "--source", "nobody"], "no listener of source nobody takes requests"),
        (["x" * 70_000], "longer than 65536 bytes"),
    ],
)
def test_what_can_t_be_sent_again_is_told_in_one_line(
    listening: Listening, script: Make, vhost: Vhost, endpoint: Endpoint, words: list[str], why: str
) -> None:
    receiver = script("receiver.py", settings(vhost, endpoint, SOURCE=listening.database.name))
    told = run_receiver(receiver, "resend", *words)
    assert told.returncode != 0
    assert why in told.stderr
    assert len(told.stderr.strip().splitlines()) == 1
    assert listening.pending() == 0


def test_a_row_that_others_have_locked_comes_when_it_is_free(
    listening: Listening, script: Make, vhost: Vhost, endpoint: Endpoint
) -> None:
    receiver = script("receiver.py", settings(vhost, endpoint, SOURCE=listening.database.name))
    with listening.database.app() as holding, holding.cursor() as cursor:
        cursor.execute("begin; update t set n = 9 where id = 3")
        done = list[object]()
        thread = threading.Thread(target=lambda: done.append(run_receiver(receiver, "resend", "public.t")))
        thread.start()
        wait_until(lambda: vhost.queue_depth("odoo") == 29, 20, "the other rows")
        cursor.execute("commit")
        thread.join()
    found = {one.json["key"]["id"]: one.json["new"]["n"] for one in listening.messages(31, "odoo")}
    assert found[3] == 9
    assert "30 rows" in str(done)
    assert json.dumps(found)


def test_tables_that_nothing_ends_keep_no_other_from_being_sent(
    script: Make, database: Database, vhost: Vhost, endpoint: Endpoint
) -> None:
    """Twenty of them did, for as long as a row was locked, say."""
    short = functools.partial(script, environment=with_constants("relay.listening.fills.PLACE_SECONDS=2.0"))
    listening = Listening(short, database, vhost, REQUESTS="on")
    for queue in ("out", "odoo"):
        listening.bind(queue, **{"x-delivery-limit": 1_000_000})
    listening.table("t", count=2)
    listening.table("u", count=2)
    listening.start()
    receiver = script("receiver.py", settings(vhost, endpoint, SOURCE=database.name))
    channel = vhost.channel()
    channel.basic_consume(REPLY_TO, lambda *_: None, auto_ack=True)
    with database.app() as holding, holding.cursor() as cursor:
        cursor.execute("begin; update t set n = 9 where id = 1")
        for number in range(FILLS_MAX):
            asked = {"command": "resend", "table": "public.t", "queue": f"q{number}", "key": '{"id": 1}'}
            properties = pika.BasicProperties(reply_to=REPLY_TO, correlation_id="n")
            channel.basic_publish("", f"relay.control.{database.name}", json.dumps(asked).encode(), properties)
        told, end = "", time.monotonic() + 20
        while "2 rows" not in told and time.monotonic() < end:
            found = run_receiver(receiver, "resend", "public.u")
            told = found.stdout + found.stderr
        cursor.execute("rollback")
    assert told == "2 rows of public.u sent to queue odoo\n"


def test_of_a_flood_without_end_no_more_than_so_much_waits(listening: Listening, client: Client) -> None:
    """RabbitMQ's memory is the relay's, too: at its alarm nothing is published any more."""
    assert client.get("public.t", {"id": 1})
    opened = pika.BlockingConnection(pika.URLParameters(listening.vhost.url))
    channel, answers = opened.channel(), list[bytes]()
    channel.basic_consume(REPLY_TO, lambda _c, _m, _p, body: answers.append(body), auto_ack=True)
    listening.script.pause()
    for number in range(200):
        properties = pika.BasicProperties(reply_to=REPLY_TO, correlation_id=str(number))
        channel.basic_publish("", f"relay.control.{listening.database.name}", b"x" * 500_000, properties)
    opened.process_data_events(1)
    listening.script.resume()
    assert client.get("public.t", {"id": 1}) == {"id": 1, "n": 0}, "the newest is there"
    opened.process_data_events(1)
    held = QUEUED_BYTES // 500_000
    assert held / 2 < len(answers) <= held + WAITING_MAX
    opened.close()
