"""TARGET=odoo-call, TARGET=odoo-webhook, and `receiver.py check` of all of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dev.doubles.odoo.handle import Odoo
from dev.process import wait_until
from dev.script import Script
from dev.vhost import Vhost
from tests.odoo_rows import PARTNERS, credentials, customer, publish, settings, write_mapping
from tests.receiving import done, run

Make = Callable[..., Script]
VERSIONS = pytest.mark.parametrize("odoo", ["17", "19"], indirect=True)
WARNING = "a webhook of Odoo that answers 500 has committed"


def common(vhost: Vhost, **more: object) -> dict[str, object]:
    return {"RABBITMQ_URL": vhost.url, "QUEUE": "odoo", "RETRY_MIN": "0.05", "RETRY_MAX": "0.2", **more}


def started(script: Make, made: dict[str, object]) -> Script:
    receiver = script("receiver.py", made)
    receiver.start()
    receiver.wait_for_log("consuming")
    return receiver


def calls(vhost: Vhost, odoo: Odoo, **more: object) -> dict[str, object]:
    own = {"TARGET": "odoo-call", "ODOO_MODEL": "x_relay.inbox", "ODOO_METHOD": "receive"}
    return common(vhost, **credentials(odoo), **own, **more)


@VERSIONS
def test_a_method_gets_the_event_and_a_refusal_parks_it(vhost: Vhost, script: Make, tmp_path: Path, odoo: Odoo) -> None:
    odoo.needs("x_relay.inbox")
    receiver = started(script, calls(vhost, odoo, MAX_ATTEMPTS=2))
    taken = customer(1)
    publish(vhost, [taken])
    client, mine = odoo.client(), [["event", "=", taken.id]]
    wait_until(lambda: client.call("x_relay.inbox", "search_count", domain=mine), 10, "the event")
    [record] = client.call("x_relay.inbox", "search_read", domain=mine, fields=["event", "body"])
    assert record["body"]["new"]["name"] == "Customer 1"
    odoo.break_("error", model="x_relay.inbox", method="receive")
    publish(vhost, [customer(2)])
    receiver.wait_for_log("event refused and parked")
    [parked] = json.loads(done(run(receiver, "parked", "--json")))
    assert "UserError: It was told to fail" in parked["reason"]
    odoo.mend()
    done(run(receiver, "replay", "--all"))
    receiver.terminate()
    assert receiver.wait() == 0
    assert len(odoo.requests(method="receive")) == 4


def test_a_method_that_answers_with_an_action_has_not_done_it(
    vhost: Vhost, script: Make, tmp_path: Path, odoo: Odoo
) -> None:
    odoo.needs("x_relay.inbox")
    receiver = started(script, calls(vhost, odoo, MAX_ATTEMPTS=2))
    publish(vhost, [customer(1, name="ask")])
    receiver.wait_for_log("event refused and parked")
    [parked] = json.loads(done(run(receiver, "parked", "--json")))
    assert "x_relay.inbox.receive answered with ir.actions.client display_notification" in parked["reason"]
    receiver.terminate()
    assert receiver.wait() == 0


def hooks(vhost: Vhost, odoo: Odoo, path: str, **more: object) -> dict[str, object]:
    own = {"TARGET": "odoo-webhook", "ODOO_WEBHOOK": odoo.url + path, "ODOO_DATABASE": odoo.database}
    return common(vhost, **own, **more)


def contacts(odoo: Odoo) -> int:
    return int(odoo.client().call("res.partner", "search_count", domain=[["name", "=", "hooked"]]))


def event(name: str | None) -> Any:
    made = customer(1)
    body = json.loads(made.body) | {"name": name}
    return made.__class__(json.dumps(body).encode(), made.topic, id=made.id, op=made.op, key=made.key, seq=made.seq)


@pytest.mark.parametrize("odoo", ["19", "17", {"version": "19", "databases": "one,two"}], indirect=True)
def test_a_webhook_gets_the_event(vhost: Vhost, script: Make, odoo: Odoo) -> None:
    before = contacts(odoo)
    receiver = started(script, hooks(vhost, odoo, odoo.hook()))
    assert WARNING in receiver.log()
    publish(vhost, [event("hooked")])
    wait_until(lambda: contacts(odoo) == before + 1, 10, "the rule")
    receiver.terminate()
    assert receiver.wait() == 0


@pytest.mark.parametrize("idempotent", ["off", "on"])
def test_a_500_of_a_webhook_is_parked_at_once_unless_it_may_run_twice(
    vhost: Vhost, script: Make, odoo: Odoo, idempotent: str
) -> None:
    path = odoo.hook()
    odoo.break_("status", status=500, body='{"status": "error"}', headers={"Content-Type": "application/json"})
    own = hooks(vhost, odoo, path, ODOO_WEBHOOK_IDEMPOTENT=idempotent, MAX_ATTEMPTS=8)
    receiver = started(script, own)
    assert (WARNING in receiver.log()) == (idempotent == "off")
    publish(vhost, [event("hooked")])
    if idempotent == "off":
        receiver.wait_for_log("event refused and parked")
        assert "what it had written before is committed" in receiver.log()
        assert len([one for one in odoo.requests() if one["path"] == path]) == 1
    else:
        receiver.wait_for_log("not delivered, will try again")
        odoo.mend()
        wait_until(lambda: contacts(odoo) == 1, 10, "the second try")
        assert "event refused and parked" not in receiver.log()
    receiver.terminate()
    assert receiver.wait() == 0


@pytest.mark.parametrize("trouble", ["database", "unknown"])
def test_a_webhook_that_is_not_there_pauses_and_parks_nothing(
    vhost: Vhost, script: Make, odoo: Odoo, trouble: str
) -> None:
    path = odoo.hook()
    if trouble == "database":
        odoo.break_("database")
    receiver = started(script, hooks(vhost, odoo, path if trouble == "database" else "/web/hook/00-11", MAX_ATTEMPTS=1))
    publish(vhost, [event("hooked")])
    receiver.wait_for_log("endpoint does not work, pausing")
    assert "event refused and parked" not in receiver.log()
    if trouble == "database":
        odoo.mend()
        receiver.wait_for_log("endpoint works again")
        wait_until(lambda: contacts(odoo) == 1, 10, "the rule")
    receiver.terminate()
    assert receiver.wait() == 0


def failed(receiver: Script, status: int = 78) -> dict[str, str]:
    """What `check` says is wrong, by name."""
    result = run(receiver, "check", "--json")
    assert result.returncode == status, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    return {one["name"]: f"{one['detail']} -> {one['remedy']}" for one in json.loads(result.stdout) if not one["ok"]}


@VERSIONS
def test_check_of_what_is_in_order(vhost: Vhost, script: Make, tmp_path: Path, odoo: Odoo) -> None:
    odoo.needs("x_relay.inbox")
    receiver = script("receiver.py", settings(vhost, odoo, tmp_path))
    before = odoo.records("res.partner")
    shown = done(run(receiver, "check"))
    assert "FAILED" not in shown
    for part in ("RabbitMQ: ", f"version {odoo.version}.0", "login: admin", "API key: ", "read timeout: "):
        assert f"ok      {part}" in shown or part in shown, shown
    assert f"spoken to by {'JSON-2' if odoo.like == '19' else 'JSON-RPC'}" in shown
    assert "public.orders -> res.partner.bank: partner_id/id: many2one" in shown
    assert odoo.records("res.partner") == before
    done(run(script("receiver.py", calls(vhost, odoo)), "check"))
    done(run(script("receiver.py", hooks(vhost, odoo, odoo.hook())), "check"))


@VERSIONS
def test_check_names_each_line_of_the_mapping_that_does_not_fit(
    vhost: Vhost, script: Make, tmp_path: Path, odoo: Odoo
) -> None:
    odoo.needs("sale.order")
    text = """
[table."public.a"]
model = "res.partner"
id = "a_{id}"
[table."public.a".fields]
nmae = "{name}"
parent_id = "{parent}"
"email/id" = "x_{y}"
type = "home"
is_company = "perhaps"
"country_id/id" = "b_{country}"
create_date = "{at}"
[table."public.b"]
model = "res.partner.bank"
id = "b_{id}"
truncate = "ignore"
[table."public.b".fields]
acc_number = "{n}"
[table."public.c"]
model = "res.nobody"
id = "c_{id}"
[table."public.c".fields]
x = "1"
[table."public.d"]
model = "sale.order"
id = "d_{id}"
[table."public.d".fields]
"partner_id/id" = "a_{p}"
"""
    wrong = failed(script("receiver.py", settings(vhost, odoo, tmp_path, text)))
    for name, parts in {
        "public.a -> res.partner: nmae": ("no such field", "line 6"),
        "public.a -> res.partner: parent_id": ('write "parent_id/id"', "line 7"),
        "public.a -> res.partner: email/id": ("of type char", "line 8"),
        "public.a -> res.partner: type": ("knows no value home", "contact", "line 9"),
        "public.a -> res.partner: is_company": ("neither true nor false", "line 10"),
        "public.a -> res.partner: country_id/id": ("public.b becomes res.partner.bank", "line 11"),
        "public.a -> res.partner: create_date": ("can't be written", "line 12"),
        "public.b -> res.partner.bank: required fields": ("partner_id", "line 13"),
        "public.c -> res.nobody": ("res.nobody", "line 19"),
        "public.d -> sale.order: delete": ("no field active", "line 24"),
    }.items():
        assert name in wrong, wrong
        assert all(part in wrong[name] for part in parts), wrong[name]
    assert len(wrong) == 10, wrong


@VERSIONS
def test_check_takes_what_only_the_form_forbids_or_requires(
    vhost: Vhost, script: Make, tmp_path: Path, odoo: Odoo
) -> None:
    odoo.needs("sale.order", "sale.order.line", "product.template")
    text = """
[table."public.a"]
model = "sale.order"
id = "a_{id}"
delete = "ignore"
[table."public.a".fields]
"partner_id/id" = "c_{c}"
state = { from = "{s}", values = { n = "draft", d = "sale" } }
[table."public.b"]
model = "sale.order.line"
id = "b_{id}"
delete = "ignore"
[table."public.b".fields]
"order_id/id" = "a_{a}"
"product_id/id" = "v_{p}"
[table."public.p"]
model = "product.template"
id = "p_{id}"
[table."public.p".fields]
name = "{name}"
"""
    receiver = script("receiver.py", settings(vhost, odoo, tmp_path, text))
    shown = done(run(receiver, "check"))
    assert "ok      public.a -> sale.order: state: selection" in shown
    if not odoo.real:  # the module sale_stock computes customer_lead
        assert "ok      public.b -> sale.order.line: required numbers: " in shown
        assert "customer_lead" in shown
    write_mapping(tmp_path, odoo, text.replace("state = {", "amount_total = {"))
    assert "can't be written" in failed(receiver)["public.a -> sale.order: amount_total"]


@pytest.mark.parametrize("odoo", ["17"], indirect=True)
def test_check_asks_for_the_defaults_of_a_model_as_of_its_records_where_18_wants_it(
    vhost: Vhost, script: Make, tmp_path: Path, odoo: Odoo
) -> None:
    odoo.break_("records", model="sale.order", method="default_get")
    text = '[table."public.a"]\nmodel = "sale.order"\nid = "a_{id}"\ndelete = "ignore"\n'
    text += '[table."public.a".fields]\n"partner_id/id" = "c_{c}"\n'
    receiver = script("receiver.py", settings(vhost, odoo, tmp_path, text))
    assert "required fields" not in done(run(receiver, "check"))
    odoo.mend()
    odoo.break_("error", model="sale.order", method="default_get")
    assert "name" in failed(receiver)["public.a -> sale.order: required fields"]


def test_check_of_a_key_a_right_a_database_a_server_and_a_timeout(
    vhost: Vhost, script: Make, tmp_path: Path, odoo: Odoo
) -> None:
    assert "read timeout" in failed(script("receiver.py", settings(vhost, odoo, tmp_path, HTTP_READ_TIMEOUT=60)))
    odoo.break_("access", model="res.partner")
    wrong = failed(script("receiver.py", settings(vhost, odoo, tmp_path)))
    assert "may not create, write" in wrong["public.customers -> res.partner"]
    odoo.mend()
    odoo.break_("database")
    assert "health" in failed(script("receiver.py", settings(vhost, odoo, tmp_path)))
    odoo.mend()
    wrong = failed(script("receiver.py", settings(vhost, odoo, tmp_path, ODOO_API_KEY="wrong")))
    assert "ODOO_API_KEY" in wrong["login"]
    odoo.stop()
    wrong = failed(script("receiver.py", settings(vhost, odoo, tmp_path)))
    assert any("ODOO_URL" in said for said in wrong.values())


@pytest.mark.parametrize("odoo", [{"version": "19", "key_days": 3}], indirect=True)
def test_check_says_that_a_key_soon_runs_out(vhost: Vhost, script: Make, tmp_path: Path, odoo: Odoo) -> None:
    assert "make a new key" in failed(script("receiver.py", settings(vhost, odoo, tmp_path)))["API key"]


def test_a_wrong_mapping_ends_the_receiver_with_its_problems(
    vhost: Vhost, script: Make, tmp_path: Path, odoo: Odoo
) -> None:
    made = settings(vhost, odoo, tmp_path)
    write_mapping(tmp_path, odoo, PARTNERS.replace("model", "modle").replace("name = ", "name = '{' #"))
    receiver = script("receiver.py", made)
    receiver.start()
    assert receiver.wait() == 78
    log = receiver.log()
    assert log.count("did you mean model?") == 2
    assert 'line 6: table."public.customers" name: a single brace' in log
    assert "Traceback" not in log
