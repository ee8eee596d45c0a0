"""Whatever others publish into the queue, no message stops it: each is delivered or parked, the others in order."""

from __future__ import annotations

import itertools
import json
import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from pika.exceptions import AMQPError

from dev.doubles.endpoint import OK, Answer, Endpoint, Request
from dev.process import wait_until
from dev.script import Script
from dev.vhost import Vhost
from tests import raw
from tests.messages import Publisher
from tests.receiving import done, run, settings

Make = Callable[..., Script]
REFUSED = b"refuse this"
MS = b"T" + struct.pack(">Q", 1_772_000_000_000)


def refuses(request: Request) -> Answer:
    return Answer(422) if request.body.startswith(REFUSED) else OK


def start(script: Make, vhost: Vhost, endpoint: Endpoint, **more: object) -> Script:
    endpoint.rule = refuses
    receiver = script("receiver.py", settings(vhost, endpoint, **{"MAX_ATTEMPTS": 1, **more}))
    receiver.start()
    receiver.wait_for_log("consuming")
    return receiver


def parked(receiver: Script) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(done(run(receiver, "parked", "--json")))
    return found


class Others:
    """Another program, which writes its frames itself."""

    def __init__(self, vhost: Vhost) -> None:
        self._vhost = vhost
        self._channel = vhost.channel()

    def publish(
        self, properties: bytes, body: bytes, key: bytes = b"other", piece: int = 131_064, exchange: bytes = b"relay"
    ) -> bool:
        """True = RabbitMQ took it."""
        try:
            raw.publish(self._channel, key, properties, body, piece, exchange)
            self._channel.queue_declare("odoo", passive=True)  # answered behind it
        except AMQPError:
            self._channel = self._vhost.channel()
            return False
        return True


def good(endpoint: Endpoint) -> list[int]:
    return [json.loads(request.body)["n"] for request in endpoint.completed if request.body.startswith(b'{"id"')]


# What RabbitMQ takes: it refuses a time to live that is no number, another's user, a CC that is no list, other modes.
TAKEN = st.fixed_dictionaries(
    {},
    optional={
        "content_type": raw.TEXTS, "content_encoding": raw.TEXTS, "headers": raw.TABLES, "correlation_id": raw.TEXTS,
        "reply_to": raw.TEXTS, "expiration": st.just(raw.short(b"3600000")), "message_id": raw.TEXTS, "type": raw.TEXTS,
        "priority": st.binary(min_size=1, max_size=1), "delivery_mode": st.sampled_from([b"\1", b"\2"]),
        "timestamp": st.binary(min_size=8, max_size=8), "app_id": raw.TEXTS, "cluster_id": raw.TEXTS,
    },
).map(lambda given: raw.properties(**given))  # fmt: skip
BODIES = st.tuples(st.sampled_from([b"", REFUSED]), st.binary(max_size=3000)).map(b"".join)
ODD = st.tuples(TAKEN, BODIES, raw.SHORT.filter(lambda key: len(key) < 200), st.integers(1, 5000))


def test_whatever_others_publish_stops_nobody(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    """Generated properties, tables, keys and bodies; between them the events of one row."""
    receiver = start(script, vhost, endpoint)
    others, publisher, numbers = Others(vhost), Publisher(vhost), itertools.count()
    counts = {"odd": 0}

    @examples(max_examples=40, suppress_health_check=[*HealthCheck])
    @given(st.lists(ODD, min_size=1, max_size=5))
    def publish(odd: list[tuple[bytes, bytes, bytes, int]]) -> None:
        for properties, body, key, piece in odd:
            counts["odd"] += others.publish(properties, body, key, piece)
            publisher.event("t 1", n=next(numbers))

        def all_there() -> bool:
            settled = len(endpoint.completed) + vhost.queue_depth("odoo.parked") - len(good(endpoint))
            return settled == counts["odd"] and vhost.queue_depth("odoo") == 0

        wait_until(all_there, 20, "each odd message delivered or parked")

    publish()
    assert counts["odd"] > 40
    count = next(numbers)
    wait_until(lambda: len(good(endpoint)) == count, 10, "the events of the row")
    assert good(endpoint) == sorted(good(endpoint)), "in order"
    assert receiver.log().count("consuming") == 1, "no session was lost"
    assert "defect" not in receiver.log()
    waiting = parked(receiver)
    assert len({one["handle"] for one in waiting}) == len(waiting) > 5
    for one in waiting[:5]:
        shown = json.loads(done(run(receiver, "show", one["handle"])))
        assert shown["parked"]["handle"] == one["handle"]
    done(run(receiver, "discard", "--id", waiting[0]["handle"], "--yes"))
    endpoint.rule = lambda _request: OK
    done(run(receiver, "replay", "--all"))
    assert not parked(receiver)
    assert vhost.queue_depth("odoo.parked") == 0


ROOM = [b"relay-parked-" + name for name in (b"lane", b"why", b"reason", b"attempts", b"since", b"topic", b"handle")]
WORDS = [b"dead", b"overflow", b"behind", b"\1t 1", b"\0x", b"\xff"]
IN_ROOM = st.lists(
    st.tuples(
        st.sampled_from([*ROOM, b"relay-parked-properties", b"relay-key"]),
        raw.VALUES | st.sampled_from(WORDS).map(lambda word: raw.long(b"S", word)),
    ),
    max_size=4,
).map(lambda fields: raw.properties(headers=raw.table(fields)))


def test_whatever_others_put_into_the_waiting_room_ends_nothing(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    receiver = start(script, vhost, endpoint)
    receiver.terminate()
    receiver.wait()
    others, counts = Others(vhost), {"odd": 0}

    @examples(max_examples=60, suppress_health_check=[*HealthCheck])
    @given(IN_ROOM | TAKEN, st.binary(max_size=20))
    def publish(properties: bytes, body: bytes) -> None:
        counts["odd"] += others.publish(properties, REFUSED + body, b"odoo.parked", exchange=b"")

    publish()
    assert counts["odd"] > 30
    receiver.start()
    receiver.wait_for_log("consuming", count=2)
    Publisher(vhost).event("t 1", n=0)
    wait_until(lambda: good(endpoint) == [0], 20, "the event of the row")
    waiting = parked(receiver)
    assert sum(one["events"] for one in waiting) == counts["odd"]
    done(run(receiver, "parked"))
    assert json.loads(done(run(receiver, "show", waiting[-1]["handle"])))["parked"]["handle"] == waiting[-1]["handle"]
    assert run(receiver, "replay", "--all").returncode == 1, "all are refused again"
    done(run(receiver, "discard", "--all", "--yes"))
    assert not parked(receiver)
    assert vhost.queue_depth("odoo.parked") == 0
    assert receiver.log().count("consuming") == 2, "no session was lost"


HANDLE = (b"relay-parked-handle", raw.long(b"S", b"0123456789ab"))
STRAND = (b"relay-parked-lane", raw.long(b"S", b"t 7"))


@pytest.mark.parametrize(
    "headers", [[], [STRAND], [HANDLE], [HANDLE, STRAND]], ids=["none", "strand", "handle", "both"]
)
@pytest.mark.parametrize("bodies", [1, 40], ids=["the same bytes", "different bytes"])
def test_messages_that_are_called_the_same_are_not_taken_for_one_another(
    vhost: Vhost, script: Make, endpoint: Endpoint, headers: raw.Fields, bodies: int
) -> None:
    """Others can put copies into the parking lot. One that was acknowledged was taken for the next one of its name."""
    receiver = start(script, vhost, endpoint)
    receiver.terminate()
    receiver.wait()
    others, sent = Others(vhost), [REFUSED + b"%d" % (n % bodies) for n in range(40)]
    for body in sent:
        assert others.publish(raw.properties(headers=raw.table(headers)), body, b"odoo.parked", exchange=b"")
    receiver.start()
    receiver.wait_for_log("consuming", count=2)
    assert sum(one["events"] for one in parked(receiver)) == 40
    done(run(receiver, "discard", "--id", parked(receiver)[0]["handle"], "--yes"))
    assert sum(one["events"] for one in parked(receiver)) == 39
    tries = itertools.count(1)
    endpoint.rule = lambda _request: OK if next(tries) <= 20 else Answer(422)
    assert run(receiver, "replay", "--all").returncode == 1, "after 20 the rest is refused again"
    assert sum(one["events"] for one in parked(receiver)) == 19
    done(run(receiver, "discard", "--all", "--yes"))
    assert not parked(receiver)
    assert vhost.queue_depth("odoo.parked") == 0
    assert "read anew" not in receiver.log()


DEEP = raw.properties(headers=raw.table([(b"n", raw.deep(b"V", 5000))]))
NAMED = {
    "a time in milliseconds": raw.properties(headers=raw.table([(b"timestamp", MS)])),
    "an id that is not UTF-8": raw.properties(message_id=raw.short(b"caf\xe9")),
    "a deep table": DEEP,
    "large headers": raw.properties(headers=raw.table([(b"a", raw.long(b"S", b"y" * 130_000))])),
    "a long key": raw.properties(headers=raw.table([(b"relay-key", raw.long(b"S", b"y" * 120_000))])),
    "a key like a strand of ours": raw.properties(headers=raw.table([(b"relay-key", raw.long(b"S", b"\1t 1"))])),
    "a number beyond 64 bits": raw.properties(headers=raw.table([(b"relay-seq", b"T" + b"\xff" * 8)])),
    "a type like a probe's": raw.properties(type=raw.short(b"relay.probe")),
    "nothing": raw.properties(),
}


def test_odd_messages_park_and_can_be_looked_after(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    """Each of these ended the session, or a command, or could not be addressed."""
    receiver = start(script, vhost, endpoint)
    others, publisher = Others(vhost), Publisher(vhost)
    for n, (name, properties) in enumerate(NAMED.items()):
        assert others.publish(properties, REFUSED + name.encode()), name
        publisher.event("t 1", n=n)
    count = len(NAMED)
    wait_until(lambda: good(endpoint) == list(range(count)), 20, "the events of the row")
    wait_until(lambda: vhost.queue_depth("odoo.parked") == count, 20, "the others in the parking lot")
    assert receiver.log().count("consuming") == 1, "no session was lost"
    assert max(map(len, receiver.log().splitlines())) < 5000
    receiver.terminate()
    receiver.wait()
    waiting = parked(receiver)
    assert sum(one["events"] for one in waiting) == count, "read anew"
    assert all(one["reason"].startswith("HTTP 4") for one in waiting)
    receiver.start()
    receiver.wait_for_log("consuming", count=2)
    assert f"{count} keys waiting" in done(run(receiver, "parked"))
    shown = json.loads(done(run(receiver, "show", waiting[0]["handle"])))
    assert shown["body"] in {REFUSED.decode() + name for name in NAMED}
    done(run(receiver, "discard", "--id", waiting[0]["handle"], "--yes"))
    endpoint.rule = lambda _request: OK
    done(run(receiver, "replay", "--all"))
    wait_until(lambda: len(endpoint.completed) == 2 * count - 1, 10, "those that were not discarded")
    receiver.terminate()
    receiver.wait()
    assert run(receiver, "parked").stdout == "nothing is waiting\n"
    assert run(receiver, "--drain", timeout=30).returncode == 0


def test_headers_that_mean_something_to_rabbitmq_are_kept_aside(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    receiver = start(script, vhost, endpoint)
    channel = vhost.channel()
    channel.queue_declare("boss")
    copies = raw.long(b"A", raw.long(b"S", b"boss"))
    headers = raw.table([(b"CC", copies), (b"x-own", raw.long(b"S", b"\xff")), (b"seen", MS)])
    # RabbitMQ takes BCC out of a message, so that only CC can come into the parking lot.
    properties = raw.properties(
        headers=headers, content_encoding=raw.short(b"gzip"), priority=b"\7", correlation_id=raw.short(b"c1"),
        expiration=raw.short(b"3600000"), reply_to=raw.short(b"boss"),
    )  # fmt: skip
    assert Others(vhost).publish(properties, REFUSED)
    wait_until(lambda: vhost.queue_depth("odoo.parked") == 1, 20, "it parked")
    assert vhost.queue_depth("boss") == 0, "the publisher's own copy went to the exchange, where no key fits"
    [one] = parked(receiver)
    shown = json.loads(done(run(receiver, "show", one["handle"])))
    assert shown["headers"] == {"CC": ["boss"], "x-own": "\\xff", "seen": 1_772_000_000_000}
    told = {name: shown[name] for name in ("content_encoding", "priority", "correlation_id", "expiration", "reply_to")}
    assert told == {
        "content_encoding": "gzip", "priority": 7, "correlation_id": "c1", "expiration": "3600000", "reply_to": "boss",
    }  # fmt: skip
    receiver.terminate()
    receiver.wait()
    _, found, _ = channel.basic_get("odoo.parked")
    assert {name for name in found.headers if not name.startswith("relay-parked-")} <= {"x-delivery-count"}
    assert (found.priority, found.expiration, found.reply_to) == (None, None, None)


def test_an_id_that_others_use_twice_names_no_single_event(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    """Of five messages with one id none is taken for another; each can be thrown away alone."""
    receiver = start(script, vhost, endpoint)
    others = Others(vhost)
    bodies = [REFUSED + b" %d" % n for n in range(5)]
    for body in bodies:
        others.publish(raw.properties(message_id=raw.short(b"1")), body)
    wait_until(lambda: vhost.queue_depth("odoo.parked") == 5, 20, "all in the parking lot")
    for body in bodies[:2]:
        others.publish(raw.properties(), body + b", without an id")
    wait_until(lambda: vhost.queue_depth("odoo.parked") == 7, 20, "those, too")
    receiver.kill()
    receiver.start()
    receiver.wait_for_log("consuming", count=2)
    result = run(receiver, "discard", "--id", "1", "--yes")
    assert result.returncode == 1
    assert "5 parked events have the id 1" in result.stderr
    assert vhost.queue_depth("odoo.parked") == 7
    waiting = parked(receiver)
    assert [one["id"] for one in waiting].count("1") == 5
    assert all(one["handle"] in done(run(receiver, "parked")) for one in waiting)
    of_body = {json.loads(done(run(receiver, "show", one["handle"])))["body"]: one["handle"] for one in waiting}
    assert len(of_body) == 7
    done(run(receiver, "discard", "--id", of_body.pop(bodies[2].decode()), "--yes"))
    endpoint.rule = lambda _request: OK
    alone = of_body.pop(bodies[0].decode() + ", without an id")
    done(run(receiver, "replay", "--id", alone))
    assert [request.body.decode() for request in endpoint.completed] == [bodies[0].decode() + ", without an id"]
    done(run(receiver, "replay", "--all"))
    assert {request.body.decode() for request in endpoint.completed[1:]} == set(of_body)


def test_a_copy_with_an_id_that_others_use_is_not_skipped(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    """One with the id is in the parking lot; a later one, which RabbitMQ hands out again, is another message."""
    receiver = start(script, vhost, endpoint, WORKERS=1)
    others = Others(vhost)
    named = raw.properties(message_id=raw.short(b"1"))
    others.publish(named, REFUSED)
    wait_until(lambda: vhost.queue_depth("odoo.parked") == 1, 20, "the first")
    endpoint.rule = lambda request: Answer(work=60) if request.body == b"slow" else refuses(request)
    others.publish(raw.properties(), b"slow")
    for n in range(3):
        others.publish(named, b"%d" % n)
    wait_until(lambda: endpoint.requests[-1].body == b"slow", 10, "the request under way")
    receiver.kill()
    endpoint.rule = refuses
    receiver.start()
    wait_until(lambda: {b"0", b"1", b"2"} <= {one.body for one in endpoint.completed}, 10, "each of them")


def test_reconnecting_does_not_fill_the_queue_with_probes(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    receiver = start(script, vhost, endpoint, PREFETCH=10)
    endpoint.rule = lambda _request: Answer(503)
    publisher = Publisher(vhost)
    receiver.pause()
    for n in range(100):
        publisher.event(f"t {n}", n=n)
    receiver.resume()
    receiver.wait_for_log("endpoint does not work")
    for count in range(2, 5):
        vhost.broker.close_connections()
        receiver.wait_for_log("consuming", count=count, timeout=30)
    receiver.terminate()
    receiver.wait()
    assert vhost.queue_depth("odoo") <= 102
    endpoint.rule = lambda _request: OK
    assert run(receiver, "--drain").returncode == 0
    assert len(endpoint.completed) == 100
