"""ASK_AFTER: rows that others link to, and that were never sent, are asked for; what is not there is told at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from dev.database import Database
from dev.doubles.odoo.handle import Odoo
from dev.process import wait_until
from dev.script import Script
from dev.vhost import Vhost
from tests.listening import Listening
from tests.odoo_rows import PARTNERS, settings
from tests.receiving import done, run

Make = Callable[..., Script]


@pytest.fixture
def listening(script: Make, database: Database, vhost: Vhost) -> Listening:
    """Customers that are there before anybody listens; orders that come."""
    made = Listening(script, database, vhost, REQUESTS="on")
    made.bind()
    made.execute("create table customers (id int primary key, name text, email text, parent int)")
    made.execute("create table orders (id int primary key, number text, customer_id int)")
    made.execute(
        "insert into customers select i, 'Customer ' || i, null, nullif(i / 2, 0) from generate_series(1, 1000) i"
    )
    made.admin("select relay.watch('public.customers'), relay.watch('public.orders')")
    return made.start()


def started(script: Make, made: dict[str, object]) -> Script:
    receiver = script("receiver.py", made)
    receiver.start()
    receiver.wait_for_log("consuming")
    return receiver


@pytest.mark.parametrize("orders", [30, pytest.param(1000, marks=pytest.mark.long)])
@pytest.mark.timeout(300)
def test_orders_whose_customers_were_never_sent_arrive_by_themselves(
    script: Make, listening: Listening, vhost: Vhost, odoo: Odoo, tmp_path: Path, orders: int
) -> None:
    """And the parents of those customers, one after the other."""
    own = settings(vhost, odoo, tmp_path, ASK_AFTER=0.5, SOURCE=listening.database.name)
    receiver = started(script, own)
    listening.execute(f"insert into orders select i, 'N' || i, 1001 - i from generate_series(1, {orders}) i")
    wait_until(lambda: len(odoo.records("res.partner.bank")) == orders, 60 + orders / 5, "the orders")
    customers = {row["name"] for row in odoo.records("res.partner").values()}
    assert customers >= {f"Customer {1001 - n}" for n in range(1, orders + 1)} | {"Customer 1"}
    assert "event refused and parked" not in receiver.log()
    assert len(listening.all_messages()) == orders, "the others get the orders, and nothing more"


def test_a_row_that_does_not_exist_is_told_at_once_and_asked_for_again_when_it_is_replayed(
    script: Make, listening: Listening, vhost: Vhost, odoo: Odoo, tmp_path: Path
) -> None:
    own = settings(vhost, odoo, tmp_path, ASK_AFTER=0.5, SOURCE=listening.database.name)
    receiver = started(script, own)
    listening.execute("insert into orders values (1, 'N1', 5000), (2, 'N2', 7)")
    receiver.wait_for_log("event refused and parked")
    wait_until(lambda: len(odoo.records("res.partner.bank")) == 1, 20, "the other order")
    [parked] = json.loads(done(run(receiver, "parked", "--json")))
    assert 'public.customers has no row {"id": "5000"}' in parked["reason"]
    assert parked["attempts"] == 1
    listening.execute("insert into customers values (5000, 'Late', null, null)")
    wait_until(lambda: any(one["name"] == "Late" for one in odoo.records("res.partner").values()), 10, "it comes")
    done(run(receiver, "replay", "--all"))
    assert len(odoo.records("res.partner.bank")) == 2


def test_what_is_left_empty_is_left_empty_at_once(
    script: Make, listening: Listening, vhost: Vhost, odoo: Odoo, tmp_path: Path
) -> None:
    link = '"partner_id/id" = "%(unique)scustomers_{customer_id}"'
    assert '"parent_id/id" = "%(unique)scustomers_{parent}"' in PARTNERS
    text = PARTNERS.replace(
        '"parent_id/id" = "%(unique)scustomers_{parent}"',
        '"parent_id/id" = { from = "%(unique)scustomers_{parent}", empty_link = "leave empty" }',
    )
    assert link in text
    own = settings(vhost, odoo, tmp_path, text, ASK_AFTER=0.5, SOURCE=listening.database.name)
    receiver = started(script, own)
    listening.execute("insert into customers values (2000, 'Orphan', null, 9999)")
    wait_until(lambda: any(one["name"] == "Orphan" for one in odoo.records("res.partner").values()), 20, "the row")
    assert "event refused and parked" not in receiver.log()


def test_a_circle_ends_as_without_it(
    script: Make, listening: Listening, vhost: Vhost, odoo: Odoo, tmp_path: Path
) -> None:
    listening.execute("insert into customers values (3000, 'A', null, 3001), (3001, 'B', null, 3002)")
    listening.execute(
        "alter table customers disable trigger user; insert into customers values (3002, 'C', null, 3001)"
    )
    listening.execute("alter table customers enable trigger user; select 1")
    own = settings(vhost, odoo, tmp_path, ASK_AFTER=0.5, SOURCE=listening.database.name)
    started(script, own)
    listening.execute("update customers set name = 'A2' where id = 3000")
    names = {"A2", "B", "C"}
    wait_until(
        lambda: names <= {one["name"] for one in odoo.records("res.partner").values()}, 30, "all three"
    )  # fmt: skip


def test_without_an_answer_they_wait_as_ever_and_it_is_told_once(
    script: Make, vhost: Vhost, odoo: Odoo, tmp_path: Path, listening: Listening
) -> None:
    own = settings(vhost, odoo, tmp_path, ASK_AFTER=0.2, SOURCE="nobody")
    receiver = started(script, own)
    listening.execute("insert into orders values (1, 'N1', 7)")
    receiver.wait_for_log("rows that others wait for can't be asked for")
    listening.execute("update customers set email = 'x' where id in (1, 3, 7)")
    wait_until(lambda: len(odoo.records("res.partner.bank")) == 1, 20, "the order")
    assert receiver.log().count("can't be asked for") == 1


def test_check_names_the_ids_that_can_t_be_taken_apart(script: Make, vhost: Vhost, odoo: Odoo, tmp_path: Path) -> None:
    text = PARTNERS.replace('id = "%(unique)sorders_{id}"', 'id = "%(unique)sorders_{id|lower}"')
    receiver = script("receiver.py", settings(vhost, odoo, tmp_path, text, ASK_AFTER=5, SOURCE="erp"))
    shown = run(receiver, "check").stdout
    assert "public.orders: id" in shown
    assert "a filter changes column id" in shown
    assert "public.customers: id" not in shown
    receiver = script("receiver.py", settings(vhost, odoo, tmp_path, ASK_AFTER=5))
    assert "ASK_AFTER is set, and SOURCE is not: whom to ask?" in run(receiver, "check").stderr
