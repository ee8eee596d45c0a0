"""What `check` asks RabbitMQ about the user's rights and about alarms. Nothing is changed by it.

Each question about a right is one that RabbitMQ refuses in any case, after it has looked at the right (3.10 and 4.0):
the answer is the code of the refusal.
"""

import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import quote

import pika
import pika.exceptions
from pika.adapters.blocking_connection import BlockingChannel, BlockingConnection

from relay import checks
from relay.amqp import nodes, tls
from relay.amqp.replies import ACCESS_REFUSED, NOT_FOUND, PRECONDITION_FAILED, RESOURCE_LOCKED, raise_limit, refusal
from relay.cli import plural
from relay.config import Common
from relay.errors import RelayError
from relay.findings import Finding, failed

_ANSWERS = (ACCESS_REFUSED, NOT_FOUND, RESOURCE_LOCKED, PRECONDITION_FAILED)


def exchange(handle: BlockingConnection, config: Common, rights: str, other: str, missing: str) -> Finding:
    """Is the exchange there, and of the type that is wanted?

    Asked with a declaration that RabbitMQ refuses in any case: a passive one would not compare the type. An alternate
    exchange must be a text. Of an exchange that is there RabbitMQ compares the arguments last, after the type and the
    flags; one that is not there it does not make (3.10 and 4.0).

    Args:
        config: EXCHANGE, EXCHANGE_TYPE.
        rights: the command that gives the right to configure it.
        other: what to do about one of another type.
        missing: what it means that it is not there.
    """
    name, kind = config.exchange, config.exchange_type
    code, said = refusal(
        handle,
        lambda channel: channel.exchange_declare(name, kind, durable=True, arguments={"alternate-exchange": 0}),
        ACCESS_REFUSED,
        PRECONDITION_FAILED,
    )
    if code == ACCESS_REFUSED:  # RabbitMQ has not compared its type then
        if refusal(handle, lambda channel: channel.exchange_declare(name, passive=True), NOT_FOUND)[0]:
            return failed(f"exchange {name}", said, rights)
        there = "there; whether its type is EXCHANGE_TYPE is told only to a user who may configure it"
        return Finding(f"exchange {name}", detail=there)
    if "invalid type" in said:
        return Finding(f"exchange {name}", detail=missing)
    if "inequivalent arg 'alternate-exchange'" in said and "current is none" in said:
        return Finding(f"exchange {name}", detail=kind)
    return failed(f"exchange {name}", said, other)


def queue_limit(
    handle: BlockingConnection, api: Callable[[str], Any], vhost: str, names: Iterable[str]
) -> Finding | None:
    """Can those of these queues be made that are not there? None = yes, or nobody tells.

    Args:
        api: gets a path of the management API, below /api; raises RelayError.
        names: what a daemon has while it is at work.
    """
    quoted = quote(vhost, safe="")
    try:
        most = api(f"/vhost-limits/{quoted}")[0]["value"]["max-queues"]
        count = len(api(f"/queues/{quoted}?columns=name"))
    except (RelayError, LookupError, TypeError):
        return None
    missing = [name for name in names if _is_missing(handle, name)]
    if not missing or not 0 <= most < count + len(missing):
        return None
    said = f"{plural(count, 'queue')} in virtual host {vhost}, which may have {most}: no room for {', '.join(missing)}"
    return failed("number of queues", said, raise_limit(vhost, "max-queues"))


def _is_missing(handle: BlockingConnection, queue: str) -> bool:
    return refusal(handle, lambda channel: channel.queue_declare(queue, passive=True), *_ANSWERS)[0] == NOT_FOUND


def certificates(config: Common) -> Iterator[Finding]:
    """When those of RabbitMQ's hosts run out. Raises ConfigError: our TLS files can't be used."""
    hosts = nodes.singly(config.rabbitmq_url)
    for url in hosts:
        if url.tls:
            server = "RabbitMQ" if len(hosts) == 1 else f"RabbitMQ at {url.host}"
            yield from checks.of_certificate(server, (url.host, url.port), tls.context(config), config.connect_timeout)


def may_not_configure(handle: BlockingConnection, queue: str) -> str:
    """Return RabbitMQ's words if the user may not make a queue: a time to live must be a number."""
    code, said = refusal(
        handle, lambda channel: channel.queue_declare(queue, arguments={"x-expires": "check"}), *_ANSWERS
    )
    return said if code == ACCESS_REFUSED else ""


def may_not_read(handle: BlockingConnection, queue: str) -> str:
    """Return RabbitMQ's words if the user may not read a queue: a consumer's priority must be a number."""

    def read(channel: BlockingChannel) -> None:
        channel.basic_consume(queue, lambda *_: None, arguments={"x-priority": "check"})

    code, said = refusal(handle, read, *_ANSWERS)
    return said if code == ACCESS_REFUSED and "exclusive" not in said else ""


def may_not_bind(handle: BlockingConnection, queue: str, exchange: str) -> str:
    """Return RabbitMQ's words if the user may not bind a queue: to end a binding that is not there takes the same."""
    nobodys = f"relay.check.{uuid.uuid4()}"
    code, said = refusal(handle, lambda channel: channel.queue_unbind(queue, exchange, nobodys), *_ANSWERS)
    return said if code == ACCESS_REFUSED else ""


def publishing(handle: BlockingConnection, exchange: str, remedy: str) -> Finding | None:
    """May the user publish to an exchange? None = yes.

    Asked with a message that RabbitMQ refuses: an expiration must be a number. During an alarm it reads nothing more of
    a connection that publishes (Blocked Connection Notifications): ask this last.

    Args:
        exchange: empty = the default exchange.
        remedy: the command that gives the right.

    Raises:
        pika.exceptions.ConnectionBlockedTimeout: there is an alarm.
    """
    channel, refused = handle.channel(), ""
    channel.confirm_delivery()
    try:
        channel.basic_publish(exchange, "relay.check", b"", pika.BasicProperties(expiration="check"))
    except pika.exceptions.ChannelClosedByBroker as error:
        if error.reply_code == ACCESS_REFUSED and "access to topic" not in error.reply_text:
            refused = str(error.reply_text)
    handle.channel()  # to which, during an alarm, there is no answer any more
    return failed(f"publishing to {exchange or 'queues'}", refused, remedy) if refused else None
