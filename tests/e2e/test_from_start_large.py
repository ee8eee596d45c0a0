"""A new consumer of a large table that is written to: its picture, and what the others get."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from dev.database import Database
from dev.doubles.endpoint import Endpoint
from dev.process import wait_until
from dev.script import Script
from dev.vhost import Vhost
from tests.listening import Listening
from tests.receiving import settings

ROWS = 100_000


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_100000_rows_under_writers(
    script: Callable[..., Script], database: Database, vhost: Vhost, endpoint: Endpoint
) -> None:
    listening = Listening(script, database, vhost, REQUESTS="on")
    listening.bind()
    listening.table(count=ROWS)
    listening.start()
    stop, written = threading.Event(), [0, 0, 0]

    def write(number: int) -> None:
        with database.app().cursor() as cursor:
            while not stop.wait(0.005):
                written[number] += 1
                n = written[number] * 3 + number
                cursor.execute("update t set n = %s where id = %s", (n, n * 7919 % ROWS + 1))
                if not n % 10:
                    cursor.execute("delete from t where id = %s", (n * 104_729 % ROWS + 1,))
                    cursor.execute("insert into t values (%s, %s)", (ROWS + n, n))

    writers = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for writer in writers:
        writer.start()
    own = {"FROM_START": "public.t", "SOURCE": database.name, "BINDING_KEYS": "public.#", "WORKERS": 8}
    made = script("receiver.py", settings(vhost, endpoint, **own))
    made.start()
    try:
        wait_until(lambda: "the new queue has it all" in made.log(), 600, "the fill")
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    listening.await_empty(120)
    wait_until(lambda: vhost.queue_depth("odoo") == 0, 600, "all of it to be delivered")
    wait_until(lambda: picture(endpoint) == dict(listening.admin("select id, n from t")), 60, "the table's picture")
    others = listening.all_messages()
    assert {one.json["op"] for one in others} <= {"insert", "update", "delete"}
    snapshots = sum(body["op"] == "snapshot" for body in endpoint.bodies())
    assert len(endpoint.completed) - snapshots <= len(others)


def picture(endpoint: Endpoint) -> dict[int, int]:
    rows: dict[int, int] = {}
    for body in endpoint.bodies():
        rows.pop(body["key"]["id"], None)
        if body["new"] is not None:
            rows[body["new"]["id"]] = body["new"]["n"]
    return rows
