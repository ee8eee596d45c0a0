"""What `listen.py check` looks at in RabbitMQ: the exchange, who takes what is published, the lease. It changes
nothing.
"""

import shlex
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import quote

from pika.adapters.blocking_connection import BlockingConnection

from relay.amqp import ask, down, look, rights
from relay.amqp.replies import NOT_FOUND, RESOURCE_LOCKED, holder_of, refusal
from relay.amqp.routing import is_taken
from relay.amqp.topology import NO_QUEUE, OTHER_EXCHANGE
from relay.cli import plural
from relay.config import Listen
from relay.errors import RelayError
from relay.findings import Finding, Level, failed, warning
from relay.listening.check_outbox import Known

_NO_EXCHANGE = "not there yet; listen.py makes it when it runs"
_AT_WORK = "a listener is at work"

Api = Callable[[str], Any]
"""Get a path of the management API, below /api; raises RelayError."""


def rabbitmq(handle: BlockingConnection, settings: Listen, source: str, known: Known) -> Iterator[Finding]:
    """Look at the exchange, the required queues, the rights, and whether a listener is at work.

    Args:
        handle: open.
        settings: RABBITMQ_URL, EXCHANGE, EXCHANGE_TYPE, REQUIRED_QUEUES.
        source: whose lease to look for; empty = not known.
        known: of the database.

    Raises:
        pika.exceptions.AMQPError: an answer that was not foreseen.
    """
    yield Finding("RabbitMQ", detail=settings.rabbitmq_url.shown())
    yield (exchange := look.exchange(handle, settings, rights.command(settings), OTHER_EXCHANGE, _NO_EXCHANGE))
    for queue in settings.required_queues:
        there = not _queue(handle, queue)
        remedy = "" if there else NO_QUEUE
        yield Finding(
            f"queue {queue}", Level.of(ok=there), detail="" if there else "required, and not there", remedy=remedy
        )
    asks = False
    if source:
        yield (lease := _lease(handle, settings, rights.lease(source), known))
        if settings.control:
            yield from (missing := list(_control(handle, settings, rights.control(source))))
            asks = lease.detail.endswith(_AT_WORK) and not missing
    yield from down.findings(settings)
    if exchange.ok and (trouble := look.publishing(handle, settings.exchange, rights.command(settings))):
        yield trouble
    if asks and ask.answer(handle, rights.control(source), settings.command_key, {"command": "status"}) == {}:
        remedy = "its log; if it hangs: systemctl restart relay-listen on its host"
        yield warning("listener", f"no answer within {ask.ANSWER_SECONDS:g} s", remedy)


def room(handle: BlockingConnection, api: Api, settings: Listen, source: str) -> Iterator[Finding]:
    """May the virtual host have the queues that a listener makes? See `rabbitmq`; api: the management API."""
    names = [rights.lease(source), *([rights.control(source)] if settings.control else [])] if source else []
    if full := look.queue_limit(handle, api, settings.rabbitmq_url.vhost, names):
        yield full


def routes(api: Api, settings: Listen, topics: Iterable[str]) -> Iterator[Finding]:
    """Does a queue take each topic? Only the management API, or rabbitmqctl, tells.

    Args:
        api: the management API.
        topics: of what is watched, and of what waits.
    """
    vhost, exchange = settings.rabbitmq_url.vhost, settings.exchange
    try:
        found = api(f"/exchanges/{quote(vhost, safe='')}/{quote(exchange, safe='')}/bindings/source")
    except RelayError as error:
        listed = f"rabbitmqctl list_bindings -p {shlex.quote(vhost)} source_name destination_name routing_key"
        yield Finding("routes", detail=f"not looked at: {error}", remedy=f"on RabbitMQ's host: {listed}")
        return
    bound = [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
    keys = {str(one.get("routing_key", "")) for one in bound}
    lost = sorted({topic for topic in topics if not any(is_taken(settings.exchange_type, key, topic) for key in keys)})
    if lost:
        said = f"no queue takes {', '.join(lost)}: events of it wait in the outbox"
        yield warning("routes", said, f"start its receiver, with a BINDING_KEYS that takes it, on exchange {exchange}")
    elif bound:
        names = sorted({str(one.get("destination", "")) for one in bound})
        yield Finding("routes", detail=f"to {', '.join(names)}")


def _lease(handle: BlockingConnection, settings: Listen, name: str, known: Known) -> Finding:
    code = _queue(handle, name)
    if not code:
        return failed("lease", f"a queue {name} is in its place", f"delete the queue {name}")
    if code == RESOURCE_LOCKED:
        if known.listeners == 0:
            said = f"{name} is held, and no listener is in PostgreSQL: one of another database, or a stranger"
            return warning("lease", said, holder_of(settings.rabbitmq_url.vhost, name))
        return Finding("lease", detail=f"{name}: {_AT_WORK}")
    if missing := look.may_not_configure(handle, name):
        return failed("lease", missing, rights.command(settings))
    said = f"{name}: no listener is at work"
    if known.waiting:
        remedy = "systemctl start relay-listen; where it runs, its log says why it waits"
        return warning("lease", f"{said}, and {plural(known.waiting, 'event')} in the outbox", remedy)
    return Finding("lease", detail=said)


def _control(handle: BlockingConnection, settings: Listen, name: str) -> Iterator[Finding]:
    """What `listen.py status` needs; nothing stands still without it."""
    missing = [look.may_not_configure(handle, name), look.may_not_read(handle, name)]
    if trouble := look.publishing(handle, "", ""):
        missing.append(trouble.detail)
    if said := "; ".join(filter(None, missing)):
        yield warning("status", f"listen.py status can't ask the listener: {said}", rights.command(settings))


def _queue(handle: BlockingConnection, name: str) -> int:
    """Return 0 if a queue is there, NOT_FOUND, or RESOURCE_LOCKED: another connection's alone."""
    return refusal(handle, lambda channel: channel.queue_declare(name, passive=True), NOT_FOUND, RESOURCE_LOCKED)[0]
