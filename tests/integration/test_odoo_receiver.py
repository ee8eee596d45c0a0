"""receiver.py with TARGET=odoo-load: full batches from a backlog, a single row at once, orphans, the login, `check`."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dev.doubles.odoo.handle import Odoo
from dev.process import wait_until
from dev.script import Script
from dev.vhost import Vhost
from tests.odoo_rows import customer, declare, order, publish, settings
from tests.receiving import done, run

Make = Callable[..., Script]


def started(script: Make, made: dict[str, object]) -> Script:
    receiver = script("receiver.py", made)
    receiver.start()
    receiver.wait_for_log("consuming")
    return receiver


def stopped(receiver: Script) -> None:
    receiver.terminate()
    assert receiver.wait() == 0
    assert "Traceback" not in receiver.log()


def requests(odoo: Odoo) -> list[int]:
    """Rows in each request of `load`."""
    return [one["rows"] for one in odoo.requests(method="load")]


@pytest.mark.parametrize(
    ("odoo", "rows", "most"),
    [
        pytest.param({"version": "19", "call": 0.03, "row": 0.0002}, 3000, 35),
        pytest.param({"version": "17", "call": 0.03, "row": 0.0002}, 10_000, 110, marks=pytest.mark.long),
    ],
    indirect=["odoo"],
)
def test_a_backlog_goes_in_full_batches(
    vhost: Vhost, script: Make, tmp_path: Path, odoo: Odoo, rows: int, most: int
) -> None:
    declare(vhost)
    publish(vhost, (customer(key) for key in range(rows)))
    receiver = started(script, settings(vhost, odoo, tmp_path))
    wait_until(lambda: sum(requests(odoo)) >= rows, 60, "all rows")
    sizes = requests(odoo)
    assert sum(sizes) == rows
    assert len(sizes) <= most, sizes
    stopped(receiver)
    assert len(odoo.records("res.partner")) == rows


def test_a_backlog_that_comes_in_while_it_runs_goes_in_full_batches(
    vhost: Vhost, script: Make, tmp_path: Path, odoo: Odoo
) -> None:
    odoo.pace(0.05, 0.0005)
    receiver = started(script, settings(vhost, odoo, tmp_path))
    publish(vhost, (customer(key) for key in range(3000)))
    wait_until(lambda: sum(requests(odoo)) >= 3000, 60, "all rows")
    assert len(requests(odoo)) <= 45
    stopped(receiver)


def test_a_single_row_on_a_quiet_system_is_not_held_back(
    vhost: Vhost, script: Make, tmp_path: Path, odoo: Odoo
) -> None:
    receiver = started(script, settings(vhost, odoo, tmp_path))
    publish(vhost, [customer(0)])
    wait_until(lambda: requests(odoo), 10, "the first row, which asks for the API and the fields as well")
    took = []
    for key in range(1, 6):
        began = time.time()
        publish(vhost, [customer(key)])
        wait_until(lambda key=key: len(requests(odoo)) > key, 10, "the row")  # type: ignore[misc]
        took.append(odoo.requests(method="load")[-1]["started"] - began)
    assert requests(odoo) == [1] * 6
    assert min(took) < 0.04, took
    stopped(receiver)


def test_never_two_events_of_a_row_in_one_request_and_always_in_order(
    vhost: Vhost, script: Make, tmp_path: Path, odoo: Odoo
) -> None:
    odoo.pace(0.02, 0.0)
    declare(vhost)
    rows = [customer(key, "insert" if n == 0 else "update", name=f"{n}") for n in range(20) for key in range(10)]
    publish(vhost, rows)
    receiver = started(script, settings(vhost, odoo, tmp_path))
    wait_until(lambda: sum(requests(odoo)) >= 200, 30, "all rows")
    stopped(receiver)
    assert max(requests(odoo)) <= 10
    assert {one["name"] for one in odoo.records("res.partner").values()} == {"19"}


@pytest.mark.parametrize("orphans", [300, pytest.param(2000, marks=pytest.mark.long)])
def test_orders_before_their_customers_arrive_and_starve_nobody(
    vhost: Vhost, script: Make, tmp_path: Path, odoo: Odoo, orphans: int
) -> None:
    odoo.pace(0.01, 0.0002)
    declare(vhost)
    publish(vhost, (order(key, customer_id=key) for key in range(orphans)))
    # A small window, so that the orphans fill it many times over before the first customer comes.
    receiver = started(
        script,
        settings(vhost, odoo, tmp_path, PREFETCH=50, BATCH_SIZE=10, WORKERS=2, RETRY_MAX=5, MAX_ATTEMPTS=2),
    )
    receiver.wait_for_log("rows wait for records they link to", timeout=30)
    publish(vhost, (customer(key) for key in range(orphans)))
    wait_until(lambda: len(odoo.records("res.partner")) == orphans, 30 + orphans / 20, "the customers behind them")
    wait_until(lambda: len(odoo.records("res.partner.bank")) == orphans, 30 + orphans / 20, "the orders")
    receiver.wait_for_log("all rows have found the records they link to")
    assert "event refused and parked" not in receiver.log()
    stopped(receiver)


def test_an_orphan_that_never_gets_its_record_is_parked_with_the_reason(
    vhost: Vhost, script: Make, tmp_path: Path, odoo: Odoo
) -> None:
    receiver = started(script, settings(vhost, odoo, tmp_path, ODOO_LINK_WAIT=1, MAX_ATTEMPTS=2))
    publish(vhost, [order(1, customer_id=99)])
    receiver.wait_for_log("event refused and parked")
    [parked] = json.loads(done(run(receiver, "parked", "--json")))
    assert "no record partner_id/id = " in parked["reason"]
    publish(vhost, [customer(99)])
    wait_until(lambda: len(odoo.records("res.partner")) == 1, 10, "the customer")
    done(run(receiver, "replay", "--all"))
    assert len(odoo.records("res.partner.bank")) == 1
    stopped(receiver)


@pytest.mark.timeout(400)  # of a real server a request with a bad row among a hundred takes half a minute
def test_bad_rows_in_a_backlog_are_parked_and_all_others_arrive(
    vhost: Vhost, script: Make, tmp_path: Path, odoo: Odoo
) -> None:
    declare(vhost)
    publish(vhost, (customer(key, name=None if key % 100 == 50 else "x") for key in range(500)))
    receiver = started(script, settings(vhost, odoo, tmp_path, MAX_ATTEMPTS=2))
    receiver.wait_for_log("parked event=", count=5, timeout=240)  # at once, or out of the parking lot
    wait_until(lambda: len(odoo.records("res.partner")) == 495, 60, "the good rows")
    parked = json.loads(done(run(receiver, "parked", "--json")))
    assert {one["key"] for one in parked} == {f'public.customers {{"id":{key}}}' for key in range(50, 500, 100)}
    assert all("require a name" in one["reason"] for one in parked)
    stopped(receiver)


@pytest.mark.parametrize("odoo", ["17", "19"], indirect=True)
def test_a_key_that_runs_out_pauses_and_parks_nothing(vhost: Vhost, script: Make, tmp_path: Path, odoo: Odoo) -> None:
    receiver = started(script, settings(vhost, odoo, tmp_path, WORKERS=4, BATCH_SIZE=10))
    publish(vhost, [customer(0)])
    wait_until(lambda: requests(odoo), 10, "the first row")
    odoo.break_("key")
    odoo.forget_requests()
    publish(vhost, (customer(key) for key in range(1, 201)))
    receiver.wait_for_log("endpoint does not work, pausing")
    time.sleep(2)  # what must not happen in this time: a knock
    assert len(odoo.requests()) <= 5, "one of each worker that was under way, and none afterwards"
    assert "parked" not in receiver.log()
    stopped(receiver)


def test_a_restart_of_odoo_costs_nothing(vhost: Vhost, script: Make, tmp_path: Path, odoo: Odoo) -> None:
    odoo.pace(0.05, 0.001)
    declare(vhost)
    publish(vhost, (customer(key) for key in range(1000)))
    receiver = started(script, settings(vhost, odoo, tmp_path, MAX_ATTEMPTS=1))
    wait_until(lambda: sum(requests(odoo)) > 200, 20, "some rows")
    odoo.stop()
    receiver.wait_for_log("endpoint does not work, pausing")
    odoo.forget_requests()
    odoo.break_("database")
    odoo.start()
    wait_until(odoo.requests, 10, "a probe that meets a database that is down")
    odoo.mend()
    receiver.wait_for_log("endpoint works again")
    wait_until(lambda: len(odoo.records("res.partner")) == 1000, 30, "all rows")
    assert "parked" not in receiver.log()
    stopped(receiver)


def test_a_batch_that_is_too_large_goes_in_smaller_ones_and_parks_nothing(
    vhost: Vhost, script: Make, tmp_path: Path, odoo: Odoo
) -> None:
    """A proxy's 413 is a web page. The row that is too large alone is parked, and no other."""
    odoo.break_("status", status=413, size=20_000)
    declare(vhost)
    publish(vhost, (customer(key, name="x" * (30_000 if key == 77 else 300)) for key in range(200)))
    receiver = started(script, settings(vhost, odoo, tmp_path, MAX_ATTEMPTS=2))
    receiver.wait_for_log("parked event=", timeout=60)
    wait_until(lambda: len(odoo.records("res.partner")) == 199, 20, "all that fit alone")
    [parked] = json.loads(done(run(receiver, "parked", "--json")))
    assert (parked["key"], parked["reason"][:8]) == ('public.customers {"id":77}', "HTTP 413")
    stopped(receiver)


@pytest.mark.parametrize("running", [False, True])
def test_a_batch_that_takes_too_long_is_halved_and_said_in_one_line(
    vhost: Vhost, script: Make, tmp_path: Path, odoo: Odoo, running: bool
) -> None:
    """Its rows are done in the end, no attempt of theirs is spent, and none is sent while Odoo may be at it still."""
    limit = 3 if running else 0.5
    odoo.break_("slow", method="load", before=2, rows=30)
    declare(vhost)
    publish(vhost, (customer(key) for key in range(100)))
    waits = {"HTTP_READ_TIMEOUT": 1, "HTTP_TIME_LIMIT": limit, "MAX_ATTEMPTS": 1, "WORKERS": 1, "BATCH_SIZE": 100}
    receiver = started(script, settings(vhost, odoo, tmp_path, **waits))
    wait_until(lambda: len(requests(odoo)) >= 4 and min(requests(odoo)) <= 30, 40, "smaller requests")
    wait_until(lambda: sum(size for size in requests(odoo) if size <= 30) >= 50, 40, "all rows in them")
    wait_until(lambda: len(odoo.records("res.partner")) == 100, 20, "all rows")
    stopped(receiver)
    lost = [line for line in receiver.log().splitlines() if "a request of several rows got lost" in line]
    assert len(lost) == sum(size > 30 for size in requests(odoo))
    assert "not delivered" not in receiver.log()
    assert "parked" not in receiver.log()
    if running:
        seen = odoo.requests(method="load")
        again = [
            later["started"] - one["started"]
            for one, later in itertools.combinations(seen, 2)
            if one["rows"] > 30 and not set(one["firsts"]).isdisjoint(later["firsts"])
        ]
        assert again
        assert min(again) >= limit - 0.1


def test_a_row_that_kills_its_worker_is_found_and_all_others_arrive(
    vhost: Vhost, script: Make, tmp_path: Path, odoo: Odoo
) -> None:
    odoo.break_("reset", method="load", text="Deadly")
    declare(vhost)
    publish(vhost, (customer(key, name="Deadly" if key == 33 else "x") for key in range(200)))
    receiver = started(script, settings(vhost, odoo, tmp_path, MAX_ATTEMPTS=3))
    wait_until(lambda: len(odoo.records("res.partner")) == 199, 60, "all other rows")
    log = receiver.log()
    assert log.count("a request of several rows got lost") <= 9, "halving, and no line a row"
    lines = [line for line in log.splitlines() if "not delivered" in line]
    assert all('"id":33' in line.replace("\\", "") for line in lines), lines
    stopped(receiver)
    odoo.mend()
