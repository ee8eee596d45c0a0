"""Who is at work on the queue, and at work indeed: a standby of receiver.py asks, now and then (standby.py)."""

import time
from typing import Any

from pika.adapters.blocking_connection import BlockingConnection
from pika.exceptions import AMQPError, ConnectionBlockedTimeout

from relay.amqp import standby
from relay.amqp.replies import holder_of
from relay.cli import moment
from relay.config import Receive
from relay.errors import Standby
from relay.receiving import commands
from relay.receiving.lease import control_name, lease_name

LOOK_EVERY = 5.0  # seconds between two looks


def sign(delivered: object, ready: int, consumers: int, *, is_silent: bool) -> object:
    """What a look has found of the holder's work. Pure.

    If it stays the same for long, none is done; None = there is none to do.

    Args:
        delivered: events, by its own word; None = it was not asked.
        ready, consumers: of the queue, by RabbitMQ's.
        is_silent: it was asked, and does not answer.
    """
    if is_silent:
        return "silence"
    if not ready:
        return None
    if not consumers:  # RabbitMQ's own word, whatever a stranger answers on the control queue
        return "nobody reads"
    return ready if delivered is None else delivered


class Holder:
    """Looked at by a standby."""

    def __init__(self, config: Receive) -> None:
        self._config = config
        self._watch = standby.Watch()
        self._looked = -LOOK_EVERY
        self._said: Standby | None = None

    @property
    def wants_to_look(self) -> bool:
        """Is it time for another look?"""
        return self._said is None or time.monotonic() - self._looked >= LOOK_EVERY

    def said(self, plain: Standby) -> Standby:
        """What the last look has found; without one, `plain`."""
        return self._said or plain

    def look(self, handle: BlockingConnection) -> None:
        """Look at the queue, and ask the holder. Raises pika's errors."""
        self._looked, self._said = time.monotonic(), None
        there = commands.look_at(handle, self._config.queue)
        about = self._ask(handle) if self._config.control else None
        ready, consumers = (there.message_count, there.consumer_count) if there else (0, 0)
        patience = standby.PATIENCE_WITH_REQUESTS if about and consumers else standby.PATIENCE
        idle = self._watch.is_idle(self._sign(about, ready, consumers), time.monotonic(), patience)
        queue, lease = self._config.queue, lease_name(self._config.queue)
        found = f"{ready} messages ready and {consumers} consumers in {queue}"
        if idle and about is None and self._config.control:
            what = f"the lease {lease} is held, and whoever holds it does not answer on {control_name(queue)}"
        elif idle:
            what = f"messages wait in {queue}, and whoever holds the lease {lease} delivers none" + _named(about)
        else:
            what = f"another receiver is at work on queue {queue}" + _named(about)
        hint = "" if about and not idle else holder_of(self._config.rabbitmq_url.vhost, lease)
        self._said = Standby(what, f"{found}; see the log of its host, or {hint}" if idle else hint, alarming=idle)

    def _sign(self, about: dict[str, Any] | None, ready: int, consumers: int) -> object:
        delivered = about["delivered"] if about else None
        return sign(delivered, ready, consumers, is_silent=about is None and self._config.control)

    def _ask(self, handle: BlockingConnection) -> dict[str, Any] | None:
        """Who are you? None = no answer, or one that makes no sense.

        Whatever ends the question is silence, or who makes it end is never found out; but for an alarm, in which nobody
        can be asked.
        """
        try:
            about = (commands.answer(handle, self._config, {"command": "who"}) or {}).get("who")
        except ConnectionBlockedTimeout:
            raise
        except AMQPError:
            return None
        try:
            return {name: about[name] for name in ("host", "process", "user", "since", "delivered")} if about else None
        except (TypeError, LookupError):
            return None


def _named(about: dict[str, Any] | None) -> str:
    if about is None:
        return ""
    since = about["since"] if isinstance(about["since"], int) and 0 <= about["since"] < 1 << 35 else 0
    host, process, user = (str(about[name])[:100] for name in ("host", "process", "user"))
    return f": on {host}, process {process}, RabbitMQ user {user}, since {moment(since)}"
