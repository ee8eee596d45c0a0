"""For functions that TARGET=python calls: which events they take, and what they can say of one (docs/python.md).

    from relay.handlers import Refuse, Retry, handles, inbox

    def public_orders(op, old, new): ...            # by its name: the topic public.orders

    @handles("shop.*", op="message")
    def shop(topic, event): ...

It needs nothing but Python: a test of such a function need not run the relay.
"""

import dataclasses
import inspect
import math
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from relay.inbox import TABLES, Inbox, Misuse
from relay.ops import OPS

__all__ = ["ARGUMENTS", "OPS", "TABLES", "Inbox", "Misuse", "Refuse", "Retry", "handles", "inbox"]

Function = TypeVar("Function", bound=Callable[..., Any])

ARGUMENTS = {
    "event": "the whole body, parsed",
    "old": "the row before; None = there is none",
    "new": "the row afterwards; None = there is none",
    "key": "of a row its key, as {'id': 42}; else the text that was given as key",
    "id": "the event's id: the same each time that it comes",
    "attempt": "1, 2, 3 ...",
    "topic": "the routing key",
    "op": "insert, update, delete, truncate, snapshot; message: published by an application; notify",
    "headers": "those that its publisher has given it, by name",
    "body": "bytes, as they came; nothing is parsed for it",
}
"""What a function may take, by the names of its arguments. Numbers are int or Decimal, never float."""


class Refuse(Exception):
    """This event will never do: it is parked at once, with this reason, which is shown and logged."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


class Retry(Exception):
    """Not yet: the event comes again, and none of its attempts is spent; later events of its key wait behind it.

    Args:
        after: seconds at least; 0 = RETRY_MIN and so on.
        reason: shown and logged.

    Raises:
        ValueError: `after` is no number of seconds.
    """

    def __init__(self, after: float = 0.0, reason: str = "") -> None:
        if isinstance(after, bool) or not isinstance(after, int | float) or not 0 <= after < math.inf:
            raise ValueError("after: a number of seconds from 0 on")
        super().__init__(after, reason)
        self.after = float(after)
        self.reason = reason


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """What one @handles says."""

    topic: str
    ops: frozenset[str]  # empty = all
    module: str
    function: str


declared: list[Rule] = []
"""All rules, so that those of functions that nobody can find are noticed."""


class _Process:
    """Whose ids an inbox remembers: TARGET=python sets its queue."""

    consumer = ""


def is_consumer(name: str) -> None:
    """From now on this process is that one (its queue), for `inbox`."""
    _Process.consumer = name


def handles(topic: str, *, op: str | Iterable[str] = ()) -> Callable[[Function], Function]:
    """The function takes events of this topic; where `op` is given, only those operations. Several may be above it.

    Args:
        topic: in it `*` stands for one word between dots, `#` for any number of them.
        op: of `OPS`, one or more.

    Raises:
        Misuse: what is said, or what it is said of, will not do.
    """
    ops = (op,) if isinstance(op, str) else tuple(op)
    if not isinstance(topic, str) or not topic:
        raise Misuse('@handles names a topic: @handles("public.orders", op="insert")')
    for one in ops:
        if one not in OPS:
            raise Misuse(f"@handles({topic!r}): op={one!r} is none of {', '.join(OPS)}")

    def mark(function: Function) -> Function:
        if not inspect.isfunction(function):
            raise Misuse(f"@handles({topic!r}) stands above no function: put it above a def")
        name = function.__qualname__
        if "." in name.rpartition("<locals>.")[2]:
            raise Misuse(f"@handles({topic!r}): {name} is a method: nobody could say of which object. Write a def")
        rule = Rule(topic, frozenset(ops), function.__module__, name)
        declared.append(rule)
        function.relay_rules = (*getattr(function, "relay_rules", ()), rule)  # type: ignore[attr-defined]
        return function

    return mark


def inbox(connection: Any, consumer: str | None = None) -> Inbox:
    """The ids that were applied, in the transaction of `connection` (relay/inbox.py).

        with connection:
            if inbox(connection).first(id):
                ...

    Args:
        consumer: whose ids: by default those of this receiver's queue.
    """
    return Inbox(connection, _Process.consumer if consumer is None else consumer)
