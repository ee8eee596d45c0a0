"""The arguments of a queue that somebody else made, learnt over AMQP.

A declaration of a queue that exists is refused with the first argument that differs, and what it is. So it is asked
for again and again, each time with what the refusal has told.
"""

import re
from collections.abc import Callable, Mapping

Definition = Mapping[str, object]
"""A queue's arguments, or a policy's definition, without x- before the names."""

# Text, where RabbitMQ wants a number: with one of these no queue is ever made, of whatever type; of one that exists
# only those are compared that its type knows.
_REFUSED = {"x-delivery-limit": "?", "x-max-priority": "?"}
_ARGUMENTS_MAX = 50


def learn(declare: Callable[[bool, bool, dict[str, object]], str]) -> Definition | None:
    """The arguments of a queue that exists; `durable` and `auto-delete` as well, where they are not as we make them.

    Args:
        declare: asks for the queue with (durable, auto_delete, arguments), and returns the refusal; empty = none.

    Returns:
        None: it is not there, or we may not ask.
    """
    flags = {"durable": True, "auto_delete": False}
    arguments: dict[str, object] = dict(_REFUSED)
    for _ in range(_ARGUMENTS_MAX):
        said = declare(flags["durable"], flags["auto_delete"], arguments)
        if not said:
            arguments = {name: value for name, value in arguments.items() if value != "?"}
            arguments |= {} if flags["durable"] else {"durable": False}
            return plain(arguments | ({"auto-delete": True} if flags["auto_delete"] else {}))
        differs = re.search(r"inequivalent arg '([^']+)' for queue", said)
        if not differs:
            return None
        name, current = differs[1], said.rpartition(" but current is ")[2]
        if name in flags:
            flags[name] = current == "'true'"
        elif name in arguments:
            del arguments[name]  # then the next refusal tells its type as well
        else:
            arguments[name] = _value(current)
    return None


def _value(said: str) -> object:
    """E.g. `the value '5' of type 'signedint'`; of a type that RabbitMQ 4 has added itself `'quorum'`."""
    typed = re.fullmatch(r"the value '(.*)' of type '(\w+)'", said, re.DOTALL)
    if typed is None:
        return said.removeprefix("'").removesuffix("'")
    text, kind = typed.groups()
    if kind == "bool":
        return bool(text == "true")
    return int(text) if kind != "longstr" and re.fullmatch(r"-?\d+", text) else text


def plain(arguments: Mapping[str, object]) -> Definition:
    """Arguments without x- before their names."""
    return {name.removeprefix("x-"): value for name, value in arguments.items()}
