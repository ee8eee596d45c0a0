"""A backlog into Odoo with TARGET=odoo-load, beside a bare loop of `load` calls and one row a request.

Odoo is the tests' stand-in at the pace of a real 19.0 (docs/odoo.md), two workers. All three use two connections,
and one clock: the server's own, from the beginning of the first request to the end of the last.
"""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable
from typing import Any

import pika
import requests

from benchmarks.keys import Key
from benchmarks.site import Site
from dev.doubles.odoo.handle import Standin
from dev.process import wait_until

KEYS = (
    Key("odoo_rows_per_s", "rows of a backlog into a stand-in Odoo, 100 a request, 2 connections", unit="/s"),
    Key("odoo_vs_limit", "odoo_rows_per_s to a bare loop of the same `load` calls", 0.9),
    Key("odoo_vs_one_post_per_row", "odoo_rows_per_s to one row a request, 2 connections", 5),
    Key("odoo_requests_per_10000", "requests of `load` for 10,000 rows", 110, low=True),
    Key("odoo_rows_per_s_limit", "the bare loop", unit="/s"),
    Key("odoo_rows_per_s_one_post_per_row", "one row a request", unit="/s"),
)
COUNT, SINGLE_COUNT, BATCH, CONNECTIONS = 10_000, 1000, 100, 2
PACE: dict[str, Any] = {"call": 0.02, "row": 0.003, "workers": 2}  # seconds a call and a row
TIMEOUT = 600.0
FIELDS = ["id", "name", "email"]
MAPPING = """[table."public.bench"]
model = "res.partner"
id = "bench_{id}"
[table."public.bench".fields]
name = "{name}"
email = "{email}"
"""


def measure(site: Site) -> dict[str, float]:
    """One round."""
    count, single = site.sizes.events(COUNT), max(100, int(SINGLE_COUNT * site.sizes.scale))
    ours, made = _on_standin(lambda odoo: _receive(site, odoo, count))
    limit, _ = _on_standin(lambda odoo: _loop(odoo, count, BATCH))
    one, _ = _on_standin(lambda odoo: _loop(odoo, single, 1))
    return {
        "odoo_rows_per_s": ours,
        "odoo_vs_limit": ours / limit,
        "odoo_vs_one_post_per_row": ours / one,
        "odoo_requests_per_10000": made * 10_000 / count,
        "odoo_rows_per_s_limit": limit,
        "odoo_rows_per_s_one_post_per_row": one,
    }


def _on_standin(work: Callable[[Any], None]) -> tuple[float, int]:
    """Rows a second, and requests, of what `work` does to a fresh stand-in."""
    odoo = Standin("19", **PACE)
    try:
        work(odoo)
        loads = odoo.requests(method="load")
        began, ended = min(one["started"] for one in loads), max(one["started"] + one["took"] for one in loads)
        return sum(one["rows"] for one in loads) / (ended - began), len(loads)
    finally:
        odoo.end()


def _receive(site: Site, odoo: Any, count: int) -> None:
    queue = site.new_name()
    channel = pika.BlockingConnection(pika.URLParameters(site.vhost.url)).channel()
    channel.queue_declare(queue, durable=True, arguments={"x-queue-type": "quorum", "x-delivery-limit": 1_000_000})
    for number in range(count):
        channel.basic_publish("", queue, *_message(number))
    # Closed at once, RabbitMQ forgets some of the last messages, as none is confirmed: 1 time in 50 on a busy machine.
    wait_until(lambda: site.vhost.queue_depth(queue) >= count, TIMEOUT, "a full queue")
    channel.connection.close()
    mapping = site.directory / f"{queue}.toml"
    mapping.write_text(MAPPING)
    receiver = site.receiver(
        QUEUE=queue,
        TARGET="odoo-load",
        WORKERS=CONNECTIONS,
        ODOO_URL=odoo.url,
        ODOO_DATABASE=odoo.database,
        ODOO_API_KEY=odoo.api_key,
        ODOO_MAPPING=mapping,
    )
    with site.at_work(receiver):
        wait_until(lambda: sum(one["rows"] for one in odoo.requests(method="load")) >= count, TIMEOUT, "all rows")
    site.drop_queues(queue, f"{queue}.parked")


def _message(number: int) -> tuple[bytes, pika.BasicProperties]:
    key = {"id": number}
    new = {**key, "name": f"Customer {number}", "email": f"{number}@example.com"}
    body = {"id": str(number), "table": "public.bench", "op": "insert", "key": key, "old": None, "new": new}
    headers: dict[str, Any] = {"relay-seq": number + 1, "relay-key": f"bench {number}", "relay-table": "public.bench"}
    made = pika.BasicProperties(message_id=str(number), type="insert", delivery_mode=2, headers=headers)
    return json.dumps(body).encode(), made


def _loop(odoo: Any, count: int, batch: int) -> None:
    """The bare loop: nothing but the calls, each connection one after another."""
    starts = iter(range(0, count, batch))
    lock = threading.Lock()

    def work() -> None:
        with requests.Session() as session:
            session.trust_env = False
            session.headers.update({"Authorization": f"bearer {odoo.api_key}", "X-Odoo-Database": odoo.database})
            while True:
                with lock:
                    start = next(starts, None)
                if start is None:
                    return
                rows = [[f"bench_{n}", f"Customer {n}", f"{n}@example.com"] for n in range(start, start + batch)]
                answer = session.post(f"{odoo.url}/json/2/res.partner/load", json={"fields": FIELDS, "data": rows})
                assert answer.json()["ids"]

    threads = [threading.Thread(target=work) for _ in itertools.repeat(None, CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
