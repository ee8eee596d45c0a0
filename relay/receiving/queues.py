"""What a receiver finds or makes in RabbitMQ besides its lease: the exchange, its queues, its bindings.

Looked at when a session begins and each minute: they can be deleted, or unbound, while both daemons run, and then
nothing comes any more and nobody is told. Nothing that exists is ever changed.
"""

import functools
import shlex
from collections.abc import Awaitable, Callable, Iterator

from pika.channel import Channel

from relay.amqp.arguments import Definition, Learner
from relay.amqp.replies import ACCESS_REFUSED, NOT_FOUND, ChannelRefused
from relay.amqp.session import Session
from relay.amqp.topology import OTHER_EXCHANGE, looked, sorted_out
from relay.config import FAILOVER, Receive
from relay.errors import ConfigError, RelayError
from relay.log import Log
from relay.receiving.lease import declared, parked_name
from relay.receiving.wishes import Wishes

# Quorum queues of RabbitMQ 4 lose a message after 20 returns unless told otherwise; -1 loses it at once on 3.10.
DELIVERY_LIMIT = 1_000_000
# Each pass through the parking lot, and so each closed channel, counts for every event that stays there (measured on
# 3.10). At two passes a second the limit above would drop a refused event after six days; this one after 16 years.
ROOM_DELIVERY_LIMIT = 1_000_000_000

_log = Log("receiver")


class Declared:
    """Exchange, queues and bindings, for as long as the process lives.

    Args:
        config: EXCHANGE, EXCHANGE_TYPE, QUEUE, QUEUE_TYPE, BINDING_KEYS, ORDER, FROM_START.
    """

    def __init__(self, config: Receive) -> None:
        self._config = config
        self.wishes = Wishes(config.queue, config.from_start)
        self._stood = False  # all of it, once
        self._told: dict[str, str] = {}  # what is refused, and has been said
        self.learnt: dict[str, Definition | None] = {}  # with QUEUE_TYPE=existing, by queue

    async def begin(self, session: Session) -> None:
        """Make what is missing, before a session reads anything. From the main flow.

        Raises:
            ConfigError: something can't be made, or exists with other arguments.
            RelayError: as `Session.call`.
        """
        for _what, ask in self._all(session):
            if problem := await ask():
                raise problem
        self._stood = True

    async def look(self, session: Session) -> None:
        """Make what is missing, while events are delivered; what is refused is told, and ends nothing.

        From the main flow. Raises Unavailable as `Session.call`.
        """
        for what, ask in self._all(session):
            detail = str(await ask() or "")
            if detail and detail != self._told.get(what):
                _log.warning(detail)
            self._told[what] = detail

    def _all(self, session: Session) -> Iterator[tuple[str, Callable[[], Awaitable[RelayError | None]]]]:
        """Each thing, and what makes sure of it and tells why it can't be had."""
        config = self._config
        yield config.exchange, functools.partial(self.exchange, session)
        yield config.queue, functools.partial(self._queue, session, config.queue)
        if config.order != "global":
            parked = parked_name(config.queue)
            yield parked, functools.partial(self._queue, session, parked)
        yield from self._bindings(session)

    def _bindings(self, session: Session) -> Iterator[tuple[str, Callable[[], Awaitable[RelayError | None]]]]:
        config = self._config
        for key in config.binding_keys:
            what = f"binding {config.queue} to {config.exchange} by {key}"
            yield what, functools.partial(self._bind, session, what, key)

    async def _bind(self, session: Session, what: str, key: str) -> RelayError | None:
        config = self._config
        refused = await session.refusal(what, Channel.queue_bind, config.queue, config.exchange, key)
        return sorted_out(refused, what) if refused else None

    async def exchange(self, session: Session) -> RelayError | None:
        """Make the exchange, if it is missing; return why it can't be had. From the main flow.

        As topology.declare_exchange: RabbitMQ compares the type only for who may configure it.
        """
        name, kind = self._config.exchange, self._config.exchange_type
        missing = await session.refusal(f"looking for {name}", Channel.exchange_declare, name, passive=True)
        refused = await session.refusal(f"declaring {name}", Channel.exchange_declare, name, kind, durable=True)
        if refused and (missing or refused.code != ACCESS_REFUSED):
            remedy = f"EXCHANGE={name} must be free, or as we make it: name another one, or delete it"
            if "arg 'type'" in refused.detail:
                remedy = OTHER_EXCHANGE
            return sorted_out(refused, f"exchange {name}", remedy)
        if missing:
            self._report(f"exchange {name}, and with it every binding, was missing: made again")
        return None

    async def _queue(self, session: Session, name: str) -> RelayError | None:
        config = self._config
        missing = await looked(session, name)
        if config.queue_type == "existing" and (not missing or name == config.queue):
            return await self._existing(session, name, missing)
        if name == config.queue and missing and missing.code == NOT_FOUND:
            # Invariant: before the queue is there, what it is to be filled with is safe.
            await self.wishes.note(session)
        refused = await declared(session, name, arguments(config, name))
        if refused:
            takes = "" if unfit(name, await learn_of(session, name)) else "QUEUE_TYPE=existing takes it as it is; or "
            remedy = (
                f"{takes}empty it, and let receiver.py make it anew: "
                f"rabbitmqctl delete_queue -p {session.vhost} {shlex.quote(name)}"
            )
            return sorted_out(refused, f"queue {name}", remedy)
        if missing and missing.code == NOT_FOUND:
            self._report(f"queue {name} was missing, with what was in it and its bindings: made again")
        return None

    async def _existing(self, session: Session, name: str, missing: ChannelRefused | None) -> RelayError | None:
        if missing and missing.code == NOT_FOUND:
            remedy = "make it, or write QUEUE_TYPE=quorum (or classic), and receiver.py makes it"
            return ConfigError((f"queue {name} does not exist, and QUEUE_TYPE=existing makes none", remedy))
        if missing:
            return sorted_out(missing, f"queue {name}")
        if name not in self.learnt:
            self.learnt[name] = await learn_of(session, name)
        return unfit(name, self.learnt[name])

    def _report(self, sentence: str) -> None:
        if self._stood:  # else this is the first time
            _log.warning(sentence)


def unfit(name: str, learnt: Definition | None) -> ConfigError | None:
    """Why QUEUE_TYPE=existing does not take a queue with these arguments; None = it does. Pure."""
    learnt, why = learnt or {}, ""
    if learnt.get("queue-type") == "stream":
        why = "is a stream: what is read stays in it, and would come again"
    elif learnt.get("auto-delete"):
        why = "is auto-delete: it is deleted, and all that is in it, whenever we stop reading for a moment"
    remedy = f"name another QUEUE, and receiver.py makes it; or empty {name} and delete it"
    return ConfigError((f"queue {name} {why}", remedy)) if why else None


async def learn_of(session: Session, name: str) -> Definition | None:
    """The arguments of a queue that exists; None = it is not there, or we may not configure it. From the main flow."""
    asked = Learner()
    while not asked.done:
        refused = await session.refusal(
            f"asking for the arguments of {name}",
            Channel.queue_declare,
            name,
            durable=asked.durable,
            auto_delete=asked.auto_delete,
            arguments=asked.arguments,
        )
        asked.take(refused.detail if refused else "")
    return asked.found


def arguments(config: Receive, name: str) -> dict[str, object]:
    """The arguments with which receiver.py makes one of its two queues."""
    if name == config.queue:
        return queue_arguments(config.queue_type)
    return queue_arguments("quorum") | {"x-delivery-limit": ROOM_DELIVERY_LIMIT}


def queue_arguments(kind: str) -> dict[str, object]:
    """The arguments of a queue that receiver.py makes: quorum, failover or classic."""
    if kind == "classic":
        return {"x-queue-type": "classic"}
    single = {"x-single-active-consumer": True} if kind == FAILOVER else {}
    return {"x-queue-type": "quorum", "x-delivery-limit": DELIVERY_LIMIT, **single}
