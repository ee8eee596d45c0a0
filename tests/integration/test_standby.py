"""A standby says who holds the lease, and warns when that one does nothing although there is work."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pika
import pika.exceptions
import pytest

from dev.database import Database
from dev.doubles.endpoint import Endpoint
from dev.process import wait_until
from dev.rabbitmq import RabbitMQ
from dev.script import Script
from dev.vhost import Vhost
from relay.amqp.standby import Listeners, Watch
from relay.errors import Standby
from tests import raw
from tests.listening import Listening
from tests.messages import Publisher
from tests.receiving import run, settings, with_constants

Make = Callable[..., Script]
PATIENCE = 4.0  # seconds
SHORT = with_constants(f"relay.amqp.standby.PATIENCE={PATIENCE}", "relay.receiving.holder.LOOK_EVERY=0.5")


def lines(script: Script, level: str) -> list[str]:
    return [line for line in script.log().splitlines() if f" {level} " in line and "state=standby" in line]


def holder_by_the_remedy(broker: RabbitMQ, vhost: Vhost, line: str) -> str:
    """Do what the line says; return the connection that it leads to."""
    assert f"rabbitmqctl list_queues -p {vhost.name} name owner_pid" in line
    listed = broker.ctl("list_queues", "-p", vhost.name, "name", "owner_pid", "--silent")
    [owner] = re.findall(r"^\S*lease\S*\s+(<\S+>)$", listed, re.MULTILINE)
    assert "rabbitmqctl list_connections pid user peer_host client_properties" in line
    found = broker.ctl("list_connections", "pid", "user", "peer_host", "client_properties", "--silent")
    [one] = [each for each in found.splitlines() if each.startswith(owner)]
    assert "rabbitmqctl close_connection PID squatted" in line
    broker.ctl("close_connection", owner, "squatted")
    return one


def test_a_standby_receiver_names_the_one_at_work_and_is_calm(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    first, second = (script("receiver.py", settings(vhost, endpoint), environment=SHORT) for _ in range(2))
    first.start()
    first.wait_for_log("consuming")
    second.start()
    second.wait_for_log(f"another receiver is at work on queue odoo: on {socket.gethostname()}, process {first.pid}")
    end = time.monotonic() + PATIENCE + 2
    publisher = Publisher(vhost)
    while time.monotonic() < end:
        publisher.event("t 1")
        time.sleep(0.2)
    assert not lines(second, "WARNING"), "it delivers"
    assert len(lines(second, "INFO")) == 1, "once, not with each number that changes"


def test_a_receivers_squatted_lease_is_a_warning_that_leads_to_the_squatter(
    vhost: Vhost, rabbitmq: RabbitMQ, script: Make, endpoint: Endpoint
) -> None:
    rabbitmq.add_user("mallory", "secret", vhost.name)
    vhost.channel().queue_declare("odoo.lease", exclusive=True)
    receiver = script("receiver.py", settings(vhost, endpoint), environment=SHORT)
    receiver.start()
    receiver.wait_for_log("another receiver is at work on queue odoo")
    receiver.wait_for_log("does not answer on odoo.control", PATIENCE + 15)
    [warning] = lines(receiver, "WARNING")
    holder_by_the_remedy(rabbitmq, vhost, warning)
    receiver.wait_for_log("consuming", 10)


@contextlib.contextmanager
def answering(vhost: Vhost, queue: str, table: bytes | None = None) -> Iterator[Callable[[], int]]:
    """Somebody answers each command as a receiver that has delivered one more; gives how many there were.

    Args:
        table: the answers' headers, as bytes.
    """
    delivered, stop = itertools.count(1), threading.Event()
    about = {"host": "erp-2", "process": 7, "user": "mallory", "since": 1_790_000_000}
    last = 0

    def answer(channel: Any, _method: object, properties: pika.BasicProperties, _body: bytes) -> None:
        nonlocal last
        last = next(delivered)
        body = json.dumps({"who": {**about, "delivered": last}}).encode()
        headers = {} if table is None else {"headers": table}
        own = raw.properties(correlation_id=raw.short(properties.correlation_id.encode()), **headers)
        raw.publish(channel, properties.reply_to.encode(), own, body, exchange=b"")

    def serve() -> None:
        with pika.BlockingConnection(pika.URLParameters(vhost.url)) as connection:
            channel = connection.channel()
            channel.queue_declare("odoo.lease", exclusive=True)
            channel.queue_declare(queue, exclusive=True)
            channel.basic_consume(queue, answer, auto_ack=True)
            while not stop.is_set():
                connection.process_data_events(0.1)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield lambda: last
    finally:
        stop.set()
        thread.join()


UNREADABLE = {
    "a time": raw.table([(b"a", b"T" + struct.pack(">Q", 1 << 60))]),
    "a deep table": raw.table([(b"a", raw.deep(b"t\1", 3000))]),
}


@pytest.mark.parametrize("headers", UNREADABLE.values(), ids=UNREADABLE)
def test_a_squatter_whose_answers_pika_can_t_read_is_found_out(
    vhost: Vhost, script: Make, endpoint: Endpoint, headers: bytes
) -> None:
    """pika's decoder raised, and a look that fails was none: the standby said nothing for as long as it was so."""
    receiver = script("receiver.py", settings(vhost, endpoint), environment=SHORT)
    receiver.start()
    receiver.wait_for_log("consuming")
    receiver.terminate()
    assert receiver.wait() == 0
    with answering(vhost, "odoo.control", headers) as answered:
        wait_until(lambda: is_there(vhost, "odoo.control"), 20, "the squatter")
        Publisher(vhost).event("t 1")
        receiver.start()
        receiver.wait_for_log("whoever holds the lease odoo.lease delivers none", PATIENCE + 40)
        assert lines(receiver, "WARNING")
        assert answered() > 1
        parked = run(receiver, "parked", "--json")
    assert parked.returncode, "it makes no sense"
    assert len(parked.stderr.splitlines()) == 1, parked.stderr


def test_a_question_that_fails_is_silence(vhost: Vhost, rabbitmq: RabbitMQ, script: Make, endpoint: Endpoint) -> None:
    """Nothing was said then: here without the right to ask."""
    rabbitmq.add_user("mute", "secret")
    rabbitmq.grant(vhost.name, "mute", ".*", "^odoo", ".*")
    channel = vhost.channel()
    channel.queue_declare("odoo.lease", exclusive=True)
    channel.queue_declare("odoo.control", exclusive=True)
    url = f"amqp://mute:secret@{vhost.url.partition('@')[2]}"
    receiver = script("receiver.py", settings(vhost, endpoint, RABBITMQ_URL=url), environment=SHORT)
    receiver.start()
    receiver.wait_for_log("does not answer on odoo.control", PATIENCE + 15)
    assert lines(receiver, "WARNING")


@pytest.mark.parametrize("control", ["off", "on"])
def test_a_squatter_that_answers_commands_is_found_out_by_the_messages_that_wait(
    vhost: Vhost, script: Make, endpoint: Endpoint, control: str
) -> None:
    """Also if each answer tells of more that was delivered, and a standby asks."""
    receiver = script("receiver.py", settings(vhost, endpoint, CONTROL=control), environment=SHORT)
    receiver.start()
    receiver.wait_for_log("consuming")
    receiver.terminate()
    assert receiver.wait() == 0
    with answering(vhost, "odoo.control") as answered:
        wait_until(lambda: is_there(vhost, "odoo.control"), 20, "the squatter")
        receiver.start()
        receiver.wait_for_log("state=standby")
        Publisher(vhost).event("t 1")
        what = "messages wait in odoo, and whoever holds the lease odoo.lease delivers none"
        receiver.wait_for_log(what, PATIENCE + 40)
        [warning] = [line for line in lines(receiver, "WARNING") if what in line]
        assert "1 messages ready and 0 consumers in odoo" in warning
        assert (answered() > 1) == (control == "on")


def is_there(vhost: Vhost, queue: str) -> bool:
    try:
        vhost.channel().queue_declare(queue, passive=True)
    except pika.exceptions.ChannelClosedByBroker as error:
        return error.reply_code == 405  # another connection's own
    return True


def test_a_receiver_that_hangs_is_a_warning_of_its_standby(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    own = settings(vhost, endpoint, HEARTBEAT=60)
    first, second = (script("receiver.py", own, environment=SHORT) for _ in range(2))
    first.start()
    first.wait_for_log("consuming")
    second.start()
    second.wait_for_log(f"process {first.pid}")
    first.pause()
    second.wait_for_log("whoever holds it does not answer on odoo.control", PATIENCE + 20)
    first.resume()
    second.wait_for_log(f"process {first.pid}", count=2)
    assert " INFO " in second.log().splitlines()[-1], "it has come to itself"


@pytest.fixture
def listening(script: Make, database: Database, vhost: Vhost) -> Listening:
    made = Listening(functools.partial(script, environment=SHORT), database, vhost, SOURCE="erp")
    made.bind()
    return made


def test_a_standby_listener_names_the_one_at_work_and_is_calm(listening: Listening) -> None:
    listening.table()
    listening.start()
    time.sleep(5)  # who has been here for less may be another standby
    standby = listening.another()
    standby.start()
    standby.wait_for_log("another process holds the lease relay.lease.erp: in PostgreSQL pid ")
    end, n = time.monotonic() + PATIENCE + 2, 0
    while time.monotonic() < end:
        n += 1
        listening.execute(f"insert into t values ({n})")
        time.sleep(0.05)
    assert not lines(standby, "WARNING"), "it relays"
    assert len(lines(standby, "INFO")) == 1


def test_a_listeners_squatted_lease_is_a_warning_that_leads_to_the_squatter(
    listening: Listening, rabbitmq: RabbitMQ, vhost: Vhost
) -> None:
    vhost.channel().queue_declare("relay.lease.erp", exclusive=True)
    listening.script.start()
    listening.script.wait_for_log(
        "another process holds the lease relay.lease.erp, and no other listener in PostgreSQL"
    )
    listening.table()
    listening.execute("insert into t values (1)")
    listening.script.wait_for_log("whoever holds the lease relay.lease.erp relays none", PATIENCE + 15)
    [warning] = lines(listening.script, "WARNING")
    holder_by_the_remedy(rabbitmq, vhost, warning)
    listening.script.wait_for_log("relaying", 10)
    listening.await_empty()


def test_only_a_holder_that_had_something_to_do_and_did_nothing_is_idle() -> None:
    watch = Watch()
    assert not watch.is_idle(None, 0, PATIENCE)
    assert not watch.is_idle(1, 100, PATIENCE)
    assert not watch.is_idle(2, 100 + PATIENCE, PATIENCE), "it moved"
    assert not watch.is_idle(None, 200 + PATIENCE, PATIENCE), "nothing waits"
    assert not watch.is_idle(2, 200 + PATIENCE, PATIENCE)
    assert not watch.is_idle(2, 199 + 2 * PATIENCE, PATIENCE)
    assert watch.is_idle(2, 201 + 2 * PATIENCE, PATIENCE)
    assert not watch.is_idle(3, 202 + 2 * PATIENCE, PATIENCE)


def test_a_listener_without_waiting_events_is_no_alarm() -> None:
    listeners, plain = Listeners("/"), Standby("another process holds the lease x")
    said = listeners.describe("x", plain, waiting=False, deleted=0, holder="pid 7 (relay)")
    assert (said.what, said.remedy, said.alarming) == (f"{plain.what}: in PostgreSQL pid 7 (relay)", "", False)
