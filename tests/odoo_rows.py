"""What the tests of the Odoo targets share: events of rows as listen.py publishes them, settings, a mapping."""

from __future__ import annotations

import contextlib
import itertools
import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pika.spec import Basic

from dev.doubles.odoo.handle import Odoo
from dev.vhost import Vhost
from relay import targets
from relay.delivery import Delivery, Event, Outcome
from relay.targets.odoo.load import OdooLoadTarget
from tests.links import Link
from tests.messages import properties

_seq = itertools.count(1)

PARTNERS = """
[table."public.customers"]
model = "res.partner"
id = "%(unique)scustomers_{id}"
[table."public.customers".fields]
name = "{name}"
email = "{email}"
"parent_id/id" = "%(unique)scustomers_{parent}"

[table."public.orders"]
model = "res.partner.bank"
id = "%(unique)sorders_{id}"
delete = "unlink"
[table."public.orders".fields]
acc_number = "%(unique)s{number}"
"partner_id/id" = "%(unique)scustomers_{customer_id}"
"""


def credentials(odoo: Odoo) -> dict[str, str]:
    """Settings by which a receiver reaches this Odoo."""
    return {
        "ODOO_URL": odoo.url,
        "ODOO_DATABASE": odoo.database,
        "ODOO_USER": odoo.login,
        "ODOO_API_KEY": odoo.api_key,
    }


def write_mapping(directory: Path, odoo: Odoo, text: str = PARTNERS) -> Path:
    """The mapping in a file; `%(unique)s` begins the external ids of the test."""
    file = directory / "mapping.toml"
    file.write_text(text.replace("%(unique)s", odoo.unique))
    return file


def target(directory: Path, odoo: Odoo, text: str = PARTNERS, **more: str) -> OdooLoadTarget:
    """The target, in this process."""
    settings = {
        "RABBITMQ_URL": "amqp://nobody@localhost/",
        "QUEUE": "odoo",
        "TARGET": "odoo-load",
        "ODOO_MAPPING": str(write_mapping(directory, odoo, text)),
        **credentials(odoo),
        **more,
    }
    made = targets.make(targets.load(None, settings))
    assert isinstance(made, OdooLoadTarget)
    return made


def row(table: str, key: int, op: str = "insert", old: Mapping[str, Any] | None = None, **columns: Any) -> Event:
    """An event of a row with the key `id`; the columns are the new row, of a delete nothing."""
    name, event_id = f"public.{table}", str(uuid.uuid4())
    new = None if op == "delete" else {"id": key, **columns}
    body = {"id": event_id, "table": name, "op": op, "key": {"id": key}, "old": old, "new": new}
    own = f'{name} {{"id":{key}}}'
    return Event(json.dumps(body).encode(), name, id=event_id, op=op, key=own, table=name, seq=next(_seq))


def customer(key: int, op: str = "insert", **columns: Any) -> Event:
    """A row of public.customers."""
    whole = {"name": f"Customer {key}", "email": f"c{key}@example.com", "parent": None}
    return row("customers", key, op, **{**whole, **columns})


def order(key: int, customer_id: int, op: str = "insert") -> Event:
    """A row of public.orders."""
    return row("orders", key, op, number=f"N{key}", customer_id=customer_id)


def settings(vhost: Vhost, odoo: Odoo, directory: Path, text: str = PARTNERS, **more: object) -> dict[str, object]:
    """Settings of a receiver with TARGET=odoo-load and waits that a test can sit out."""
    return {
        "RABBITMQ_URL": vhost.url,
        "QUEUE": "odoo",
        "TARGET": "odoo-load",
        "ODOO_MAPPING": write_mapping(directory, odoo, text),
        "RETRY_MIN": "0.1",
        "RETRY_MAX": "0.5",
        "RECONNECT_MIN": "0.05",
        "RECONNECT_MAX": "0.2",
        **credentials(odoo),
        **more,
    }


def publish(vhost: Vhost, events: Iterable[Event]) -> int:
    """Publish them to the queue as listen.py does, without awaiting each confirm; return how many, when all are safe.

    Unconfirmed, a quorum queue may lose the last of them when the channel is closed (1 of 60 times 500, seen).
    """
    channel = vhost.channel()
    unconfirmed: set[int] = set()

    def answered(frame: Any) -> None:
        assert isinstance(frame.method, Basic.Ack)
        tag = frame.method.delivery_tag
        unconfirmed.difference_update([one for one in unconfirmed if one <= tag] if frame.method.multiple else [tag])

    channel._impl.confirm_delivery(answered)  # the blocking channel itself awaits each before the next
    count = 0
    for count, event in enumerate(events, 1):
        made = properties(event.id, event.key, event.table, event.op)
        unconfirmed.add(count)
        channel._impl.basic_publish("", "odoo", event.body, made)
    while unconfirmed:
        channel.connection.process_data_events(1)
    channel.connection.close()
    return count


def declare(vhost: Vhost) -> None:
    """The queue as the receiver declares it, so that a backlog can lie there before it starts."""
    arguments = {"x-queue-type": "quorum", "x-delivery-limit": 1_000_000}
    vhost.channel().queue_declare("odoo", durable=True, arguments=arguments)


def deliver(made: OdooLoadTarget, *events: Event) -> Sequence[Outcome]:
    """Deliver them in one batch."""
    with contextlib.closing(Link(made)) as link:
        return link.deliver([Delivery(event, 1) for event in events])
