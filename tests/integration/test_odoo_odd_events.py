"""What others put into an event's JSON, in front of the Odoo targets: refused with a reason, one by one."""

from __future__ import annotations

import dataclasses
import json
import random
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from dev.doubles.odoo.handle import Odoo
from dev.process import wait_until
from dev.script import Script
from dev.vhost import Vhost
from relay.delivery import Verdict
from tests.messages import properties
from tests.odoo_rows import PARTNERS, credentials, customer, deliver, publish, row, settings, target
from tests.receiving import done, run

Make = Callable[..., Script]
NESTED = b"[" * 600 + b"]" * 600
HALF = b'"half a character: \\ud83d"'


def put(vhost: Vhost, table: str, columns: bytes) -> None:
    """An event of ours, with bytes of somebody else's in it."""
    channel = vhost.channel()
    body = b'{"table":"%s","op":"insert","key":{"id":1},"old":null,"new":{"id":1,%s}}' % (table.encode(), columns)
    channel.basic_publish("relay", table, body, properties(str(uuid.uuid4()), f"odd {len(columns)}", table, "insert"))


def test_an_event_that_cannot_be_written_parks_alone(vhost: Vhost, script: Make, tmp_path: Path, odoo: Odoo) -> None:
    receiver = script("receiver.py", settings(vhost, odoo, tmp_path, MAX_ATTEMPTS="2", WORKERS="1"))
    receiver.start()
    receiver.wait_for_log("consuming")
    receiver.pause()
    publish(vhost, [customer(n) for n in range(2, 52)])
    put(vhost, "public.customers", b'"name":' + HALF)
    put(vhost, "public.customers", b'"name":' + NESTED)
    publish(vhost, [customer(n) for n in range(52, 100)])
    receiver.resume()
    wait_until(lambda: vhost.queue_depth("odoo.parked") == 2, 20, "the odd ones in the parking lot")
    wait_until(lambda: vhost.queue_depth("odoo") == 0, 20, "all others")
    reasons = {one["reason"] for one in json.loads(done(run(receiver, "parked", "--json")))}
    assert {reason.rpartition(": ")[2] for reason in reasons} == {
        "the event is nested too deep", "the event holds half of a character (a surrogate alone, as \\ud83d)",
    }  # fmt: skip
    assert "defect" not in receiver.log()


def test_a_method_is_not_called_with_what_cannot_be_written(vhost: Vhost, script: Make, odoo: Odoo) -> None:
    odoo.needs("x_relay.inbox")
    own = {"TARGET": "odoo-call", "ODOO_MODEL": "x_relay.inbox", "ODOO_METHOD": "receive", "MAX_ATTEMPTS": 1}
    waits = {"RABBITMQ_URL": vhost.url, "QUEUE": "odoo", "RETRY_MIN": "0.05", "RETRY_MAX": "0.2"}
    receiver = script("receiver.py", {**waits, **credentials(odoo), **own})
    receiver.start()
    receiver.wait_for_log("consuming")
    put(vhost, "public.customers", b'"name":' + HALF)
    put(vhost, "public.customers", b'"name":' + NESTED)
    taken = customer(1)
    publish(vhost, [taken])
    wait_until(lambda: vhost.queue_depth("odoo.parked") == 2, 20, "the odd ones in the parking lot")
    mine = [["event", "=", taken.id]]
    wait_until(lambda: odoo.client().call("x_relay.inbox", "search_count", domain=mine), 10, "the good one")
    assert "defect" not in receiver.log()


def anagrams(word: str, count: int) -> dict[str, int]:
    """Names that are all a little like this one."""
    shuffled, found = random.Random(1), dict[str, int]()
    while len(found) < count:
        found["".join(shuffled.sample(word, len(word)))] = 1
    return found


def test_a_row_of_thousands_of_columns_is_refused_at_once(tmp_path: Path, odoo: Odoo) -> None:
    """A name like the one that is missing was looked for among all, 21 s for 100,000: the session ended each time."""
    mapping = PARTNERS.replace('"{email}"', '"{customer_reference}"')
    made, columns = target(tmp_path, odoo, mapping), anagrams("customer_reference", 100_000)
    for event in (
        row("customers", 1, name="x", parent=None, **columns),
        dataclasses.replace(
            row("customers", 1), body=json.dumps({"op": "insert", "key": columns, "new": {"id": 1}}).encode()
        ),
    ):
        began = time.thread_time()
        (outcome,) = deliver(made, event)
        assert outcome.verdict is Verdict.MESSAGE
        assert (time.thread_time() - began < 3, len(outcome.reason) < 1000) == (True, True), outcome.reason[:300]
