"""A shop goes to a real Odoo in the worst order, through crashes: what Odoo holds equals the tables, field by field.

STORY_ROWS (300) rows, and STORY_CHANGES (as many) changes. STORY_UPDATE: as `update` of all tables (all, or changed).
ODOO_RESTART: a command that restarts the server; without it Odoo keeps running.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dev.database import Database
from dev.doubles.odoo.handle import Odoo
from dev.process import wait_until
from dev.script import Script
from dev.vhost import Vhost
from tests.listening import Listening, run
from tests.odoo import shop_records
from tests.odoo.shop import WORST, Shop
from tests.odoo.shop_mapping import mapping
from tests.odoo_rows import credentials, write_mapping

ROWS = int(os.environ.get("STORY_ROWS", "300"))
CHANGES = int(os.environ.get("STORY_CHANGES", str(ROWS)))
SLOW = 0.6  # seconds a row, at most
GRACE = 90  # seconds until the receiver has ended: SHUTDOWN_GRACE for a slow request, and then some

pytestmark = [pytest.mark.odoo, pytest.mark.timeout(600 + 5 * SLOW * ROWS)]


def start(receiver: Script) -> None:
    """Start it, again perhaps, and await that it works."""
    starts = receiver.log().count("consuming")
    receiver.start()
    receiver.wait_for_log("consuming", count=starts + 1, timeout=60)


def confirmed(held: dict[str, shop_records.Records]) -> dict[str, str]:
    """The confirmed orders, and when they were."""
    return {name: order["date_order"] for name, order in held["orders"].items() if order["state"] == "sale"}


def test_a_shop_in_the_worst_order_and_through_crashes(
    database: Database,
    vhost: Vhost,
    script: Callable[..., Script],
    odoo: Odoo,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if not odoo.real:
        pytest.skip("the stand-in has no categories and taxes")
    odoo.needs("sale.order", "account.tax")
    patience = 120 + SLOW * ROWS
    shop = Shop(database.admin(), ROWS)
    shop.create()
    text = write_mapping(tmp_path, odoo, mapping(int(odoo.version), os.environ.get("STORY_UPDATE", "all")))
    settings = {
        "RABBITMQ_URL": vhost.url, "QUEUE": "odoo", "TARGET": "odoo-load", "ODOO_MAPPING": text, "WORKERS": 2,
        **credentials(odoo),
    }  # fmt: skip
    receiver, drain = script("receiver.py", settings), script("receiver.py", settings, arguments=["--drain"])
    listening = Listening(script, database, vhost)
    start(receiver)
    listening.start()

    told: list[str] = []

    def await_delivered() -> None:
        """Until nothing is on its way."""
        listening.await_empty(patience)
        receiver.terminate()
        assert receiver.wait(GRACE) == 0
        drain.start()
        assert drain.wait(patience) == 0, drain.log()[-2000:]

    def judged(what: str) -> dict[str, shop_records.Records]:
        begun = time.monotonic()
        await_delivered()
        told.append(f"{what} in {time.monotonic() - begun:.0f} s")
        want = shop_records.wanted(shop, odoo.unique)
        held = shop_records.there(odoo, want)
        found = shop_records.differences(want, held)
        assert not found, "\n".join([f"{what}: {len(found)} differences", *found[:40]])
        return held

    shop.fill()
    first = confirmed(judged("inserted"))
    start(receiver)
    shop.change(CHANGES // 2)
    wait_until(lambda: vhost.queue_depth("odoo") < CHANGES // 4, patience, "some of the changes")
    receiver.kill()
    restart = os.environ.get("ODOO_RESTART")
    restarting = subprocess.Popen(["/bin/sh", "-c", restart]) if restart else None
    start(receiver)
    shop.change(CHANGES - CHANGES // 2)
    if restarting:
        assert restarting.wait(patience) == 0
    before = judged("changed")
    again = [order for order, date in confirmed(before).items() if first.get(order, date) != date]
    assert not again, f"the crashes had these confirmed twice: {again}"

    start(receiver)
    for table in reversed(WORST):
        assert (sent := run(listening, "resend", f"public.{table}", timeout=patience)).returncode == 0, sent.stderr
    assert judged("once more") == before, "what came again has changed something"
    for log in (receiver.log(), drain.log()):
        assert "Traceback" not in log
        assert "event refused and parked" not in log
    with capsys.disabled():
        sys.stdout.write(f"\n{ROWS} rows, {CHANGES} changes, Odoo {odoo.version}: {', '.join(told)}\n")
