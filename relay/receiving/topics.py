"""Which routing keys a queue is meant to get: BINDING_KEYS, as RabbitMQ's exchanges read them."""

import shlex
from collections.abc import Iterable

from pika.spec import Basic

from relay.amqp.decode import Properties
from relay.config import Receive
from relay.log import Log

KNOWN_MAX = 10_000  # routing keys that are remembered

_log = Log("receiver")


def takes(key: str, topic: str) -> bool:
    """Does a topic exchange hand a message with this routing key to a queue bound by `key`?

    Words are separated by dots; an empty text has none. `*` stands for one word, `#` for any number of them.
    """
    parts, places = _words(key), {0}
    for word in _words(topic):
        reached = _reach(parts, places)
        places = {at for at in reached if at < len(parts) and parts[at] == "#"}
        places |= {at + 1 for at in reached if at < len(parts) and parts[at] in ("*", word) and parts[at] != "#"}
    return len(parts) in _reach(parts, places)


def _words(text: str) -> list[str]:
    return text.split(".") if text else []


def _reach(parts: list[str], places: Iterable[int]) -> set[int]:
    """`#` may also stand for nothing."""
    found = set(places)
    for at, part in enumerate(parts):
        if part == "#" and at in found:
            found.add(at + 1)
    return found


class Strays:
    """Messages that no key of BINDING_KEYS can have brought: an old binding is still there. Named once.

    RabbitMQ keeps a binding until it is unbound, and tells over AMQP of none.
    """

    def __init__(self, config: Receive) -> None:
        self._config = config
        self._known: set[str | bytes | None] = set()
        # A fanout exchange does not look at keys.
        self._silent = config.exchange_type == "fanout" or "#" in config.binding_keys

    def look(self, method: Basic.Deliver, properties: Properties) -> None:
        """A message has come in."""
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
        fits = takes if config.exchange_type == "topic" else str.__eq__
        if any(fits(key, topic) for key in config.binding_keys):
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
