"""Rows that come before all that they link to: nearly as quick, and never in the way of what they wait for."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from dev.doubles.odoo.handle import Odoo
from dev.process import wait_until
from dev.script import Script
from dev.vhost import Vhost
from relay.delivery import Event
from tests.messages import properties
from tests.odoo_rows import customer, declare, order, publish, row, settings
from tests.receiving import with_constants

Make = Callable[..., Script]

SHOP = """
[table."public.categories"]
model = "product.category"
id = "%(unique)scategories_{id}"
[table."public.categories".fields]
name = "{name}"
"parent_id/id" = "%(unique)scategories_{parent}"

[table."public.customers"]
model = "res.partner"
id = "%(unique)scustomers_{id}"
[table."public.customers".fields]
name = "{name}"
"parent_id/id" = "%(unique)scustomers_{parent}"

[table."public.products"]
model = "product.template"
id = "%(unique)sproducts_{id}"
[table."public.products".fields]
name = "{name}"
"categ_id/id" = "%(unique)scategories_{category}"
"""
CATEGORIES, CUSTOMERS, COMPANIES, PRODUCTS = 40, 1000, 100, 500


def shop() -> list[Event]:
    """Parents first; the categories are a tree of six levels."""
    categories = [row("categories", n, name=f"C{n}", parent=(n - 1) // 2 if n else None) for n in range(CATEGORIES)]
    customers = [customer(n, parent=n % COMPANIES if n >= COMPANIES else None) for n in range(CUSTOMERS)]
    products = [row("products", n, name=f"P{n}", category=CATEGORIES - 1 - n % CATEGORIES) for n in range(PRODUCTS)]
    return [*categories, *customers, *products]


def seconds(vhost: Vhost, script: Make, directory: Path, odoo: Odoo, events: Sequence[Event]) -> float:
    """How long a receiver with default settings takes for them, from its start on."""
    declare(vhost)
    publish(vhost, events)
    receiver = script("receiver.py", without_waits(settings(vhost, odoo, directory, SHOP)))
    receiver.start()
    receiver.wait_for_log("consuming")
    began = time.monotonic()
    wait_until(lambda: loaded(odoo) == len(events), 90, "all rows")
    took = time.monotonic() - began
    wait_until(lambda: vhost.queue_depth("odoo.parked") == 0, 20, "an empty parking lot")
    receiver.terminate()
    assert receiver.wait() == 0
    return took


def loaded(odoo: Odoo) -> int:
    return sum(odoo.count(model, odoo.unique) for model in ("product.category", "res.partner", "product.template"))


def test_a_shop_whose_children_come_first_takes_less_than_twice_as_long(
    vhost: Vhost, script: Make, tmp_path: Path, odoo: Odoo
) -> None:
    odoo.pace(0.05, 0.01)
    parents_first = seconds(vhost, script, tmp_path, odoo, shop())
    odoo.unique = f"{odoo.unique}again_"
    odoo.forget_requests()
    children_first = seconds(vhost, script, tmp_path, odoo, shop()[::-1])
    assert children_first < 2 * parents_first, (children_first, parents_first)
    in_vain = sum(one["rows"] for one in odoo.requests(method="load")) - len(shop())
    assert in_vain <= 100, "what is missing is asked for before, not found out by sending rows"


def pour(vhost: Vhost, events: Sequence[Event]) -> None:
    """As `publish`, without awaiting each confirm."""
    channel = vhost.channel()
    for event in events:
        channel.basic_publish("", "odoo", event.body, properties(event.id, event.key, event.table, event.op))
    wait_until(lambda: vhost.queue_depth("odoo") >= len(events), 300, "all of them in the queue")


def orders(count: int, customers: int) -> list[Event]:
    return [order(n, customer_id=n % customers) for n in range(count)]


@pytest.mark.parametrize(
    ("count", "buyers", "shortened"),
    [
        pytest.param(1200, 60, "READ_MAX=300", id="1,200 in windows of 300"),
        pytest.param(100_000, 1000, "", id="100,000", marks=(pytest.mark.long, pytest.mark.timeout(1500))),
    ],
)
def test_orders_in_front_of_their_customers_come_through(
    vhost: Vhost, script: Make, tmp_path: Path, odoo: Odoo, count: int, buyers: int, shortened: str
) -> None:
    """More than a consumer can hold, which RabbitMQ limits to 65,535, and more than the window: they wait outside."""
    odoo.pace(0.01, 0.0005)
    declare(vhost)
    pour(vhost, [*orders(count, buyers), *(customer(n) for n in range(buyers))])
    made = settings(vhost, odoo, tmp_path)
    if shortened:
        made |= {"PREFETCH": 40, "BATCH_SIZE": 10, "WORKERS": 2}
    receiver = script("receiver.py", without_waits(made), environment=short(shortened))
    receiver.start()
    receiver.wait_for_log("consuming")
    receiver.wait_for_log("all rows have found the records they link to", timeout=60 + count / 80)
    wait_until(lambda: odoo.count("res.partner.bank", odoo.unique) == count, 60, "all orders")
    assert len(odoo.requests(method="load")) < 1.3 * (count + buyers) / (10 if shortened else 100)
    assert peak(receiver) < 70 + 2 * count // 1000, "less than 2 kB for each that waits, beside the receiver itself"
    wait_until(lambda: vhost.queue_depth("odoo.parked") == 0, 60, "an empty parking lot")
    assert "parking lot is full" not in receiver.log()
    receiver.terminate()
    assert receiver.wait() == 0


@pytest.mark.timeout(400)
def test_a_receiver_that_is_killed_while_they_wait_goes_on_with_all_of_them(
    vhost: Vhost, script: Make, tmp_path: Path, odoo: Odoo
) -> None:
    """It reads its parking lot, more than a consumer can hold, and what waited for a customer waits for it again."""
    count, buyers = 700, 35
    declare(vhost)
    pour(vhost, orders(count, buyers))
    made = {**settings(vhost, odoo, tmp_path), "PREFETCH": 40, "BATCH_SIZE": 10, "WORKERS": 2}
    receiver = script("receiver.py", without_waits(made), environment=short("READ_MAX=200"))
    receiver.start()
    receiver.wait_for_log("consuming")
    wait_until(lambda: vhost.queue_depth("odoo.parked") > 600, 60, "most of them in the parking lot")
    receiver.kill()
    wait_until(lambda: vhost.queue_depth("odoo.parked") + vhost.queue_depth("odoo") >= count, 20, "all of them back")
    receiver.start()
    receiver.wait_for_log("parked queue read")
    receiver.wait_for_log("consuming", count=2)
    receiver.kill()  # once more, with all of them just read
    receiver.start()
    receiver.wait_for_log("consuming", count=3)
    publish(vhost, [customer(n) for n in range(buyers)])
    wait_until(lambda: odoo.count("res.partner.bank", odoo.unique) == count, 300, "all orders")
    receiver.terminate()
    assert receiver.wait() == 0


@pytest.mark.timeout(400)
def test_what_goes_on_behind_many_that_wait_is_found(vhost: Vhost, script: Make, tmp_path: Path, odoo: Odoo) -> None:
    """RabbitMQ hands out first what was given back, so that a pass which reads a part would read the same for ever."""
    odoo.pace(0.01, 0.0005)
    few, orders_first, later = 60, 400, 300
    declare(vhost)
    children = [customer(n, parent=later) for n in range(later)]
    pour(vhost, [*orders(orders_first, later), *children, customer(later)])
    fewer = ("sweep.AHEAD_MAX", "sweep.READ_ANYWAY", "index.READ_ANYWAY")
    short_passes = with_constants(*(f"relay.receiving.parking.{one}={few}" for one in fewer))
    made = {**settings(vhost, odoo, tmp_path), "PREFETCH": 40, "BATCH_SIZE": 10, "WORKERS": 2}
    receiver = script("receiver.py", without_waits(made), environment=short_passes)
    receiver.start()
    receiver.wait_for_log("consuming")
    wait_until(lambda: odoo.count("res.partner.bank", odoo.unique) == orders_first, 300, "all orders")
    receiver.terminate()
    assert receiver.wait() == 0


@pytest.mark.timeout(400)
def test_later_changes_of_a_row_that_waits_come_behind_it(
    vhost: Vhost, script: Make, tmp_path: Path, odoo: Odoo
) -> None:
    declare(vhost)
    rng, keys = random.Random(1), range(150)
    events = [row("orders", key, number=f"N{key}", customer_id=key % 9) for key in keys]
    for turn in range(3):
        changed = [row("orders", key, "update", number=f"N{key}-{turn}", customer_id=key % 9) for key in keys]
        rng.shuffle(changed)
        events += changed
    pour(vhost, events)
    made = {**settings(vhost, odoo, tmp_path), "PREFETCH": 40, "BATCH_SIZE": 10, "WORKERS": 2}
    receiver = script("receiver.py", without_waits(made), environment=short("READ_MAX=200"))
    receiver.start()
    receiver.wait_for_log("consuming")
    wait_until(lambda: vhost.queue_depth("odoo.parked") > 500, 60, "most of them in the parking lot")
    publish(vhost, [customer(n) for n in range(9)])

    def numbers() -> set[str]:
        accounts = odoo.records("res.partner.bank", odoo.unique).values()
        return {one["acc_number"].removeprefix(odoo.unique) for one in accounts}

    wait_until(lambda: numbers() == {f"N{key}-2" for key in keys}, 300, "the last state of each")
    receiver.terminate()
    assert receiver.wait() == 0


@pytest.mark.timeout(200)
def test_rows_that_were_moved_while_their_request_took_long_do_not_hold_up_those_they_wait_for(
    vhost: Vhost, script: Make, tmp_path: Path, odoo: Odoo
) -> None:
    """They are in the parking lot before it is known that they wait, and for how long."""
    long = with_constants("relay.receiving.parking.park.LONG_REQUEST=0.1")
    made = {**settings(vhost, odoo, tmp_path), "PREFETCH": 40, "BATCH_SIZE": 10, "WORKERS": 2}
    receiver = script("receiver.py", without_waits(made), environment=long)
    receiver.start()
    receiver.wait_for_log("consuming")
    children, parents, root = range(60), range(60, 90), 90
    odoo.pace(0.6, 0.0)
    publish(vhost, [customer(n, parent=60 + n % 30) for n in children])
    wait_until(lambda: vhost.queue_depth("odoo.parked") >= 40, 60, "most of the children in the parking lot")
    odoo.pace(0.0, 0.0)
    publish(vhost, [customer(n, parent=root) for n in parents])
    wait_until(lambda: vhost.queue_depth("odoo.parked") >= 70, 60, "most of the parents as well")
    publish(vhost, [customer(root)])
    wait_until(lambda: odoo.count("res.partner", odoo.unique) == root + 1, 60, "all of them")
    wait_until(lambda: vhost.queue_depth("odoo.parked") == 0, 20, "an empty parking lot")
    receiver.terminate()
    assert receiver.wait() == 0


@pytest.mark.parametrize("count", [1, 60])
def test_a_row_that_is_deleted_does_not_wait_for_what_went_before_it(
    vhost: Vhost, script: Make, tmp_path: Path, odoo: Odoo, count: int
) -> None:
    """Its change was overtaken by the delete of what it links to, as with ON DELETE CASCADE: its own delete is next."""
    made = {**settings(vhost, odoo, tmp_path), "PREFETCH": 40, "BATCH_SIZE": 10, "WORKERS": 2}
    receiver = script("receiver.py", without_waits(made))
    receiver.start()
    receiver.wait_for_log("consuming")
    publish(vhost, [order(n, customer_id=n) for n in range(count)])
    receiver.wait_for_log("rows wait for records they link to")
    if count > 1:
        wait_until(lambda: vhost.queue_depth("odoo.parked") >= 40, 60, "most of them in the parking lot")
    publish(vhost, [row("orders", n, "delete", customer_id=n) for n in range(count)])
    wait_until(lambda: vhost.queue_depth("odoo") + vhost.queue_depth("odoo.parked") == 0, 40, "all of them done with")
    publish(vhost, [customer(1), order(1, customer_id=1)])
    wait_until(lambda: odoo.count("res.partner.bank", odoo.unique) == 1, 20, "one that is there again")
    assert odoo.requests(method="unlink") == []
    assert "refused" not in receiver.log()
    receiver.terminate()
    assert receiver.wait() == 0


def short(constants: str) -> dict[str, str]:
    """A parking lot of which RabbitMQ hands a consumer less."""
    return with_constants(f"relay.receiving.whole.{constants}") if constants else {}


def without_waits(made: Mapping[str, object]) -> dict[str, object]:
    """With the default ones: seconds and minutes, which nothing here may have to wait for."""
    return {key: value for key, value in made.items() if not key.startswith("RETRY")}


def peak(receiver: Script) -> int:
    """MB that it had in memory at most."""
    found = Path(f"/proc/{receiver.pid}/status").read_text().partition("VmHWM:")[2]
    return int(found.split()[0]) // 1024
