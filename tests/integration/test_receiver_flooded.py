"""What others put into the parking lot, and ask for, takes a receiver's memory up to its limits and no further."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path

import pika

from dev.doubles.endpoint import OK, Answer, Endpoint
from dev.process import wait_until
from dev.script import Script
from dev.vhost import Vhost
from tests.messages import Publisher
from tests.receiving import by_key, done, run, settings, with_constants

Make = Callable[..., Script]
WIDE = "\U0001f600"  # four bytes of memory, and twelve of JSON


def peak(receiver: Script) -> int:
    """MiB that it has taken at most."""
    status = Path(f"/proc/{receiver.pid}/status").read_text()
    return next(int(line.split()[1]) >> 10 for line in status.splitlines() if line.startswith("VmHWM"))


def flood(vhost: Vhost, count: int, character: str = WIDE) -> None:
    """Put messages into the parking lot whose headers are as large as we believe them to be."""
    channel = vhost.channel()
    for n in range(count):
        text = (f"{n} " + character * 1000)[:1000]
        names = ("relay-key", "relay-table", "relay-parked-lane", "relay-parked-reason")
        headers = {name: f"{name[-3]}{text}" for name in names} | {"relay-parked-why": "dead"}
        channel.basic_publish("", "odoo.parked", b"{}", pika.BasicProperties(message_id=str(n), headers=headers))


def test_large_texts_in_the_parking_lot_and_many_questions_take_little_memory(
    vhost: Vhost, script: Make, endpoint: Endpoint
) -> None:
    """Of 4,000 messages each answer was 43 MB; forty commands in one packet took 1,240 MB, and were not answered."""
    receiver = script("receiver.py", settings(vhost, endpoint))
    receiver.start()
    receiver.wait_for_log("consuming")
    flood(vhost, 4000)
    receiver.wait_for_log("parked queue read keys=4000", timeout=60)
    opened = vhost.connection()
    channel = opened.channel()
    got: list[dict[str, object]] = []
    channel.basic_consume("amq.rabbitmq.reply-to", lambda _c, _m, _p, body: got.append(json.loads(body)), auto_ack=True)
    asking = pika.BasicProperties(reply_to="amq.rabbitmq.reply-to")
    for _ in range(40):
        channel.basic_publish("", "odoo.control", b'{"command": "parked"}', asking)
    until = time.monotonic() + 60
    while sum("done" in answer for answer in got) < 40 and time.monotonic() < until:
        opened.process_data_events(time_limit=1)
    with contextlib.suppress(pika.exceptions.AMQPError):
        opened.close()
    refused = [answer for answer in got if "error" in answer]
    listed = sum(len(answer.get("parked", ())) for answer in got)  # type: ignore[arg-type, misc]
    assert refused
    assert all(answer["again"] for answer in refused)
    assert listed == 4000 * (40 - len(refused))
    assert len(json.loads(done(run(receiver, "parked", "--json")))) == 4000, "in pieces"
    assert peak(receiver) < 160


def test_a_parking_lot_beyond_its_bytes_is_full_and_is_read_on_once_there_is_room(
    vhost: Vhost, script: Make, endpoint: Endpoint
) -> None:
    rooms = [f"relay.receiving.parking.{where}.ROOM_BYTES=300000" for where in ("index", "recount")]
    environment = with_constants(*rooms, "relay.receiving.parking.lot.COUNT_SECONDS=0.2")
    receiver = script("receiver.py", settings(vhost, endpoint), environment=environment)
    receiver.start()
    receiver.wait_for_log("consuming")
    receiver.terminate()
    receiver.wait()
    flood(vhost, 200, "x")
    wait_until(lambda: vhost.queue_depth("odoo.parked") == 200, 20, "a stranger's messages")
    Publisher(vhost).event("t 1", n=1)
    receiver.start()
    receiver.wait_for_log("the parking lot is full, pausing")
    assert 50 < len(json.loads(done(run(receiver, "parked", "--json")))) < 100
    rounds = 0
    while "the parking lot has room again" not in receiver.log():
        assert not endpoint.requests, "not while there is something that nobody has read"
        run(receiver, "discard", "--all", "--yes")
        rounds += 1
    assert rounds > 1
    wait_until(lambda: by_key(endpoint) == {"t 1": [1]}, 20, "what waited in the main queue")
    done(run(receiver, "discard", "--all", "--yes"))
    assert vhost.queue_depth("odoo.parked") == 0


def test_a_stranger_s_message_that_is_called_like_an_event_is_discarded_and_not_the_event(
    vhost: Vhost, script: Make, endpoint: Endpoint
) -> None:
    """Who names it means the first of a key; the event behind another key's first was thrown away in its place."""
    endpoint.rule = lambda _request: Answer(422)
    receiver = script("receiver.py", settings(vhost, endpoint, MAX_ATTEMPTS=1))
    receiver.start()
    receiver.wait_for_log("consuming")
    publisher = Publisher(vhost)
    ids = [publisher.event("t 1", n=n) for n in (1, 2)]
    wait_until(lambda: vhost.queue_depth("odoo.parked") == 2, 20, "both in the parking lot")
    handle = json.loads(done(run(receiver, "show", ids[1])))["handle"]
    headers = {"relay-parked-handle": handle, "relay-parked-why": "dead"}
    vhost.channel().basic_publish("", "odoo.parked", b"junk", pika.BasicProperties(headers=headers))
    receiver.wait_for_log("parked queue read keys=2")
    done(run(receiver, "discard", "--id", handle, "--yes"))
    endpoint.rule = lambda _request: OK
    done(run(receiver, "replay", "--all"))
    wait_until(lambda: by_key(endpoint) == {"t 1": [1, 2]}, 20, "both events")
    assert b"junk" not in [request.body for request in endpoint.requests]
