"""What only RabbitMQ's management API tells of our queues: policies, and what they are bound by."""

import shlex
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import quote

from relay import checks
from relay.config import Receive
from relay.errors import RelayError
from relay.findings import Finding, failed
from relay.log import Log
from relay.receiving import harm
from relay.receiving.harm import Ours

Ask = Callable[[str], Any]
"""Get a path of the API, below /api; raises RelayError."""

_log = Log("receiver")


def policies(ask: Ask, config: Receive, queues: Iterable[Ours]) -> Iterator[Finding]:
    """Policies that would have RabbitMQ drop events. Raises RelayError."""
    vhost = quote(config.rabbitmq_url.vhost, safe="")
    yield from harm.of_policies(ask(f"/policies/{vhost}"), ask(f"/operator-policies/{vhost}"), queues, config)


def bindings(ask: Ask, config: Receive) -> Iterator[Finding]:
    """Bindings that BINDING_KEYS does not name, and those that it names and that are not there. Raises RelayError."""
    # Of lanes the exchange of all of them is bound, by those keys.
    kind, name = ("e", config.queue.rpartition(".")[0]) if config.lane is not None else ("q", config.queue)
    found = _keys(ask, config, kind, name)
    between = f"bound to {config.exchange} by"
    for key in sorted(set(config.binding_keys) - found):
        said = f"{name} is not {between} {key}: nothing comes by it"
        yield failed("bindings", detail=said, remedy="receiver.py binds it again within a minute while it runs")
    if config.exchange_type == "fanout":
        return
    for key in sorted(found - set(config.binding_keys)):
        said = f"{name} is {between} {key}, which BINDING_KEYS does not name"
        yield Finding(
            "bindings",
            detail=said,
            remedy=f"receiver.py unbind {shlex.quote(key)}, or take it into BINDING_KEYS",
        )


def _keys(ask: Ask, config: Receive, kind: str, name: str) -> set[str]:
    """What is bound to our exchange, by which keys. `kind`: q, a queue; or e, an exchange."""
    vhost, source, name = (quote(one, safe="") for one in (config.rabbitmq_url.vhost, config.exchange, name))
    listed = ask(f"/bindings/{vhost}/e/{source}/{kind}/{name}")
    listed = listed if isinstance(listed, list) else []
    return {str(one["routing_key"]) for one in listed if isinstance(one, dict) and "routing_key" in one}


def flow(ask: Ask, config: Receive) -> str:
    """How the queue fills and empties, and its size, in words; empty = the API does not tell."""
    vhost, queue = (quote(name, safe="") for name in (config.rabbitmq_url.vhost, config.queue))
    try:
        found = ask(f"/queues/{vhost}/{queue}")
        stats = found["message_stats"]
        come, go = (float(stats[name]["rate"]) for name in ("publish_details", "ack_details"))
        return f"{checks.size(float(found['message_bytes']))}, {checks.flow(come, go, float(found['messages']))}"
    except (RelayError, TypeError, LookupError, ValueError, ArithmeticError):
        return ""


class Lookout:
    """Looks in a thread of its own, and tells what is new in the log. An API that does not answer is left alone.

    Args:
        ask: waits for the answer.
        queues: those that are looked at.
    """

    def __init__(self, ask: Ask, config: Receive, queues: Callable[[], list[Ours]]) -> None:
        self._ask = ask
        self._config = config
        self._queues = queues
        self._thread: threading.Thread | None = None
        self._told: set[Finding] = set()
        self._arguments_told = False
        self._answers: bool | None = None  # None: not asked yet

    @property
    def busy(self) -> bool:
        """Has the last look not ended yet?"""
        return self._thread is not None and self._thread.is_alive()

    def begin(self) -> None:
        """Begin to look, if there is any use in it."""
        if self._answers is not False and not self.busy:
            self._thread = threading.Thread(target=self._look, name="management", daemon=True)
            self._thread.start()

    def _look(self) -> None:
        try:
            lost = list(policies(self._ask, self._config, self._queues()))
            others = list(bindings(self._ask, self._config))
        except RelayError:
            self._answers = bool(self._answers)
            return
        self._answers, told = True, self._told
        self._told = {*lost, *others}
        _tell((one for one in lost if one not in told), _log.error)
        _tell((one for one in others if one not in told), _log.warning)

    def tell_arguments(self, version: int) -> None:
        """Once, when the queues are known: RabbitMQ's major version."""
        found = list(harm.of_arguments(self._queues(), self._config.rabbitmq_url.vhost, version))
        if not self._arguments_told:
            _tell(found, _log.error)
        self._arguments_told = True


def _tell(findings: Iterable[Finding], error: Callable[..., None]) -> None:
    for one in findings:
        write = _log.warning if one.ok else error
        write(f"{one.name}: {one.detail}", remedy=one.remedy)
