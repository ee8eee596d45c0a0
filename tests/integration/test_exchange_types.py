"""Both daemons over an exchange that is no topic exchange."""

from collections.abc import Callable

import pytest

from dev.database import Database
from dev.doubles.endpoint import Endpoint
from dev.process import wait_until
from dev.script import Script
from dev.vhost import Vhost
from tests.listening import Listening
from tests.receiving import run, settings

Make = Callable[..., Script]


def tables(endpoint: Endpoint) -> set[str]:
    return {request.json["table"] for request in endpoint.completed}


@pytest.mark.parametrize(
    ("kind", "keys", "arriving"),
    [
        ("direct", {"BINDING_KEYS": "public.orders,public.lines"}, {"public.orders", "public.lines"}),
        ("fanout", {}, {"public.orders", "public.lines", "public.others"}),
    ],
)
def test_rows_arrive_over(
    database: Database,
    vhost: Vhost,
    script: Make,
    endpoint: Endpoint,
    kind: str,
    keys: dict[str, str],
    arriving: set[str],
) -> None:
    vhost.channel().exchange_declare("relay", kind, durable=True)  # somebody made it before us
    listening = Listening(script, database, vhost, EXCHANGE_TYPE=kind)
    receiver = script("receiver.py", settings(vhost, endpoint, EXCHANGE_TYPE=kind, **keys))
    receiver.start()
    receiver.wait_for_log("consuming")
    listening.start()
    for name in ("others", "orders", "lines"):
        listening.execute(f"create table {name} (id int primary key)")
        listening.admin(f"select relay.watch('public.{name}')")
        listening.execute(f"insert into {name} values (1)")
    wait_until(lambda: tables(endpoint) == arriving, 20, "a row of each table that is bound")
    unbound = {"public.orders", "public.lines", "public.others"} - arriving
    wait_until(lambda: listening.pending() == len(unbound), 20, "only what nobody takes in the outbox")
    for table in unbound:
        listening.script.wait_for_log(table)  # says which queue is missing


def test_a_receiver_names_the_setting_when_the_exchange_is_of_another_type(
    vhost: Vhost, script: Make, endpoint: Endpoint
) -> None:
    vhost.channel().exchange_declare("relay", "fanout", durable=True)
    receiver = script("receiver.py", settings(vhost, endpoint))
    receiver.start()
    assert receiver.wait() == 78
    assert "exchange relay exists with other arguments" in receiver.log()
    assert "EXCHANGE_TYPE" in receiver.log()


@pytest.mark.parametrize(("keys", "would_do"), [("public.orders,public.lines", True), ("public.orders,shop.*", False)])
def test_check_says_where_a_direct_exchange_would_do(
    vhost: Vhost, script: Make, endpoint: Endpoint, keys: str, would_do: bool
) -> None:
    receiver = script("receiver.py", settings(vhost, endpoint, BINDING_KEYS=keys))
    receiver.start()
    receiver.wait_for_log("consuming")
    said = run(receiver, "check").stdout
    assert ("ok      EXCHANGE_TYPE: topic; no name in BINDING_KEYS has a wildcard" in said) == would_do, said
