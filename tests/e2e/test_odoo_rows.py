"""From table to Odoo through both daemons: in the end the records equal the table, whatever was killed meanwhile."""

from __future__ import annotations

import base64
import random
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest

from dev.database import Database
from dev.doubles.odoo.handle import Odoo
from dev.process import wait_until
from dev.script import ROOT, Script
from dev.vhost import Vhost
from tests.listening import Listening
from tests.odoo_rows import settings

Make = Callable[..., Script]

MAPPING = """
[context]
tracking_disable = true

[table."public.customers"]
model = "res.partner"
id = "customers_{id}"
truncate = "ignore"
[table."public.customers".fields]
name = "{name}"
email = "{email}"
is_company = "{company}"
color = "{colour}"
partner_latitude = "{lat}"
image_1920 = "{image}"
type = { from = "{kind}", values = { d = "delivery", i = "invoice" }, default = "contact" }
"parent_id/id" = "customers_{parent}"
"country_id/id" = "base.{country|lower}"

[table."public.orders"]
model = "sale.order"
id = "orders_{region}_{number}"
delete = "unlink"
truncate = "ignore"
[table."public.orders".fields]
client_order_ref = "{region}/{number}"
"partner_id/id" = "customers_{customer}"
commitment_date = "{due}"
validity_date = "{until}"
"""
TABLES = """
create table customers (id int primary key, name text not null, email text, company bool, colour int, lat numeric,
                        image bytea, kind text, parent int, country text);
create table orders (region text, number int, customer int not null, due timestamptz, until date,
                     primary key (region, number))
"""
NEW_CUSTOMER = """
insert into customers
select i, 'Customer ' || i, case when i % 3 = 0 then null else i || '@example.com' end, i % 2 = 0, i % 10,
       (i % 90) + 0.1234567, case when i % 5 = 0 then decode('00ff' || lpad(i::text, 8, '0'), 'hex') end,
       (array['d', 'i', 'x', null])[i % 4 + 1], case when i > 10 and i % 7 = 0 then i - 10 end,
       (array['AT', 'DE', null])[i % 3 + 1]
from generate_series({first}, {last}) i
"""
NEW_ORDER = (
    "insert into orders select (array['N_1', 'S'])[i % 2 + 1], i, i % {customers} + 1,"
    " timestamptz '2024-03-30 23:30:00.5+02' + i * interval '1 hour', date '2024-01-01' + i % 900"
    " from generate_series({first}, {last}) i"
)


def customers(listening: Listening) -> dict[str, dict[str, Any]]:
    """What the records must be."""
    found = {}
    for row in listening.admin(
        "select id, name, email, company, colour, lat, image, kind, parent, country from customers"
    ):
        key, name, email, company, colour, lat, image, kind, parent, country = row
        found[f"customers_{key}"] = {
            "name": name,
            "email": email or False,
            "is_company": bool(company),
            "color": colour or 0,
            "partner_latitude": float(lat),
            "image_1920": base64.b64encode(image).decode() if image else False,
            "type": {"d": "delivery", "i": "invoice"}.get(kind, "contact") if kind else False,
            "parent_id": f"customers_{parent}" if parent else False,
            "country_id": f"base.{country.lower()}" if country else False,
            "active": True,
        }
    return found


def orders(listening: Listening) -> dict[str, dict[str, Any]]:
    found = {}
    for region, number, customer, due, until in listening.admin("select * from orders"):
        found[f"orders_{region.replace('_', '~5F')}_{number}"] = {
            "client_order_ref": f"{region}/{number}",
            "partner_id": f"customers_{customer}",
            "commitment_date": due.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S"),
            "validity_date": until.isoformat(),
        }
    return found


def compared(records: dict[str, dict[str, Any]], like: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The records with the fields that `like` has; archived ones are left out."""
    names = next(iter(like.values())).keys() if like else ()
    return {key: {name: one[name] for name in names} for key, one in records.items() if one.get("active", True)}


CHANGES = (
    "update customers set name = 'N{random}', email = null, colour = colour + 1 where id = {key}",
    "update customers set lat = {small}.25, company = not company where id = {key}",
    "update customers set parent = case when parent is null and id > 20 then id - 20 end where id = {key}",
    "delete from orders where number = {number}",
    "update orders set number = -number where number = {number}",
    "update orders set due = due + interval '1 minute', until = until + 1 where number = {number}",
    "insert into customers (id, name, lat) values ({beyond}, 'back', 1) on conflict do nothing",
    "delete from customers where id > {highest}",
)


def change(listening: Listening, rng: random.Random, count: int, highest: int) -> None:
    """Random changes: updates, deletes and new keys, of customers that nothing links to and of orders."""
    for _ in range(count):
        listening.execute(
            rng.choice(CHANGES).format(
                key=rng.randint(1, highest),
                number=rng.randint(1, highest),
                random=rng.random(),
                small=rng.randint(-90, 90),
                beyond=highest + rng.randint(1, 9),
                highest=highest,
            )
        )


def story(
    database: Database,
    vhost: Vhost,
    script: Make,
    odoo: Odoo,
    directory: Path,
    *,
    rows: int,
    changes: int,
    kills: int,
    patience: float,
) -> None:
    rng = random.Random(5)
    listening = Listening(script, database, vhost)
    listening.execute(TABLES)
    for name in ("customers", "orders"):
        listening.admin(f"select relay.watch('public.{name}')")
    made = settings(vhost, odoo, directory, MAPPING, RETRY_MAX=2)
    receiver, drain = script("receiver.py", made), script("receiver.py", made, arguments=["--drain"])
    receiver.start()
    receiver.wait_for_log("consuming")
    listening.start()
    # Orders first: they wait for customers that come after them.
    step = max(rows // 20, 1)
    orphans = min(rows // 10, 2000)
    listening.execute(NEW_ORDER.format(first=1, last=orphans, customers=rows))
    for first in range(1, rows + 1, step):
        listening.execute(NEW_CUSTOMER.format(first=first, last=min(first + step - 1, rows)))
    listening.execute(NEW_ORDER.format(first=orphans + 1, last=rows, customers=rows))
    for number in range(kills):
        change(listening, rng, changes // kills, rows)
        time.sleep(rng.random() * 0.3)  # any moment will do
        victim, said = (receiver, "consuming") if number % 3 else (listening.script, "relaying")
        seen = victim.log().count(said)
        victim.kill()
        victim.start()
        victim.wait_for_log(said, count=seen + 1, timeout=40)

    def deliver_all() -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
        """Until nothing is on its way any more, not even the repeated tail of a crash. Return the records."""
        wait_until(lambda: listening.pending() == 0, patience, "an empty outbox")
        receiver.terminate()
        assert receiver.wait() == 0
        drain.start()
        assert drain.wait(patience) == 0
        return odoo.records("res.partner"), odoo.records("sale.order")

    before = deliver_all()
    wanted, sales = customers(listening), orders(listening)
    assert compared(before[0], wanted) == wanted
    assert compared(before[1], sales) == sales

    # Everything once more: nothing changes.
    starts = receiver.log().count("consuming")
    receiver.start()
    receiver.wait_for_log("consuming", count=starts + 1)
    odoo.forget_requests()
    for name in ("customers", "orders"):
        listening.execute(f"grant select, update on {name} to {Database.LISTENER}")
        command = [sys.executable, str(ROOT / "listen.py"), "--env-file", str(listening.script.env_file)]
        subprocess.run([*command, "resend", f"public.{name}"], check=True, capture_output=True, timeout=patience)
    assert deliver_all() == before
    assert sum(one["rows"] or 0 for one in odoo.requests(method="load")) >= len(wanted) + len(sales)
    for log in (receiver.log(), drain.log()):
        assert "Traceback" not in log
        assert "parked" not in log


def test_records_equal_the_tables_through_crashes(
    database: Database, vhost: Vhost, script: Make, odoo: Odoo, tmp_path: Path
) -> None:
    odoo.pace(0.005, 0.0002)
    story(database, vhost, script, odoo, tmp_path, rows=300, changes=150, kills=3, patience=30)


@pytest.mark.long
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("odoo", ["17", "19"], indirect=True)
def test_20000_rows_and_20000_changes_through_crashes(
    database: Database, vhost: Vhost, script: Make, odoo: Odoo, tmp_path: Path
) -> None:
    odoo.pace(0.02, 0.0005)
    story(database, vhost, script, odoo, tmp_path, rows=20_000, changes=20_000, kills=25, patience=600)
