"""Which routing keys a queue is meant to get: BINDING_KEYS, as RabbitMQ's exchanges read them."""

import shlex

from pika.spec import Basic

from relay.amqp.decode import Properties
from relay.amqp.routing import is_taken
from relay.config import Receive
from relay.delivery import Event
from relay.log import Log

KNOWN_MAX = 10_000  # routing keys that are remembered

_log = Log("receiver")


class Strays:
    """Messages that no key of BINDING_KEYS can have brought: an old binding is still there. Named once.

    RabbitMQ keeps a binding until it is unbound, and tells over AMQP of none.
    """

    def __init__(self, config: Receive) -> None:
        self._config = config
        self._known: set[str | bytes | None] = set()
        # A fanout exchange does not look at keys.
        self._silent = config.exchange_type == "fanout" or "#" in config.binding_keys

    def look(self, method: Basic.Deliver, properties: Properties, event: Event) -> str:  # noqa: ARG002
        """A message has come in: `event`. Return why it is not even tried; empty = it is."""
        self._look(method, properties)
        return ""

    def _look(self, method: Basic.Deliver, properties: Properties) -> None:
        topic = method.routing_key
        if self._silent or topic in self._known:
            return
        config = self._config
        if len(self._known) >= KNOWN_MAX:
            self._known.clear()
        self._known.add(topic)
        # Not through our exchange, or perhaps by another key that it brings along: it proves nothing.
        if method.exchange != config.exchange or not isinstance(topic, str) or "CC" in (properties.headers or {}):
            return
        if any(is_taken(config.exchange_type, key, topic) for key in config.binding_keys):
            return
        self._silent = True
        listed = f"rabbitmqctl list_bindings -p {shlex.quote(config.rabbitmq_url.vhost)}"
        remedy = (
            f"receiver.py unbind KEY, '#' for example, if BINDING_KEYS was another one before; {listed} source_name "
            f"destination_name routing_key shows what {config.queue} is bound by; or take it into BINDING_KEYS"
        )
        _log.warning(
            "an old binding brings messages that BINDING_KEYS does not ask for", queue=config.queue, routing_key=topic,
            binding_keys=",".join(config.binding_keys), remedy=remedy,
        )  # fmt: skip
