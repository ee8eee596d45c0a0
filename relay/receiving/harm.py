"""What RabbitMQ may do to our queues by itself: arguments and policies that expire, drop or dead-letter events.

Pure. The arguments are known, or learnt over AMQP (arguments.py); the policies come from RabbitMQ's management API or
from rabbitmqctl.
"""

import collections
import dataclasses
import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from relay.amqp.arguments import Definition, plain
from relay.config import Receive
from relay.findings import Finding, Level, failed
from relay.receiving import queues
from relay.receiving.lease import lease_name, parked_name
from relay.receiving.queues import DELIVERY_LIMIT, ROOM_DELIVERY_LIMIT

_OVER = {"message-ttl": "an event that waits for {} ms is dropped",
         "expires": "the queue is deleted, and all that is in it, when nobody reads it for {} ms",
         "max-length": "with more than {} messages the oldest is dropped",
         "max-length-bytes": "with more than {} bytes the oldest event is dropped",
         "delivery-limit": "an event that was handed out {} times is dropped",
         "dead-letter-exchange": "what is dropped or refused goes to exchange {!r}"}  # fmt: skip
PATTERN_MAX = 500  # characters of a policy's pattern that is looked for
_TYPES = {"queues": ("classic", "quorum", "stream"), "classic_queues": ("classic",), "quorum_queues": ("quorum",)}


@dataclasses.dataclass(frozen=True)
class Ours:
    """A queue of ours, and its arguments; None: unknown."""

    name: str
    kind: str  # empty = unknown
    arguments: Definition | None
    least: int = 0  # its delivery limit is above what ever happens

    @property
    def is_lease(self) -> bool:
        """Never holds a message."""
        return not self.least


def ours(config: Receive, learnt: Mapping[str, Definition | None]) -> list[Ours]:
    """The queues whose loss would be one of events or of order.

    Args:
        learnt: the arguments of those that were not made by us (`learn`).
    """
    found = []
    for name, least in ((config.queue, DELIVERY_LIMIT), (parked_name(config.queue), ROOM_DELIVERY_LIMIT)):
        if name != config.queue and config.order == "global":
            continue
        known: Definition | None = plain(queues.arguments(config, name))
        if config.queue_type == "existing":
            known = learnt.get(name)
        kind = "" if known is None else str(known.get("queue-type", "classic"))
        found.append(Ours(name, kind, known, least))
    return [*found, Ours(lease_name(config.queue), "classic", {})]


def of_arguments(queues: Iterable[Ours], vhost: str, version: int) -> Iterator[Finding]:
    """What the arguments of our queues do.

    Args:
        version: RabbitMQ's; from 4 on a quorum queue without a delivery limit has one of 20.
    """
    for queue in queues:
        found = dict(queue.arguments or {})
        if queue.kind == "quorum" and queue.arguments is not None and version >= 4:
            found.setdefault("delivery-limit", 20)
        remedy = (
            f"empty it, rabbitmqctl delete_queue -p {shlex.quote(vhost)} {shlex.quote(queue.name)}, write "
            "QUEUE_TYPE=quorum, and receiver.py makes it anew"
        )
        if found.get("durable") is False:
            said = "it is not durable: with RabbitMQ's end it is gone, and all that is in it"
            yield failed(f"queue {queue.name}", detail=said, remedy=remedy)
        if found.get("auto-delete"):
            said = "it is auto-delete, and deleted, with all that is in it, when nobody reads it for a moment"
            yield failed(f"queue {queue.name}", detail=said, remedy=remedy)
        for name, said in _harm(found, queue, found.get("overflow")):
            yield Finding(f"queue {queue.name}", _level(name), f"x-{name}={found[name]}: {said}", remedy)


def _harm(definition: Definition, queue: Ours, overflow: object) -> Iterator[tuple[str, str]]:
    """The names of what does harm, and how."""
    for name, text in _OVER.items():
        value = definition.get(name)
        if value is None or (queue.is_lease and name != "expires"):
            continue
        if name.startswith("max-length") and overflow == "reject-publish":
            continue  # nothing is lost: RabbitMQ refuses what comes in
        is_limit = name == "delivery-limit"
        if is_limit and (queue.kind == "classic" or not isinstance(value, int) or value >= queue.least):
            continue
        said = text.format(value)
        if queue.is_lease:
            said = f"after {value} ms two receivers may be at work"
        yield name, said


def of_policies(policies: object, operators: object, queues: Iterable[Ours], config: Receive) -> Iterator[Finding]:
    """What policies do to our queues.

    Args:
        policies, operators: lists of objects as RabbitMQ's API and `rabbitmqctl --formatter json` give them; each
            with name, pattern, apply-to, priority, and definition.
    """
    told = collections.defaultdict[tuple[bool, str, str, str], list[tuple[str, str]]](list)
    shown: dict[tuple[bool, str, str, str], dict[str, Any]] = {}
    for queue in queues:
        found = [
            (is_ops, one) for is_ops, given in ((False, policies), (True, operators)) for one in _ruling(given, queue)
        ]
        overflows = [(queue.arguments or {}).get("overflow"), *(one["definition"].get("overflow") for _, one in found)]
        overflow = next((one for one in overflows if one), None)
        for is_operators, policy in found:
            for name, said in _harm(policy["definition"], queue, overflow):
                one = is_operators, policy["name"], policy["pattern"], name
                shown[one] = policy
                told[one].append((queue.name, said))
    for one, concerned in told.items():
        policy, (is_operators, policy_name, _pattern, name) = shown[one], one
        names = " and ".join(queue for queue, _said in concerned)
        said = "; ".join(dict.fromkeys(said for _queue, said in concerned))
        value = policy["definition"][name]
        said = f"pattern {policy['pattern']}, {name}={value} on {names}: {said}"
        kind = "operator policy" if is_operators else "policy"
        yield Finding(f"{kind} {policy_name}", _level(name), said, _mends(policy, config, is_operators))


def _level(name: str) -> Level:
    """Whoever set a dead letter exchange may have meant to keep what is dropped there."""
    return Level.WARNING if name == "dead-letter-exchange" else Level.FAILED


def _definition(policy: Mapping[str, Any]) -> dict[str, object]:
    """rabbitmqctl gives it as text."""
    found = policy.get("definition")
    try:
        found = json.loads(found) if isinstance(found, str) else found
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _ruling(policies: object, queue: Ours) -> list[dict[str, Any]]:
    """Of several that match, RabbitMQ takes the one with the highest priority, and that alone."""
    known = [one for one in policies if isinstance(one, dict)] if isinstance(policies, list) else []
    known = [one for one in known if isinstance(one.get("name"), str) and isinstance(one.get("pattern"), str)]
    found = sorted((one for one in known if _matches(one, queue)), key=_priority)
    return [{**one, "definition": _definition(one)} for one in found[-1:]]


def _priority(policy: Mapping[str, Any]) -> int:
    return policy["priority"] if isinstance(policy.get("priority"), int) else 0


def _matches(policy: Mapping[str, Any], queue: Ours) -> bool:
    to = policy.get("apply-to", "all")
    if to != "all" and queue.kind and queue.kind not in _TYPES.get(str(to), ()):
        return False
    pattern = policy["pattern"]
    try:
        return not _is_quick(pattern) or re.search(pattern, queue.name) is not None
    except (re.error, RecursionError, OverflowError):
        return True  # better one too many: RabbitMQ knows more than we


def _is_quick(pattern: str) -> bool:
    """Is it looked for at once? `(a+)+` and the like take for ever, and nothing else runs in Python meanwhile.

    Whoever may make policies writes it, or whoever listens where the management API should.
    """
    repeats = len(re.findall(r"(?<!\()[*+?{]", pattern))
    nested = re.search(r"\)[*+?{]", pattern)
    return len(pattern) <= PATTERN_MAX and repeats <= 3 and pattern.count("|") <= 8 and not nested


def _mends(policy: Mapping[str, Any], config: Receive, is_operators: bool) -> str:
    vhost, name = shlex.quote(config.rabbitmq_url.vhost), str(policy["name"])
    if is_operators:
        return f"give it a pattern that leaves {config.queue} out, or rabbitmqctl clear_operator_policy -p {vhost} " + (
            shlex.quote(name)
        )
    # Only one policy counts for a queue: ours takes along what the other one has, but for the harm.
    kept = {key: value for key, value in policy["definition"].items() if key not in _OVER}
    words = ["rabbitmqctl", "set_policy", "-p", config.rabbitmq_url.vhost, "--priority", str(_priority(policy) + 1)]
    pattern = rf"^{re.escape(config.queue)}(\.(parked|lease))?$"
    words += ["--apply-to", "queues", f"keep {config.queue}", pattern]
    return shlex.join([*words, json.dumps(kept or {"overflow": "reject-publish"})])
