"""receiver.py status: of one receiver, or of all consumers."""

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

import pika.exceptions
from pika.adapters.blocking_connection import BlockingConnection

from relay.amqp import down
from relay.cli import print_line
from relay.config import Receive
from relay.daemon import EX_CONFIG, EX_OK, EX_TEMPFAIL
from relay.daemon import report as tell
from relay.errors import ConfigError, RelayError
from relay.receiving.commands import answer, look_at, print_json, waiting
from relay.receiving.lease import parked_name
from relay.receiving.status import idle, report
from relay.status.report import lines

_SILENT = "a receiver is at work, and does not answer: see its log"
_NOBODY = "no receiver is at work: none runs, or it waits for a server (its log says so)"


@dataclasses.dataclass(frozen=True)
class Shown:
    """What `status` shows of one receiver.

    Args:
        found: what it says of itself; None = none answers, and why.
        counts: what RabbitMQ says: messages `ready` in the queue, and those `parked`.
    """

    queue: str
    found: dict[str, Any] | None
    counts: dict[str, int]
    why: str

    def document(self) -> dict[str, Any]:
        """For programs."""
        return {"receiver": self.found, "queue": self.counts, "problem": "" if self.found else self.why}

    def show(self, *, as_json: bool) -> int:
        """Print it. Return the exit status."""
        if as_json:
            print_json(self.document())
            return EX_OK
        nobody = idle(self.queue, self.counts, self.why)
        try:
            shown = list(lines(report(self.found, self.counts, time.time()) if self.found else nobody))
        except (TypeError, LookupError, ValueError, AttributeError, OverflowError):
            why = "what answers in the receiver's name makes no sense; is it of this version?"
            shown = list(lines(idle(self.queue, self.counts, why)))
        for line in shown:
            print_line(line)
        return EX_OK


def look_at_status(handle: BlockingConnection, config: Receive) -> Shown:
    """Ask the running receiver about itself, and RabbitMQ.

    Raises:
        pika.exceptions.AMQPError: the connection broke.
    """
    there = look_at(handle, config.queue)
    counts = {"ready": there.message_count if there else 0, "parked": waiting(handle, parked_name(config.queue)) or 0}
    found, why = None, "CONTROL=off: nobody answers"
    if there is None:
        why = f"no receiver is at work, and queue {config.queue} does not exist: it makes it when it runs"
    elif config.control:
        try:
            said = answer(handle, config, {"command": "status"})
            found = (said or {}).get("status")
            why = _NOBODY if said is None else said.get("error") or _SILENT
            if said is None and there.consumer_count:
                why = str(down.ghost(config, config.queue) or why)
        except pika.exceptions.ConnectionBlockedTimeout:
            why = "RabbitMQ has an alarm and carries no question; rabbitmq-diagnostics alarms names it"
    return Shown(config.queue, found, counts, why)


def status_of_each(each: Mapping[str, Callable[[], Shown]], *, as_json: bool) -> int:
    """Show all, whatever is wrong with one of them. Return the exit status: the worst of theirs."""
    worst, documents = EX_OK, dict[str, Any]()
    for name, ask in each.items():
        try:
            one = ask()
        except RelayError as error:
            worst = max(worst, EX_CONFIG if isinstance(error, ConfigError) else EX_TEMPFAIL)
            documents[name] = {"receiver": None, "queue": None, "problem": _problem(error)}
            if not as_json:
                tell(error)
            continue
        documents[name] = one.document()
        if not as_json:
            print_line(f"[{name}]")
            one.show(as_json=False)
    if as_json:
        print_json(documents)
    return worst


def _problem(error: RelayError) -> str:
    return "; ".join(what for what, _ in error.problems) if isinstance(error, ConfigError) else str(error)
