"""The pair of scripts that people write by hand today, as a peer: what a relay is weighed against in most firms.

python -m benchmarks.handwritten listen DSN AMQP_URL QUEUE     LISTEN loop, one confirmed publish after another
python -m benchmarks.handwritten receive AMQP_URL QUEUE URL    one message, one POST, one acknowledgement

It is meant fairly: connections are kept open, messages are persistent and confirmed, acknowledged only after a 200. It
has no outbox: what is committed while it is down, or is larger than 8,000 bytes, is lost.
"""

from __future__ import annotations

import select
import sys
from typing import Any

import pika
import psycopg2
import requests

CHANNEL = "changes"
TRIGGER = f"""
create function notify_row() returns trigger language plpgsql as $$
begin perform pg_notify('{CHANNEL}', row_to_json(new)::text); return null; end $$;
create trigger notify_row after insert or update on {{table}} for each row execute function notify_row();
"""


def listen(dsn: str, url: str, queue: str) -> None:
    """Daemon 1."""
    database = psycopg2.connect(dsn)
    database.autocommit = True
    channel = pika.BlockingConnection(pika.URLParameters(url)).channel()
    channel.confirm_delivery()
    database.cursor().execute(f"listen {CHANNEL}")
    print("listening", flush=True)
    while True:
        select.select([database], [], [])
        database.poll()
        while database.notifies:
            note = database.notifies.pop(0)
            properties = pika.BasicProperties(delivery_mode=2, content_type="application/json")
            channel.basic_publish("", queue, note.payload.encode(), properties, mandatory=True)


def receive(url: str, queue: str, endpoint: str) -> None:
    """Daemon 2."""
    channel = pika.BlockingConnection(pika.URLParameters(url)).channel()
    channel.basic_qos(prefetch_count=1)
    session = requests.Session()

    def deliver(channel: Any, method: Any, _properties: Any, body: bytes) -> None:
        answer = session.post(endpoint, data=body, headers={"Content-Type": "application/json"}, timeout=30)
        if answer.status_code == 200:
            channel.basic_ack(method.delivery_tag)
        else:
            channel.basic_nack(method.delivery_tag)

    channel.basic_consume(queue, deliver)
    print("receiving", flush=True)
    channel.start_consuming()


if __name__ == "__main__":
    {"listen": listen, "receive": receive}[sys.argv[1]](*sys.argv[2:])
