"""What a receiver finds or makes in RabbitMQ besides its lease: the exchange, its queues, its bindings.

Looked at when a session begins and each minute: they can be deleted, or unbound, while both daemons run, and then
nothing comes any more and nobody is told. Nothing that exists is ever changed.
"""

import shlex
from collections.abc import Callable, Iterator

from pika.channel import Channel

from relay.amqp.arguments import Definition, learn
from relay.amqp.replies import ACCESS_REFUSED, NOT_FOUND
from relay.amqp.topology import OTHER_EXCHANGE
from relay.amqp.wire import Refused, Wire
from relay.config import Receive
from relay.errors import ConfigError, RelayError
from relay.log import Log
from relay.receiving.lease import Call, declaring, parked_name, passive, sorted_out

# Quorum queues of RabbitMQ 4 lose a message after 20 returns unless told otherwise; -1 loses it at once on 3.10.
DELIVERY_LIMIT = 1_000_000
# Each pass through the waiting room, and so each closed channel, counts for every event that stays there (measured on
# 3.10). At two passes a second the limit above would drop a refused event after six days; this one after 16 years.
ROOM_DELIVERY_LIMIT = 1_000_000_000

_log = Log("receiver")


class Declared:
    """Exchange, queues and bindings, for as long as the process lives.

    Args:
        config: EXCHANGE, EXCHANGE_TYPE, QUEUE, QUEUE_TYPE, BINDING_KEYS, ORDER.
    """

    def __init__(self, config: Receive) -> None:
        self._config = config
        self._stood = False  # all of it, once
        self._told: dict[str, str] = {}  # what is refused, and has been said
        self.learnt: dict[str, Definition | None] = {}  # with QUEUE_TYPE=existing, by queue

    def begin(self, wire: Wire) -> None:
        """Make what is missing, before a session reads anything. From the main flow.

        Raises:
            ConfigError: something can't be made, or exists with other arguments.
            RelayError: as `Wire.ask`.
        """
        for _what, problem in self._all(wire):
            if problem:
                raise problem
        self._stood = True

    def look(self, wire: Wire) -> None:
        """Make what is missing, while events are delivered; what is refused is told, and ends nothing.

        From the main flow. Raises Unavailable as `Wire.ask`.
        """
        for what, problem in self._all(wire):
            said = str(problem or "")
            if said and said != self._told.get(what):
                _log.warning(said)
            self._told[what] = said

    def _all(self, wire: Wire) -> Iterator[tuple[str, RelayError | None]]:
        """Each thing, and why it can't be had."""
        config = self._config
        yield config.exchange, self._exchange(wire)
        yield config.queue, self._queue(wire, config.queue)
        if config.order != "global":
            yield parked_name(config.queue), self._queue(wire, parked_name(config.queue))
        for key in config.binding_keys:
            what = f"binding {config.queue} to {config.exchange} by {key}"
            refused = wire.refusal(self._bind(key), what)
            yield what, sorted_out(refused, what) if refused else None

    def _bind(self, key: str) -> Call:
        config = self._config
        return lambda channel, cb: channel.queue_bind(config.queue, config.exchange, key, callback=cb)

    def _exchange(self, wire: Wire) -> RelayError | None:
        """As topology.Setup.exchange: RabbitMQ compares the type only for who may configure the exchange."""
        name, kind = self._config.exchange, self._config.exchange_type
        missing = wire.refusal(
            lambda channel, cb: channel.exchange_declare(name, passive=True, callback=cb), f"looking for {name}"
        )
        refused = wire.refusal(
            lambda channel, cb: channel.exchange_declare(name, kind, durable=True, callback=cb), f"declaring {name}"
        )
        if refused and (missing or refused.code != ACCESS_REFUSED):
            remedy = f"EXCHANGE={name} must be free, or as we make it: name another one, or delete it"
            if "arg 'type'" in refused.said:
                remedy = OTHER_EXCHANGE
            return sorted_out(refused, f"exchange {name}", remedy)
        if missing:
            self._tell(f"exchange {name}, and with it every binding, was missing: made again")
        return None

    def _queue(self, wire: Wire, name: str) -> RelayError | None:
        config = self._config
        missing = wire.refusal(passive(name), f"looking for {name}")
        if config.queue_type == "existing" and (not missing or name == config.queue):
            return self._existing(wire, name, missing)
        refused = wire.refusal(declaring(name, arguments(config, name)), f"declaring {name}")
        if refused:
            remedy = (
                "QUEUE_TYPE=existing takes it as it is; or empty it, and let receiver.py make it anew: "
                f"rabbitmqctl delete_queue -p {wire.vhost} {shlex.quote(name)}"
            )
            return sorted_out(refused, f"queue {name}", remedy)
        if missing and missing.code == NOT_FOUND:
            self._tell(f"queue {name} was missing, with what was in it and its bindings: made again")
        return None

    def _existing(self, wire: Wire, name: str, missing: Refused | None) -> RelayError | None:
        if missing and missing.code == NOT_FOUND:
            remedy = "make it, or write QUEUE_TYPE=quorum (or classic), and receiver.py makes it"
            return ConfigError((f"queue {name} does not exist, and QUEUE_TYPE=existing makes none", remedy))
        if missing:
            return sorted_out(missing, f"queue {name}")
        if name not in self.learnt:
            self.learnt[name] = learn_of(wire, name)
        learnt, why = self.learnt[name] or {}, ""
        if learnt.get("queue-type") == "stream":
            why = "is a stream: what is read stays in it, and would come again"
        elif learnt.get("auto-delete"):
            why = "is auto-delete: it is deleted, and all that is in it, whenever we stop reading for a moment"
        remedy = f"name another QUEUE, and receiver.py makes it; or empty {name} and delete it"
        return ConfigError((f"queue {name} {why}", remedy)) if why else None

    def _tell(self, sentence: str) -> None:
        if self._stood:  # else this is the first time
            _log.warning(sentence)


def learn_of(wire: Wire, name: str) -> Definition | None:
    """The arguments of a queue that exists; None = it is not there, or we may not configure it. From the main flow."""

    def refusal(durable: bool, auto_delete: bool, given: dict[str, object]) -> str:
        def call(channel: Channel, callback: Callable[..., None]) -> None:
            channel.queue_declare(name, durable=durable, auto_delete=auto_delete, arguments=given, callback=callback)

        refused = wire.refusal(call, f"asking for the arguments of {name}")
        return refused.said if refused else ""

    return learn(refusal)


def arguments(config: Receive, name: str) -> dict[str, object]:
    """The arguments with which receiver.py makes one of its two queues."""
    if name == config.queue:
        return queue_arguments(config.queue_type)
    return queue_arguments("quorum") | {"x-delivery-limit": ROOM_DELIVERY_LIMIT}


def queue_arguments(kind: str) -> dict[str, object]:
    """The arguments of a queue that receiver.py makes: quorum or classic."""
    if kind == "classic":
        return {"x-queue-type": "classic"}
    return {"x-queue-type": "quorum", "x-delivery-limit": DELIVERY_LIMIT}
