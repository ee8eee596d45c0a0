"""What strangers with write on an exchange can do to a receiver: commands, events, and messages in the parking lot."""

from __future__ import annotations

import datetime
import json
import struct
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pika
import pika.data
import pytest

from dev.doubles.endpoint import OK, Answer, Endpoint, Request
from dev.process import wait_until
from dev.script import Script
from dev.vhost import Vhost
from relay.listening.event import OutboxEvent
from relay.listening.frames import headers
from relay.signature import COMMAND_SECONDS, EXPIRES, HEADER, Signer, command_key, sign_command
from tests.messages import Publisher
from tests.receiving import by_key, done, run, settings

Make = Callable[..., Script]
POISON = "t 0"
SECRET = "a secret of the two of them"


def start(script: Make, vhost: Vhost, endpoint: Endpoint, **more: object) -> Script:
    receiver = script("receiver.py", settings(vhost, endpoint, **{"MAX_ATTEMPTS": 1, **more}))
    receiver.start()
    receiver.wait_for_log("consuming")
    return receiver


def park(vhost: Vhost, endpoint: Endpoint, count: int = 3) -> None:
    """`count` events of a refused key into the parking lot."""
    endpoint.rule = lambda request: Answer(422) if request.json.get("key") == POISON else OK
    publisher = Publisher(vhost)
    for n in range(count):
        publisher.event(POISON, n=n)
    wait_until(lambda: vhost.queue_depth("odoo.parked") == count, 20, "the key in the parking lot")


class Stranger:
    """Sends to the control queue over the default exchange, and hears the answers."""

    def __init__(self, vhost: Vhost) -> None:
        self._connection = vhost.connection()
        self._channel = self._connection.channel()
        self._answers: list[bytes] = []
        self._channel.basic_consume(
            "amq.rabbitmq.reply-to", lambda _c, _m, _p, body: self._answers.append(body), auto_ack=True
        )

    def say(self, body: bytes, reply_to: str | None = "amq.rabbitmq.reply-to", **more: Any) -> None:
        properties = pika.BasicProperties(reply_to=reply_to, correlation_id="n", **more)
        self._channel.basic_publish("", "odoo.control", body, properties)

    def ask(self, body: bytes | dict[str, object], **more: Any) -> dict[str, Any]:
        """Return the first answer."""
        self._answers.clear()
        self.say(body if isinstance(body, bytes) else json.dumps(body).encode(), **more)
        end = time.monotonic() + 10
        while not self._answers and time.monotonic() < end:
            self._connection.process_data_events(time_limit=0.1)
        assert self._answers, "no answer"
        answer: dict[str, Any] = json.loads(self._answers[0])
        return answer


NO_COMMANDS = [
    b"[" * 200_000,
    b"[" * 60_000,
    b'{"a":' * 60_000,
    b'{"command":"replay","key":' + b"[" * 900 + b"]" * 900 + b"}",
    b'{"command":"parked","reason":{"a":1}}',
    b'{"command":["parked"]}',
    b'{"command":"show","id":7}',
    b'{"command":"discard","all":"yes"}',
    b"\xff\xfe",
    b"",
    b"7",
    b"NaN",
    b"9" * 10_000,
    b'{"command":"no such"}',
    b'{"command":"\\ud800"}',
    b'{"command":"discard"}',
    b'{"command":"discard","all":false}',
    b'{"command":"discard","key":""}',
    b'{"command":"replay"}',
    b'{"command":"replay","reason":null}',
]


def test_what_is_no_command_is_answered_and_ends_nothing(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    receiver = start(script, vhost, endpoint)
    park(vhost, endpoint)
    stranger = Stranger(vhost)
    for body in NO_COMMANDS:
        answer = stranger.ask(body)
        assert answer["done"], body[:50]
        assert answer["error"], body[:50]
        assert ("it is longer" in answer["error"]) == (len(body) > 65_536), "it is not even parsed"
    assert vhost.queue_depth("odoo.parked") == 3, "a discard without a filter threw everything away"
    assert receiver.log().count("consuming") == 1, "the session goes on"
    assert "Traceback" not in receiver.log()
    assert stranger.ask({"command": "discard", "all": True})["total"] == 1
    wait_until(lambda: vhost.queue_depth("odoo.parked") == 0, 10, "the parking lot to be empty")


def test_an_answer_goes_to_nobody_but_who_asked(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    receiver = start(script, vhost, endpoint)
    stranger = Stranger(vhost)
    for reply_to in ("odoo", "odoo.parked", "odoo.control", "relay", "", None):
        stranger.say(b'{"command":"parked"}', reply_to)
    receiver.wait_for_log("a command was refused")
    assert stranger.ask({"command": "parked"})["parked"] == [], "all before it were dealt with"
    assert not endpoint.requests, "an answer came into the main queue"
    assert vhost.queue_depth("odoo.parked") == 0
    assert receiver.log().count("a command was refused") == 1, "a flood of them must not flood the log"


def test_control_off_takes_no_commands_and_says_what_to_do(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    receiver = start(script, vhost, endpoint, CONTROL="off")
    park(vhost, endpoint)
    channel = vhost.channel()
    with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="NOT_FOUND"):
        channel.queue_declare("odoo.control", passive=True)
    refused = run(receiver, "discard", "--all", "--yes")
    assert refused.returncode == 75
    assert "CONTROL=off" in refused.stderr
    receiver.terminate()
    assert receiver.wait() == 0
    assert "1 of 1 keys done" in done(run(receiver, "discard", "--all", "--yes"))


def signed(vhost: str, body: bytes, secret: str = SECRET, late: float = 0, nonce: str = "n") -> dict[str, Any]:
    expires = int(time.time() + COMMAND_SECONDS + late)
    key = command_key(secret.encode(), vhost)
    return {EXPIRES: expires, HEADER: sign_command(key, "odoo.control", nonce, expires, body)}


def test_with_a_secret_only_signed_commands_are_carried_out(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    receiver = start(script, vhost, endpoint, CONTROL_SECRET=SECRET)
    park(vhost, endpoint)
    stranger, body = Stranger(vhost), b'{"command":"discard","all":true}'
    forged: list[dict[str, Any] | None] = [
        None,
        {HEADER: "0" * 64},
        signed(vhost.name, body, "another secret of somebody"),
        signed(vhost.name, b'{"command":"parked"}'),
        signed("another vhost", body),
        signed(vhost.name, body, late=-3600),
        signed(vhost.name, body, late=-30),
        signed(vhost.name, body, late=1e6),
        {EXPIRES: "soon", HEADER: b"\xff"},
        {EXPIRES: datetime.datetime.now(datetime.UTC), HEADER: ["x"]},
    ]
    for own in forged:
        assert "refused" in stranger.ask(body, headers=own)["error"]
    assert vhost.queue_depth("odoo.parked") == 3
    assert "a command was refused" in receiver.log()
    assert SECRET not in receiver.log()
    right = {"headers": signed(vhost.name, b'{"command":"parked"}')}
    assert len(stranger.ask(b'{"command":"parked"}', **right)["parked"]) == 1
    assert "used before" in stranger.ask(b'{"command":"parked"}', **right)["error"]
    assert "waiting" in done(run(receiver, "parked")), "the command line signs with the same setting"
    receiver.configure(settings(vhost, endpoint, CONTROL_SECRET="not the receiver's secret"))
    refused = run(receiver, "parked")
    assert refused.returncode == 1
    assert "signature is wrong" in refused.stderr


@pytest.fixture
def squatter(vhost: Vhost) -> Iterator[Callable[[bytes], None]]:
    """Answers on odoo.control in the receiver's place."""
    opened = pika.BlockingConnection(pika.URLParameters(vhost.url))
    channel = opened.channel()
    channel.queue_declare("odoo", durable=True, arguments={"x-queue-type": "quorum", "x-delivery-limit": 1_000_000})
    channel.queue_declare("odoo.control", exclusive=True)

    def answer(body: bytes, headers: dict[str, Any] | None = None) -> None:
        for _method, properties, _body in channel.consume("odoo.control", auto_ack=True):
            own = pika.BasicProperties(correlation_id=properties.correlation_id, headers=headers)
            channel.basic_publish("", properties.reply_to, body, own)
            opened.process_data_events(0)
            return

    yield answer
    opened.close()


@pytest.mark.parametrize(
    "body",
    [b"", b"[", b"7", b"[]", b"{}", b"[" * 100_000, b'{"parked":7}', b'{"parked":[{}]}', b'{"parked":[[]],"done":1}',
     b'{"left":"x","total":1}', b'{"done":true}',
     b'{"done":true,"parked":[{"id":1,"why":"x","since":1e30,"events":1,"key":"k","reason":""}]}',
     b'{"done":true,"parked":[{"handle":"","id":1,"why":"x","since":1152921504606846976,"events":1,"key":"k","reason":""}]}'],
    ids=lambda body: repr(body[:30]),
)  # fmt: skip
def test_an_answer_that_makes_no_sense_is_one_line(
    vhost: Vhost, script: Make, endpoint: Endpoint, squatter: Callable[[bytes], None], body: bytes
) -> None:
    receiver = script("receiver.py", settings(vhost, endpoint))
    answering = threading.Thread(target=squatter, args=(body,))
    answering.start()
    result = run(receiver, "parked")
    answering.join()
    assert result.returncode == 1
    assert "makes no sense" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"done":true,"parked":[]}', "not signed with CONTROL_SECRET"),
        (b'{"done":true,"error":"try later"}', "try later"),
        (b"[" * 100_000, "not signed with CONTROL_SECRET"),
    ],
    ids=["nothing is parked", "a refusal", "nonsense"],
)
@pytest.mark.parametrize("right", [None, "0" * 64])
def test_with_a_secret_nobody_answers_in_the_receiver_s_name(
    vhost: Vhost, script: Make, endpoint: Endpoint, squatter: Callable[..., None], body: bytes, says: str, right: str
) -> None:
    receiver = script("receiver.py", settings(vhost, endpoint, CONTROL_SECRET=SECRET))
    answering = threading.Thread(target=squatter, args=(body, {HEADER: right} if right else None))
    answering.start()
    result = run(receiver, "parked")
    answering.join()
    assert (result.returncode, result.stdout) == (1, "")
    assert says in result.stderr


# ------------------------------------------------------------------------------------------------------ parking lot


class Raw:
    """A header value in AMQP's own bytes, which pika would never write."""

    def __init__(self, kind: bytes, value: bytes) -> None:
        self.encoded = kind + value


@pytest.fixture
def raw(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process's pika write `Raw`."""
    plain = pika.data.encode_value

    def encode(pieces: list[bytes], value: object) -> int:
        if not isinstance(value, Raw):
            return plain(pieces, value)
        pieces.append(value.encoded)
        return len(value.encoded)

    monkeypatch.setattr(pika.data, "encode_value", encode)


NESTED = b""
for _ in range(3_000):
    NESTED = b"A" + struct.pack(">I", len(NESTED)) + NESTED

ODD: dict[str, dict[str, Any]] = {
    "since 2**62": {"relay-parked-since": 2**62},
    "since -1": {"relay-parked-since": -1},
    "since a date": {"relay-parked-since": datetime.datetime.now(datetime.UTC)},
    "attempts a table": {"relay-parked-attempts": {"a": [1]}},
    "attempts 2**62": {"relay-parked-attempts": 2**62},
    "strand of ours": {"relay-parked-lane": "\1t 1"},
    "strand a number": {"relay-parked-lane": 5},
    "why unknown": {"relay-parked-why": "x", "relay-parked-reason": b"\xff"},
    "key of ours": {"relay-key": "\1t 1", "relay-table": 7, "relay-seq": "x"},
    "key long": {"relay-key": "k" * 60_000, "relay-parked-lane": "k" * 60_000},
    "seq negative": {"relay-seq": -5, "relay-key": None},
    "date 2**62": {"x": Raw(b"T", struct.pack(">Q", 2**62))},
    "nested": {"x": Raw(b"", NESTED)},
}


@pytest.mark.usefixtures("raw")
def test_a_receiver_bears_any_message_in_both_of_its_queues(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    receiver = start(script, vhost, endpoint)
    receiver.terminate()
    assert receiver.wait() == 0
    endpoint.rule = lambda request: OK if request.body == b"good" else Answer(422)
    channel = vhost.channel()
    channel.confirm_delivery()
    ids = [str(uuid.uuid4()) for _ in ODD]
    for event_id, own in zip(ids, ODD.values(), strict=True):
        properties = pika.BasicProperties(headers=own, message_id=event_id, timestamp=2**63, delivery_mode=2)
        for queue in ("odoo", "odoo.parked"):
            channel.basic_publish("", queue, b"odd", properties)
    channel.basic_publish("", "odoo.parked", b"odd", pika.BasicProperties(message_id=b"\xff\xfe", type=b"\xff"))
    channel.basic_publish("", "odoo", b"odd", pika.BasicProperties(message_id=b"\xff\xfe", type=b"\xff"))
    receiver.start()
    receiver.wait_for_log("consuming", count=2)
    channel.basic_publish("relay", "t", b"good")
    wait_until(lambda: [r.body for r in endpoint.completed] == [b"good"], 20, "the good one")
    wait_until(lambda: vhost.queue_depth("odoo.parked") >= len(ODD) + 2, 20, "the odd ones in the parking lot")
    shown = done(run(receiver, "parked"))
    found = json.loads(done(run(receiver, "parked", "--json")))
    assert sum(one["events"] for one in found) == vhost.queue_depth("odoo.parked")
    assert ids[0] in shown
    for event_id in ids[:2]:
        assert json.loads(done(run(receiver, "show", event_id)))["body"] == "odd"
    assert run(receiver, "replay", "--all").returncode == 1, "all are refused again"
    done(run(receiver, "discard", "--all", "--yes"))
    assert vhost.queue_depth("odoo.parked") == 0
    assert "Traceback" not in receiver.log()
    assert receiver.log().count("consuming") == 2, receiver.log()


def test_what_strangers_wrote_can_not_move_the_cursor(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    evil = "\x1b[2K\rFAKE all is well\n2026-01-01 ERROR\u202e\x9b2J"
    endpoint.rule = lambda _request: Answer(422, evil.encode())
    receiver = start(script, vhost, endpoint)
    Publisher(vhost).event(f"k{evil}", table=None)
    own = {"relay-key": f"p{evil}", "relay-parked-reason": evil, "relay-parked-lane": "l"}
    wait_until(lambda: vhost.queue_depth("odoo.parked") == 1, 20, "the event in the parking lot")
    receiver.terminate()
    assert receiver.wait() == 0
    properties = pika.BasicProperties(headers=own, message_id=f"i{evil}", delivery_mode=2)
    vhost.channel().basic_publish("", "odoo.parked", b"{}", properties)
    receiver.start()
    receiver.wait_for_log("consuming", count=2)
    outputs = [
        run(receiver, *words) for words in (["parked"], ["replay", "--all"], ["show", "x"], ["parked", "--json"])
    ]
    for shown in [receiver.log(), *(one.stdout + one.stderr for one in outputs)]:
        assert all(line.isprintable() for line in shown.split("\n")), ascii(shown)
        assert not any(line.startswith("2026-01-01 ERROR") for line in shown.split("\n"))
    keys = {one["key"] for one in json.loads(outputs[-1].stdout)}
    assert keys == {f"k{evil}", f"p{evil}"}, "JSON has the very characters"


# ------------------------------------------------------------------------------------------------------ signed events


def listener(vhost: Vhost, key: str, n: int, secret: str = SECRET, **changes: Any) -> OutboxEvent:
    """Publish as a listener with `secret` does; `changes` are made after it has signed."""
    body = json.dumps({"key": key, "n": n, "op": "update"}).encode()
    row = OutboxEvent(n + 1, str(uuid.uuid4()), 1, 1, "public.t", "public.t", "update", key, body)
    own = headers(row, Signer(secret.encode()) if secret else None)
    properties = pika.BasicProperties(
        message_id=changes.get("id", row.id), type=changes.get("op", row.op), headers=own, delivery_mode=2,
        content_type="application/json",
    )  # fmt: skip
    vhost.channel().basic_publish("relay", row.topic, changes.get("body", body), properties)
    return row


def test_unsigned_and_forged_events_are_parked_and_hold_up_nobody(
    vhost: Vhost, script: Make, endpoint: Endpoint
) -> None:
    receiver = start(script, vhost, endpoint, SIGN_EVENTS=SECRET)
    listener(vhost, "t 1", 0)
    wait_until(lambda: len(endpoint.completed) == 1, 20, "the signed one")
    real = OutboxEvent(3, str(uuid.uuid4()), 1, 1, "public.t", "public.t", "update", "t 1", b'{"key": "t 1", "n": 2}')
    listener(vhost, "t 1", 7, secret="")
    listener(vhost, "t 1", 8, secret="a secret of somebody else, as long")
    listener(vhost, "t 1", 9, body=b'{"key": "t 1", "n": 99}')
    listener(vhost, "t 1", 10, op="truncate")
    listener(vhost, "t 1", 11, secret="", id=real.id)
    wait_until(lambda: vhost.queue_depth("odoo.parked") == 5, 20, "the forged ones in the parking lot")
    properties = pika.BasicProperties(
        message_id=real.id, type=real.op, headers=headers(real, Signer(SECRET.encode())), delivery_mode=2
    )
    vhost.channel().basic_publish("relay", real.topic, real.body, properties)
    wait_until(
        lambda: len(endpoint.completed) == 2, 20, "the row's next one, and with an id that was used in a forgery"
    )
    assert by_key(endpoint) == {"t 1": [0, 2]}
    found = json.loads(done(run(receiver, "parked", "--json", "--reason", "SIGN_EVENTS")))
    assert len(found) == 5
    assert all(one["key"] == "" and one["why"] == "dead" for one in found)
    again = run(receiver, "replay", "--all")
    assert again.returncode == 1
    assert "refused again" in again.stdout
    assert len(endpoint.requests) == 2, "no forged one was ever sent"
    done(run(receiver, "discard", "--id", found[0]["id"], "--yes"))
    assert SECRET not in receiver.log()
    receiver.terminate()
    assert receiver.wait() == 0
    receiver.configure(settings(vhost, endpoint))
    assert "4 of 4" in done(run(receiver, "replay", "--all")), "what was only unsigned is delivered without SIGN_EVENTS"
    assert len(endpoint.completed) == 6
    assert {r.event_id for r in endpoint.completed} >= {real.id}, "under the ids that they came with"


def test_what_is_forged_in_the_waiting_room_itself_is_no_better(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    receiver = start(script, vhost, endpoint, SIGN_EVENTS=SECRET)
    receiver.terminate()
    assert receiver.wait() == 0
    forged = {"relay-key": "t 1", "relay-parked-lane": "t 1", "relay-parked-why": "overflow", "relay-table": "public.t"}
    properties = pika.BasicProperties(headers=forged, message_id="x", type="truncate", delivery_mode=2)
    vhost.channel().basic_publish("", "odoo.parked", b'{"key": "t 1", "n": 0}', properties)
    receiver.start()
    receiver.wait_for_log("consuming", count=2)
    listener(vhost, "t 1", 5)
    wait_until(lambda: by_key(endpoint) == {"t 1": [5]}, 20, "the real one, behind nobody")
    assert len(endpoint.requests) == 1
    assert vhost.queue_depth("odoo.parked") == 1


def test_a_signed_event_that_was_parked_is_still_believed(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    refused: Callable[[Request], Answer] = lambda _request: Answer(422)  # noqa: E731
    endpoint.rule = refused
    receiver = start(script, vhost, endpoint, SIGN_EVENTS=SECRET)
    listener(vhost, "t 1", 0)
    listener(vhost, "t 1", 1)
    wait_until(lambda: vhost.queue_depth("odoo.parked") == 2, 20, "the key in the parking lot")
    endpoint.rule = lambda _request: OK
    assert "1 of 1" in done(run(receiver, "replay", "--key", "t 1"))
    assert by_key(endpoint) == {"t 1": [0, 1]}


def test_acknowledgements_of_signed_events_that_rabbitmq_forgets_are_given_again(
    vhost: Vhost, script: Make, endpoint: Endpoint
) -> None:
    """As in test_receiver_room.py: of more than 32 at once some come back, and must be known by their ids."""
    endpoint.rule = lambda _request: Answer(422)
    receiver = start(script, vhost, endpoint, SIGN_EVENTS=SECRET)
    for part in range(3):
        for n in range(60):
            listener(vhost, "t 1", n)
        wait_until(lambda: vhost.queue_depth("odoo.parked") == 60, 20, "the key in the parking lot")
        done(run(receiver, "discard", "--all", "--yes"))
        assert vhost.queue_depth("odoo.parked") == 0, part
    assert "is read anew" not in receiver.log()
